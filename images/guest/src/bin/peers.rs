//! A guest that exchanges messages and memory with another one.
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::peers::main);
