//! A guest that tries every system register.
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::registers::main);
