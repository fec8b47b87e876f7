//! The hypervisor for QEMU's `virt` machine with GICv3.
#![no_std]
#![no_main]

use hv_boards::{Assembly, GicV3, Psci, console::Pl011At};

// The UART is where `hw/arm/virt.c` has it in its memory map.
hv_core::image!(Assembly<Pl011At<0x0900_0000>, GicV3, Psci>);
