//! The hypervisor for the Raspberry Pi 3.
#![no_std]
#![no_main]

use hv_boards::{
    Assembly, Bcm2836, SpinTable,
    console::{AnyUart, BcmMiniAt},
};

// The mini UART is where BCM2837 has it; QEMU and the firmware have set it up.
hv_core::image!(Assembly<AnyUart<BcmMiniAt<0x3f21_5040>>, Bcm2836, SpinTable>);
