//! Margay for the Pine A64-LTS (Allwinner A64): the hypervisor.
#![no_std]

use hv_boards::{
    AllwinnerCounter, Assembly, DevicesPart, Psci,
    console::{AnyUart, DesignWareAt},
};
use hv_core::machine::allowed::{self, Allowed};

/// The board, with VMs that have a GIC or none: `GicV2`, or `GicV2<true>`.
///
/// The first UART, where the SoC has it.
pub type PineA64<Gic> =
    Assembly<AnyUart<DesignWareAt<0x01c2_8000>>, Gic, Psci, AllwinnerCounter, PineA64Devices>;

/// What VMs may have.
#[derive(Debug)]
pub struct PineA64Devices;

impl DevicesPart for PineA64Devices {
    const ALLOWED: &'static [Allowed] = allowed::PINE64;
}
