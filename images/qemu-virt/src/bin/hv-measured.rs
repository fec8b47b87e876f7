//! The hypervisor for QEMU's `virt` machine with GICv3, which counts how long it keeps a core:
//! `tests/bounds.toml`.
#![no_std]
#![no_main]

use hv_boards::GicV3;
use margay_qemu_virt::Virt;

hv_core::image!(Virt<GicV3>, measured);
