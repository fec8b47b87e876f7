//! Margay for the Pine A64-LTS (Allwinner A64): hypervisor, scheduler VM and native kernel.
#![no_std]
#![cfg(feature = "hv")]

use hv_boards::{
    AllwinnerCounter, Assembly, Psci,
    console::{AnyUart, DesignWareAt},
};

/// The board, with VMs that have a GIC or none: `GicV2`, or `GicV2<true>`.
///
/// The first UART, where the SoC has it.
pub type PineA64<Gic> = Assembly<AnyUart<DesignWareAt<0x01c2_8000>>, Gic, Psci, AllwinnerCounter>;
