//! System registers and instructions of EL2.

use crate::skip;
use core::arch::asm;
use hv_abi::ids::{Ipa, Pa};

macro_rules! read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no side effect.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

macro_rules! write {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: each use of this macro says why writing the register is sound.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags));
        }
    }};
}

pub(super) use {read, write};

/// Sets this core up to run VMs: traps that no VM changes, stage-2 geometry, W^X for the hypervisor itself.
pub(crate) fn init_core(vtcr: u64) {
    let wxn = read!("sctlr_el2") | (1 << 19);
    // These registers configure EL1 and below, or (SCTLR_EL2.WXN) forbid what the final tables do not use anyway.
    write!("sctlr_el2", wxn);
    write!("vtcr_el2", vtcr);
    write!("cnthp_ctl_el2", 0);
    super::traps::init();
}

/// `VTCR_EL2` for stage-2 tables of `ipa_bits`, root at level 1, on this machine (Arm ARM, D19.2.159).
pub(crate) fn vtcr(ipa_bits: u8) -> u64 {
    let pa_range = (read!("id_aa64mmfr0_el1") & 0xf).min(5);
    (1 << 31)
        | (pa_range << 16)
        | (0b11 << 12)
        | (0b01 << 10)
        | (0b01 << 8)
        | (0b01 << 6)
        | (64 - u64::from(ipa_bits))
}

/// How many bits a physical address has.
pub(crate) fn pa_bits() -> u8 {
    match read!("id_aa64mmfr0_el1") & 0xf {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}

/// This core's affinity: MPIDR_EL1 without flags.
pub(crate) fn mpidr() -> u64 {
    read!("mpidr_el1") & 0xff_00ff_ffff
}

/// Points this core to a VM: its tables, and the identity its vCPU shows.
#[inline]
pub(crate) fn load_vm(vttbr: u64, vmpidr: u64, counter_offset: u64) {
    // The VM's own tables; the hypervisor is not translated by stage 2.
    write!("vttbr_el2", vttbr);
    write!("vmpidr_el2", vmpidr);
    // The last VM's timer is off before the counter is another: it must not fire for this one.
    write!("cntv_ctl_el0", 0);
    // What EL2 itself reads is the physical counter.
    write!("cntvoff_el2", counter_offset);
}

/// Forgets what this core's TLBs hold of the loaded VM.
#[inline]
pub(crate) fn flush_vm_on_this_core() {
    // SAFETY: TLB maintenance only removes cached translations.
    unsafe { asm!("isb", "tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// The vCPU that this core runs.
#[inline]
pub(crate) fn set_current(vcpu: usize) {
    // TPIDR_EL2 is the hypervisor's own; vectors.S reads it.
    write!("tpidr_el2", vcpu as u64);
}

/// Makes a change of CPTR_EL2 count for the hypervisor's own next instruction.
pub(crate) fn isb() {
    // SAFETY: a context synchronisation event has no effect on memory.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

/// ELR_EL2 of the loaded vCPU.
#[inline]
pub(crate) fn pc() -> u64 {
    read!("elr_el2")
}

/// SPSR_EL2 of the loaded vCPU.
#[inline]
pub(crate) fn spsr() -> u64 {
    read!("spsr_el2")
}

/// Sets where, and in what state, the loaded vCPU goes on.
#[inline]
pub(crate) fn set_return(pc: u64, spsr: u64) {
    // They take effect at the next ERET to the VM.
    write!("elr_el2", pc);
    write!("spsr_el2", spsr);
}

/// Skips the instruction that trapped.
#[inline]
pub(crate) fn advance_pc() {
    let spsr = spsr();
    if skip::is_aarch32(spsr) {
        return step_over(spsr);
    }
    write!("elr_el2", read!("elr_el2") + 4);
}

/// Lets the loaded vCPU execute the call again that it has just made: `ELR_EL2` points behind an `HVC`, and behind an `SMC` after
/// [`advance_pc`].
#[inline]
pub(crate) fn repeat_call() {
    write!("elr_el2", read!("elr_el2").wrapping_sub(4));
}

/// Steps over a trapped AArch32 instruction.
#[cold]
#[inline(never)]
fn step_over(spsr: u64) {
    let (bytes, pstate) = skip::step(spsr, read!("esr_el2"));
    set_return(read!("elr_el2").wrapping_add(bytes), pstate);
}

/// FAR_EL2: the virtual address of the last fault.
pub(crate) fn fault_address() -> u64 {
    read!("far_el2")
}

/// The intermediate physical page of the last stage-2 fault (HPFAR_EL2).
pub(crate) fn fault_ipa() -> u64 {
    (read!("hpfar_el2") & 0x0000_0fff_ffff_fff0) << 8
}

/// The counter, in ticks.
#[inline]
pub(crate) fn counter() -> u64 {
    // SAFETY: the barrier has no side effect.
    unsafe { asm!("isb", options(nomem, nostack, preserves_flags)) };
    counter_now()
}

/// The counter, in ticks, read early or late by some instructions: for statistics.
#[inline(always)]
pub(crate) fn counter_now() -> u64 {
    let mut value = read!("cntpct_el0");
    // The counter passes what is not true in a moment; one that stands still is not waited for.
    for _ in 0..150 {
        if crate::board::is_valid(value) {
            break;
        }
        value = read!("cntpct_el0");
    }
    value
}

/// Forgets everything that any core's TLB or instruction cache holds of the VM behind `vttbr`.
pub(crate) fn forget_vm(vttbr: u64) {
    flush_stage2(vttbr, Ipa(0), u64::MAX);
    // SAFETY: cache maintenance and barriers.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// CNTV_CTL_EL0 and CNTV_CVAL_EL0 of the loaded vCPU.
#[inline]
pub(crate) fn virtual_timer() -> (u64, u64) {
    (read!("cntv_ctl_el0"), read!("cntv_cval_el0"))
}

const TIMER_IMASK: u64 = 1 << 1;

/// Whether the virtual timer of the loaded vCPU asserts its interrupt: it is on, due and not masked.
#[inline]
pub(crate) fn virtual_timer_asserts() -> bool {
    read!("cntv_ctl_el0") & 0b111 == 0b101
}

/// Masks the virtual timer of the loaded vCPU, if it asserts its interrupt; returns whether it does: the interrupt is to be made pending.
#[inline]
pub(crate) fn mask_asserting_virtual_timer() -> bool {
    let ctl = read!("cntv_ctl_el0");
    let asserts = ctl & 0b111 == 0b101;
    if asserts {
        // A timer of the VM; masking it cannot affect the hypervisor.
        write!("cntv_ctl_el0", ctl | TIMER_IMASK);
    }
    asserts
}

/// Masks the EL1 physical timer, which is the primary's.
#[inline]
pub(crate) fn mask_physical_timer() {
    // As above.
    write!("cntp_ctl_el0", read!("cntp_ctl_el0") | TIMER_IMASK);
}

/// Lets EL2's own timer interrupt when a virtual timer with these registers, which is not loaded and has no offset, would.
pub(crate) fn watch_timer(ctl: u64, cval: u64) {
    // Nothing else uses this timer.
    write!("cnthp_ctl_el2", 0);
    write!("cnthp_cval_el2", cval);
    write!("cnthp_ctl_el2", ctl);
}

/// Stops the EL1 timers that firmware may have left running.
pub(crate) fn stop_timers() {
    // Nobody uses the timers yet.
    write!("cntv_ctl_el0", 0);
    write!("cntp_ctl_el0", 0);
}

/// Injects a synchronous exception with syndrome `esr` into the loaded vCPU, as the processor would take it to EL1
/// (Arm ARM, D1.3.1).
pub(crate) fn inject_sync(esr: u64) {
    let (pc, spsr) = (pc(), spsr());
    let has_pan = read!("id_aa64mmfr1_el1") & 0xf << 20 != 0;
    let (vector, pstate) = crate::regs::exception_entry(spsr, read!("sctlr_el1"), has_pan);
    // Registers of the VM's EL1, written as an exception to EL1 writes them.
    write!("elr_el1", pc);
    write!("spsr_el1", spsr);
    write!("esr_el1", esr);
    set_return(read!("vbar_el1").wrapping_add(vector), pstate);
}

/// FAR_EL1 of the loaded vCPU, for an exception that has an address.
pub(crate) fn set_el1_fault_address(far: u64) {
    // As above.
    write!("far_el1", far);
}

/// REVIDR_EL1, or else AIDR_EL1.
pub(crate) fn revision(of_core: bool) -> u64 {
    if of_core { read!("revidr_el1") } else { read!("aidr_el1") }
}

/// Identification register `name` as the hardware has it; the encodings are those of a trapped MRS.
pub(crate) fn id_register(crm: u8, op2: u8) -> u64 {
    match (crm, op2) {
        (4, 0) => read!("id_aa64pfr0_el1"),
        (4, 1) => read!("id_aa64pfr1_el1"),
        (5, 0) => read!("id_aa64dfr0_el1"),
        (6, 0) => read!("id_aa64isar0_el1"),
        (6, 1) => read!("id_aa64isar1_el1"),
        (6, 2) => read!("s3_0_c0_c6_2"),
        (7, 0) => read!("id_aa64mmfr0_el1"),
        (7, 1) => read!("id_aa64mmfr1_el1"),
        (7, 2) => read!("s3_0_c0_c7_2"),
        _ => 0,
    }
}

/// Calls firmware by SMC: x0 to x7, and what they are afterwards. The hypervisor calls only PSCI and what DEN0028 defines, with
/// arguments that it has checked; of a VM, what its manifest allows.
#[inline(never)]
pub(crate) fn smc(mut x: [u64; 8]) -> [u64; 8] {
    // SAFETY: SMCCC 1.0 has a call change x0 to x17 at most. What the functions above do to memory does not touch what is the
    // hypervisor's: power functions start cores at its own entry, and whoever writes the manifest vouches for the rest.
    unsafe {
        asm!("smc #0",
            inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3],
            inout("x4") x[4], inout("x5") x[5], inout("x6") x[6], inout("x7") x[7],
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack));
    }
    x
}

/// Waits for an interrupt or event, for ever.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: waiting changes nothing.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }
}

/// Switches this core to other EL2 tables.
///
/// # Safety
/// The tables at `root` map all code, data and stacks in use at the addresses where they are now.
pub(crate) unsafe fn set_el2_tables(root: Pa) {
    // SAFETY: the caller vouches for the tables; stale translations are removed before any is used.
    unsafe {
        asm!("dsb ishst", "msr ttbr0_el2, {}", "isb", "tlbi alle2", "dsb ish", "isb", in(reg) root.0,
            options(nostack, preserves_flags));
    }
}

/// Makes a change of one EL2 page descriptor count on this core: old translations of the page at `va` are gone.
pub(crate) fn flush_el2_page(va: u64) {
    // SAFETY: TLB maintenance only removes cached translations.
    unsafe {
        asm!("dsb ishst", "tlbi vae2, {}", "dsb nsh", "isb", in(reg) va >> 12, options(nostack, preserves_flags));
    }
}

/// Makes earlier writes of stage-2 descriptors visible to the table walkers of all cores.
pub(crate) fn publish_tables() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
}

/// More bytes than this are not worth a TLB maintenance instruction for each page.
const MANY: u64 = 64 * 4096;

/// Removes the translations of `len` bytes from `ipa` of the VM behind `vttbr` from the TLBs of all cores, both
/// stages (Arm ARM, D8.16).
pub(crate) fn flush_stage2(vttbr: u64, ipa: Ipa, len: u64) {
    let loaded = read!("vttbr_el2");
    write!("vttbr_el2", vttbr);
    // SAFETY: TLB maintenance only removes cached translations.
    unsafe {
        asm!("dsb ishst", "isb", options(nostack, preserves_flags));
        if len > MANY {
            asm!("tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags));
        } else {
            for page in (ipa.0..ipa.0 + len).step_by(4096) {
                asm!("tlbi ipas2e1is, {}", in(reg) page >> 12, options(nostack, preserves_flags));
            }
            asm!("dsb ish", "tlbi vmalle1is", "dsb ish", "isb", options(nostack, preserves_flags));
        }
    }
    write!("vttbr_el2", loaded);
    isb();
}

/// Forgets everything that the TLBs of this core hold of any VM.
pub(crate) fn flush_all_vms() {
    // SAFETY: TLB maintenance only removes cached translations.
    unsafe { asm!("dsb ishst", "tlbi alle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Writes the data-cache lines of `len` bytes at `address` back to memory, where a VM with its caches off reads them.
pub(crate) fn clean_data(address: usize, len: usize) {
    let line = 4usize << ((read!("ctr_el0") >> 16) & 0xf);
    let mut at = address & !(line - 1);
    while at < address + len {
        // SAFETY: cleaning writes back what is in the cache; the range is mapped, as the caller has just used it.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Writes the data-cache lines of `len` bytes at `address` back to memory, where a VM with its caches off reads them,
/// and makes them fit to be executed.
pub(crate) fn clean_to_memory(address: usize, len: usize) {
    clean_data(address, len);
    // SAFETY: barriers and instruction-cache maintenance.
    unsafe { asm!("dsb sy", "ic ialluis", "dsb sy", "isb", options(nostack, preserves_flags)) };
}

/// The physical address where another core enters.
pub(crate) fn secondary_entry(image: Pa) -> u64 {
    unsafe extern "C" {
        static __image_start: u8;
        fn hv_secondary_entry();
    }
    image.0 + (hv_secondary_entry as *const () as u64 - (&raw const __image_start) as u64)
}

/// Enters the first vCPU of this core, whose stack for later exits begins at `stack_top`.
pub(crate) fn enter(vcpu: &'static crate::vcpu::Vcpu, stack_top: u64) -> ! {
    unsafe extern "C" {
        fn hv_enter(vcpu: *const core::ffi::c_void, stack_top: u64) -> !;
    }
    // SAFETY: `hv_enter` takes the core's own stack, loads the vCPU's registers and leaves EL2; nothing of the frames
    // before it is used again.
    unsafe { hv_enter(core::ptr::from_ref(vcpu).cast(), stack_top) }
}

/// The linked addresses of the image's sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageLayout {
    pub(crate) start: u64,
    pub(crate) text_end: u64,
    pub(crate) rodata_end: u64,
    pub(crate) end: u64,
    /// The lowest address of the boot stack: the page below it is its guard.
    pub(crate) boot_stack: u64,
}

/// Where the linker put things.
pub(crate) fn image_layout() -> ImageLayout {
    unsafe extern "C" {
        static __image_start: u8;
        static __text_end: u8;
        static __rodata_end: u8;
        static __image_end: u8;
        static __boot_stack_bottom: u8;
    }
    ImageLayout {
        start: (&raw const __image_start) as u64,
        text_end: (&raw const __text_end) as u64,
        rodata_end: (&raw const __rodata_end) as u64,
        end: (&raw const __image_end) as u64,
        boot_stack: (&raw const __boot_stack_bottom) as u64,
    }
}

/// Syndrome and fault registers of an exception of the hypervisor itself: ESR, ELR, FAR, SPSR.
pub(crate) fn el2_fault() -> [u64; 4] {
    [read!("esr_el2"), read!("elr_el2"), read!("far_el2"), read!("spsr_el2")]
}

/// An address in this function's caller, and the stack pointer.
#[inline]
pub(crate) fn here() -> (u64, u64) {
    let (pc, sp): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        asm!("adr {}, .", "mov {}, sp", out(reg) pc, out(reg) sp, options(nomem, nostack, preserves_flags));
    }
    (pc, sp)
}

/// The word at an address of one of the hypervisor's stacks; `None` if it is not in one.
pub(crate) fn stack_word(address: u64) -> Option<u64> {
    let image = image_layout();
    let in_stack = (image.boot_stack..image.end - 16).contains(&address) || crate::el2_map::is_stack(address);
    // SAFETY: the address is aligned, as the caller makes it, and within a mapped stack.
    in_stack.then(|| unsafe { *(address as *const u64) })
}
