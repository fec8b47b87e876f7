//! Between the state of interrupts and the list registers of the core that runs a vCPU.
//!
//! After each [`Vgic::update`] the list registers hold the most urgent of what is active or to be delivered.
//! When they do not suffice, the least urgent active interrupts leave theirs, so that handlers nest as deep
//! as there are priorities. The guest ends such an interrupt without a list register: the interface counts
//! that (`ICH_HCR_EL2.EOIcount`, `GICH_HCR.EOICount`) and tells it by a maintenance interrupt (`LRENPIE`).
//! Priorities drop in the reverse order of acknowledgement, so what was ended is the most urgent of those
//! that have no list register.
//!
//! A guest that splits the end (`EOImode` 1) deactivates in any order, and the count does not say what: so
//! with a GICv3 its writes of `ICC_DIR_EL1` trap while an active interrupt has no list register (`TDIR`), and
//! [`Vgic::deactivate`] does what they say. A GICv2, and a GICv3 without `ICH_VTR_EL2.TDS`, have no such
//! trap: the most urgent one is deactivated there.
use super::{
    Effects, NOBODY, Version, Vgic,
    cpu::NONE,
    irq::{ACTIVE, ASSIGNED, EDGE, FROM_LATCH, HIGH, Irq, LATCHED, LINKED, LISTED},
};
use crate::hyp::{Control, HypervisorInterface, ListRegister, ListState, MAX_LIST_REGISTERS};

impl Vgic<'_> {
    /// `vcpu` is about to run: what it has active goes back into list registers, and what is ready too.
    /// Returns what [`update`](Self::update) returns.
    pub fn load(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) -> bool {
        for n in 0..hardware.count().min(MAX_LIST_REGISTERS) {
            let value = match self.listed(vcpu, n) {
                None => ListRegister::FREE,
                Some(intid) => self.value(vcpu, intid, ListState::Active),
            };
            hardware.write(n, value);
        }
        if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) {
            cpu.control = cpu.control.with(Control::ON, true);
            hardware.control(cpu.control);
        }
        self.flush(vcpu, hardware);
        self.hold(vcpu, true, effects)
    }

    /// `vcpu` no longer runs: nothing of it stays in the hardware.
    pub fn unload(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        let mut used = self.used(vcpu);
        self.sync(vcpu, hardware, effects);
        while used != 0 {
            hardware.write(used.trailing_zeros() as usize, ListRegister::FREE);
            used &= used - 1;
        }
        hardware.control(Control::OFF);
        self.hold(vcpu, false, effects);
    }

    /// `vcpu`, which runs on this core, has got something, or has ended something. Returns whether it has a
    /// [linked](Self::link) interrupt that it has not acknowledged, or its accesses trap because it had: then
    /// [`trap_group_1`](Self::trap_group_1) is to be thought of.
    pub fn update(
        &mut self,
        vcpu: u16,
        hardware: &dyn HypervisorInterface,
        effects: &mut dyn Effects,
    ) -> bool {
        self.sync(vcpu, hardware, effects);
        self.flush(vcpu, hardware);
        self.hold(vcpu, true, effects)
    }

    /// What is in a vCPU's list register `n`.
    pub(super) fn listed(&self, vcpu: u16, n: usize) -> Option<u32> {
        let intid = *self.cpus.get(usize::from(vcpu))?.listed.get(n)?;
        (intid != NONE).then_some(u32::from(intid))
    }

    fn list(&mut self, vcpu: u16, n: usize, intid: u16) {
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        if let Some(slot) = cpu.listed.get_mut(n) {
            *slot = intid;
            cpu.used = cpu.used & !(1 << n) | u16::from(intid != NONE) << n;
        }
    }

    /// Which list registers of a vCPU have something.
    fn used(&self, vcpu: u16) -> u16 {
        self.cpus.get(usize::from(vcpu)).map_or(0, |cpu| cpu.used)
    }

    /// A list register's value for an interrupt.
    fn value(&mut self, vcpu: u16, intid: u32, state: ListState) -> ListRegister {
        let irq = self.irq(vcpu, intid).copied();
        irq.map_or(ListRegister::FREE, |irq| self.value_of(irq, vcpu, intid, state))
    }

    #[inline]
    fn value_of(&mut self, irq: Irq, vcpu: u16, intid: u32, state: ListState) -> ListRegister {
        let mut value = ListRegister::new(intid, irq.priority, state);
        let v3 = self.version == Version::V3;
        if v3 {
            value = value.group_1();
        } else if let Some(source) = self.active_source(vcpu, intid) {
            value = value.with_source(*source);
        }
        // A linked one that the guest has made pending by a register has no physical one. With a GICv2 a
        // maintenance interrupt tells the end instead: QEMU's does not look again at the line of what the
        // guest has deactivated (10.0, `arm_gic.c`, `gic_complete_irq`), and a timer that was due once more
        // before its end would never come.
        if v3
            && irq.has(LINKED)
            && !irq.has(LATCHED)
            && let Some(linked) = self.linked
        {
            return value.with_physical(linked.physical.into());
        }
        let told = irq.has(HIGH) && (irq.has(ASSIGNED) || !irq.has(EDGE)) || irq.has(LINKED);
        if told { value.with_end_told() } else { value }
    }

    /// Takes back what the list registers say: what is pending is ready again, what is over is over. What is
    /// active stays listed.
    #[inline]
    fn sync(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        if self.cpus.get(usize::from(vcpu)).is_some_and(|cpu| cpu.used != 0 || cpu.evicted_count != 0) {
            self.take_back(vcpu, hardware, effects);
        }
    }

    #[inline(never)]
    fn take_back(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        let mut used = self.used(vcpu);
        self.looking = vcpu;
        while used != 0 {
            let n = used.trailing_zeros() as usize;
            used &= used - 1;
            let Some(intid) = self.listed(vcpu, n) else { continue };
            let register = hardware.read(n);
            let v3 = self.version == Version::V3;
            let Some(irq) = self.irq(vcpu, intid) else { continue };
            if v3 && register.state() == ListState::Free {
                // The short way for what is most frequent: it is over.
                let was = *irq;
                let ended = was.has(LISTED) && was.has(ASSIGNED) && was.has(HIGH);
                if was.has(LISTED) {
                    irq.flags &= !(LISTED | ACTIVE | FROM_LATCH | if ended { HIGH } else { 0 });
                }
                self.list(vcpu, n, NONE);
                if register.tells_end() {
                    hardware.write(n, ListRegister::FREE);
                } else if register.is_physical() {
                    self.forget_hold(vcpu);
                }
                if was.has(LATCHED | HIGH) {
                    self.refresh(vcpu, intid, effects);
                }
                if ended {
                    effects.ended(intid);
                }
                continue;
            }
            // A guest has taken it out by a register, and perhaps it has been listed by another vCPU since.
            let here = irq.has(LISTED);
            let (set, clear) = match register.state() {
                _ if !here => (0, 0),
                ListState::Free => (0, LISTED | ACTIVE | FROM_LATCH),
                ListState::Pending if irq.has(FROM_LATCH) => (LATCHED, LISTED | ACTIVE | FROM_LATCH),
                ListState::Pending => (0, LISTED | ACTIVE),
                ListState::PendingAndActive if irq.has(FROM_LATCH) => (ACTIVE | LATCHED, FROM_LATCH),
                ListState::Active | ListState::PendingAndActive => (ACTIVE, FROM_LATCH),
            };
            let ended = here && register.state() == ListState::Free && irq.has(ASSIGNED) && irq.has(HIGH);
            let keep = here && matches!(register.state(), ListState::Active | ListState::PendingAndActive);
            if register.state() == ListState::Pending {
                self.unsend(vcpu, intid, register);
            }
            if keep {
                if let Some(source) = self.active_source(vcpu, intid) {
                    *source = register.source();
                }
                hardware.write(n, self.value(vcpu, intid, ListState::Active));
            } else {
                self.list(vcpu, n, NONE);
                // One that has told its end goes on telling it until it is written.
                if register.state() != ListState::Free || register.tells_end() {
                    hardware.write(n, ListRegister::FREE);
                }
            }
            self.change(vcpu, intid, set, clear | if ended { HIGH } else { 0 }, effects);
            if ended {
                effects.ended(intid);
            }
            self.sources_left(vcpu, intid, effects);
        }
        if self.cpus.get(usize::from(vcpu)).is_some_and(|cpu| cpu.evicted_count != 0) {
            self.end_evicted(vcpu, hardware, effects);
        }
        self.looking = NOBODY;
    }

    /// Ends as many active interrupts without list register as the interface has counted.
    #[cold]
    fn end_evicted(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        let mut ends = hardware.end_count();
        if ends == 0 {
            return;
        }
        while ends > 0
            && let Some(intid) = self.evicted(vcpu)
        {
            ends -= 1;
            self.end_unlisted(vcpu, intid, effects);
        }
        // That resets the count.
        if let Some(cpu) = self.cpus.get(usize::from(vcpu)) {
            hardware.control(cpu.control);
        }
    }

    /// Ends an active interrupt without list register.
    fn end_unlisted(&mut self, vcpu: u16, intid: u32, effects: &mut dyn Effects) {
        let ended = self.irq(vcpu, intid).is_some_and(|irq| irq.has(ASSIGNED) && irq.has(HIGH));
        self.change(vcpu, intid, 0, ACTIVE | if ended { HIGH } else { 0 }, effects);
        if ended {
            effects.ended(intid);
        }
        self.sources_left(vcpu, intid, effects);
    }

    /// A write of `ICC_DIR_EL1` that trapped ([`Control::TRAP_DEACTIVATE`]), with `EOImode` 1: the guest
    /// deactivates the interrupt that it names, in whichever order it likes. [`update`](Self::update) comes
    /// before it and after it.
    #[cold]
    pub fn deactivate(
        &mut self,
        vcpu: u16,
        intid: u32,
        hardware: &dyn HypervisorInterface,
        effects: &mut dyn Effects,
    ) {
        let listed = |n: &usize| self.listed(vcpu, *n) == Some(intid);
        if let Some(n) = (0..hardware.count().min(MAX_LIST_REGISTERS)).find(listed) {
            let register = hardware.read(n);
            let next = match register.state() {
                ListState::Active => ListState::Free,
                ListState::PendingAndActive => ListState::Pending,
                ListState::Free | ListState::Pending => return,
            };
            return hardware.write(n, register.without_physical().with_state(next));
        }
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        if u16::try_from(intid).is_ok_and(|intid| cpu.remove_evicted(intid))
            && self.irq(vcpu, intid).is_some_and(|irq| irq.has(ACTIVE) && !irq.has(LISTED))
        {
            self.end_unlisted(vcpu, intid, effects);
        }
    }

    /// The most urgent interrupt that is active in no list register, which is taken from there. A guest may
    /// have made some inactive.
    fn evicted(&mut self, vcpu: u16) -> Option<u32> {
        loop {
            let intid = u32::from(self.cpus.get_mut(usize::from(vcpu))?.pop_evicted()?);
            let irq = self.irq(vcpu, intid)?;
            if irq.has(ACTIVE) && !irq.has(LISTED) {
                return Some(intid);
            }
        }
    }

    /// The most urgent of what is ready; the lowest number of those.
    fn next(&mut self, vcpu: u16) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        let mut words = self.cpus.get(usize::from(vcpu))?.ready_words;
        if words.is_power_of_two() {
            // The only one needs no comparison.
            let word = words.trailing_zeros();
            let bits = *self.cpus.get(usize::from(vcpu))?.ready.get(word as usize)?;
            if bits.is_power_of_two() {
                return Some(word * 32 + bits.trailing_zeros());
            }
        }
        while words != 0 {
            let word = words.trailing_zeros();
            words &= words - 1;
            let mut bits = *self.cpus.get(usize::from(vcpu))?.ready.get(word as usize)?;
            while bits != 0 {
                let intid = word * 32 + bits.trailing_zeros();
                bits &= bits - 1;
                let priority = self.irq(vcpu, intid)?.priority;
                if best.is_none_or(|(urgent, _)| priority < urgent) {
                    best = Some((priority, intid));
                }
            }
        }
        best.map(|(_, intid)| intid)
    }

    /// A list register that has nothing.
    fn free_slot(&self, vcpu: u16, count: usize) -> Option<usize> {
        let n = (!self.used(vcpu)).trailing_zeros() as usize;
        (n < count).then_some(n)
    }

    /// Takes the least urgent active interrupt out of its list register for one of `priority`, if that is
    /// more urgent.
    #[cold]
    fn evict(&mut self, vcpu: u16, count: usize, priority: u8) -> Option<usize> {
        let mut victim: Option<(u8, usize, u32)> = None;
        for n in 0..count {
            let Some(intid) = self.listed(vcpu, n) else { continue };
            let Some(irq) = self.irq(vcpu, intid) else { continue };
            // What has been listed just now is more urgent; what is active here and pending again stays, too.
            let may_leave = irq.has(ACTIVE) && irq.has(LISTED) && !irq.has(FROM_LATCH);
            if may_leave && irq.priority > victim.map_or(priority, |(urgent, ..)| urgent) {
                victim = Some((irq.priority, n, intid));
            }
        }
        let (_, n, intid) = victim?;
        if !self.cpus.get_mut(usize::from(vcpu))?.push_evicted(intid as u16) {
            return None;
        }
        self.irq(vcpu, intid)?.flags &= !LISTED;
        Some(n)
    }

    /// Active interrupts come back into list registers that have become free, the most urgent first.
    #[cold]
    fn bring_back(&mut self, vcpu: u16, count: usize, hardware: &dyn HypervisorInterface) {
        while let Some(n) = self.free_slot(vcpu, count)
            && let Some(intid) = self.evicted(vcpu)
        {
            if let Some(irq) = self.irq(vcpu, intid) {
                irq.flags |= LISTED;
            }
            self.list(vcpu, n, intid as u16);
            let value = self.value(vcpu, intid, ListState::Active);
            hardware.write(n, value);
        }
    }

    /// Fills list registers with what is ready, the most urgent first. What is listed is active, as `sync`
    /// has left it.
    #[inline]
    fn flush(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface) {
        let Some(cpu) = self.cpus.get(usize::from(vcpu)) else { return };
        let told = cpu.control.has(Control::UNDERFLOW) || cpu.control.has(Control::COUNT_ENDS);
        if cpu.ready_words != 0 || cpu.evicted_count != 0 || told {
            self.fill(vcpu, hardware);
        }
    }

    #[inline(never)]
    fn fill(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface) {
        let (mut full, v2) = (false, self.version == Version::V2);
        let count = hardware.count().min(MAX_LIST_REGISTERS);
        if self.cpus.get(usize::from(vcpu)).is_some_and(|cpu| cpu.evicted_count != 0) {
            self.bring_back(vcpu, count, hardware);
        }
        while let Some(intid) = self.next(vcpu) {
            let Some(irq) = self.irq(vcpu, intid).copied() else { break };
            // What is listed is active.
            let own = if irq.has(LISTED) {
                (0..count).find(|n| self.listed(vcpu, *n) == Some(intid))
            } else {
                None
            };
            let (n, state) = if let Some(n) = own {
                (n, ListState::PendingAndActive)
            } else if let Some(n) =
                self.free_slot(vcpu, count).or_else(|| self.evict(vcpu, count, irq.priority))
            {
                (n, ListState::Pending)
            } else {
                full = true;
                break;
            };
            let mut value = self.value_of(irq, vcpu, intid, state);
            if v2 && let Some((source, more)) = self.take_source(vcpu, intid) {
                value = value.with_source(source);
                if more {
                    value = value.with_end_told();
                }
            }
            let from_latch = if irq.has(LATCHED) { FROM_LATCH } else { 0 };
            if let Some(irq) = self.irq(vcpu, intid) {
                irq.flags = irq.flags & !LATCHED | LISTED | from_latch;
            }
            if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) {
                cpu.set_ready(intid, false);
            }
            self.list(vcpu, n, intid as u16);
            hardware.write(n, value);
        }
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        // With one list register, "at most one is not free" is always so: it would be told without end.
        let control = cpu
            .control
            .with(Control::UNDERFLOW, full && count > 1)
            .with(Control::COUNT_ENDS, cpu.evicted_count != 0)
            .with(Control::TRAP_DEACTIVATE, cpu.evicted_count != 0 && !v2);
        if core::mem::replace(&mut cpu.control, control) != control {
            hardware.control(control);
        }
    }
}
