//! How the cores of a VM are shared out.

/// A scheduling policy of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Turns of a quantum.
    RoundRobin = 0,
    /// One vCPU owns its core.
    Pinned = 1,
    /// Fixed priorities, 1 to 99; the higher number goes first.
    Fifo = 2,
    /// Time in proportion to weights.
    Share = 3,
    /// A reservation: so much time in each period, earliest deadline first.
    Edf = 4,
    /// All vCPUs of the VM at the same time, in turns with other such VMs.
    Gang = 5,
}

impl Policy {
    const ALL: [(Self, &'static str); 6] = [
        (Self::RoundRobin, "round-robin"),
        (Self::Pinned, "pinned"),
        (Self::Fifo, "fifo"),
        (Self::Share, "share"),
        (Self::Edf, "edf"),
        (Self::Gang, "gang"),
    ];

    /// The policy with a number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().map(|(policy, _)| policy).find(|policy| *policy as u8 == number)
    }

    /// The policy with a name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == word).map(|(policy, _)| policy)
    }

    /// Returns the policy's name.
    pub fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }
}

/// A policy with what it goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// The policy of all cores that the VM has vCPUs on.
    pub policy: Policy,
    /// A turn's length; 0: the kernel's own.
    pub quantum_ns: u64,
    /// [`Policy::Fifo`]: the priority; [`Policy::Share`]: the weight; 0: that of any new task.
    pub parameter: u32,
    /// [`Policy::Edf`]: time in each period, and the period; 0: none is reserved.
    pub reserved_ns: u64,
    /// See there.
    pub period_ns: u64,
}

impl Scheduling {
    /// A policy, and nothing beyond.
    pub const fn of(policy: Policy) -> Self {
        Self { policy, quantum_ns: 0, parameter: 0, reserved_ns: 0, period_ns: 0 }
    }
}
