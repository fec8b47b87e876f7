//! The real-time clock of QEMU's virt machine (PL031), whose interrupt is 34: for a VM that has it.

use core::arch::asm;
use hv_abi::guest;
use lwk_core::{app::App, arch, memory, println};
use machine::Region;

const BASE: u64 = 0x0901_0000;
const INTERRUPT: u32 = 34;
/// Registers (PL031, section 3.3): now, when to interrupt, whether to, and a write that ends it.
const DATA: usize = 0x00;
const MATCH: usize = 0x04;
const MASK: usize = 0x10;
const CLEAR: usize = 0x1c;

pub(crate) struct Clock(usize);

impl Clock {
    /// Where QEMU has it, if this VM may use it.
    pub(crate) fn find() -> Option<Self> {
        memory::map_device(Region::new(BASE, 4096)?).ok().map(Self)
    }

    fn read(&self, register: usize) -> u32 {
        // SAFETY: the clock's registers, which this kernel has mapped for nothing else.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.0 + register).read_volatile() }
    }

    fn write(&self, register: usize, value: u32) {
        // SAFETY: as for `read`; the clock writes no memory.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(self.0 + register).write_volatile(value) }
    }
}

impl Clock {
    /// Lets it ask for its interrupt from the next second on, or not at all; returns what its number is.
    pub(crate) fn storm(&self, on: bool) -> u32 {
        self.write(CLEAR, 1);
        if on {
            self.write(MATCH, self.read(DATA) + 1);
        }
        self.write(MASK, on.into());
        INTERRUPT
    }
}

/// Waits until an interrupt other than this kernel's own is taken.
fn wait() -> u32 {
    loop {
        // SAFETY: waits for an interrupt, which is masked here, and taken below.
        unsafe { asm!("wfi", options(nomem, nostack)) };
        while let Some(id) = guest::any_interrupt_get() {
            if id >= 32 {
                return id;
            }
        }
    }
}

/// Is woken by the clock twice; the interrupt comes again as long as the clock asks for it, and not before it
/// has been ended.
pub(super) fn alarm(_: &App) -> bool {
    let Some(clock) = Clock::find() else { return false };
    let mut ok = guest::device_interrupt_enable(INTERRUPT, true);
    println!("interrupt {INTERRUPT} is mine: {ok}");
    arch::mask_interrupts();
    for _ in 0..2 {
        clock.write(CLEAR, 1);
        clock.write(MATCH, clock.read(DATA) + 1);
        clock.write(MASK, 1);
        ok &= wait() == INTERRUPT;
        // Masked until it is ended, though the clock still asks for it.
        ok &= guest::any_interrupt_get().is_none();
        ok &= guest::device_interrupt_end(INTERRUPT) && !guest::device_interrupt_end(INTERRUPT);
        ok &= wait() == INTERRUPT;
        clock.write(CLEAR, 1);
        ok &= guest::device_interrupt_end(INTERRUPT) && guest::any_interrupt_get().is_none();
    }
    // Disabled, it does not come.
    ok &= guest::device_interrupt_enable(INTERRUPT, false);
    clock.write(MATCH, clock.read(DATA));
    ok &= guest::any_interrupt_get().is_none();
    clock.write(CLEAR, 1);
    println!("two alarms: {ok}");
    ok
}

/// Lets the clock interrupt without end: each is ended at once, and none is answered.
pub(super) fn storm(_: &App) -> bool {
    let Some(clock) = Clock::find() else { return false };
    arch::mask_interrupts();
    clock.storm(true);
    let mut ok = guest::device_interrupt_enable(INTERRUPT, true);
    for _ in 0..100_000 {
        ok &= wait() == INTERRUPT && guest::device_interrupt_end(INTERRUPT);
    }
    clock.storm(false);
    println!("100000 interrupts: {ok}");
    ok
}

/// Asks for interrupts of devices that are not its own.
pub(super) fn steal(_: &App) -> bool {
    let mut ok = true;
    for id in (32..1024).chain([u32::MAX, 1 << 31, 0x1_0022]) {
        // What is no device's number may be another interrupt's.
        let taken = id >= 63 && guest::device_interrupt_enable(id, true);
        if taken || guest::device_interrupt_end(id) {
            println!("interrupt {id} was given to this VM");
            ok = false;
        }
    }
    ok
}
