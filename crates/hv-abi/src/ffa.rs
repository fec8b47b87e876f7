//! FF-A: the calls of Arm's Firmware Framework for A-profile (DEN0077A) that Margay speaks.
//!
//! Function identifiers are the 32-bit form unless the name ends in `_64`.

/// `FFA_ERROR`: w2 holds an [`Error`].
pub const ERROR: u32 = 0x8400_0060;
/// `FFA_SUCCESS` (32-bit results).
pub const SUCCESS: u32 = 0x8400_0061;
/// `FFA_SUCCESS` (64-bit results).
pub const SUCCESS_64: u32 = 0xC400_0061;
/// `FFA_INTERRUPT`.
pub const INTERRUPT: u32 = 0x8400_0062;
/// `FFA_VERSION`.
pub const VERSION: u32 = 0x8400_0063;
/// `FFA_FEATURES`.
pub const FEATURES: u32 = 0x8400_0064;
/// `FFA_RX_RELEASE`.
pub const RX_RELEASE: u32 = 0x8400_0065;
/// `FFA_RXTX_MAP` (32-bit addresses).
pub const RXTX_MAP: u32 = 0x8400_0066;
/// `FFA_RXTX_MAP` (64-bit addresses).
pub const RXTX_MAP_64: u32 = 0xC400_0066;
/// `FFA_RXTX_UNMAP`.
pub const RXTX_UNMAP: u32 = 0x8400_0067;
/// `FFA_PARTITION_INFO_GET`.
pub const PARTITION_INFO_GET: u32 = 0x8400_0068;
/// `FFA_ID_GET`.
pub const ID_GET: u32 = 0x8400_0069;
/// `FFA_MSG_WAIT`.
pub const MSG_WAIT: u32 = 0x8400_006B;
/// `FFA_YIELD`.
pub const YIELD: u32 = 0x8400_006C;
/// `FFA_RUN`.
pub const RUN: u32 = 0x8400_006D;
/// `FFA_SPM_ID_GET`.
pub const SPM_ID_GET: u32 = 0x8400_0085;
/// `FFA_CONSOLE_LOG` (up to 24 characters, four to a register).
pub const CONSOLE_LOG: u32 = 0x8400_008A;
/// `FFA_CONSOLE_LOG` (up to 48 characters here, eight to a register).
pub const CONSOLE_LOG_64: u32 = 0xC400_008A;

/// First and last function number of FF-A in the standard secure service range (DEN0077A, section 13.1), without
/// the 64-bit convention bit.
pub const FUNCTION_RANGE: core::ops::RangeInclusive<u32> = 0x8400_0060..=0x8400_00EF;

/// The version that Margay implements (major, minor).
pub const VERSION_1_2: Version = Version { major: 1, minor: 2 };

/// A framework version: major in bits 30:16, minor in bits 15:0 (DEN0077A, `FFA_VERSION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Incompatible changes.
    pub major: u16,
    /// Compatible additions.
    pub minor: u16,
}

impl Version {
    /// Reads w1 of `FFA_VERSION`; `None` if bit 31 is set, which must be zero.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits & (1 << 31) == 0 {
            Some(Self { major: (bits >> 16) as u16, minor: bits as u16 })
        } else {
            None
        }
    }

    /// The register form.
    pub const fn to_bits(self) -> u32 {
        ((self.major as u32) << 16) | self.minor as u32
    }
}

/// Error codes in w2 of `FFA_ERROR` (DEN0077A, table 13.2). Only the low 32 bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Error {
    /// The call, or this form of it, is not implemented, or not for this caller.
    NotSupported = -1,
    /// An argument is out of its range.
    InvalidParameters = -2,
    /// Not enough memory.
    NoMemory = -3,
    /// The resource is in use.
    Busy = -4,
    /// The call was interrupted.
    Interrupted = -5,
    /// The caller, or the target, is in a state that does not allow the call.
    Denied = -6,
    /// The call may be made again.
    Retry = -7,
    /// The target has stopped for good.
    Aborted = -8,
    /// There is no data.
    NoData = -9,
    /// The target is not ready.
    NotReady = -10,
}

impl Error {
    /// The code as it stands in w2: sign-extended within 32 bits.
    pub const fn bits(self) -> u64 {
        self as i32 as u32 as u64
    }

    /// Reads w2 of `FFA_ERROR`.
    pub const fn from_bits(w2: u64) -> Option<Self> {
        Some(match w2 as u32 as i32 {
            -1 => Self::NotSupported,
            -2 => Self::InvalidParameters,
            -3 => Self::NoMemory,
            -4 => Self::Busy,
            -5 => Self::Interrupted,
            -6 => Self::Denied,
            -7 => Self::Retry,
            -8 => Self::Aborted,
            -9 => Self::NoData,
            -10 => Self::NotReady,
            _ => return None,
        })
    }
}

/// Flag in w5 of `FFA_PARTITION_INFO_GET`: return only the count, write no descriptors.
pub const PARTITION_INFO_COUNT_ONLY: u64 = 1;

/// Partition properties: the partition receives direct messages.
pub const PROPERTY_DIRECT_RECV: u32 = 1 << 0;
/// Partition properties: the partition sends direct messages.
pub const PROPERTY_DIRECT_SEND: u32 = 1 << 1;
/// Partition properties: indirect messages.
pub const PROPERTY_INDIRECT: u32 = 1 << 2;
/// Partition properties: the partition runs in AArch64.
pub const PROPERTY_AARCH64: u32 = 1 << 8;

/// Size in bytes of a partition information descriptor, FF-A 1.1 and later.
pub const PARTITION_INFO_SIZE: usize = 24;
/// Size in bytes of a partition information descriptor, FF-A 1.0: no UUID.
pub const PARTITION_INFO_SIZE_1_0: usize = 8;

/// A partition information descriptor (DEN0077A, table 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The partition.
    pub id: u16,
    /// Its number of execution contexts (vCPUs).
    pub execution_contexts: u16,
    /// `PROPERTY_*` bits.
    pub properties: u32,
    /// Its UUID as four words, zero if it has none, or if the caller asked for this very UUID.
    pub uuid: [u32; 4],
}

impl PartitionInfo {
    /// The descriptor's bytes, FF-A 1.1 and later; the first 8 are the FF-A 1.0 form.
    pub fn to_bytes(&self) -> [u8; PARTITION_INFO_SIZE] {
        let mut bytes = [0; PARTITION_INFO_SIZE];
        bytes[0..2].copy_from_slice(&self.id.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.execution_contexts.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.properties.to_le_bytes());
        for (chunk, word) in bytes[8..].chunks_exact_mut(4).zip(self.uuid) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a descriptor of FF-A 1.1 or later; `None` if there are too few bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; PARTITION_INFO_SIZE] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            id: word(0) as u16,
            execution_contexts: (word(0) >> 16) as u16,
            properties: word(4),
            uuid: [word(8), word(12), word(16), word(20)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_any_sign_extension() {
        assert_eq!(Error::Aborted.bits(), 0xffff_fff8);
        assert_eq!(Error::from_bits(0xffff_ffff_ffff_fff8), Some(Error::Aborted));
        assert_eq!(Error::from_bits(0xffff_fff8), Some(Error::Aborted));
        assert_eq!(Error::from_bits(0), None);
    }

    #[test]
    fn partition_info_round_trips() {
        let info = PartitionInfo { id: 2, execution_contexts: 4, properties: 0x102, uuid: [1, 2, 3, 4] };
        assert_eq!(PartitionInfo::from_bytes(&info.to_bytes()), Some(info));
        assert_eq!(PartitionInfo::from_bytes(&[0; 23]), None);
    }

    #[test]
    fn version_bit_31_must_be_zero() {
        assert_eq!(Version::from_bits(0x8001_0000), None);
        assert_eq!(Version::from_bits(0x1_0002), Some(VERSION_1_2));
        assert_eq!(VERSION_1_2.to_bits(), 0x1_0002);
    }
}
