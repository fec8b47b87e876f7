//! A virtual GIC: the distributor and redistributors of a VM that expects a real one, as a state machine
//! without hardware.
//!
//! A hypervisor keeps a [`Vgic`] for each such VM, under a lock, and
//!
//! * leaves the pages of GICD and GICR out of the VM's translation, and gives accesses that fault to
//!   [`Vgic::read`] and [`Vgic::write`];
//! * gives trapped writes of `ICC_SGI1R_EL1` to [`Vgic::send_sgi`];
//! * tells it what happens outside: [`Vgic::set_level`] of a line, [`Vgic::pulse`] of an edge;
//! * calls [`Vgic::load`] when a vCPU is about to run, [`Vgic::unload`] when it no longer does, and
//!   [`Vgic::update`] in between, when something may have changed: before and after a trapped access, after a
//!   kick, after a maintenance interrupt.
//!
//! What the guest does at its CPU interface costs no exit: [`update`](Vgic::update) finds it in the list
//! registers.
//!
//! # Interrupts of real devices
//!
//! [`Vgic::assign`] ties a shared interrupt to the physical one: [`Effects`] says when the guest enables and
//! disables it. A level is *resampled*: the hypervisor masks the physical interrupt when it arrives and
//! raises the line; when the guest ends it, a maintenance interrupt comes, [`Effects::ended`] is called, the
//! line is low again, and the hypervisor unmasks. If the device still asserts, it arrives again. So a device
//! under load neither stalls nor storms, and one that nobody answers interrupts its guest alone.
//!
//! # Timers
//!
//! A timer's interrupt is a level of the core itself: [`Vgic::link`] ties it to the physical PPI,
//! [`Vgic::set_line`] says what the line is at each look, and [`Effects::hold`] keeps the physical one active
//! for as long as the vCPU has it.
//!
//! # What a guest sees
//!
//! GICv2, or GICv3 with affinity routing only, one security state, no LPIs. All interrupts are in group 1
//! (GICv3) or group 0 (GICv2). Every access has a meaning, whatever its offset, size and value: what is not
//! there reads as zero and ignores writes.
//!
//! Sources: GIC spec (IHI 0069), chapter 12; GICv2 spec (IHI 0048), chapter 4.
mod cpu;
mod delivery;
mod irq;
mod linked;
mod registers;
mod routing;
mod sgi;

use crate::hyp::MAX_LIST_REGISTERS;
pub use cpu::Cpu;
use cpu::SHARED;
pub use irq::Irq;
use irq::{ACTIVE, ASSIGNED, EDGE, ENABLED, FROM_LATCH, HIGH, LATCHED, LISTED};
use linked::Linked;

/// Which GIC a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: at most eight vCPUs.
    V2,
    /// GICv3.
    V3,
}

/// Which registers an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// GICD, 64 KiB (GICv2: 4 KiB).
    Distributor,
    /// The redistributor of a vCPU, both frames: 128 KiB.
    Redistributor(u16),
}

/// Bytes of a redistributor: its own frame and that of SGIs and PPIs.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;
/// No vCPU.
const NOBODY: u16 = u16::MAX;
/// Ids beyond are none.
const LIMIT: u32 = 1020;

/// What a hypervisor has to do about something.
pub trait Effects {
    /// A vCPU has something new to deliver, or should not deliver something any more: if it runs, it is to
    /// [`update`](Vgic::update).
    fn kick(&mut self, vcpu: u16);
    /// The guest has enabled or disabled an assigned interrupt.
    fn enable(&mut self, intid: u32, enable: bool);
    /// The guest has ended an assigned interrupt: its line is low until it arrives again.
    fn ended(&mut self, intid: u32);
    /// The physical PPI of a [linked](Vgic::link) interrupt of the vCPU that is loaded on this core is to be
    /// active, or no longer.
    fn hold(&mut self, _intid: u32, _active: bool) {}
}

/// A VM's GIC.
#[derive(Debug)]
pub struct Vgic<'a> {
    version: Version,
    enabled: bool,
    /// The group that no interrupt is in is enabled as well: `EnableGrp0` of GICv3, `EnableGrp1` of GICv2.
    other_enabled: bool,
    /// The PPI that is tied to a physical one.
    linked: Option<Linked>,
    /// vCPUs have a fourth affinity field.
    has_affinity_3: bool,
    shared: &'a mut [Irq],
    cpus: &'a mut [Cpu],
    /// The vCPU whose list registers are being looked at: it need not be told to look.
    looking: u16,
}

impl<'a> Vgic<'a> {
    /// A GIC for these vCPUs, with `shared` shared interrupts: a multiple of 32, at most 988. No two have the
    /// same affinity: of those that have, one gets the SGIs.
    pub fn new(version: Version, shared: &'a mut [Irq], cpus: &'a mut [Cpu]) -> Self {
        let usable = shared.len().min((LIMIT - SHARED) as usize);
        let (shared, _) = shared.split_at_mut(usable);
        routing::order(cpus);
        let has_affinity_3 = cpus.iter().any(|cpu| cpu.affinity >> 24 != 0);
        let mut new = Self {
            version,
            enabled: false,
            other_enabled: false,
            linked: None,
            has_affinity_3,
            shared,
            cpus,
            looking: NOBODY,
        };
        new.reset();
        new
    }

    /// Everything as at the start, but what is assigned or linked stays so. All vCPUs are on.
    pub fn reset(&mut self) {
        (self.enabled, self.other_enabled) = (false, false);
        let route = self.first_route();
        for irq in self.shared.iter_mut() {
            *irq = Irq { flags: irq.flags & ASSIGNED, route, ..Irq::RESET };
        }
        self.cpus.iter_mut().for_each(Cpu::reset);
        self.mark_linked();
    }

    /// Ties a shared interrupt to the physical one with the same number.
    pub fn assign(&mut self, intid: u32) {
        if let Some(irq) = self.irq(0, intid).filter(|_| intid >= SHARED) {
            irq.flags |= ASSIGNED;
        }
    }

    /// One past the highest interrupt that there is.
    fn limit(&self) -> u32 {
        SHARED + self.shared.len() as u32
    }

    fn irq(&mut self, vcpu: u16, intid: u32) -> Option<&mut Irq> {
        match intid.checked_sub(SHARED) {
            Some(index) => self.shared.get_mut(index as usize),
            None => self.cpus.get_mut(usize::from(vcpu))?.private.get_mut(intid as usize),
        }
    }

    /// Changes an interrupt's flags, and what follows from that.
    fn change(&mut self, vcpu: u16, intid: u32, set: u16, clear: u16, effects: &mut dyn Effects) {
        if let Some(irq) = self.irq(vcpu, intid) {
            irq.flags = irq.flags & !clear | set;
            self.refresh(vcpu, intid, effects);
        }
    }

    /// Puts an interrupt where it belongs: ready for its target or not.
    fn refresh(&mut self, vcpu: u16, intid: u32, effects: &mut dyn Effects) {
        let enabled = self.enabled;
        let Some(irq) = self.irq(vcpu, intid).copied() else { return };
        let target = if intid < SHARED { vcpu } else { irq.target };
        let Some(cpu) = self.cpus.get_mut(usize::from(target)) else { return };
        let is = enabled && irq.is_ready();
        let was = cpu.set_ready(intid, is);
        if target == self.looking {
            return;
        }
        // Listed, and no longer to be there unless it is active.
        let lowered = || !irq.has(FROM_LATCH | ACTIVE) && (irq.has(EDGE) || !irq.has(HIGH));
        if is && !was || irq.has(LISTED) && (!enabled || !irq.has(ENABLED) || lowered()) {
            effects.kick(target);
        }
    }

    /// A line goes high or low: of a private interrupt of `vcpu`, or a shared one.
    pub fn set_level(&mut self, vcpu: u16, intid: u32, high: bool, effects: &mut dyn Effects) {
        let (set, clear) = if high { (HIGH, 0) } else { (0, HIGH) };
        let edge = self.irq(vcpu, intid).is_some_and(|irq| irq.has(EDGE) && high && !irq.has(HIGH));
        self.change(vcpu, intid, set | if edge { LATCHED } else { 0 }, clear, effects);
    }

    /// An interrupt becomes pending, once.
    pub fn pulse(&mut self, vcpu: u16, intid: u32, effects: &mut dyn Effects) {
        self.change(vcpu, intid, LATCHED, 0, effects);
    }

    /// Whether a vCPU has something to be delivered.
    pub fn has_ready(&self, vcpu: u16) -> bool {
        self.cpus.get(usize::from(vcpu)).is_some_and(|cpu| cpu.ready_words != 0)
    }

    /// Whether a vCPU has something that it has not acknowledged: to be delivered, or, as of the last
    /// [`update`](Self::update), in a list register.
    pub fn is_interrupted(&self, vcpu: u16) -> bool {
        let Some(cpu) = self.cpus.get(usize::from(vcpu)) else { return false };
        let waits = |n: usize| self.listed(vcpu, n).and_then(|intid| self.state(vcpu, intid));
        let mut listed = (0..MAX_LIST_REGISTERS).filter(|n| cpu.used & 1 << n != 0).filter_map(waits);
        cpu.ready_words != 0 || listed.any(|irq| irq.has(LISTED) && !irq.has(ACTIVE))
    }

    /// What an interrupt is at the moment.
    fn state(&self, vcpu: u16, intid: u32) -> Option<Irq> {
        match intid.checked_sub(SHARED) {
            Some(index) => self.shared.get(index as usize).copied(),
            None => self.cpus.get(usize::from(vcpu))?.private.get(intid as usize).copied(),
        }
    }
}
