//! The hypervisor for the Raspberry Pi 4, for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::GicV2;
use margay_raspi4::RaspberryPi4;

hv_core::image!(RaspberryPi4<GicV2<true>>);
