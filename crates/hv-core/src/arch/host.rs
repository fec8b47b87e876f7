//! Stands in for the processor in host tests: registers that hold nothing, instructions that do nothing.
#![allow(clippy::unused_self, reason = "mirrors the real module")]

use crate::{regs::SysRegs, vm::VmKind};
use hv_abi::ids::{Ipa, Pa};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Traps {
    pub(crate) hcr: u64,
    pub(crate) cnthctl: u64,
}

impl Traps {
    pub(crate) fn of(_: VmKind) -> Self {
        Self { hcr: 0, cnthctl: 0 }
    }
}

pub(crate) mod fp {
    use crate::regs::FpRegs;
    pub(crate) fn save(_: &mut FpRegs) {}
    pub(crate) fn load(_: &FpRegs) {}
}

pub(crate) mod keys {
    use crate::regs::Keys;
    pub(crate) fn save(_: &mut Keys) {}
    pub(crate) fn load(_: &Keys) {}
}

#[cfg(any(test, feature = "testing"))]
impl SysRegs {
    /// Of all registers, there are the virtual timer's.
    pub(crate) fn save(&mut self) {
        (self.cntv_ctl_el0, self.cntv_cval_el0) = TIMER.get();
    }
    pub(crate) fn load(&self) {
        TIMER.set((self.cntv_ctl_el0, self.cntv_cval_el0));
    }
}
#[cfg(not(any(test, feature = "testing")))]
impl SysRegs {
    pub(crate) fn save(&mut self) {}
    pub(crate) fn load(&self) {}
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageLayout {
    pub(crate) start: u64,
    pub(crate) text_end: u64,
    pub(crate) rodata_end: u64,
    pub(crate) end: u64,
    pub(crate) boot_stack: u64,
}

pub(crate) fn image_layout() -> ImageLayout {
    ImageLayout { start: 0, text_end: 0, rodata_end: 0, end: 0, boot_stack: 0 }
}
pub(crate) fn load_vm(_: u64, _: u64, _: u64) {}
pub(crate) const KEYS: u64 = 1;
pub(crate) const VSE: u64 = 1 << 8;
pub(crate) const TWI: u64 = 1 << 13;
pub(crate) fn load_traps(_: u64, hcr: u64, line: bool) {
    set_virtual_irq(hcr, line);
}
#[cfg(any(test, feature = "testing"))]
std::thread_local! {
    /// Syndrome of the physical SError that is pending.
    pub(crate) static SERROR: core::cell::Cell<Option<u64>> = const { core::cell::Cell::new(None) };
    /// `HCR_EL2`, as far as it is about virtual SErrors, and `VSESR_EL2`.
    pub(crate) static VIRTUAL_SERROR: core::cell::Cell<(u64, u64)> = const { core::cell::Cell::new((0, 0)) };
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn take_serror(_: u64) -> Option<u64> {
    SERROR.take()
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn set_virtual_serror(_: u64, iss: u64) {
    VIRTUAL_SERROR.set((VIRTUAL_SERROR.get().0, iss));
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn raise_virtual_serror() {
    VIRTUAL_SERROR.set((VSE, VIRTUAL_SERROR.get().1));
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn has_virtual_serror() -> bool {
    VIRTUAL_SERROR.get().0 & VSE != 0
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn take_serror(_: u64) -> Option<u64> {
    None
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn set_virtual_serror(_: u64, _: u64) {}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn raise_virtual_serror() {}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn has_virtual_serror() -> bool {
    false
}
pub(crate) fn has_deferred_virtual_serror(_: u64) -> bool {
    false
}
#[cfg(any(test, feature = "testing"))]
std::thread_local! {
    /// The virtual IRQ line of the loaded vCPU.
    pub(crate) static LINE: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
    /// Control register and compare value of the virtual timer.
    pub(crate) static TIMER: core::cell::Cell<(u64, u64)> = const { core::cell::Cell::new((0, 0)) };
    /// The physical counter, which stands still.
    pub(crate) static COUNTER: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
    /// `ESR_EL1` and `FAR_EL1` of the exception that was injected last.
    pub(crate) static INJECTED: core::cell::Cell<(u64, u64)> = const { core::cell::Cell::new((0, 0)) };
    /// The vCPU makes its last call again.
    pub(crate) static REPEATED: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
    /// Where a VM's access failed.
    pub(crate) static FAULT: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn set_virtual_irq(hcr: u64, high: bool) {
    VIRTUAL_SERROR.set((hcr & VSE, VIRTUAL_SERROR.get().1));
    LINE.set(high);
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn set_virtual_irq(_: u64, _: bool) {}
pub(crate) fn has_keys() -> bool {
    true
}
pub(crate) fn flush_vm_on_this_core() {}
pub(crate) fn set_current(_: usize) {}
pub(crate) fn trap_fp(_: bool) {}
pub(crate) fn isb() {}
pub(crate) fn pc() -> u64 {
    0
}
pub(crate) fn spsr() -> u64 {
    0
}
pub(crate) fn set_return(_: u64, _: u64) {}
pub(crate) fn advance_pc() {}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn repeat_call() {
    REPEATED.set(true);
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn repeat_call() {}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn fault_address() -> u64 {
    FAULT.get()
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn fault_address() -> u64 {
    0
}
pub(crate) fn fault_ipa() -> u64 {
    fault_address() & !0xfff
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn counter_now() -> u64 {
    COUNTER.get()
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn counter_now() -> u64 {
    0
}
pub(crate) fn forget_vm(_: u64) {}
pub(crate) fn counter() -> u64 {
    counter_now()
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn virtual_timer() -> (u64, u64) {
    TIMER.get()
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn virtual_timer() -> (u64, u64) {
    (0, 0)
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn virtual_timer_asserts() -> bool {
    let (ctl, cval) = TIMER.get();
    ctl & 0b11 == 1 && counter() >= cval
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn virtual_timer_asserts() -> bool {
    false
}
pub(crate) fn mask_asserting_virtual_timer() -> bool {
    virtual_timer_asserts()
}
pub(crate) fn mask_physical_timer() {}
pub(crate) fn watch_timer(_: u64, _: u64) {}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn inject_sync(esr: u64) {
    INJECTED.set((esr, INJECTED.get().1));
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn set_el1_fault_address(far: u64) {
    INJECTED.set((INJECTED.get().0, far));
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn inject_sync(_: u64) {}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn set_el1_fault_address(_: u64) {}
pub(crate) fn revision(_: bool) -> u64 {
    0
}
pub(crate) fn id_register(_: u8, _: u8) -> u64 {
    0
}
#[cfg(any(test, feature = "testing"))]
std::thread_local! {
    /// This thread's firmware; it knows nothing.
    pub(crate) static FIRMWARE: core::cell::Cell<fn([u64; 8]) -> [u64; 8]> =
        const { core::cell::Cell::new(|_| [u64::MAX; 8]) };
}
#[cfg(any(test, feature = "testing"))]
pub(crate) fn smc(x: [u64; 8]) -> [u64; 8] {
    FIRMWARE.get()(x)
}
#[cfg(not(any(test, feature = "testing")))]
pub(crate) fn smc(_: [u64; 8]) -> [u64; 8] {
    [u64::MAX; 8]
}
pub(crate) fn halt() -> ! {
    panic!("halted")
}
pub(crate) fn flush_el2_page(_: u64) {}
pub(crate) fn publish_tables() {}
pub(crate) fn flush_stage2(_: u64, _: Ipa, _: u64) {}
pub(crate) fn clean_to_memory(_: usize, _: usize) {}
pub(crate) fn clean_data(_: usize, _: usize) {}
pub(crate) fn zero(to: &mut [u8]) {
    to.fill(0);
}
pub(crate) fn copy_bytes(to: &mut [u8], from: &[u8]) {
    to[..from.len()].copy_from_slice(from);
}
pub(crate) fn secondary_entry(_: Pa) -> u64 {
    0
}
pub(crate) fn el2_fault() -> [u64; 4] {
    [0; 4]
}
pub(crate) fn here() -> (u64, u64) {
    (0, 0)
}
pub(crate) fn stack_word(_: u64) -> Option<u64> {
    None
}
