//! Interrupts that vCPUs send each other.
use super::{Version, Vgic, irq::LATCHED};
use crate::{hyp::ListRegister, vgic::Effects};

impl Vgic<'_> {
    /// The senders of a GICv2 SGI, if it is one.
    pub(super) fn sources(&mut self, vcpu: u16, intid: u32) -> Option<&mut u8> {
        if self.version == Version::V3 {
            return None;
        }
        self.cpus.get_mut(usize::from(vcpu))?.sources.get_mut(intid as usize)
    }

    /// The sender of the GICv2 SGI that is active: the guest ends it with that number.
    pub(super) fn active_source(&mut self, vcpu: u16, intid: u32) -> Option<&mut u8> {
        if self.version == Version::V3 {
            return None;
        }
        self.cpus.get_mut(usize::from(vcpu))?.active_source.get_mut(intid as usize)
    }

    /// The sender that is delivered next, and whether there are more.
    pub(super) fn take_source(&mut self, vcpu: u16, intid: u32) -> Option<(u8, bool)> {
        let sources = self.sources(vcpu, intid)?;
        let source = sources.trailing_zeros() as u8 & 7;
        *sources &= !(1 << source);
        Some((source, *sources != 0))
    }

    /// What a list register held comes back.
    pub(super) fn unsend(&mut self, vcpu: u16, intid: u32, register: ListRegister) {
        if let Some(sources) = self.sources(vcpu, intid) {
            *sources |= 1 << register.source();
        }
    }

    /// An SGI that others have sent as well is pending again.
    pub(super) fn sources_left(&mut self, vcpu: u16, intid: u32, effects: &mut dyn Effects) {
        if self.sources(vcpu, intid).is_some_and(|sources| *sources != 0) {
            self.change(vcpu, intid, LATCHED, 0, effects);
        }
    }

    fn deliver_sgi(&mut self, to: u16, from: u16, sgi: u32, effects: &mut dyn Effects) {
        if let Some(sources) = self.sources(to, sgi) {
            *sources |= 1 << (from & 7);
        }
        self.pulse(to, sgi, effects);
    }

    /// A write of `ICC_SGI1R_EL1` by `vcpu` (GIC spec, 12.2.20).
    pub fn send_sgi(&mut self, vcpu: u16, value: u64, effects: &mut dyn Effects) {
        let sgi = (value >> 24 & 0xf) as u32;
        if value >> 40 & 1 != 0 {
            return self.send_to_others(vcpu, sgi, effects);
        }
        let cluster = (value >> 48 & 0xff) << 24 | (value >> 32 & 0xff) << 16 | (value >> 16 & 0xff) << 8;
        let first = (cluster | (value >> 44 & 0xf) << 4) as u32;
        let mut targets = value as u16;
        while targets != 0 {
            if let Some(target) = self.by_affinity(first | targets.trailing_zeros()) {
                self.deliver_sgi(target, vcpu, sgi, effects);
            }
            targets &= targets - 1;
        }
    }

    fn send_to_others(&mut self, vcpu: u16, sgi: u32, effects: &mut dyn Effects) {
        for target in (0..self.cpus.len() as u16).filter(|target| *target != vcpu) {
            self.deliver_sgi(target, vcpu, sgi, effects);
        }
    }

    /// A write of `GICD_SGIR` (GICv2 spec, 4.3.15).
    pub(super) fn send_v2(&mut self, vcpu: u16, value: u32, effects: &mut dyn Effects) {
        let sgi = value & 0xf;
        match value >> 24 & 3 {
            0 => {
                // What is not there gets nothing.
                let mut targets = (value >> 16) as u8;
                while targets != 0 {
                    self.deliver_sgi(targets.trailing_zeros() as u16, vcpu, sgi, effects);
                    targets &= targets - 1;
                }
            }
            1 => self.send_to_others(vcpu, sgi, effects),
            2 => self.deliver_sgi(vcpu, vcpu, sgi, effects),
            _ => {}
        }
    }

    /// `GICD_CPENDSGIR` and `GICD_SPENDSGIR`: four SGIs, a byte of senders each, of which only vCPUs can have
    /// sent one.
    pub(super) fn change_sources(
        &mut self,
        vcpu: u16,
        first: u32,
        set: u32,
        clear: u32,
        effects: &mut dyn Effects,
    ) {
        let there = self.implemented();
        for n in 0..4 {
            let Some(sources) = self.sources(vcpu, first + n) else { return };
            *sources = *sources & !((clear >> (8 * n)) as u8) | (set >> (8 * n)) as u8 & there;
            let (set, clear) = if *sources == 0 { (0, LATCHED) } else { (LATCHED, 0) };
            self.change(vcpu, first + n, set, clear, effects);
        }
    }
}
