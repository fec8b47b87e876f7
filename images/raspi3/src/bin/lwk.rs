//! The native kernel for the Raspberry Pi 3, for programs of its initrd.
#![no_std]
#![no_main]

use lwk_core::platform::Native;

static PLATFORM: Native = Native::new();

lwk_core::image!(PLATFORM);
