//! The hypervisor for QEMU's `virt` machine with GICv2, for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::{Assembly, GicV2, Psci, console::Pl011At};

// The UART is where `hw/arm/virt.c` has it in its memory map.
hv_core::image!(Assembly<Pl011At<0x0900_0000>, GicV2<true>, Psci>);
