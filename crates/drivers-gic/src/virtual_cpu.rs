//! What a guest's virtual CPU interface does at an access to its registers of group 1, for accesses that trap
//! (GICv3, `ICH_HCR_EL2.TALL1`): the same as the hardware does, on the same registers.
//!
//! A hypervisor lets them trap while it has to look at something before the guest may acknowledge it: a level
//! that is about to fall.
//!
//! Sources: GIC spec (IHI 0069), 4.8 "Interrupt prioritization", 6.3 "Configuration and control of VMs", 12.3
//! `ICV_*_EL1`, 12.4.
use crate::hyp::{ACTIVE_PRIORITY_WORDS, HypervisorInterface, ListRegister, ListState};

/// The registers behind a guest's CPU interface, besides its list registers.
pub trait VirtualCpu: HypervisorInterface {
    /// `ICH_VMCR_EL2`.
    fn settings(&self) -> u64;
    /// Writes it.
    fn set_settings(&self, value: u64);
    /// `ICH_AP0R<n>_EL2` (group 0) or `ICH_AP1R<n>_EL2`; 0 for those that are not there.
    fn active(&self, group: u8, n: usize) -> u32;
    /// Writes one of those.
    fn set_active(&self, group: u8, n: usize, value: u32);
    /// How many bits of a priority can preempt (`ICH_VTR_EL2.PREbits`).
    fn preemption_bits(&self) -> u32;
    /// Counts an end of what is in no list register (`ICH_HCR_EL2.EOIcount`).
    fn count_end(&self);
}

// Fields of `ICH_VMCR_EL2`.
const ENABLE_1: u64 = 1 << 1;
const COMMON_POINT: u64 = 1 << 4;
const EOI_MODE: u64 = 1 << 9;
const POINT_1: u32 = 18;
const POINT_0: u32 = 21;
const MASK: u32 = 24;
/// No interrupt.
const SPURIOUS: u32 = 1023;
/// Ids from here on are none.
const SPECIAL: u32 = 1020;
/// The priority that runs when no interrupt is active.
const IDLE: u32 = 0xff;

/// A register of group 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group1 {
    /// `ICC_IAR1_EL1`.
    Acknowledge,
    /// `ICC_EOIR1_EL1`.
    End,
    /// `ICC_HPPIR1_EL1`.
    HighestPending,
    /// `ICC_BPR1_EL1`.
    BinaryPoint,
    /// `ICC_IGRPEN1_EL1`.
    Enable,
    /// `ICC_AP1R<n>_EL1`.
    Active(u8),
}

impl Group1 {
    /// The register with these fields of its encoding, with op0 3 and op1 0.
    pub const fn find(crn: u8, crm: u8, op2: u8) -> Option<Self> {
        Some(match (crn, crm, op2) {
            (12, 12, 0) => Self::Acknowledge,
            (12, 12, 1) => Self::End,
            (12, 12, 2) => Self::HighestPending,
            (12, 12, 3) => Self::BinaryPoint,
            (12, 12, 7) => Self::Enable,
            (12, 9, 0..4) => Self::Active(op2),
            _ => return None,
        })
    }
}

/// The binary point of group 1: priorities differ in what is above so many bits.
fn point(cpu: &dyn VirtualCpu) -> u32 {
    let settings = cpu.settings();
    let point = if settings & COMMON_POINT == 0 {
        (settings >> POINT_1 & 7) as u32
    } else {
        ((settings >> POINT_0 & 7) as u32 + 1).min(7)
    };
    // The smallest value that there is.
    point.max(8_u32.saturating_sub(cpu.preemption_bits()))
}

/// The priority that runs: the most urgent active one, of both groups.
fn running(cpu: &dyn VirtualCpu) -> u32 {
    for n in 0..ACTIVE_PRIORITY_WORDS {
        let active = cpu.active(0, n) | cpu.active(1, n);
        if active != 0 {
            let level = 32 * n as u32 + active.trailing_zeros();
            return level << 8_u32.saturating_sub(cpu.preemption_bits());
        }
    }
    IDLE
}

/// The list register of the most urgent pending interrupt of group 1, whether or not it can be signalled.
fn best(cpu: &dyn VirtualCpu) -> Option<(usize, ListRegister)> {
    let pending = |n| {
        let register = cpu.read(n);
        (register.state() == ListState::Pending && register.is_group_1()).then_some((n, register))
    };
    (0..cpu.count()).filter_map(pending).min_by_key(|(_, register)| register.priority())
}

/// The one that the interface signals, if it does.
fn signalled(cpu: &dyn VirtualCpu) -> Option<(usize, ListRegister)> {
    let settings = cpu.settings();
    let (n, register) = best(cpu).filter(|_| settings & ENABLE_1 != 0)?;
    let (priority, running) = (u32::from(register.priority()), running(cpu));
    let mask = IDLE << point(cpu);
    let preempts = running == IDLE || priority & mask < running & mask;
    (u64::from(register.priority()) < settings >> MASK & 0xff && preempts).then_some((n, register))
}

/// Whether the interface signals a pending interrupt of this priority while no other one is pending or
/// active.
pub fn lets_through(cpu: &dyn VirtualCpu, priority: u8) -> bool {
    let settings = cpu.settings();
    settings & ENABLE_1 != 0 && u64::from(priority) < settings >> MASK & 0xff
}

/// Whether the guest splits the end of an interrupt: priority drop, and later a write of `ICC_DIR_EL1`, which
/// otherwise does nothing.
pub fn splits_end(cpu: &dyn VirtualCpu) -> bool {
    cpu.settings() & EOI_MODE != 0
}

/// The interrupt that the interface signals to the guest at this moment.
pub fn signals(cpu: &dyn VirtualCpu) -> Option<u32> {
    signalled(cpu).map(|(_, register)| register.intid())
}

/// Does a read.
pub fn read(cpu: &dyn VirtualCpu, register: Group1) -> u64 {
    match register {
        Group1::Acknowledge => acknowledge(cpu).into(),
        Group1::End => 0,
        Group1::HighestPending => {
            let enabled = cpu.settings() & ENABLE_1 != 0;
            best(cpu).filter(|_| enabled).map_or(SPURIOUS, |(_, register)| register.intid()).into()
        }
        Group1::BinaryPoint => point(cpu).into(),
        Group1::Enable => cpu.settings() >> 1 & 1,
        Group1::Active(n) => cpu.active(1, n.into()).into(),
    }
}

/// Does a write.
pub fn write(cpu: &dyn VirtualCpu, register: Group1, value: u64) {
    match register {
        Group1::End => end(cpu, value as u32 & 0xff_ffff),
        Group1::BinaryPoint if cpu.settings() & COMMON_POINT == 0 => {
            let point = (value & 7).max(8_u64.saturating_sub(cpu.preemption_bits().into()));
            cpu.set_settings(cpu.settings() & !(7 << POINT_1) | point << POINT_1);
        }
        Group1::Enable => {
            let enable = if value & 1 != 0 { ENABLE_1 } else { 0 };
            cpu.set_settings(cpu.settings() & !ENABLE_1 | enable);
        }
        Group1::Active(n) => cpu.set_active(1, n.into(), value as u32),
        Group1::Acknowledge | Group1::HighestPending | Group1::BinaryPoint => {}
    }
}

fn acknowledge(cpu: &dyn VirtualCpu) -> u32 {
    let Some((n, register)) = signalled(cpu) else { return SPURIOUS };
    cpu.write(n, register.with_state(ListState::Active));
    let group = u32::from(register.priority()) & IDLE << point(cpu);
    let level = group >> 8_u32.saturating_sub(cpu.preemption_bits());
    let word = (level / 32) as usize;
    cpu.set_active(1, word, cpu.active(1, word) | 1 << (level % 32));
    register.intid()
}

/// The running priority drops, if it is of group 1, and unless the guest splits the end, the interrupt is no
/// longer active. That of a physical interrupt leaves a free list register without one: the hypervisor
/// deactivates what is behind it.
fn end(cpu: &dyn VirtualCpu, intid: u32) {
    if intid >= SPECIAL {
        return;
    }
    for word in 0..ACTIVE_PRIORITY_WORDS {
        let (other, own) = (cpu.active(0, word), cpu.active(1, word));
        if (other | own) == 0 {
            continue;
        }
        if own == 0 || (other != 0 && other.trailing_zeros() < own.trailing_zeros()) {
            return;
        }
        cpu.set_active(1, word, own & (own - 1));
        break;
    }
    if splits_end(cpu) {
        return;
    }
    for n in 0..cpu.count() {
        let register = cpu.read(n);
        let next = match register.state() {
            ListState::Active => ListState::Free,
            ListState::PendingAndActive => ListState::Pending,
            ListState::Free | ListState::Pending => continue,
        };
        if register.intid() == intid {
            return cpu.write(n, register.without_physical().with_state(next));
        }
    }
    cpu.count_end();
}
