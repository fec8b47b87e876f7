//! Margay for QEMU's virt machine: the hypervisor.
#![no_std]

use hv_boards::{Assembly, Counter, DevicesPart, Psci, console::Pl011At};
use hv_core::machine::allowed::{self, Allowed};

/// The board, with one of the interrupt controllers that QEMU can give it.
///
/// The UART is where `hw/arm/virt.c` has it in its memory map.
pub type Virt<Gic> = Assembly<Pl011At<0x0900_0000>, Gic, Psci, Counter, VirtDevices>;

/// What VMs may have.
#[derive(Debug)]
pub struct VirtDevices;

impl DevicesPart for VirtDevices {
    const ALLOWED: &'static [Allowed] = allowed::QEMU_VIRT;
}
