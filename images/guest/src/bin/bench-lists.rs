//! A guest that measures what the hypervisor does for it, with list registers.
#![no_std]
#![no_main]

use lwk_core::platform::VmWithListRegisters;

static PLATFORM: VmWithListRegisters = VmWithListRegisters;

lwk_core::image!(PLATFORM, margay_apps::bench::guest_lists);
