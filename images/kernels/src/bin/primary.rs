//! The scheduler VM, managed by the control task of its initrd.
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, lwk_core::primary::main);
