//! The hypervisor for QEMU's `virt` machine with GICv2.
#![no_std]
#![no_main]

use hv_boards::GicV2;
use margay_qemu_virt::Virt;

hv_core::image!(Virt<GicV2>);
