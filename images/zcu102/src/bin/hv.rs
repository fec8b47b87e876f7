//! The hypervisor for the ZCU102 (Zynq UltraScale+ MPSoC).
#![no_std]
#![no_main]

use hv_boards::{
    Assembly, GicV2, Psci,
    console::{AnyUart, CadenceAt},
};

// The first UART, where the SoC has it.
hv_core::image!(Assembly<AnyUart<CadenceAt<0xff00_0000>>, GicV2, Psci>);
