//! The hypervisor interface: how virtual interrupts come to a guest, and what of a guest's CPU interface is
//! saved with it.
//!
//! A *list register* holds one virtual interrupt. The guest acknowledges and ends it through its virtual CPU
//! interface without an exit; the hypervisor looks afterwards at what has become of it.
//! [`HypervisorInterface`] is that hardware of the calling core: [`gicv3::hyp`](crate::gicv3::hyp) by system
//! registers, [`GicV2Hyp`](crate::GicV2Hyp) by memory.

/// Where a virtual interrupt is in its life (GIC spec, 12.4.8 `ICH_LR<n>_EL2.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListState {
    /// The register is free.
    Free = 0,
    /// To be acknowledged.
    Pending = 1,
    /// Acknowledged, and not ended.
    Active = 2,
    /// Both: it has come again since.
    PendingAndActive = 3,
}

/// The value of a list register, in GICv3's form; GICv2's is made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRegister(u64);

const STATE: u32 = 62;
const HW: u64 = 1 << 61;
const GROUP_1: u64 = 1 << 60;
const PRIORITY: u32 = 48;
const EOI: u64 = 1 << 41;
const PHYSICAL: u32 = 32;
/// Not in the hardware of GICv3: the core that sent an SGI, for a GICv2 guest.
const SOURCE: u32 = 24;

impl ListRegister {
    /// No interrupt.
    pub const FREE: Self = Self(0);

    /// Interrupt `intid` in `state`. Ids beyond 1019, and priorities' low bits, are not.
    pub const fn new(intid: u32, priority: u8, state: ListState) -> Self {
        Self((state as u64) << STATE | (priority as u64) << PRIORITY | intid as u64 & 0x3ff)
    }

    /// The same, in group 1: signalled as IRQ, and enabled by the guest's group 1 switch.
    #[must_use]
    pub const fn group_1(self) -> Self {
        Self(self.0 | GROUP_1)
    }

    /// The same, and when the guest ends it, a maintenance interrupt comes.
    #[must_use]
    pub const fn with_end_told(self) -> Self {
        Self(self.0 | EOI)
    }

    /// Whether a maintenance interrupt tells its end; it is asserted for as long as the register says so and
    /// is free (GIC spec, 12.4.4 `ICH_EISR_EL2`).
    pub const fn tells_end(self) -> bool {
        self.0 & (HW | EOI) == EOI
    }

    /// The same, and when the guest ends it, the hardware deactivates physical interrupt `intid`.
    #[must_use]
    pub const fn with_physical(self, intid: u32) -> Self {
        Self(self.0 & !EOI | HW | (intid as u64 & 0x3ff) << PHYSICAL)
    }

    /// Whether the guest's end deactivates a physical interrupt.
    pub const fn is_physical(self) -> bool {
        self.0 & HW != 0
    }

    /// The same, without a physical interrupt.
    #[must_use]
    pub const fn without_physical(self) -> Self {
        if self.is_physical() { Self(self.0 & !(HW | 0x1fff << PHYSICAL)) } else { self }
    }

    /// Whether it is in group 1.
    pub const fn is_group_1(self) -> bool {
        self.0 & GROUP_1 != 0
    }

    /// The same, sent by core `source`, 0 to 7, of a GICv2 guest.
    #[must_use]
    pub const fn with_source(self, source: u8) -> Self {
        Self(self.0 & !(7 << SOURCE) | (source as u64 & 7) << SOURCE)
    }

    /// The core of a GICv2 guest that sent it.
    pub const fn source(self) -> u8 {
        (self.0 >> SOURCE & 7) as u8
    }

    /// The same, in another state.
    #[must_use]
    pub const fn with_state(self, state: ListState) -> Self {
        Self(self.0 & !(3 << STATE) | (state as u64) << STATE)
    }

    /// Where it is in its life.
    pub const fn state(self) -> ListState {
        match self.0 >> STATE {
            0 => ListState::Free,
            1 => ListState::Pending,
            2 => ListState::Active,
            _ => ListState::PendingAndActive,
        }
    }

    /// The guest's number of it.
    pub const fn intid(self) -> u32 {
        (self.0 & 0x3ff) as u32
    }

    /// Its priority.
    pub const fn priority(self) -> u8 {
        (self.0 >> PRIORITY) as u8
    }

    /// The value for `ICH_LR<n>_EL2` (GIC spec, 12.4.8).
    #[inline]
    pub const fn to_v3(self) -> u64 {
        self.0 & !(7 << SOURCE)
    }

    /// What `ICH_LR<n>_EL2` holds.
    #[inline]
    pub const fn from_v3(bits: u64) -> Self {
        Self(bits)
    }

    /// The value for `GICH_LRn` (GICv2 spec, 5.3.9): five bits of priority; an SGI's source where a physical
    /// id would be.
    pub const fn to_v2(self) -> u32 {
        let number = if self.0 & HW != 0 {
            (self.0 >> PHYSICAL) as u32 & 0x3ff
        } else {
            (self.0 >> SOURCE) as u32 & 7 | if self.0 & EOI != 0 { 1 << 9 } else { 0 }
        };
        ((self.0 >> 61 & 1) as u32) << 31
            | ((self.0 >> 60 & 1) as u32) << 30
            | ((self.0 >> STATE) as u32) << 28
            | (self.priority() as u32 >> 3) << 23
            | number << 10
            | self.intid()
    }

    /// What `GICH_LRn` holds.
    pub const fn from_v2(bits: u32) -> Self {
        let number = (bits >> 10 & 0x3ff) as u64;
        let rest = if bits & 1 << 31 != 0 {
            HW | number << PHYSICAL
        } else {
            (number & 7) << SOURCE | if number & 1 << 9 != 0 { EOI } else { 0 }
        };
        Self(
            (bits as u64 >> 28 & 3) << STATE
                | (bits as u64 >> 30 & 1) << 60
                | (bits as u64 >> 23 & 0x1f) << (PRIORITY + 3)
                | rest
                | bits as u64 & 0x3ff,
        )
    }
}

/// The most list registers that there are.
pub const MAX_LIST_REGISTERS: usize = 16;
/// Words of active priorities of each group.
pub const ACTIVE_PRIORITY_WORDS: usize = 4;

/// What a virtual CPU interface does besides what its list registers say: the value of `ICH_HCR_EL2` or
/// `GICH_HCR`, which have the same bits (GIC spec, `ICH_HCR_EL2`; GICv2 spec, 5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(u32);

impl Control {
    /// It is off.
    pub const OFF: Self = Self(0);
    /// It is on (`En`).
    pub const ON: Self = Self(1 << 0);
    /// A maintenance interrupt comes when at most one list register is not free (`UIE`).
    pub const UNDERFLOW: Self = Self(1 << 1);
    /// A maintenance interrupt comes when the guest has ended something that is in no list register
    /// (`LRENPIE`).
    pub const COUNT_ENDS: Self = Self(1 << 2);
    /// GICv3: accesses of the guest to its registers of group 1 trap (`TALL1`).
    pub const TRAP_GROUP_1: Self = Self(1 << 12);
    /// GICv3: the guest's writes of `ICC_DIR_EL1` trap (`TDIR`; nothing where `ICH_VTR_EL2.TDS` is 0).
    pub const TRAP_DEACTIVATE: Self = Self(1 << 14);

    /// The same, and `what` too, or not.
    #[must_use]
    #[inline]
    pub const fn with(self, what: Self, set: bool) -> Self {
        Self(self.0 & !what.0 | if set { what.0 } else { 0 })
    }

    /// Whether `what` is set.
    pub const fn has(self, what: Self) -> bool {
        self.0 & what.0 == what.0
    }

    /// The register's value.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// `EOIcount`, from the same register.
pub const fn end_count(hcr: u64) -> u32 {
    (hcr >> 27 & 0x1f) as u32
}

/// The hypervisor interface of the calling core.
pub trait HypervisorInterface {
    /// How many list registers there are, 1 to 16.
    fn count(&self) -> usize;
    /// Reads list register `n`, below [`count`](Self::count).
    fn read(&self, n: usize) -> ListRegister;
    /// Writes list register `n`, below [`count`](Self::count).
    fn write(&self, n: usize, value: ListRegister);
    /// Sets what the virtual CPU interface does, and resets [`end_count`](Self::end_count).
    fn control(&self, control: Control);
    /// How many interrupts the guest has ended since that were in no list register.
    fn end_count(&self) -> u32;
}

/// What of a guest's CPU interface is not in list registers: its own settings, and which priorities are
/// active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedInterface {
    /// `ICH_VMCR_EL2` or `GICH_VMCR`: the guest's mask, binary points, enables.
    pub control: u64,
    /// `ICH_AP0R<n>_EL2`; unused with GICv2.
    pub active_0: [u32; ACTIVE_PRIORITY_WORDS],
    /// `ICH_AP1R<n>_EL2`, or `GICH_APR` in the first.
    pub active_1: [u32; ACTIVE_PRIORITY_WORDS],
}

/// How many bits of priority the virtual interface has, from `ICH_VTR_EL2` or `GICH_VTR` (both: `PRIbits`,
/// 31:29).
pub const fn priority_bits(vtr: u64) -> u32 {
    (vtr >> 29 & 7) as u32 + 1
}

/// How many bits of a priority can preempt, from `ICH_VTR_EL2` (`PREbits`, 28:26).
pub const fn preemption_bits(vtr: u64) -> u32 {
    (vtr >> 26 & 7) as u32 + 1
}

/// How many list registers there are, from the same (`ListRegs`, 4:0).
pub const fn list_registers(vtr: u64) -> usize {
    let count = (vtr & 0x1f) as usize + 1;
    if count < MAX_LIST_REGISTERS { count } else { MAX_LIST_REGISTERS }
}

/// How many words of active priorities there are for each group, from `ICH_VTR_EL2` (`PREbits`, 28:26).
pub const fn active_priority_words(vtr: u64) -> usize {
    match (vtr >> 26 & 7) + 1 {
        0..=5 => 1,
        6 => 2,
        _ => ACTIVE_PRIORITY_WORDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_where_the_documents_have_them() {
        let lr = ListRegister::new(27, 0xa0, ListState::Pending).group_1();
        assert_eq!(lr.to_v3(), 1 << 62 | 1 << 60 | 0xa0 << 48 | 0x1b);
        assert_eq!(lr.to_v2(), 1 << 30 | 1 << 28 | 0x14 << 23 | 0x1b);
        assert_eq!(lr.with_end_told().to_v3() & 1 << 41, 1 << 41);
        assert_eq!(lr.with_end_told().to_v2() & 1 << 19, 1 << 19);
        let hw = lr.with_end_told().with_physical(34);
        assert_eq!((hw.to_v3() >> 61 & 1, hw.to_v3() >> 32 & 0x1fff), (1, 34));
        assert_eq!((hw.to_v2() >> 31, hw.to_v2() >> 10 & 0x3ff), (1, 34));
        assert_eq!(lr.with_source(5).to_v2() >> 10 & 7, 5);
        assert_eq!(lr.with_source(5).to_v3(), lr.to_v3(), "GICv3 does not know who sent an SGI");
        // A GICv3 with 16 list registers, 5 bits of priority and of preemption.
        let vtr = 4 << 29 | 4 << 26 | 15;
        assert_eq!((list_registers(vtr), priority_bits(vtr), active_priority_words(vtr)), (16, 5, 1));
        assert_eq!(active_priority_words(6 << 26), 4);
        assert_eq!(list_registers(0x1f), 16);
    }

    proptest! {
        #[test]
        fn both_forms_say_the_same(intid in 0..1020_u32, priority: u8, state in 0..4_u64, source in 0..8_u8, told: bool, physical in prop::option::of(16..1020_u32)) {
            let state = ListRegister::from_v3(state << 62).state();
            let mut lr = ListRegister::new(intid, priority & 0xf8, state).group_1();
            if told { lr = lr.with_end_told() }
            lr = match physical { Some(id) => lr.with_physical(id), None => lr.with_source(source) };
            prop_assert_eq!(ListRegister::from_v2(lr.to_v2()), lr);
            prop_assert_eq!((lr.intid(), lr.priority(), lr.state()), (intid, priority & 0xf8, state));
        }
    }
}
