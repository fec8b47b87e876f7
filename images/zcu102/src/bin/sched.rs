//! The scheduler VM for the ZCU102 (Zynq UltraScale+ MPSoC).
#![no_std]
#![no_main]

use lwk_core::platform::Vm;

static PLATFORM: Vm = Vm::new();

lwk_core::image!(PLATFORM, margay_apps::sched::main);
