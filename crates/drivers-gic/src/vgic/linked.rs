//! Private interrupts that are levels of the core itself: its virtual timer's.
//!
//! Such an interrupt is *linked* to the physical PPI with the same number. While the vCPU has it, pending or active, the physical one is
//! active, so that it does not interrupt the hypervisor again; the guest's end deactivates it (`ICH_LR<n>_EL2.HW`), and if the line
//! is still high then, it comes again. So an interrupt costs one exit (with a GICv2 two), and nobody writes the timer's registers but the
//! guest.
use super::{
    Effects, NOBODY, Version, Vgic,
    irq::{ACTIVE, FROM_LATCH, HIGH, LATCHED, LINKED, LISTED},
};
use crate::hyp::HypervisorInterface;

/// Most PPIs that can be linked.
pub const MAX_LINKED: usize = 2;

/// A private interrupt and the physical one that it is tied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    intid: u8,
    physical: u8,
}

impl Vgic<'_> {
    /// Links private interrupt `intid` of all vCPUs to the `physical` one; its line is the `n`th of [`set_lines`](Self::set_lines).
    pub fn link(&mut self, n: usize, intid: u32, physical: u32) {
        if let Some(slot) = self.linked.get_mut(n)
            && (16..32).contains(&intid)
            && (16..32).contains(&physical)
        {
            *slot = Some(Linked { intid: intid as u8, physical: physical as u8 });
            self.mark_linked();
        }
    }

    /// The physical interrupt that the list register of a linked one names. One that the guest has made pending by a register has none,
    /// and with a GICv2 a maintenance interrupt tells the end instead: QEMU's does not look again at the line of what the guest has
    /// deactivated (10.0, `arm_gic.c`, `gic_complete_irq`), and a timer that was due once more before its end would never come.
    pub(super) fn physical_of(&self, vcpu: u16, intid: u32) -> Option<u32> {
        if self.version == Version::V2 {
            return None;
        }
        self.state(vcpu, intid).filter(|irq| irq.has(LINKED) && !irq.has(LATCHED))?;
        let linked = self.linked.iter().flatten().find(|linked| u32::from(linked.intid) == intid)?;
        Some(linked.physical.into())
    }

    /// After a reset.
    pub(super) fn mark_linked(&mut self) {
        for linked in self.linked.into_iter().flatten() {
            for cpu in self.cpus.iter_mut() {
                if let Some(irq) = cpu.private.get_mut(usize::from(linked.intid)) {
                    irq.flags |= LINKED;
                }
            }
        }
    }

    /// The lines of the linked interrupts of `vcpu`, which is loaded on this core, as they are now: a bit each. To be followed by an
    /// [`update`](Self::update) or [`load`](Self::load).
    pub fn set_lines(&mut self, vcpu: u16, lines: u8, effects: &mut dyn Effects) {
        for n in 0..MAX_LINKED {
            let Some(linked) = self.linked.get(n).copied().flatten() else { continue };
            let high = lines >> n & 1 != 0;
            let intid = u32::from(linked.intid);
            if self.irq(vcpu, intid).is_some_and(|irq| irq.has(HIGH) != high) {
                let (set, clear) = if high { (HIGH, 0) } else { (0, HIGH) };
                self.looking = vcpu;
                self.change(vcpu, intid, set, clear, effects);
                self.looking = NOBODY;
            }
        }
    }

    /// A linked interrupt in a list register that `vcpu` has not acknowledged as of the last look: if its line falls before it does, it
    /// must not be acknowledged.
    pub fn awaited(&self, vcpu: u16) -> Option<u32> {
        let mut all = self.linked.iter().flatten().map(|linked| u32::from(linked.intid));
        all.find(|intid| {
            let irq = self.state(vcpu, *intid);
            irq.is_some_and(|irq| irq.has(LISTED) && !irq.has(ACTIVE | FROM_LATCH))
        })
    }

    /// GICv3: the guest's accesses to its registers of group 1 trap, or no longer.
    pub fn trap_group_1(&mut self, vcpu: u16, trap: bool, hardware: &dyn HypervisorInterface) {
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        if cpu.control.trap_group_1 != trap {
            cpu.control.trap_group_1 = trap;
            hardware.control(cpu.control);
        }
    }

    /// The guest has deactivated the physical interrupt.
    pub(super) fn forget_hold(&mut self, vcpu: u16, intid: u32) {
        let n = self
            .linked
            .iter()
            .position(|linked| linked.is_some_and(|linked| u32::from(linked.intid) == intid));
        if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu))
            && let Some(n) = n
        {
            cpu.held &= !(1 << n);
        }
    }

    /// Makes the physical interrupts active whose virtual ones `vcpu` has, if it is `loaded`, and no others.
    pub(super) fn hold(&mut self, vcpu: u16, loaded: bool, effects: &mut dyn Effects) {
        for n in 0..MAX_LINKED {
            let Some(linked) = self.linked.get(n).copied().flatten() else { continue };
            let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
            let irq = cpu.private.get(usize::from(linked.intid));
            let hold = loaded && irq.is_some_and(|irq| irq.has(HIGH | LISTED | ACTIVE));
            if hold != (cpu.held >> n & 1 != 0) {
                cpu.held ^= 1 << n;
                effects.hold(linked.physical.into(), hold);
            }
        }
    }
}
