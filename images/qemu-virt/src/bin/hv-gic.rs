//! The hypervisor for QEMU's `virt` machine with GICv3, for VMs that expect a GIC of their own
//! (`margay,gic`).
#![no_std]
#![no_main]

use hv_boards::GicV3;
use margay_qemu_virt::Virt;

hv_core::image!(Virt<GicV3<true>>);
