//! The native kernel for the Pine A64-LTS (Allwinner A64), for programs of its initrd.
#![no_std]
#![no_main]

use lwk_core::platform::Native;

static PLATFORM: Native = Native::new();

lwk_core::image!(PLATFORM);
