//! Margay for QEMU's virt machine: hypervisor, scheduler VM and native kernel.
#![no_std]
#![cfg(feature = "hv")]

use hv_boards::{Assembly, Psci, console::Pl011At};

/// The board, with one of the interrupt controllers that QEMU can give it.
///
/// The UART is where `hw/arm/virt.c` has it in its memory map.
pub type Virt<Gic> = Assembly<Pl011At<0x0900_0000>, Gic, Psci>;
