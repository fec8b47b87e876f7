//! The scheduler VM for the Pine A64-LTS (Allwinner A64).
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::sched::main);
