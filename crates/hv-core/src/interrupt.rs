//! Physical interrupts that arrive while a VM runs.
//!
//! All of them come to EL2. The kick is how cores talk to each other; the two EL1 timers belong to the running
//! secondary (virtual) and to the primary (physical). A timer that fires is masked in its control register and made
//! pending in the para-virtual controller; its owner rewrites the register when it arms the timer again. In a VM with a
//! controller of the machine's kind the virtual timer's interrupt is a level, and its registers are the VM's alone.
//!
//! An interrupt of a virtual timer may still be there when another VM has been loaded, whose timer did not cause it: so the timer's own
//! status is looked at first.

use crate::{
    arch, bcm2836, board, console, gic, lists,
    run::{Next, after_interrupt, look_again},
    service,
    system::System,
    vcpu::Loaded,
};
use core::sync::atomic::{AtomicU32, Ordering};
use hv_abi::paravirt;

/// Interrupt ids of the timers, from the device tree.
pub(crate) struct Timers {
    virtual_timer: AtomicU32,
    physical_timer: AtomicU32,
}

/// Set once at boot.
pub(crate) static TIMERS: Timers =
    Timers { virtual_timer: AtomicU32::new(u32::MAX), physical_timer: AtomicU32::new(u32::MAX) };

/// That of EL2's own timer, if it stands in for the virtual timer of a primary with a GIC while another VM runs; set once at boot.
pub(crate) static STAND_IN: AtomicU32 = AtomicU32::new(u32::MAX);

impl Timers {
    pub(crate) fn set(&self, virtual_timer: u32, physical_timer: u32) {
        self.virtual_timer.store(virtual_timer, Ordering::Relaxed);
        self.physical_timer.store(physical_timer, Ordering::Relaxed);
    }

    /// The ids to enable on every core.
    pub(crate) fn ids(&self) -> [u32; 2] {
        [self.virtual_timer.load(Ordering::Relaxed), self.physical_timer.load(Ordering::Relaxed)]
    }
}

/// An interrupt came in while `current` ran.
///
/// On the paths that are counted this calls nothing: what is rare is called last, with nothing to come back to, so that there is no stack frame.
#[inline]
pub(crate) fn handle(current: Loaded) -> Next {
    let Some(intid) = board::acknowledge() else { return current.vcpu() };
    if intid == TIMERS.virtual_timer.load(Ordering::Relaxed) {
        if gic::has(current.vm()) {
            return gic_timer(current, intid);
        }
        // In a VM with controllers of BCM2836 it is a level, masked at the controller when the line is updated below.
        if bcm2836::of(current.vcpu()).is_none() && arch::mask_asserting_virtual_timer() {
            current.vcpu().irqs.set_pending(paravirt::TIMER);
        }
        if console::is_pending() {
            return drain_and_end(current, intid);
        }
    } else if intid == TIMERS.physical_timer.load(Ordering::Relaxed) {
        arch::mask_physical_timer();
        current.core().primary().irqs.set_pending(paravirt::TIMER);
        if console::is_pending() {
            return drain_and_end(current, intid);
        }
    } else if intid != board::kick_id() {
        return device(current, intid);
    }
    board::end(intid);
    after_interrupt(current)
}

/// The virtual timer's interrupt of a VM with a GIC.
#[cfg_attr(target_os = "none", unsafe(link_section = ".text.hot"))]
#[inline(never)]
fn gic_timer(current: Loaded, intid: u32) -> Next {
    board::end(intid);
    gic::tick(&current);
    look_again(current)
}

/// Interrupts that come again and again are when a core looks whether the UART takes more.
#[cold]
#[inline(never)]
fn drain_and_end(current: Loaded, intid: u32) -> Next {
    console::drain_on(&current);
    end(current, intid)
}

/// Ends an interrupt whose consequences are to be seen to.
#[cold]
#[inline(never)]
fn end(current: Loaded, intid: u32) -> Next {
    board::end(intid);
    look_again(current)
}

/// A device's interrupt goes to its owner: at once, if that runs; otherwise the primary is told to run it.
#[cold]
#[inline(never)]
fn device(current: Loaded, intid: u32) -> Next {
    if gic::is_possible() && intid < 32 {
        if intid == STAND_IN.load(Ordering::Relaxed) {
            let primary = current.core().primary();
            // It may have come just when the primary was loaded, whose own timer fires then.
            if !current.vm().is_primary() {
                gic::fire_timer(primary);
            }
        } else if lists::has(current.vm()) {
            // Maintenance: there is room.
            lists::update(&current);
        } else {
            // Maintenance: a VM has ended something, or can take more.
            current.vcpu().irqs.set_pending(gic::LOOK);
        }
        return end(current, intid);
    }
    if console::is_pending() {
        console::drain_on(&current);
    }
    let target = System::get().routes.arrive(intid);
    board::end(intid);
    match target {
        Some(owner) => service::interrupt(current, bcm2836::target(gic::target(owner, intid))),
        None => look_again(current),
    }
}
