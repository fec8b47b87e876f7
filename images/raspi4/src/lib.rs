//! Margay for the Raspberry Pi 4: the hypervisor.
#![no_std]

use hv_boards::{
    Assembly, Counter, DevicesPart, SpinTable,
    console::{AnyUart, BcmMiniAt},
};
use hv_core::machine::allowed::{self, Allowed};

/// The board, with VMs that have a GIC or none: `GicV2`, or `GicV2<true>`.
///
/// The mini UART is where BCM2711 has it in its low peripheral mode, which firmware chooses.
pub type RaspberryPi4<Gic> =
    Assembly<AnyUart<BcmMiniAt<0xfe21_5040>>, Gic, SpinTable, Counter, RaspberryPi4Devices>;

/// What VMs may have.
#[derive(Debug)]
pub struct RaspberryPi4Devices;

impl DevicesPart for RaspberryPi4Devices {
    const ALLOWED: &'static [Allowed] = allowed::RASPI4;
}
