//! The native kernel with workloads linked in.
#![no_std]
#![no_main]

use lwk_core::platform::Native;

static PLATFORM: Native = Native::new();

lwk_core::image!(PLATFORM, margay_apps::hpc::main);
