//! FP/SIMD registers. The hypervisor is built without floating point, so they hold a VM's values at all times.

use crate::regs::FpRegs;
use core::arch::asm;

/// Stores q0 to q31, FPSR and FPCR of this core.
#[inline(never)]
pub(crate) fn save(fp: &mut FpRegs) {
    // SAFETY: writes exactly the fields of `fp`, whose layout is fixed (`repr(C)`).
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "stp q0, q1, [{0}, #0]", "stp q2, q3, [{0}, #32]", "stp q4, q5, [{0}, #64]", "stp q6, q7, [{0}, #96]",
            "stp q8, q9, [{0}, #128]", "stp q10, q11, [{0}, #160]", "stp q12, q13, [{0}, #192]", "stp q14, q15, [{0}, #224]",
            "stp q16, q17, [{0}, #256]", "stp q18, q19, [{0}, #288]", "stp q20, q21, [{0}, #320]", "stp q22, q23, [{0}, #352]",
            "stp q24, q25, [{0}, #384]", "stp q26, q27, [{0}, #416]", "stp q28, q29, [{0}, #448]", "stp q30, q31, [{0}, #480]",
            "mrs {1}, fpsr", "mrs {2}, fpcr", "str {1}, [{0}, #512]", "str {2}, [{0}, #520]",
            in(reg) core::ptr::from_mut(fp), out(reg) _, out(reg) _, options(nostack, preserves_flags)
        );
    }
}

/// Loads q0 to q31, FPSR and FPCR of this core.
#[inline(never)]
pub(crate) fn load(fp: &FpRegs) {
    // SAFETY: reads exactly the fields of `fp`; the hypervisor itself does not use these registers.
    unsafe {
        asm!(
            ".arch_extension fp", ".arch_extension simd",
            "ldp q0, q1, [{0}, #0]", "ldp q2, q3, [{0}, #32]", "ldp q4, q5, [{0}, #64]", "ldp q6, q7, [{0}, #96]",
            "ldp q8, q9, [{0}, #128]", "ldp q10, q11, [{0}, #160]", "ldp q12, q13, [{0}, #192]", "ldp q14, q15, [{0}, #224]",
            "ldp q16, q17, [{0}, #256]", "ldp q18, q19, [{0}, #288]", "ldp q20, q21, [{0}, #320]", "ldp q22, q23, [{0}, #352]",
            "ldp q24, q25, [{0}, #384]", "ldp q26, q27, [{0}, #416]", "ldp q28, q29, [{0}, #448]", "ldp q30, q31, [{0}, #480]",
            "ldr {1}, [{0}, #512]", "ldr {2}, [{0}, #520]", "msr fpsr, {1}", "msr fpcr, {2}",
            in(reg) core::ptr::from_ref(fp), out(reg) _, out(reg) _, options(nostack, preserves_flags, readonly)
        );
    }
}
