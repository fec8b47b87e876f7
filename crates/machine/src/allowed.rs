//! Devices that a VM may have without being granted them by name: board by board, the kinds that cannot harm
//! what others stand on.
//!
//! The default for a kind that is not here is no. What is here changes neither what memory means (DRAM
//! controllers, interconnects and their firewalls), nor resets or stops what others need (watchdogs, power,
//! clock and reset controllers, mailboxes to firmware, and buses that lead to such a chip), nor is it a part
//! of the cores (interrupt controllers, timers, performance monitors). Firmware's storage is not here either,
//! nor what accesses memory by itself unless it is what the board's VM is for: disks and network.
//!
//! A device is known by the first of its `compatible` strings, the most specific one: that it can be driven
//! like a harmless device does not make it one (`st,stm32-etzpc`, a firewall, is a `simple-bus` as well).

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The first of its `compatible` strings.
    pub compatible: &'static str,
    /// The frequency in hertz of its clocks, if their controller is not the VM's: firmware has set them. 0:
    /// it has none, or the device tree has the frequency.
    pub clock_hz: u32,
}

const fn kind(compatible: &'static str) -> Allowed {
    Allowed { compatible, clock_hz: 0 }
}

/// On every board, and for VMs without devices: the cores' timers, which have no registers in memory.
pub const TIMERS: &[Allowed] = &[kind("arm,armv8-timer"), kind("arm,armv7-timer")];

/// The kind of clock that has no registers, on every board.
pub const FIXED_CLOCK: Allowed = kind("fixed-clock");

/// QEMU's virt: disks, network and whatever else is on its buses, with `PL011` and `PL031`. Not `fw_cfg`,
/// which accesses memory by itself to any address, nor flash, which holds the firmware.
pub const QEMU_VIRT: &[Allowed] =
    &[kind("arm,pl011"), kind("arm,pl031"), kind("pci-host-ecam-generic"), kind("virtio,mmio")];

/// The clock of PL011, as firmware sets it (`init_uart_clock` of `config.txt`): its controller has the clocks
/// of the cores and of the memory as well.
const UART: Allowed = Allowed { compatible: "arm,pl011", clock_hz: 48_000_000 };

/// Raspberry Pi 3.
pub const RASPI3: &[Allowed] = &[UART, kind("brcm,bcm2835-rng")];

/// Raspberry Pi 4: Ethernet, too.
pub const RASPI4: &[Allowed] = &[UART, kind("brcm,bcm2711-genet-v5"), kind("brcm,bcm2711-rng200")];

/// ZCU102. All other devices have their clocks from firmware.
pub const ZCU102: &[Allowed] = &[kind("xlnx,zynqmp-rtc")];

/// Pine A64-LTS: all devices have clocks and resets from one unit, with those of cores and memory in it, in
/// the watchdog's page.
pub const PINE64: &[Allowed] = &[];
