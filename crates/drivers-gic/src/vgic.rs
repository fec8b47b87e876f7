//! A virtual GIC: the distributor and redistributors of a VM that expects a real one, as a state machine without hardware.
//!
//! A hypervisor keeps a [`Vgic`] for each such VM, under a lock, and
//!
//! * leaves the pages of GICD and GICR out of the VM's translation, and gives accesses that fault to [`Vgic::read`] and [`Vgic::write`];
//! * gives trapped writes of `ICC_SGI1R_EL1` to [`Vgic::send_sgi`];
//! * tells it what happens outside: [`Vgic::set_level`] of a line, [`Vgic::pulse`] of an edge;
//! * calls [`Vgic::load`] when a vCPU is about to run, [`Vgic::unload`] when it no longer does, and [`Vgic::update`] in between, when
//!   something may have changed: before and after a trapped access, after a kick, after a maintenance interrupt.
//!
//! What the guest does at its CPU interface costs no exit: [`update`](Vgic::update) finds it in the list registers.
//!
//! # Interrupts of real devices
//!
//! [`Vgic::assign`] ties a shared interrupt to the physical one: [`Effects`] says when the guest enables and disables it. A level is
//! *resampled*: the hypervisor masks the physical interrupt when it arrives and raises the line; when the guest ends it, a maintenance
//! interrupt comes, [`Effects::ended`] is called, the line is low again, and the hypervisor unmasks. If the device still asserts, it
//! arrives again. So a device under load neither stalls nor storms, and one that nobody answers interrupts its guest alone.
//!
//! # What a guest sees
//!
//! GICv2, or GICv3 with affinity routing only, one security state, no LPIs. All interrupts are in group 1 (GICv3) or group 0 (GICv2).
//! Every access has a meaning, whatever its offset, size and value: what is not there reads as zero and ignores writes.
//!
//! Sources: GIC spec (IHI 0069), chapter 12; GICv2 spec (IHI 0048), chapter 4.
use crate::hyp::{HypervisorInterface, ListRegister, ListState, MAX_LIST_REGISTERS};
use core::cmp::Ordering;

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
/// Where the second one begins.
const SGI_FRAME: u32 = 0x1_0000;

/// What a hypervisor has to do about something.
pub trait Effects {
    /// A vCPU has something new to deliver, or should not deliver something any more: if it runs, it is to
    /// [`update`](Vgic::update).
    fn kick(&mut self, vcpu: u16);
    /// The guest has enabled or disabled an assigned interrupt.
    fn enable(&mut self, intid: u32, enable: bool);
    /// The guest has ended an assigned interrupt: its line is low until it arrives again.
    fn ended(&mut self, intid: u32);
}

const ENABLED: u8 = 1 << 0;
/// Made pending by an edge, a message, or a register.
const LATCHED: u8 = 1 << 1;
/// Its line is high.
const HIGH: u8 = 1 << 2;
const ACTIVE: u8 = 1 << 3;
/// Edge-triggered; otherwise a level.
const EDGE: u8 = 1 << 4;
/// In a list register of its target.
const LISTED: u8 = 1 << 5;
/// It is pending there because of `LATCHED`.
const FROM_LATCH: u8 = 1 << 6;
/// Tied to a physical interrupt.
const ASSIGNED: u8 = 1 << 7;

/// No vCPU.
const NOBODY: u16 = u16::MAX;
/// No list register.
const NONE: u16 = u16::MAX;
/// Where shared interrupts begin.
const SHARED: u32 = 32;
/// Ids beyond are none.
const LIMIT: u32 = 1020;

/// The state of one interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Irq {
    flags: u8,
    priority: u8,
    target: u16,
}

impl Irq {
    /// Disabled, inactive, not pending, level-triggered, for vCPU 0.
    pub const RESET: Self = Self { flags: 0, priority: 0, target: 0 };

    const fn has(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Pending as registers show it.
    const fn is_pending(self) -> bool {
        self.has(LATCHED) || self.has(HIGH) && !self.has(EDGE) || self.has(FROM_LATCH)
    }

    /// To be delivered, if the distributor is on.
    const fn is_ready(self) -> bool {
        let level = self.has(HIGH) && !self.has(EDGE) && !self.has(LISTED | ACTIVE);
        self.has(ENABLED) && (self.has(LATCHED) || level) && (!self.has(ACTIVE) || self.has(LISTED))
    }
}

/// What a vCPU has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Aff3 to Aff0, a byte each.
    affinity: u32,
    /// Not about this one: which has the `n`th lowest affinity of all, where this is the `n`th.
    nth: u16,
    /// Its redistributor is the last one of its region.
    last: bool,
    private: [Irq; SHARED as usize],
    /// GICv2: who has sent each SGI.
    sources: [u8; 16],
    /// What is to be delivered, a bit for each id.
    ready: [u32; 32],
    /// Which words of that are not zero.
    ready_words: u32,
    /// What is in each list register.
    listed: [u16; MAX_LIST_REGISTERS],
    /// Which list registers have something.
    used: u16,
    /// There is more than they hold.
    full: bool,
}

impl Cpu {
    /// Makes an interrupt ready or not; returns whether it was.
    fn set_ready(&mut self, intid: u32, ready: bool) -> bool {
        let index = intid / 32 % 32;
        let Some(word) = self.ready.get_mut(index as usize) else { return false };
        let bit = 1 << (intid % 32);
        let was = *word & bit != 0;
        *word = if ready { *word | bit } else { *word & !bit };
        let words = self.ready_words & !(1 << index);
        self.ready_words = words | u32::from(*word != 0) << index;
        was
    }

    /// One whose MPIDR has these affinity fields.
    pub const fn new(mpidr: u64) -> Self {
        let mut private = [Irq::RESET; SHARED as usize];
        let mut sgi = 0;
        while sgi < 16 {
            private[sgi] = Irq { flags: EDGE, ..Irq::RESET };
            sgi += 1;
        }
        Self {
            affinity: (mpidr >> 8 & 0xff00_0000) as u32 | (mpidr & 0xff_ffff) as u32,
            nth: 0,
            last: false,
            private,
            sources: [0; 16],
            ready: [0; 32],
            ready_words: 0,
            listed: [NONE; MAX_LIST_REGISTERS],
            used: 0,
            full: false,
        }
    }

    /// The same, whose redistributor is the last one of a region: the next vCPU's is elsewhere.
    #[must_use]
    pub const fn last_of_region(self) -> Self {
        Self { last: true, ..self }
    }
}

/// A VM's GIC.
#[derive(Debug)]
pub struct Vgic<'a> {
    version: Version,
    enabled: bool,
    shared: &'a mut [Irq],
    cpus: &'a mut [Cpu],
    /// The vCPU whose list registers are being looked at: it need not be told to look.
    looking: u16,
}

/// A register array of the distributor: what its bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bank {
    Group,
    Set(u8),
    Clear(u8),
    Priority,
    Target,
    Config,
}

/// Which array a register is of, and its first interrupt.
fn bank(offset: u32) -> Option<(Bank, u32)> {
    let bits = |first| (offset - first) / 4 * 32;
    Some(match offset {
        0x080..0x100 => (Bank::Group, bits(0x080)),
        0x100..0x180 => (Bank::Set(ENABLED), bits(0x100)),
        0x180..0x200 => (Bank::Clear(ENABLED), bits(0x180)),
        0x200..0x280 => (Bank::Set(LATCHED), bits(0x200)),
        0x280..0x300 => (Bank::Clear(LATCHED), bits(0x280)),
        0x300..0x380 => (Bank::Set(ACTIVE), bits(0x300)),
        0x380..0x400 => (Bank::Clear(ACTIVE), bits(0x380)),
        0x400..0x800 => (Bank::Priority, offset & 0x3fc),
        0x800..0xc00 => (Bank::Target, offset & 0x3fc),
        0xc00..0xd00 => (Bank::Config, (offset - 0xc00) / 4 * 16),
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

/// Sorts by affinity, in [`Cpu::nth`]. Machines and hypervisors name their CPUs in ascending order as a rule: then it is one pass.
fn order(cpus: &mut [Cpu]) {
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

impl<'a> Vgic<'a> {
    /// A GIC for these vCPUs, with `shared` shared interrupts: a multiple of 32, at most 988. No two have the same affinity: of those
    /// that have, one gets the SGIs.
    pub fn new(version: Version, shared: &'a mut [Irq], cpus: &'a mut [Cpu]) -> Self {
        let usable = shared.len().min((LIMIT - SHARED) as usize);
        let (shared, _) = shared.split_at_mut(usable);
        order(cpus);
        Self { version, enabled: false, shared, cpus, looking: NOBODY }
    }

    /// Everything as at the start, but what is assigned stays so.
    pub fn reset(&mut self) {
        self.enabled = false;
        for irq in self.shared.iter_mut() {
            *irq = Irq { flags: irq.flags & ASSIGNED, ..Irq::RESET };
        }
        for cpu in self.cpus.iter_mut() {
            let (affinity, nth, last) = (cpu.affinity, cpu.nth, cpu.last);
            *cpu = Cpu { affinity, nth, last, ..Cpu::new(0) };
        }
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
    fn change(&mut self, vcpu: u16, intid: u32, set: u8, clear: u8, effects: &mut dyn Effects) {
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
        // Listed, and no longer to be there unless it is active.
        let lowered = !irq.has(FROM_LATCH | ACTIVE) && (irq.has(EDGE) || !irq.has(HIGH));
        let withdrawn = irq.has(LISTED) && (!enabled || !irq.has(ENABLED) || lowered);
        if target != self.looking && (is && !was || withdrawn) {
            effects.kick(target);
        }
    }

    /// Takes an interrupt from its target; the caller gives it another and refreshes it.
    fn retarget(&mut self, intid: u32, target: u16, effects: &mut dyn Effects) {
        let Some(irq) = self.irq(0, intid).filter(|_| intid >= SHARED) else { return };
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

    /// Whether a vCPU has something that it has not acknowledged: to be delivered, or, as of the last [`update`](Self::update), in a
    /// list register.
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

    /// The vCPU that a shared interrupt goes to.
    pub fn target(&self, intid: u32) -> Option<u16> {
        let irq = self.shared.get(intid.checked_sub(SHARED)? as usize)?;
        Some(irq.target).filter(|target| *target != NOBODY)
    }

    // ---- List registers.

    /// `vcpu` is about to run: what it has active goes back into list registers, and what is ready too.
    pub fn load(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface) {
        for n in 0..hardware.count().min(MAX_LIST_REGISTERS) {
            let value = match self.listed(vcpu, n) {
                None => ListRegister::FREE,
                Some(intid) => self.value(vcpu, intid, ListState::Active),
            };
            hardware.write(n, value);
        }
        hardware.control(true, self.cpus.get(usize::from(vcpu)).is_some_and(|cpu| cpu.full));
        self.flush(vcpu, hardware);
    }

    /// `vcpu` no longer runs: nothing of it stays in the hardware.
    pub fn unload(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        let mut used = self.used(vcpu);
        self.sync(vcpu, hardware, effects);
        while used != 0 {
            hardware.write(used.trailing_zeros() as usize, ListRegister::FREE);
            used &= used - 1;
        }
        hardware.control(false, false);
    }

    /// `vcpu`, which runs on this core, has got something, or has ended something.
    pub fn update(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        self.sync(vcpu, hardware, effects);
        self.flush(vcpu, hardware);
    }

    /// What is in a vCPU's list register `n`.
    fn listed(&self, vcpu: u16, n: usize) -> Option<u32> {
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
        let v3 = self.version == Version::V3;
        let Some(irq) = self.irq(vcpu, intid) else { return ListRegister::FREE };
        let mut value = ListRegister::new(intid, irq.priority, state);
        if v3 {
            value = value.group_1();
        }
        let told = irq.has(HIGH) && (irq.has(ASSIGNED) || !irq.has(EDGE));
        if told { value.with_end_told() } else { value }
    }

    /// Takes back what the list registers say: what is pending is ready again, what is over is over. What is active stays listed.
    fn sync(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface, effects: &mut dyn Effects) {
        let mut used = self.used(vcpu);
        self.looking = vcpu;
        while used != 0 {
            let n = used.trailing_zeros() as usize;
            used &= used - 1;
            let Some(intid) = self.listed(vcpu, n) else { continue };
            let register = hardware.read(n);
            let Some(irq) = self.irq(vcpu, intid) else { continue };
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
        self.looking = NOBODY;
    }

    /// The most urgent of what is ready; the lowest number of those.
    fn next(&mut self, vcpu: u16) -> Option<u32> {
        let mut best: Option<(u8, u32)> = None;
        let mut words = self.cpus.get(usize::from(vcpu))?.ready_words;
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

    /// Fills free list registers with what is ready, the most urgent first. What is listed is active, as `sync` has left it.
    fn flush(&mut self, vcpu: u16, hardware: &dyn HypervisorInterface) {
        let mut full = false;
        while let Some(intid) = self.next(vcpu) {
            let count = hardware.count().min(MAX_LIST_REGISTERS);
            let slot = |want: Option<u32>| (0..count).find(|n| self.listed(vcpu, *n) == want);
            let (n, state) = if let Some(n) = slot(Some(intid)) {
                (n, ListState::PendingAndActive)
            } else if let Some(n) = slot(None) {
                (n, ListState::Pending)
            } else {
                full = true;
                break;
            };
            let mut value = self.value(vcpu, intid, state);
            if let Some((source, more)) = self.take_source(vcpu, intid) {
                value = value.with_source(source);
                if more {
                    value = value.with_end_told();
                }
            }
            let Some(irq) = self.irq(vcpu, intid) else { break };
            let from_latch = if irq.has(LATCHED) { FROM_LATCH } else { 0 };
            irq.flags = irq.flags & !LATCHED | LISTED | from_latch;
            if let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) {
                cpu.set_ready(intid, false);
            }
            self.list(vcpu, n, intid as u16);
            hardware.write(n, value);
        }
        let Some(cpu) = self.cpus.get_mut(usize::from(vcpu)) else { return };
        if core::mem::replace(&mut cpu.full, full) != full {
            hardware.control(true, full);
        }
    }

    // ---- SGIs.

    /// The senders of a GICv2 SGI, if it is one.
    fn sources(&mut self, vcpu: u16, intid: u32) -> Option<&mut u8> {
        if self.version == Version::V3 {
            return None;
        }
        self.cpus.get_mut(usize::from(vcpu))?.sources.get_mut(intid as usize)
    }

    /// The sender that is delivered next, and whether there are more.
    fn take_source(&mut self, vcpu: u16, intid: u32) -> Option<(u8, bool)> {
        let sources = self.sources(vcpu, intid)?;
        let source = sources.trailing_zeros() as u8 & 7;
        *sources &= !(1 << source);
        Some((source, *sources != 0))
    }

    /// What a list register held comes back.
    fn unsend(&mut self, vcpu: u16, intid: u32, register: ListRegister) {
        if let Some(sources) = self.sources(vcpu, intid) {
            *sources |= 1 << (register.to_v2() >> 10 & 7);
        }
    }

    /// An SGI that others have sent as well is pending again.
    fn sources_left(&mut self, vcpu: u16, intid: u32, effects: &mut dyn Effects) {
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

    /// The vCPU with an affinity, without a look at all of them.
    fn by_affinity(&self, affinity: u32) -> Option<u16> {
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

    fn send_to_others(&mut self, vcpu: u16, sgi: u32, effects: &mut dyn Effects) {
        for target in (0..self.cpus.len() as u16).filter(|target| *target != vcpu) {
            self.deliver_sgi(target, vcpu, sgi, effects);
        }
    }

    /// A write of `GICD_SGIR` (GICv2 spec, 4.3.15).
    fn send_v2(&mut self, vcpu: u16, value: u32, effects: &mut dyn Effects) {
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

    // ---- Registers.

    /// Whether what a register says depends on what is in list registers: only then a read needs an [`update`](Self::update) before.
    pub fn is_live(offset: u64) -> bool {
        matches!(offset & 0xffff, 0x200..0x400 | 0xf10..0xf30)
    }

    /// A read by `vcpu` of `size` bytes (1, 2, 4 or 8).
    pub fn read(&mut self, vcpu: u16, frame: Frame, offset: u64, size: u8) -> u64 {
        let Ok(offset) = u32::try_from(offset) else { return 0 };
        let word = |this: &mut Self, offset| u64::from(this.read_word(vcpu, frame, offset));
        match size {
            8 if offset & 7 == 0 => word(self, offset) | word(self, offset + 4) << 32,
            4 if offset & 3 == 0 => word(self, offset),
            2 if offset & 1 == 0 => word(self, offset & !3) >> (offset % 4 * 8) & 0xffff,
            1 => word(self, offset & !3) >> (offset % 4 * 8) & 0xff,
            _ => 0,
        }
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
        match size {
            8 if offset & 7 == 0 => {
                self.write_word(vcpu, frame, offset, value as u32, u32::MAX, effects);
                self.write_word(vcpu, frame, offset + 4, (value >> 32) as u32, u32::MAX, effects);
            }
            4 if offset & 3 == 0 => self.write_word(vcpu, frame, offset, value as u32, u32::MAX, effects),
            // Only arrays of bytes are written by bytes.
            1 if matches!(bank(offset & 0xffff), Some((Bank::Priority | Bank::Target, _))) => {
                let shift = offset % 4 * 8;
                let value = (value as u32 & 0xff) << shift;
                self.write_word(vcpu, frame, offset & !3, value, 0xff << shift, effects);
            }
            _ => {}
        }
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
            // One security state, affinity routing: ARE and DS read as one.
            (Frame::Distributor, 0) if v3 => 0x50 | u32::from(self.enabled) << 1,
            (Frame::Distributor, 0) => self.enabled.into(),
            (Frame::Distributor, 4) => {
                let lines = self.limit() / 32 - 1;
                // Ids of ten bits; or how many vCPUs.
                lines | if v3 { 9 << 19 } else { (self.cpus.len() as u32 - 1).min(7) << 5 }
            }
            // Of Arm (JEP106), product 0.
            (Frame::Distributor, 8) | (Frame::Redistributor(_), 4) => 0x43b,
            (Frame::Distributor, 0xf10..0xf30) if !v3 => {
                let first = offset & 0xc;
                (0..4).fold(0, |word, n| {
                    word | u32::from(self.sources(vcpu, first + n).copied().unwrap_or_default()) << (8 * n)
                })
            }
            (Frame::Distributor, 0x6100..0x8000) if v3 => {
                let intid = (offset - 0x6000) / 8;
                let target = self.target(intid).and_then(|target| self.cpus.get(usize::from(target)));
                let affinity = target.map_or(0, |cpu| cpu.affinity);
                if offset & 4 == 0 { affinity & 0xff_ffff } else { affinity >> 24 }
            }
            // GICR_TYPER: which vCPU, and whether it is the last of a region.
            (Frame::Redistributor(owner), 8) => {
                let last = usize::from(owner) + 1 == self.cpus.len()
                    || self.cpus.get(usize::from(owner)).is_some_and(|cpu| cpu.last);
                u32::from(owner) << 8 | u32::from(last) << 4
            }
            (Frame::Redistributor(owner), 12) => {
                self.cpus.get(usize::from(owner)).map_or(0, |cpu| cpu.affinity)
            }
            // PIDR2: the architecture's version.
            (_, 0xffe8) if v3 => 0x3b,
            (Frame::Distributor, 0xfe8) if !v3 => 0x2b,
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
            Bank::Target => {
                let target = if intid < SHARED { vcpu } else { irq.target };
                1_u32.checked_shl(target.into()).unwrap_or(0) & 0xff
            }
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
            (Frame::Distributor, 0) => self.switch(value & 0b11 != 0, effects),
            (Frame::Distributor, 0xf00) if !v3 => self.send_v2(vcpu, value, effects),
            (Frame::Distributor, 0xf10..0xf20) if !v3 => {
                self.change_sources(vcpu, offset & 0xc, 0, value, effects);
            }
            (Frame::Distributor, 0xf20..0xf30) if !v3 => {
                self.change_sources(vcpu, offset & 0xc, value, 0, effects);
            }
            // The other half is Aff3, which no vCPU has another of.
            (Frame::Distributor, 0x6100..0x8000) if v3 && offset & 4 == 0 => {
                let to_any = value >> 31 != 0;
                let found =
                    self.cpus.iter().position(|cpu| to_any || cpu.affinity & 0xff_ffff == value & 0xff_ffff);
                self.retarget((offset - 0x6000) / 8, found.map_or(NOBODY, |n| n as u16), effects);
            }
            _ => {}
        }
    }

    fn set_field(&mut self, bank: Bank, vcpu: u16, intid: u32, value: u32, effects: &mut dyn Effects) {
        // SGIs are edges; with GICv2 they are made pending by their senders only.
        let (sgi, v2) = (intid < 16, self.version == Version::V2);
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
            Bank::Target if intid >= SHARED => {
                let target = value.trailing_zeros() as u16;
                let known = usize::from(target) < self.cpus.len();
                self.retarget(intid, if known { target } else { NOBODY }, effects);
            }
            Bank::Config if !sgi => {
                let (set, clear) = if value & 0b10 != 0 { (EDGE, 0) } else { (0, EDGE) };
                self.change(vcpu, intid, set, clear, effects);
            }
            _ => {}
        }
    }

    /// Passes the switch of an assigned interrupt on.
    fn told(&mut self, flag: u8, intid: u32, on: bool, effects: &mut dyn Effects) {
        let assigned = self.irq(0, intid).is_some_and(|irq| irq.has(ASSIGNED));
        if flag == ENABLED && assigned && intid >= SHARED {
            effects.enable(intid, on);
        }
    }

    /// `GICD_CPENDSGIR` and `GICD_SPENDSGIR`: four SGIs, a byte of senders each.
    fn change_sources(&mut self, vcpu: u16, first: u32, set: u32, clear: u32, effects: &mut dyn Effects) {
        for n in 0..4 {
            let Some(sources) = self.sources(vcpu, first + n) else { return };
            *sources = *sources & !((clear >> (8 * n)) as u8) | (set >> (8 * n)) as u8;
            let (set, clear) = if *sources == 0 { (0, LATCHED) } else { (LATCHED, 0) };
            self.change(vcpu, first + n, set, clear, effects);
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
