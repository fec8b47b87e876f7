//! A private interrupt that is a level of the core itself: its virtual timer's.
//!
//! Such an interrupt is *linked* to a physical PPI. While the vCPU has it, pending or active, the physical
//! one is active, so that it does not interrupt the hypervisor again; the guest's end deactivates it
//! (`ICH_LR<n>_EL2.HW`), and if the line is still high then, it comes again. So an interrupt costs one exit
//! (with a GICv2 two), and nobody writes the timer's registers but the guest.
use super::{
    Effects, NOBODY, Version, Vgic,
    irq::{ACTIVE, EDGE, ENABLED, FROM_LATCH, HIGH, LATCHED, LINKED, LISTED},
};
use crate::hyp::{Control, HypervisorInterface, ListRegister, ListState, MAX_LIST_REGISTERS};

/// A private interrupt and the physical one that it is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    intid: u8,
    pub(super) physical: u8,
}

impl Vgic<'_> {
    /// Links private interrupt `intid` of all vCPUs to the `physical` one.
    pub fn link(&mut self, intid: u32, physical: u32) {
        if (16..32).contains(&intid) && (16..32).contains(&physical) {
            self.linked = Some(Linked { intid: intid as u8, physical: physical as u8 });
            self.mark_linked();
        }
    }

    /// After a reset.
    pub(super) fn mark_linked(&mut self) {
        let Some(linked) = self.linked else { return };
        for cpu in self.cpus.iter_mut() {
            if let Some(irq) = cpu.private.get_mut(usize::from(linked.intid)) {
                irq.flags |= LINKED;
            }
        }
    }

    /// The flags of the linked interrupt, if there is one.
    #[inline(always)]
    fn linked_flags(&self, vcpu: u16) -> u16 {
        let Some(linked) = self.linked else { return 0 };
        let cpu = self.cpus.get(usize::from(vcpu));
        cpu.and_then(|cpu| cpu.private.get(usize::from(linked.intid))).map_or(0, |irq| irq.flags)
    }

    /// The line of the linked interrupt of `vcpu`, which is loaded on this core, as it is now. To be followed
    /// by an [`update`](Self::update) or [`load`](Self::load).
    #[inline(always)]
    pub fn set_line(&mut self, vcpu: u16, high: bool, effects: &mut dyn Effects) {
        if (self.linked_flags(vcpu) & HIGH != 0) != high {
            self.line_changes(vcpu, high, effects);
        }
    }

    #[inline(never)]
    fn line_changes(&mut self, vcpu: u16, high: bool, effects: &mut dyn Effects) {
        let Some(linked) = self.linked else { return };
        let (set, clear) = if high { (HIGH, 0) } else { (0, HIGH) };
        self.looking = vcpu;
        self.change(vcpu, linked.intid.into(), set, clear, effects);
        self.looking = NOBODY;
    }

    /// Whether `vcpu` has the linked interrupt in a list register, and has not acknowledged it as of the last
    /// look: if its line falls before it does, it must not be acknowledged.
    #[inline]
    pub fn awaits(&self, vcpu: u16) -> bool {
        is_awaited(self.linked_flags(vcpu))
    }

    /// The priority of the linked interrupt, if `vcpu` has that in a list register and nothing else.
    pub fn awaits_only(&self, vcpu: u16) -> Option<u8> {
        let (linked, cpu) = (self.linked?, self.cpus.get(usize::from(vcpu))?);
        let alone = cpu.used.is_power_of_two() && cpu.evicted_count == 0 && self.awaits(vcpu);
        let irq = cpu.private.get(usize::from(linked.intid)).filter(|_| alone)?;
        Some(irq.priority)
    }

    /// Whether this is the linked interrupt.
    pub fn is_linked(&self, intid: Option<u32>) -> bool {
        self.linked.is_some_and(|linked| intid == Some(linked.intid.into()))
    }

    /// GICv3: the guest's accesses to its registers of group 1 trap, or no longer.
    #[inline]
    pub fn trap_group_1(&mut self, vcpu: u16, trap: bool, hardware: &dyn HypervisorInterface) {
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        let control = cpu.control.with(Control::TRAP_GROUP_1, trap);
        if core::mem::replace(&mut cpu.control, control) != control {
            hardware.control(control);
        }
    }

    /// The guest has deactivated the physical interrupt.
    pub(super) fn forget_hold(&mut self, vcpu: u16) {
        if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) {
            cpu.held = false;
        }
    }

    /// Makes the physical interrupt active if `vcpu` is `loaded` and has the virtual one, and otherwise
    /// inactive. Returns whether the virtual one is awaited, or its guest's accesses trap because it was.
    #[inline]
    pub(super) fn hold(&mut self, vcpu: u16, loaded: bool, effects: &mut dyn Effects) -> bool {
        let Some(linked) = self.linked else { return false };
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return false };
        let flags = cpu.private.get(usize::from(linked.intid)).map_or(0, |irq| irq.flags);
        let hold = loaded && flags & (HIGH | LISTED | ACTIVE) != 0;
        let is_trapped = cpu.control.has(Control::TRAP_GROUP_1);
        if cpu.held != hold {
            cpu.held = hold;
            effects.hold(linked.physical.into(), hold);
        }
        is_trapped || is_awaited(flags)
    }

    /// The physical interrupt has come, because the line of `vcpu`, which is loaded, is high: delivers the
    /// virtual one, if nothing else is to be delivered and no list register has anything else. Returns
    /// whether it has; if not, an [`update`](Self::update) does.
    pub fn tick(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) -> bool {
        let Some(linked) = self.linked.filter(|_| self.version == Version::V3 && self.enabled) else {
            return false;
        };
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return false };
        let n = cpu.used.trailing_zeros() as usize % MAX_LIST_REGISTERS;
        let intid = u32::from(linked.intid);
        // Ended, it needs no exit: its list register is found free now.
        let is_free =
            |listed: u16| listed == u16::from(linked.intid) && hardware.read(n).state() == ListState::Free;
        let is_alone = match cpu.used {
            0 => true,
            used => used.is_power_of_two() && cpu.listed.get(n).is_some_and(|listed| is_free(*listed)),
        };
        let Some(irq) = cpu.private.get_mut(linked.intid as usize) else { return false };
        let other = cpu.ready_words & !1 | cpu.ready[0] & !(1 << intid) | u32::from(cpu.evicted_count);
        if !is_alone || other != 0 || irq.flags & (ENABLED | LATCHED | ACTIVE | FROM_LATCH | EDGE) != ENABLED
        {
            return false;
        }
        irq.flags |= HIGH | LISTED;
        let value = ListRegister::new(intid, irq.priority, ListState::Pending).group_1();
        (cpu.ready[0], cpu.ready_words, cpu.used, cpu.held) = (0, 0, 1 << n, true);
        cpu.listed[n] = u16::from(linked.intid);
        hardware.write(n, value.with_physical(linked.physical.into()));
        effects.hold(linked.physical.into(), true);
        true
    }
}

/// Whether the linked interrupt is in a list register, and has not been acknowledged.
#[inline]
const fn is_awaited(flags: u16) -> bool {
    flags & (LISTED | ACTIVE | FROM_LATCH) == LISTED
}
