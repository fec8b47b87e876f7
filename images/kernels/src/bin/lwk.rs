//! The native kernel for programs of its initrd.
#![no_std]
#![no_main]

use lwk_core::platform::Native;

static PLATFORM: Native = Native::new();

lwk_core::image!(PLATFORM);
