//! What the assembly calls.
//!
//! What is in `.text.hot`, here and elsewhere, is a hot path: the optimiser for size makes no subroutines of parts of functions that
//! have a section of their own.

use crate::{
    interrupt, measured, report,
    run::{self, Next},
    trap,
    vcpu::{Loaded, Vcpu},
};

/// The token for the vCPU that this core has loaded.
fn loaded(vcpu: &'static Vcpu) -> Loaded {
    // SAFETY: the assembly passes TPIDR_EL2, and makes one call for each exception.
    unsafe { Loaded::assume(vcpu) }
}

#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[unsafe(no_mangle)]
extern "C" fn hv_trap(vcpu: &'static Vcpu, esr: u64) -> Next {
    measured::entered();
    let next = trap::handle(loaded(vcpu), esr);
    measured::trap();
    next
}

#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[unsafe(no_mangle)]
extern "C" fn hv_interrupt(vcpu: &'static Vcpu) -> Next {
    measured::entered();
    let next = interrupt::handle(loaded(vcpu));
    measured::interrupt();
    next
}

#[unsafe(no_mangle)]
extern "C" fn hv_serror(vcpu: &'static Vcpu) -> Next {
    let [esr, ..] = crate::arch::el2_fault();
    trap::serror(&loaded(vcpu), esr)
}

#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[unsafe(no_mangle)]
extern "C" fn hv_switch(from: Option<&'static Vcpu>, to: &'static Vcpu) -> Next {
    let next = run::switch(from, to);
    measured::switch();
    next
}

#[unsafe(no_mangle)]
extern "C" fn hv_unexpected(vector: usize, registers: &report::Snapshot) -> ! {
    report::unexpected(vector, registers)
}

#[unsafe(no_mangle)]
extern "C" fn hv_boot(device_tree: u64, image: u64) -> ! {
    crate::boot::boot(device_tree, hv_abi::ids::Pa(image))
}

#[unsafe(no_mangle)]
extern "C" fn hv_core_started(core: &'static crate::percore::Core) -> ! {
    crate::boot::core_started(core)
}
