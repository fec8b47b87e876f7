//! The CPU interface of the calling core: system registers, one instruction per operation.
//!
//! The `ICC_*_EL1` registers serve EL1 and EL2 alike: at EL2 they are always the physical interface (GIC
//! spec, 8.2.2). At EL1 under a hypervisor they may be the virtual one, which looks the same.
//!
//! Everything but the pure parts exists on AArch64 only.
#![cfg_attr(not(any(target_arch = "aarch64", doc)), allow(unused_imports))]
use super::{EoiMode, sgi_register};
use crate::{GicError, Intid, Mpidr};

/// Reads a CPU-interface register by its architectural encoding.
#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: only used with CPU-interface registers whose reading touches no memory.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a CPU-interface register by its architectural encoding.
#[cfg(any(target_arch = "aarch64", doc))]
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: only used with CPU-interface registers. What they do is to mask, end and send interrupts;
        // no memory is touched, and compiler and program order are kept by the implied memory clobber.
        unsafe {
            core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags));
        }
    }};
}

/// What the acknowledge register said: an interrupt, or none for the special identifiers 1020 to 1023.
#[inline]
pub const fn acknowledged(iar: u64) -> Option<Intid> {
    // INTID is 23:0, and 63:24 read as zero (GIC spec, 12.2.14 `ICC_IAR1_EL1`).
    let number = iar as u32;
    // LPIs (from 8192) are above the special range and are never enabled here, so one comparison is enough.
    if number < Intid::SPECIAL_BASE { Some(Intid::new(number)) } else { None }
}

/// Sets the calling core's interface up for non-secure group 1: system registers on, all priorities let
/// through, preemption by priority group as fine as it gets, `eoi_mode`, group 1 enabled.
///
/// At EL2 the interface is also opened for EL1 (`ICC_SRE_EL2.Enable`, `ICC_SRE_EL1.SRE`), so that a guest
/// finds it on.
#[cfg(any(target_arch = "aarch64", doc))]
pub fn init(eoi_mode: EoiMode) -> Result<(), GicError> {
    /// `ICC_CTLR_EL1.EOImode`.
    const EOI_MODE: u64 = 1 << 1;
    /// `ICC_SRE_EL1.SRE` and `ICC_SRE_EL2.SRE`.
    const SRE: u64 = 1;
    /// `ICC_SRE_EL2.Enable`.
    const ENABLE_LOWER: u64 = 1 << 3;

    let current_el: u64;
    // SAFETY: reading `CurrentEL` has no effect.
    unsafe {
        core::arch::asm!("mrs {}, CurrentEL", out(reg) current_el, options(nomem, nostack, preserves_flags));
    }
    if current_el >> 2 & 3 == 2 {
        // ICC_SRE_EL2 (GIC spec, 12.2.22).
        write!("S3_4_C12_C9_5", read!("S3_4_C12_C9_5") | SRE | ENABLE_LOWER);
        isb();
    }
    // ICC_SRE_EL1 (12.2.21).
    write!("S3_0_C12_C12_5", read!("S3_0_C12_C12_5") | SRE);
    isb();
    if read!("S3_0_C12_C12_5") & SRE == 0 {
        return Err(GicError::NoSystemRegisters);
    }
    // ICC_CTLR_EL1 (12.2.6).
    let control = read!("S3_0_C12_C12_4") & !EOI_MODE;
    write!(
        "S3_0_C12_C12_4",
        match eoi_mode {
            EoiMode::DropAndDeactivate => control,
            EoiMode::DropOnly => control | EOI_MODE,
        }
    );
    // ICC_BPR1_EL1 (12.2.5): the smallest value that the implementation has, whatever it is.
    write!("S3_0_C12_C12_3", 0);
    set_priority_mask(0xff);
    enable_group1(true);
    isb();
    Ok(())
}

/// Lets only interrupts of a priority below `mask` through (`ICC_PMR_EL1`); 0xff for all.
#[cfg(any(target_arch = "aarch64", doc))]
#[inline]
pub fn set_priority_mask(mask: u8) {
    write!("S3_0_C4_C6_0", u64::from(mask));
}

/// Enables or disables group 1 interrupts on this core (`ICC_IGRPEN1_EL1`).
#[cfg(any(target_arch = "aarch64", doc))]
#[inline]
pub fn enable_group1(enable: bool) {
    write!("S3_0_C12_C12_7", u64::from(enable));
}

/// Takes the most urgent pending group 1 interrupt (`ICC_IAR1_EL1`).
///
/// The exception return synchronises; a handler that unmasks interrupts itself executes a `dsb sy` first (GIC
/// spec, 4.1.1 "Acknowledging interrupts").
#[cfg(any(target_arch = "aarch64", doc))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction on the interrupt path")]
pub fn acknowledge() -> Option<Intid> {
    acknowledged(read!("S3_0_C12_C12_0"))
}

/// The most urgent pending group 1 interrupt, without taking it (`ICC_HPPIR1_EL1`).
#[cfg(any(target_arch = "aarch64", doc))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction on the interrupt path")]
pub fn highest_pending() -> Option<Intid> {
    acknowledged(read!("S3_0_C12_C12_2"))
}

/// Ends an interrupt (`ICC_EOIR1_EL1`): priority drop, and deactivation unless [`EoiMode::DropOnly`].
#[cfg(any(target_arch = "aarch64", doc))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction on the interrupt path")]
pub fn end(intid: Intid) {
    write!("S3_0_C12_C12_1", u64::from(intid.raw()));
}

/// Deactivates an interrupt (`ICC_DIR_EL1`). Only with [`EoiMode::DropOnly`].
#[cfg(any(target_arch = "aarch64", doc))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "one instruction on the interrupt path")]
pub fn deactivate(intid: Intid) {
    write!("S3_0_C12_C11_1", u64::from(intid.raw()));
}

/// Sends SGI `sgi` to the core `target` (`ICC_SGI1R_EL1`). Memory written before is visible to the receiver.
#[cfg(any(target_arch = "aarch64", doc))]
#[inline]
pub fn send_sgi(target: Mpidr, sgi: Intid) {
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
    }
    write!("S3_0_C12_C11_5", sgi_register(target, sgi));
    isb();
}

#[cfg(any(target_arch = "aarch64", doc))]
#[inline]
fn isb() {
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("isb", options(nostack, preserves_flags));
    }
}
