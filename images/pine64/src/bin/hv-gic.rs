//! The hypervisor for the Pine A64-LTS (Allwinner A64), for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::{
    AllwinnerCounter, Assembly, GicV2, Psci,
    console::{AnyUart, DesignWareAt},
};

// The first UART, where the SoC has it.
hv_core::image!(Assembly<AnyUart<DesignWareAt<0x01c2_8000>>, GicV2<true>, Psci, AllwinnerCounter>);
