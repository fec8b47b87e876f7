//! A guest that runs HPC workloads, and takes its para-virtual interrupts from list registers.
#![no_std]
#![no_main]

use lwk_core::platform::VmWithListRegisters;

static PLATFORM: VmWithListRegisters = VmWithListRegisters;

lwk_core::image!(PLATFORM, margay_apps::hpc::main);
