//! The scheduler VM, with interrupts from a GIC as on a bare machine.
#![no_std]
#![no_main]

use lwk_core::platform::VmWithGic;

static PLATFORM: VmWithGic = VmWithGic::new();

lwk_core::image!(PLATFORM, margay_apps::sched::main);
