//! Margay for the ZCU102 (Zynq UltraScale+ MPSoC): the hypervisor.
#![no_std]

use hv_boards::{
    Assembly, Counter, DevicesPart, Psci,
    console::{AnyUart, CadenceAt},
};
use hv_core::machine::allowed::{self, Allowed};

/// The board, with VMs that have a GIC or none: `GicV2`, or `GicV2<true>`.
///
/// The first UART, where the SoC has it.
pub type Zcu102<Gic> = Assembly<AnyUart<CadenceAt<0xff00_0000>>, Gic, Psci, Counter, Zcu102Devices>;

/// What VMs may have.
#[derive(Debug)]
pub struct Zcu102Devices;

impl DevicesPart for Zcu102Devices {
    const ALLOWED: &'static [Allowed] = allowed::ZCU102;
}
