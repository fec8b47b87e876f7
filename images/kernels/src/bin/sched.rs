//! The scheduler VM that runs all VMs until they have stopped.
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::sched::main);
