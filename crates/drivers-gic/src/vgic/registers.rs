//! The registers of distributor and redistributors, as a guest reads and writes them.
use super::{
    Effects, Frame, Version, Vgic,
    cpu::SHARED,
    irq::{ACTIVE, ASSIGNED, EDGE, ENABLED, FROM_LATCH, HIGH, LATCHED, LINKED, LISTED, TO_ANY},
};

// Offsets in the distributor (GIC spec, 12.8; GICv2 spec, table 4-1). The arrays are at the same places of a
// redistributor's second frame.
const CTLR: u32 = 0x000;
const TYPER: u32 = 0x004;
const IIDR: u32 = 0x008;
const IGROUPR: u32 = 0x080;
const ISENABLER: u32 = 0x100;
const ICENABLER: u32 = 0x180;
const ISPENDR: u32 = 0x200;
const ICPENDR: u32 = 0x280;
const ISACTIVER: u32 = 0x300;
const ICACTIVER: u32 = 0x380;
const IPRIORITYR: u32 = 0x400;
const ITARGETSR: u32 = 0x800;
const ICFGR: u32 = 0xc00;
const ICFGR_END: u32 = 0xd00;
/// GICv2.
const SGIR: u32 = 0xf00;
const CPENDSGIR: u32 = 0xf10;
const SPENDSGIR: u32 = 0xf20;
const SPENDSGIR_END: u32 = 0xf30;
const V2_PIDR2: u32 = 0xfe8;
/// GICv3: 64 bits for each shared interrupt, the first one's.
const IROUTER: u32 = 0x6000;
const IROUTER_FIRST: u32 = IROUTER + 8 * SHARED;
const IROUTER_END: u32 = 0x8000;
const PIDR2: u32 = 0xffe8;

// Offsets in a redistributor (GIC spec, 12.10).
const GICR_IIDR: u32 = 0x004;
const GICR_TYPER: u32 = 0x008;
const GICR_AFFINITY: u32 = 0x00c;
/// Where its second frame begins.
const SGI_FRAME: u32 = 0x1_0000;

/// Of Arm (JEP106), product 0.
const IMPLEMENTER: u32 = 0x43b;
/// `GICD_CTLR` of GICv3: affinity routing (ARE) and one security state (DS), always.
const ARE_DS: u32 = 1 << 4 | 1 << 6;
/// `GICD_IROUTER.IRM`.
const ANY: u32 = 1 << 31;

/// A register array of the distributor: what its bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bank {
    Group,
    Set(u16),
    Clear(u16),
    Priority,
    Target,
    Config,
}

/// Which array a register is of, and its first interrupt.
fn bank(offset: u32) -> Option<(Bank, u32)> {
    let bits = |first| (offset - first) / 4 * 32;
    Some(match offset {
        IGROUPR..ISENABLER => (Bank::Group, bits(IGROUPR)),
        ISENABLER..ICENABLER => (Bank::Set(ENABLED), bits(ISENABLER)),
        ICENABLER..ISPENDR => (Bank::Clear(ENABLED), bits(ICENABLER)),
        ISPENDR..ICPENDR => (Bank::Set(LATCHED), bits(ISPENDR)),
        ICPENDR..ISACTIVER => (Bank::Clear(LATCHED), bits(ICPENDR)),
        ISACTIVER..ICACTIVER => (Bank::Set(ACTIVE), bits(ISACTIVER)),
        ICACTIVER..IPRIORITYR => (Bank::Clear(ACTIVE), bits(ICACTIVER)),
        IPRIORITYR..ITARGETSR => (Bank::Priority, (offset - IPRIORITYR) & !3),
        ITARGETSR..ICFGR => (Bank::Target, (offset - ITARGETSR) & !3),
        ICFGR..ICFGR_END => (Bank::Config, (offset - ICFGR) / 4 * 16),
        _ => return None,
    })
}

impl Bank {
    /// How many interrupts a word is about.
    const fn per_word(self) -> u32 {
        match self {
            Self::Group | Self::Set(_) | Self::Clear(_) => 32,
            Self::Config => 16,
            Self::Priority | Self::Target => 4,
        }
    }
}

impl Vgic<'_> {
    /// Whether what a register says depends on what is in list registers: only then a read needs an
    /// [`update`](Self::update) before.
    pub fn is_live(offset: u64) -> bool {
        let Ok(offset) = u32::try_from(offset & 0xffff) else { return false };
        matches!(offset, ISPENDR..IPRIORITYR | CPENDSGIR..SPENDSGIR_END)
    }

    /// Whether a register can be accessed by bytes, or by 64 bits (GIC spec, 12.1.3; GICv2 spec, 4.1.4).
    /// Others are words.
    fn has_size(&self, frame: Frame, offset: u32, size: u8) -> bool {
        let v2 = self.version == Version::V2;
        match (size, frame) {
            (4, _) => offset & 3 == 0,
            (1, Frame::Distributor) => match offset {
                IPRIORITYR..ITARGETSR => true,
                ITARGETSR..ICFGR | CPENDSGIR..SPENDSGIR_END => v2,
                _ => false,
            },
            (1, Frame::Redistributor(_)) => {
                matches!(offset.wrapping_sub(SGI_FRAME), IPRIORITYR..ITARGETSR)
            }
            (8, Frame::Distributor) => !v2 && offset & 7 == 0 && matches!(offset, IROUTER_FIRST..IROUTER_END),
            (8, Frame::Redistributor(_)) => offset == GICR_TYPER,
            _ => false,
        }
    }

    /// A read by `vcpu` of `size` bytes (1, 2, 4 or 8).
    #[inline(always)]
    pub fn read(&mut self, vcpu: u16, frame: Frame, offset: u64, size: u8) -> u64 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        if size == 4 && offset & 3 == 0 {
            return self.read_word(vcpu, frame, offset).into();
        }
        self.read_part(vcpu, frame, offset, size)
    }

    /// A read of less than a word, or of two.
    #[cold]
    #[inline(never)]
    fn read_part(&mut self, vcpu: u16, frame: Frame, offset: u32, size: u8) -> u64 {
        if !self.has_size(frame, offset, size) {
            return 0;
        }
        let word = u64::from(self.read_word(vcpu, frame, offset & !3));
        match size {
            8 => word | u64::from(self.read_word(vcpu, frame, offset + 4)) << 32,
            1 => word >> (offset % 4 * 8) & 0xff,
            _ => word,
        }
    }

    /// Which assigned interrupts a word of `GICD_ISPENDR` or `GICD_ICPENDR` is about that have not arrived:
    /// the first id of the word, and a bit for each. Their devices' lines are theirs to show, also while they
    /// are disabled.
    pub fn quiet_devices(&self, frame: Frame, offset: u64) -> (u32, u32) {
        let word = u32::try_from(offset).ok().filter(|offset| frame == Frame::Distributor && offset & 3 == 0);
        let Some((Bank::Set(LATCHED) | Bank::Clear(LATCHED), first)) = word.and_then(bank) else {
            return (0, 0);
        };
        let quiet = |n: &u32| {
            let irq = self.state(0, first + n).filter(|_| first >= SHARED);
            irq.is_some_and(|irq| irq.has(ASSIGNED) && !irq.is_pending() && !irq.has(ACTIVE))
        };
        (first, (0..32).filter(quiet).fold(0, |bits, n| bits | 1 << n))
    }

    /// A write by `vcpu` of `size` bytes.
    pub fn write(
        &mut self,
        vcpu: u16,
        frame: Frame,
        offset: u64,
        size: u8,
        value: u64,
        effects: &mut dyn Effects,
    ) {
        let Ok(offset) = u32::try_from(offset) else { return };
        if !self.has_size(frame, offset, size) {
            return;
        }
        match size {
            8 if offset == GICR_TYPER => {}
            8 => {
                let route = value as u32 & 0xff_ffff | (value >> 32 << 24) as u32;
                self.write_router(offset, route, value as u32 & ANY != 0, effects);
            }
            1 => {
                let shift = offset % 4 * 8;
                let value = (value as u32 & 0xff) << shift;
                self.write_word(vcpu, frame, offset & !3, value, 0xff << shift, effects);
            }
            _ => self.write_word(vcpu, frame, offset, value as u32, u32::MAX, effects),
        }
    }

    /// `GICD_IROUTER`: a guest may name an affinity that nobody has.
    fn write_router(&mut self, offset: u32, route: u32, to_any: bool, effects: &mut dyn Effects) {
        let route = if self.has_affinity_3 { route } else { route & 0xff_ffff };
        self.set_route((offset - IROUTER) / 8, route, to_any, effects);
    }

    /// Whose registers an array's word is about, from where on, if the frame has them.
    fn array(&self, vcpu: u16, frame: Frame, offset: u32) -> Option<(Bank, u16, u32)> {
        let (owner, offset, private) = match frame {
            Frame::Distributor => (vcpu, offset, false),
            Frame::Redistributor(owner) => (owner, offset.checked_sub(SGI_FRAME)?, true),
        };
        let (bank, first) = bank(offset)?;
        let both = self.version == Version::V2;
        let there = if private { first < SHARED } else { both || first >= SHARED };
        (there && first < self.limit() && (bank != Bank::Target || both)).then_some((bank, owner, first))
    }

    fn read_word(&mut self, vcpu: u16, frame: Frame, offset: u32) -> u32 {
        if let Some((bank, owner, first)) = self.array(vcpu, frame, offset) {
            let width = 32 / bank.per_word();
            let mut word = 0;
            for n in 0..bank.per_word() {
                let value = self.field(bank, owner, first + n);
                word |= value << (n * width);
            }
            return word;
        }
        let v3 = self.version == Version::V3;
        match (frame, offset) {
            (Frame::Distributor, CTLR) if v3 => {
                ARE_DS | u32::from(self.enabled) << 1 | u32::from(self.other_enabled)
            }
            (Frame::Distributor, CTLR) => u32::from(self.enabled) | u32::from(self.other_enabled) << 1,
            (Frame::Distributor, TYPER) => {
                let lines = self.limit().div_ceil(32) - 1;
                // Ids of ten bits, and whether there is Aff3; or how many vCPUs.
                lines
                    | if v3 {
                        9 << 19 | u32::from(self.has_affinity_3) << 24
                    } else {
                        (self.cpus.len() as u32).saturating_sub(1).min(7) << 5
                    }
            }
            (Frame::Distributor, IIDR) | (Frame::Redistributor(_), GICR_IIDR) => IMPLEMENTER,
            (Frame::Distributor, CPENDSGIR..SPENDSGIR_END) if !v3 => {
                let first = offset & 0xc;
                (0..4).fold(0, |word, n| {
                    word | u32::from(self.sources(vcpu, first + n).copied().unwrap_or_default()) << (8 * n)
                })
            }
            (Frame::Distributor, IROUTER_FIRST..IROUTER_END) if v3 => {
                let Some(irq) = self.state(0, (offset - IROUTER) / 8) else { return 0 };
                let any = if irq.has(TO_ANY) { ANY } else { 0 };
                if offset & 4 == 0 { irq.route & 0xff_ffff | any } else { irq.route >> 24 }
            }
            // Which vCPU, and whether it is the last of a region.
            (Frame::Redistributor(owner), GICR_TYPER) => {
                let last = usize::from(owner) + 1 == self.cpus.len()
                    || self.cpus.get(usize::from(owner)).is_some_and(|cpu| cpu.last);
                u32::from(owner) << 8 | u32::from(last) << 4
            }
            (Frame::Redistributor(owner), GICR_AFFINITY) => {
                self.cpus.get(usize::from(owner)).map_or(0, |cpu| cpu.affinity)
            }
            // The architecture's version.
            (_, PIDR2) if v3 => 0x3b,
            (Frame::Distributor, V2_PIDR2) if !v3 => 0x2b,
            _ => 0,
        }
    }

    /// What an array says of an interrupt.
    fn field(&mut self, bank: Bank, vcpu: u16, intid: u32) -> u32 {
        let (v3, cpus) = (self.version == Version::V3, self.cpus.len());
        let Some(irq) = self.irq(vcpu, intid).copied() else { return 0 };
        match bank {
            Bank::Group => v3.into(),
            Bank::Set(LATCHED) | Bank::Clear(LATCHED) => irq.is_pending().into(),
            Bank::Set(flag) | Bank::Clear(flag) => irq.has(flag).into(),
            Bank::Priority => irq.priority.into(),
            // On a machine with one core these are zero (GICv2 spec, 4.3.12).
            Bank::Target if cpus == 1 => 0,
            Bank::Target if intid < SHARED => 1_u32.checked_shl(vcpu.into()).unwrap_or(0) & 0xff,
            Bank::Target => irq.route,
            Bank::Config => u32::from(irq.has(EDGE)) << 1,
        }
    }

    /// Writes the bits of `mask` of a word.
    fn write_word(
        &mut self,
        vcpu: u16,
        frame: Frame,
        offset: u32,
        value: u32,
        mask: u32,
        effects: &mut dyn Effects,
    ) {
        if let Some((bank, owner, first)) = self.array(vcpu, frame, offset) {
            let width = 32 / bank.per_word();
            for n in 0..bank.per_word() {
                let field = ((1_u64 << width) - 1) as u32;
                if mask >> (n * width) & field != 0 {
                    self.set_field(bank, owner, first + n, value >> (n * width) & field, effects);
                }
            }
            return;
        }
        let v3 = self.version == Version::V3;
        match (frame, offset) {
            (Frame::Distributor, CTLR) => {
                // All interrupts are in group 1 of GICv3, in group 0 of GICv2.
                let (groups, own) = (value & 0b11, if v3 { 0b10 } else { 0b01 });
                self.other_enabled = groups & !own != 0;
                self.switch(groups & own != 0, effects);
            }
            (Frame::Distributor, SGIR) if !v3 => self.send_v2(vcpu, value, effects),
            (Frame::Distributor, CPENDSGIR..SPENDSGIR) if !v3 => {
                self.change_sources(vcpu, offset & 0xc, 0, value, effects);
            }
            (Frame::Distributor, SPENDSGIR..SPENDSGIR_END) if !v3 => {
                self.change_sources(vcpu, offset & 0xc, value, 0, effects);
            }
            (Frame::Distributor, IROUTER_FIRST..IROUTER_END) if v3 => {
                let Some(irq) = self.state(0, (offset - IROUTER) / 8) else { return };
                let (low, high) = (0xff_ffff, 0xff << 24);
                let (route, any) = if offset & 4 == 0 {
                    (irq.route & high | value & low, value & ANY != 0)
                } else {
                    (irq.route & low | value << 24, irq.has(TO_ANY))
                };
                self.write_router(offset, route, any, effects);
            }
            _ => {}
        }
    }

    fn set_field(&mut self, bank: Bank, vcpu: u16, intid: u32, value: u32, effects: &mut dyn Effects) {
        // SGIs are edges; with GICv2 they are made pending by their senders only.
        let (sgi, v2, cpus) = (intid < 16, self.version == Version::V2, self.cpus.len());
        let Some(irq) = self.irq(vcpu, intid) else { return };
        match bank {
            Bank::Set(LATCHED) | Bank::Clear(LATCHED) if sgi && v2 => {}
            Bank::Set(flag) if value != 0 => {
                self.change(vcpu, intid, flag, 0, effects);
                self.told(flag, intid, true, effects);
            }
            Bank::Clear(flag) if value != 0 => {
                // What is listed comes back as it is, unless that is what is taken away.
                let listed = match flag {
                    LATCHED => FROM_LATCH,
                    ACTIVE => LISTED | FROM_LATCH,
                    _ => 0,
                };
                // An edge that is taken away is over; its device may raise another.
                let over = flag == LATCHED
                    && irq.has(ASSIGNED)
                    && irq.has(EDGE)
                    && irq.has(HIGH)
                    && !irq.has(ACTIVE);
                self.change(vcpu, intid, 0, flag | listed | if over { HIGH } else { 0 }, effects);
                self.told(flag, intid, false, effects);
                if over {
                    effects.ended(intid);
                }
            }
            Bank::Priority => irq.priority = value as u8 & 0xf8,
            // On a machine with one core they ignore writes.
            Bank::Target if intid >= SHARED && cpus > 1 => {
                let named = value & u32::from(self.implemented());
                self.set_route(intid, named, false, effects);
            }
            Bank::Config if !sgi && !irq.has(LINKED) => {
                let (set, clear) = if value & 0b10 != 0 { (EDGE, 0) } else { (0, EDGE) };
                self.change(vcpu, intid, set, clear, effects);
            }
            _ => {}
        }
    }

    /// Passes the switch of an assigned interrupt on.
    fn told(&mut self, flag: u16, intid: u32, on: bool, effects: &mut dyn Effects) {
        let assigned = self.irq(0, intid).is_some_and(|irq| irq.has(ASSIGNED));
        if flag == ENABLED && assigned && intid >= SHARED {
            effects.enable(intid, on);
        }
    }

    /// `GICD_CTLR`: all interrupts may be delivered, or none.
    fn switch(&mut self, on: bool, effects: &mut dyn Effects) {
        if core::mem::replace(&mut self.enabled, on) == on {
            return;
        }
        for vcpu in 0..self.cpus.len() as u16 {
            (0..SHARED).for_each(|intid| self.refresh(vcpu, intid, effects));
        }
        (SHARED..self.limit()).for_each(|intid| self.refresh(0, intid, effects));
    }
}
