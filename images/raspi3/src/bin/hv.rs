//! The hypervisor for the Raspberry Pi 3.
#![no_std]
#![no_main]

use hv_boards::Bcm2836;
use margay_raspi3::RaspberryPi3;

hv_core::image!(RaspberryPi3<Bcm2836>);
