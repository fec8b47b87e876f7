//! Margay for the Raspberry Pi 4: hypervisor, scheduler VM and native kernel.
#![no_std]
#![cfg(feature = "hv")]

use hv_boards::{
    Assembly, SpinTable,
    console::{AnyUart, BcmMiniAt},
};

/// The board, with VMs that have a GIC or none: `GicV2`, or `GicV2<true>`.
///
/// The mini UART is where BCM2711 has it in its low peripheral mode, which firmware chooses.
pub type RaspberryPi4<Gic> = Assembly<AnyUart<BcmMiniAt<0xfe21_5040>>, Gic, SpinTable>;
