//! Which vCPU a shared interrupt goes to.
use super::{
    NOBODY, Version, Vgic,
    cpu::{Cpu, SHARED},
    irq::{LISTED, TO_ANY},
};
use crate::vgic::Effects;
use core::cmp::Ordering;

/// Sorts by affinity, in [`Cpu::nth`]. Machines and hypervisors name their CPUs in ascending order as a rule:
/// then it is one pass.
pub(super) fn order(cpus: &mut [Cpu]) {
    for n in 0..cpus.len() {
        let affinity = cpus[n].affinity;
        let mut place = n;
        while place > 0 && cpus[usize::from(cpus[place - 1].nth)].affinity > affinity {
            cpus[place].nth = cpus[place - 1].nth;
            place -= 1;
        }
        cpus[place].nth = n as u16;
    }
}

impl Vgic<'_> {
    /// The vCPU with an affinity, without a look at all of them.
    pub(super) fn by_affinity(&self, affinity: u32) -> Option<u16> {
        // Where clusters are as large as a target list, and full, it is where its number says.
        let likely = (affinity >> 8 << 4 | affinity & 0xff) as usize;
        if self.cpus.get(likely).is_some_and(|cpu| cpu.affinity == affinity) {
            return Some(likely as u16);
        }
        let (mut low, mut high) = (0, self.cpus.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let found = self.cpus.get(middle)?.nth;
            match self.cpus.get(usize::from(found))?.affinity.cmp(&affinity) {
                Ordering::Equal => return Some(found),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// GICv2: the target bits that mean something.
    pub(super) fn implemented(&self) -> u8 {
        u8::MAX.checked_shr(8_u32.saturating_sub(self.cpus.len() as u32)).unwrap_or(0)
    }

    /// The route that interrupts have at the start: vCPU 0.
    pub(super) fn first_route(&self) -> u32 {
        match self.version {
            Version::V2 => 1,
            Version::V3 => self.cpus.first().map_or(0, |cpu| cpu.affinity),
        }
    }

    /// The vCPU that a shared interrupt goes to.
    pub fn target(&self, intid: u32) -> Option<u16> {
        let irq = self.shared.get(intid.checked_sub(SHARED)? as usize)?;
        Some(irq.target).filter(|target| *target != NOBODY)
    }

    /// The vCPU that a route names. One that is off takes no interrupts: then another one of those that are
    /// named, or any that is on.
    fn choose(&self, route: u32, to_any: bool) -> u16 {
        let is_on = |n: u16| self.cpus.get(usize::from(n)).is_some_and(|cpu| !cpu.off);
        let all = 0..self.cpus.len() as u16;
        let named = match self.version {
            Version::V2 if route == 0 => return NOBODY,
            Version::V2 => {
                let named = |n: &u16| route >> n & 1 != 0;
                all.clone().find(|n| named(n) && is_on(*n)).or_else(|| all.clone().find(named))
            }
            Version::V3 if to_any => all.clone().find(|n| is_on(*n)).or(Some(0)),
            Version::V3 => self.by_affinity(route),
        };
        let Some(named) = named else { return NOBODY };
        if is_on(named) { named } else { all.into_iter().find(|n| is_on(*n)).unwrap_or(named) }
    }

    /// Gives a shared interrupt the route that the guest writes.
    pub(super) fn set_route(&mut self, intid: u32, route: u32, to_any: bool, effects: &mut dyn Effects) {
        let target = self.choose(route, to_any);
        let Some(irq) = self.irq(0, intid).filter(|_| intid >= SHARED) else { return };
        irq.route = route;
        irq.flags = irq.flags & !TO_ANY | if to_any { TO_ANY } else { 0 };
        self.retarget(intid, target, effects);
    }

    /// Takes an interrupt from its target and gives it to another.
    fn retarget(&mut self, intid: u32, target: u16, effects: &mut dyn Effects) {
        let Some(irq) = self.irq(0, intid) else { return };
        let old = core::mem::replace(&mut irq.target, target);
        // What the old target has listed comes back when it looks, and then goes to the new one.
        let listed = irq.has(LISTED);
        if let Some(cpu) = self.cpus.get_mut(usize::from(old)) {
            cpu.set_ready(intid, false);
        }
        if listed {
            effects.kick(old);
        }
        self.refresh(0, intid, effects);
    }

    /// After a reset, which routes all shared interrupts to the first vCPU: all others are off.
    pub fn only_first_on(&mut self) {
        self.cpus.iter_mut().skip(1).for_each(|cpu| cpu.off = true);
    }

    /// A vCPU goes on or off: shared interrupts that were routed to one that is off go to another.
    pub fn set_on(&mut self, vcpu: u16, on: bool, effects: &mut dyn Effects) {
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        if core::mem::replace(&mut cpu.off, !on) != on {
            return;
        }
        for intid in SHARED..self.limit() {
            let Some(irq) = self.irq(0, intid).copied() else { continue };
            let target = self.choose(irq.route, irq.has(TO_ANY));
            if target != irq.target {
                self.retarget(intid, target, effects);
            }
        }
    }
}
