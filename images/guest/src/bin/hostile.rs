//! A guest that attacks its surroundings.
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::hostile::main);
