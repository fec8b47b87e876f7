//! Margay for the Raspberry Pi 3: the hypervisor.
#![no_std]

use hv_boards::{
    Assembly, Counter, DevicesPart, SpinTable,
    console::{AnyUart, BcmMiniAt},
};
use hv_core::machine::allowed::{self, Allowed};

/// The board, with VMs that have a model of its interrupt controllers or none: `Bcm2836`, or `Bcm2836<true>`.
///
/// The mini UART is where BCM2837 has it; QEMU and the firmware have set it up.
pub type RaspberryPi3<Controllers> =
    Assembly<AnyUart<BcmMiniAt<0x3f21_5040>>, Controllers, SpinTable, Counter, RaspberryPi3Devices>;

/// What VMs may have.
#[derive(Debug)]
pub struct RaspberryPi3Devices;

impl DevicesPart for RaspberryPi3Devices {
    const ALLOWED: &'static [Allowed] = allowed::RASPI3;
}
