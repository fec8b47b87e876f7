//! The hypervisor for the ZCU102 (Zynq UltraScale+ MPSoC), for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::{
    Assembly, GicV2, Psci,
    console::{AnyUart, CadenceAt},
};

// The first UART, where the SoC has it.
hv_core::image!(Assembly<AnyUart<CadenceAt<0xff00_0000>>, GicV2<true>, Psci>);
