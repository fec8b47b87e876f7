//! PSCI (DEN0022): the power functions that the hypervisor emulates for secondaries and forwards for the
//! primary.

/// `PSCI_VERSION`.
pub const VERSION: u32 = 0x8400_0000;
/// `CPU_SUSPEND` (64-bit).
pub const CPU_SUSPEND_64: u32 = 0xC400_0001;
/// `CPU_SUSPEND`.
pub const CPU_SUSPEND: u32 = 0x8400_0001;
/// `CPU_OFF`.
pub const CPU_OFF: u32 = 0x8400_0002;
/// `CPU_ON`.
pub const CPU_ON: u32 = 0x8400_0003;
/// `CPU_ON` (64-bit).
pub const CPU_ON_64: u32 = 0xC400_0003;
/// `AFFINITY_INFO`.
pub const AFFINITY_INFO: u32 = 0x8400_0004;
/// `AFFINITY_INFO` (64-bit).
pub const AFFINITY_INFO_64: u32 = 0xC400_0004;
/// `MIGRATE_INFO_TYPE`.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// `SYSTEM_OFF`.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// `SYSTEM_RESET`.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// `PSCI_FEATURES`.
pub const FEATURES: u32 = 0x8400_000A;
/// `SYSTEM_RESET2`.
pub const SYSTEM_RESET2: u32 = 0x8400_0012;
/// `SYSTEM_RESET2` (64-bit).
pub const SYSTEM_RESET2_64: u32 = 0xC400_0012;

/// First and last PSCI function number, without the 64-bit convention bit.
pub const FUNCTION_RANGE: core::ops::RangeInclusive<u32> = 0x8400_0000..=0x8400_001F;

/// The version that Margay implements: 1.1.
pub const VERSION_1_1: u64 = 0x1_0001;
/// What `PSCI_FEATURES` says of `CPU_SUSPEND`: `power_state` has the extended format (section 5.4.2).
pub const EXTENDED_POWER_STATE: u64 = 2;
/// The bits that must be zero in it.
pub const POWER_STATE_RESERVED: u64 = 0xB000_0000;
/// The bit that asks for a state which loses the registers, and is left at an entry address.
pub const POWER_STATE_DOWN: u64 = 1 << 30;
/// `SYSTEM_RESET2`'s only architectural type.
pub const SYSTEM_WARM_RESET: u32 = 0;
/// `MIGRATE_INFO_TYPE`: no Trusted OS that needs migrating.
pub const MIGRATE_NOT_REQUIRED: u64 = 2;

/// PSCI return codes (DEN0022, section 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done. Also `AFFINITY_INFO`: on.
    Success = 0,
    /// The function is not implemented.
    NotSupported = -1,
    /// An argument is wrong; no such core.
    InvalidParameters = -2,
    /// Not allowed.
    Denied = -3,
    /// `CPU_ON`: the core is on already.
    AlreadyOn = -4,
    /// `CPU_ON`: the core is being started.
    OnPending = -5,
    /// The firmware failed.
    InternalFailure = -6,
    /// The core is absent.
    NotPresent = -7,
    /// The core is disabled.
    Disabled = -8,
    /// An entry address is not valid memory.
    InvalidAddress = -9,
}

impl Status {
    /// The code as it stands in x0, sign-extended to 64 bits.
    pub const fn bits(self) -> u64 {
        self as i32 as i64 as u64
    }
}

/// `AFFINITY_INFO`: the core is on.
pub const AFFINITY_ON: u64 = 0;
/// `AFFINITY_INFO`: the core is off.
pub const AFFINITY_OFF: u64 = 1;
/// `AFFINITY_INFO`: the core is being started.
pub const AFFINITY_ON_PENDING: u64 = 2;
