//! A guest with a virtual GIC whose paths are measured.
#![no_std]
#![no_main]

use lwk_core::platform::VmWithGic;

static PLATFORM: VmWithGic = VmWithGic::new();

lwk_core::image!(PLATFORM, margay_apps::bench::guest_gic);
