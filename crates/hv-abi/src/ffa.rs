//! FF-A: the calls of Arm's Firmware Framework for A-profile (DEN0077A) that Margay speaks.
//!
//! Function identifiers are the 32-bit form unless the name ends in `_64`.

pub mod memory;
pub mod message;
pub mod notification;

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
/// `FFA_MSG_SEND_DIRECT_REQ`.
pub const MSG_SEND_DIRECT_REQ: u32 = 0x8400_006F;
/// `FFA_MSG_SEND_DIRECT_REQ` (64-bit payload).
pub const MSG_SEND_DIRECT_REQ_64: u32 = 0xC400_006F;
/// `FFA_MSG_SEND_DIRECT_RESP`.
pub const MSG_SEND_DIRECT_RESP: u32 = 0x8400_0070;
/// `FFA_MSG_SEND_DIRECT_RESP` (64-bit payload).
pub const MSG_SEND_DIRECT_RESP_64: u32 = 0xC400_0070;
/// `FFA_MEM_DONATE`.
pub const MEM_DONATE: u32 = 0x8400_0071;
/// `FFA_MEM_DONATE` (64-bit buffer address).
pub const MEM_DONATE_64: u32 = 0xC400_0071;
/// `FFA_MEM_LEND`.
pub const MEM_LEND: u32 = 0x8400_0072;
/// `FFA_MEM_LEND` (64-bit buffer address).
pub const MEM_LEND_64: u32 = 0xC400_0072;
/// `FFA_MEM_SHARE`.
pub const MEM_SHARE: u32 = 0x8400_0073;
/// `FFA_MEM_SHARE` (64-bit buffer address).
pub const MEM_SHARE_64: u32 = 0xC400_0073;
/// `FFA_MEM_RETRIEVE_REQ`.
pub const MEM_RETRIEVE_REQ: u32 = 0x8400_0074;
/// `FFA_MEM_RETRIEVE_REQ` (64-bit buffer address).
pub const MEM_RETRIEVE_REQ_64: u32 = 0xC400_0074;
/// `FFA_MEM_RETRIEVE_RESP`: what a retrieve request returns.
pub const MEM_RETRIEVE_RESP: u32 = 0x8400_0075;
/// `FFA_MEM_RELINQUISH`.
pub const MEM_RELINQUISH: u32 = 0x8400_0076;
/// `FFA_MEM_RECLAIM`.
pub const MEM_RECLAIM: u32 = 0x8400_0077;
/// `FFA_MEM_FRAG_RX`.
pub const MEM_FRAG_RX: u32 = 0x8400_007A;
/// `FFA_MEM_FRAG_TX`.
pub const MEM_FRAG_TX: u32 = 0x8400_007B;
/// `FFA_NOTIFICATION_BITMAP_CREATE`.
pub const NOTIFICATION_BITMAP_CREATE: u32 = 0x8400_007D;
/// `FFA_NOTIFICATION_BITMAP_DESTROY`.
pub const NOTIFICATION_BITMAP_DESTROY: u32 = 0x8400_007E;
/// `FFA_NOTIFICATION_BIND`.
pub const NOTIFICATION_BIND: u32 = 0x8400_007F;
/// `FFA_NOTIFICATION_UNBIND`.
pub const NOTIFICATION_UNBIND: u32 = 0x8400_0080;
/// `FFA_NOTIFICATION_SET`.
pub const NOTIFICATION_SET: u32 = 0x8400_0081;
/// `FFA_NOTIFICATION_GET`.
pub const NOTIFICATION_GET: u32 = 0x8400_0082;
/// `FFA_NOTIFICATION_INFO_GET`.
pub const NOTIFICATION_INFO_GET: u32 = 0x8400_0083;
/// `FFA_NOTIFICATION_INFO_GET` (64-bit registers).
pub const NOTIFICATION_INFO_GET_64: u32 = 0xC400_0083;
/// `FFA_RX_ACQUIRE`: of a hypervisor to an SPMC; a VM has no use for it.
pub const RX_ACQUIRE: u32 = 0x8400_0084;
/// `FFA_SPM_ID_GET`.
pub const SPM_ID_GET: u32 = 0x8400_0085;
/// `FFA_MSG_SEND2`.
pub const MSG_SEND2: u32 = 0x8400_0086;
/// `FFA_MEM_PERM_GET`: of a partition at S-EL0.
pub const MEM_PERM_GET: u32 = 0x8400_0088;
/// `FFA_MEM_PERM_SET`: of a partition at S-EL0.
pub const MEM_PERM_SET: u32 = 0x8400_0089;
/// `FFA_CONSOLE_LOG` (up to 24 characters, four to a register).
pub const CONSOLE_LOG: u32 = 0x8400_008A;
/// `FFA_CONSOLE_LOG` (up to 48 characters here, eight to a register).
pub const CONSOLE_LOG_64: u32 = 0xC400_008A;

/// `FFA_PARTITION_INFO_GET_REGS`: partition information in x3 to x17.
pub const PARTITION_INFO_GET_REGS: u32 = 0xC400_008B;
/// `FFA_MSG_SEND_DIRECT_REQ2`: a request to a service by UUID, payload in x4 to x17.
pub const MSG_SEND_DIRECT_REQ2: u32 = 0xC400_008D;
/// `FFA_MSG_SEND_DIRECT_RESP2`.
pub const MSG_SEND_DIRECT_RESP2: u32 = 0xC400_008E;

/// Feature ids of `FFA_FEATURES` (DEN0077A, table 13.14): the notification pending interrupt.
pub const FEATURE_NOTIFICATION_PENDING: u32 = 1;
/// Feature id: the schedule receiver interrupt.
pub const FEATURE_SCHEDULE_RECEIVER: u32 = 2;
/// Feature id: the managed exit interrupt.
pub const FEATURE_MANAGED_EXIT: u32 = 3;

/// First and last function number of FF-A in the standard secure service range (DEN0077A, section 13.1),
/// without the 64-bit convention bit.
pub const FUNCTION_RANGE: core::ops::RangeInclusive<u32> = 0x8400_0060..=0x8400_00EF;

/// The first version: 8-byte partition information, the first layout of memory descriptors.
pub const VERSION_1_0: Version = Version { major: 1, minor: 0 };
/// The second version: notifications, `FFA_MSG_SEND2`.
pub const VERSION_1_1: Version = Version { major: 1, minor: 1 };
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// The UUID in a pair of registers, as the four words that it has in 32-bit registers (DEN0077A 1.2, section
/// 13.9).
pub const fn uuid_from_words([low, high]: [u64; 2]) -> [u32; 4] {
    [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
}

/// The pair of registers for a UUID.
pub const fn uuid_to_words([a, b, c, d]: [u32; 4]) -> [u64; 2] {
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// Flag in w5 of `FFA_PARTITION_INFO_GET`: return only the count, write no descriptors.
pub const PARTITION_INFO_COUNT_ONLY: u64 = 1;

/// Partition properties: the partition receives direct messages.
pub const PROPERTY_DIRECT_RECV: u32 = 1 << 0;
/// Partition properties: the partition sends direct messages.
pub const PROPERTY_DIRECT_SEND: u32 = 1 << 1;
/// Partition properties: indirect messages.
pub const PROPERTY_INDIRECT: u32 = 1 << 2;
/// Partition properties: the partition receives notifications.
pub const PROPERTY_NOTIFICATIONS: u32 = 1 << 3;
/// Partition properties: the partition receives direct messages of the second form (1.2).
pub const PROPERTY_DIRECT2_RECV: u32 = 1 << 9;
/// Partition properties: the partition sends direct messages of the second form (1.2).
pub const PROPERTY_DIRECT2_SEND: u32 = 1 << 10;
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
        for (chunk, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_words()) {
            *chunk = word.to_le_bytes();
        }
        bytes
    }

    /// The same as words, in the order of their addresses, or of the registers that hold them.
    #[inline]
    pub const fn to_words(&self) -> [u64; 3] {
        let first = self.id as u64 | (self.execution_contexts as u64) << 16 | (self.properties as u64) << 32;
        let [low, high] = uuid_to_words(self.uuid);
        [first, low, high]
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

    /// Reads `count` descriptors of `size` bytes each, as `FFA_PARTITION_INFO_GET` has left them in the RX
    /// buffer. FF-A 1.0 says no size (0), and has no UUIDs.
    pub fn list(buffer: &[u8], count: usize, size: usize) -> impl Iterator<Item = Self> {
        let size = if size == 0 { PARTITION_INFO_SIZE_1_0 } else { size };
        buffer.chunks_exact(size).take(count).filter_map(move |bytes| {
            let mut whole = [0; PARTITION_INFO_SIZE];
            let known = size.min(PARTITION_INFO_SIZE);
            whole[..known].copy_from_slice(&bytes[..known]);
            Self::from_bytes(&whole)
        })
    }
}

/// What `FFA_PARTITION_INFO_GET_REGS` has returned (DEN0077A 1.2, section 13.9): a part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionInfoRegs {
    /// The number from which on descriptors were asked for.
    pub first: u16,
    /// x0 to x17.
    pub regs: [u64; 18],
}

impl PartitionInfoRegs {
    /// The number of the list's last descriptor.
    pub const fn last(&self) -> u16 {
        self.regs[2] as u16
    }

    /// The number of the last descriptor that is here.
    pub const fn current(&self) -> u16 {
        (self.regs[2] >> 16) as u16
    }

    /// What the next query has to say, so that it is answered from the same list.
    pub const fn tag(&self) -> u16 {
        (self.regs[2] >> 32) as u16
    }

    /// The descriptors.
    pub fn infos(&self) -> impl Iterator<Item = PartitionInfo> {
        let words = usize::from((self.regs[2] >> 48) as u16) / 8;
        let count = usize::from(self.current()).saturating_sub(self.first.into()) + 1;
        // No less than a descriptor, whatever the registers hold.
        self.regs[3..].chunks_exact(words.max(3)).take(count).map(|words| PartitionInfo {
            id: words[0] as u16,
            execution_contexts: (words[0] >> 16) as u16,
            properties: (words[0] >> 32) as u32,
            uuid: uuid_from_words([words[1], words[2]]),
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
    fn partition_info_comes_in_all_sizes() {
        let info = PartitionInfo { id: 2, execution_contexts: 4, properties: 0x102, uuid: [1, 2, 3, 4] };
        let old = PartitionInfo { uuid: [0; 4], ..info };
        for (size, said, expected) in [(8, 0, old), (8, 8, old), (24, 24, info), (32, 32, info)] {
            let mut bytes = [0; 100];
            let known = usize::min(size, PARTITION_INFO_SIZE);
            for at in [0, size] {
                bytes[at..at + known].copy_from_slice(&info.to_bytes()[..known]);
            }
            assert!(PartitionInfo::list(&bytes, 2, said).eq([expected; 2]));
            assert_eq!(PartitionInfo::list(&bytes[..2 * size - 1], 2, said).count(), 1);
        }
    }

    #[test]
    fn version_bit_31_must_be_zero() {
        assert_eq!(Version::from_bits(0x8001_0000), None);
        assert_eq!(Version::from_bits(0x1_0002), Some(VERSION_1_2));
        assert_eq!(VERSION_1_2.to_bits(), 0x1_0002);
    }
}
