//! The hypervisor for QEMU's `virt` machine with GICv3.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU64, Ordering};
use drivers_gic::{EoiMode, GicV3, Intid, Mpidr, gicv3::cpu_interface};
use drivers_uart::{Console, Pl011};
use hv_core::{
    board::{Board, BoardError},
    machine::{ConsoleKind, InterruptControllerInfo, Machine},
};
use spin::Once;

struct QemuVirt;

hv_core::image!(QemuVirt);

/// PL011 of the machine, before the device tree has been read (`hw/arm/virt.c`, memory map).
const EARLY_UART: u64 = 0x0900_0000;

/// Where the console is, from the device tree.
static UART: AtomicU64 = AtomicU64::new(EARLY_UART);
static GIC: Once<GicV3> = Once::new();

const KICK: Intid = Intid::sgi(0);

fn uart() -> Pl011 {
    // SAFETY: the base is the early console or what the device tree calls a PL011; `hv-core` has mapped it as a device
    // at its physical address, and the hypervisor gives it to no VM.
    unsafe { Pl011::new(UART.load(Ordering::Relaxed) as usize) }
}

fn gic() -> Result<&'static GicV3, BoardError> {
    GIC.get().ok_or("the interrupt controller has not been set up")
}

// SAFETY: the drivers touch the registers of the UART and of the GIC, as the device tree gives them. Interrupts are
// routed to the hypervisor; the GIC's tables in memory (LPIs) are not used.
unsafe impl Board for QemuVirt {
    const EARLY_CONSOLE: u64 = EARLY_UART;
    const EARLY_STOP: bool = true;

    fn devices(machine: &Machine<'_>, map: &mut dyn FnMut(u64, u64)) {
        if let Some(console) = machine.console() {
            map(console.region.base, console.region.size);
        }
        if let Some(InterruptControllerInfo::GicV3(gic)) = machine.interrupt_controller() {
            map(gic.gicd.base, gic.gicd.size);
            for region in gic.redistributors() {
                map(region.base, region.size);
            }
        }
    }

    fn init_console(machine: &Machine<'_>) -> Result<(), BoardError> {
        match machine.console() {
            Some(console) if console.kind == ConsoleKind::Pl011 => {
                UART.store(console.region.base, Ordering::Relaxed);
                Ok(())
            }
            Some(_) => Err("the device tree's stdout-path names a UART that is not a PL011"),
            None => Err("the device tree names no console (/chosen/stdout-path)"),
        }
    }

    fn write(text: &[u8]) {
        let uart = uart();
        for byte in text {
            if *byte == b'\n' {
                uart.write_byte(b'\r');
            }
            uart.write_byte(*byte);
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let Some(InterruptControllerInfo::GicV3(info)) = machine.interrupt_controller() else {
            return Err("the device tree has no GICv3");
        };
        // SAFETY: the addresses are the device tree's, mapped as devices at their physical addresses.
        let gic = unsafe { GicV3::new(info.gicd.base as usize, info.redistributors()) };
        let boot_core = machine.cores().find(|core| core.enabled).ok_or("the device tree names no core")?;
        gic.init_distributor(boot_core.mpidr).map_err(|_| "the GIC's distributor does not answer")?;
        GIC.call_once(|| gic);
        Ok(())
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        let core = gic()?
            .init_core(Mpidr::new(mpidr), EoiMode::DropAndDeactivate)
            .map_err(|_| "this core has no redistributor, or it does not answer")?;
        for intid in private.iter().map(|id| Intid::new(*id)).chain([KICK]) {
            core.enable(intid).map_err(|_| "a private interrupt cannot be enabled")?;
        }
        Ok(())
    }

    #[inline]
    fn acknowledge() -> Option<u32> {
        cpu_interface::acknowledge().map(Intid::raw)
    }

    #[inline]
    fn end(intid: u32) {
        cpu_interface::end(Intid::new(intid));
    }

    fn enable(intid: u32, mpidr: u64) {
        if let Ok(gic) = gic() {
            // One that the distributor does not have does not come.
            let _ = gic.distributor().route(Intid::new(intid), Mpidr::new(mpidr));
            let _ = gic.distributor().enable(Intid::new(intid));
        }
    }

    fn disable(intid: u32) {
        if let Ok(gic) = gic() {
            // An interrupt that cannot be disabled comes again, and is ended again.
            let _ = gic.distributor().disable(Intid::new(intid));
        }
    }

    const KICK: u32 = KICK.raw();

    fn kick(mpidr: u64) {
        cpu_interface::send_sgi(Mpidr::new(mpidr), KICK);
    }
}
