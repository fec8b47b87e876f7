//! What a vCPU has of its own.
use super::irq::{EDGE, Irq};
use crate::hyp::{Control, MAX_LIST_REGISTERS};

/// No list register, or no interrupt.
pub(super) const NONE: u16 = u16::MAX;
/// Where shared interrupts begin.
pub(super) const SHARED: u32 = 32;
/// How deep handlers can nest: each needs a priority of its own, of which a virtual interface has at most 32
/// (`ICH_VTR_EL2.PREbits`).
const NESTED: usize = 32;

/// What a vCPU has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Aff3 to Aff0, a byte each.
    pub(super) affinity: u32,
    /// Not about this one: which has the `n`th lowest affinity of all, where this is the `n`th.
    pub(super) nth: u16,
    /// Its redistributor is the last one of its region.
    pub(super) last: bool,
    /// Takes no interrupts: shared ones go to another.
    pub(super) off: bool,
    pub(super) private: [Irq; SHARED as usize],
    /// GICv2: who has sent each SGI.
    pub(super) sources: [u8; 16],
    /// GICv2: who has sent the SGI that is active.
    pub(super) active_source: [u8; 16],
    /// What is to be delivered, a bit for each id.
    pub(super) ready: [u32; 32],
    /// Which words of that are not zero.
    pub(super) ready_words: u32,
    /// What is in each list register.
    pub(super) listed: [u16; MAX_LIST_REGISTERS],
    /// Which list registers have something.
    pub(super) used: u16,
    /// Active interrupts that had to leave their list registers for more urgent ones, the most urgent last.
    pub(super) evicted: [u16; NESTED],
    pub(super) evicted_count: u8,
    /// The linked physical PPI is active because this vCPU has its interrupt.
    pub(super) held: bool,
    /// What the interface has been told to tell.
    pub(super) control: Control,
}

impl Cpu {
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
            off: false,
            private,
            sources: [0; 16],
            active_source: [0; 16],
            ready: [0; 32],
            ready_words: 0,
            listed: [NONE; MAX_LIST_REGISTERS],
            used: 0,
            evicted: [NONE; NESTED],
            evicted_count: 0,
            held: false,
            control: Control::OFF,
        }
    }

    /// The same, whose redistributor is the last one of a region: the next vCPU's is elsewhere.
    #[must_use]
    pub const fn last_of_region(self) -> Self {
        Self { last: true, ..self }
    }

    /// As at the start, at the same place of the machine.
    pub(super) fn reset(&mut self) {
        let (affinity, nth, last) = (self.affinity, self.nth, self.last);
        *self = Self { affinity, nth, last, ..Self::new(0) };
    }

    /// Makes an interrupt ready or not; returns whether it was.
    pub(super) fn set_ready(&mut self, intid: u32, ready: bool) -> bool {
        let index = intid / 32 % 32;
        let Some(word) = self.ready.get_mut(index as usize) else { return false };
        let bit = 1 << (intid % 32);
        let was = *word & bit != 0;
        *word = if ready { *word | bit } else { *word & !bit };
        let words = self.ready_words & !(1 << index);
        self.ready_words = words | u32::from(*word != 0) << index;
        was
    }

    /// Notes that an active interrupt leaves its list register; returns whether there is room to note it.
    pub(super) fn push_evicted(&mut self, intid: u16) -> bool {
        let Some(slot) = self.evicted.get_mut(usize::from(self.evicted_count)) else { return false };
        *slot = intid;
        self.evicted_count += 1;
        true
    }

    /// Removes an interrupt from those that are active in no list register; returns whether it was one of
    /// them.
    pub(super) fn remove_evicted(&mut self, intid: u16) -> bool {
        let count = usize::from(self.evicted_count);
        let known = self.evicted.get_mut(..count).unwrap_or_default();
        let Some(at) = known.iter().position(|evicted| *evicted == intid) else { return false };
        known.copy_within(at + 1.., at);
        self.evicted_count -= 1;
        true
    }

    /// The most urgent active interrupt that is in no list register; the caller finds out whether it still is
    /// active.
    pub(super) fn pop_evicted(&mut self) -> Option<u16> {
        self.evicted_count = self.evicted_count.checked_sub(1)?;
        self.evicted.get(usize::from(self.evicted_count)).copied()
    }
}
