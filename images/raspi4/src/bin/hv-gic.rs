//! The hypervisor for the Raspberry Pi 4, for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::{
    Assembly, GicV2, SpinTable,
    console::{AnyUart, BcmMiniAt},
};

// The mini UART is where BCM2711 has it in its low peripheral mode, which firmware chooses.
hv_core::image!(Assembly<AnyUart<BcmMiniAt<0xfe21_5040>>, GicV2<true>, SpinTable>);
