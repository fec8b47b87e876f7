//! Memory transaction descriptors (DEN0077A 1.0, section 5.12; 1.1 and 1.2: DEN0140, section 1.11): donate,
//! lend, share, retrieve, relinquish.
//!
//! A descriptor is a header, an array of *endpoint memory access descriptors* (one for each receiver), and,
//! except in retrieve requests that leave the place to the hypervisor, a *composite* of address ranges. Sizes
//! and offsets of the first two depend on the version. [`Descriptor::parse`] reads bytes that anybody may
//! have written, so it checks all of them; a long list of ranges may go on in further fragments. What is
//! reserved in a receiver is not looked at, because Linux, up to version 1.1, leaves there what the buffer
//! held before; nor is it in a range.

use super::{Error, VERSION_1_0, VERSION_1_2, Version};
use crate::{ids::VmId, layout::PAGE};

/// The name of a memory transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

impl Handle {
    /// Bit 63: the hypervisor made the handle, and not the secure partition manager.
    pub const HYPERVISOR: u64 = 1 << 63;

    /// From the two registers that hold it.
    pub const fn from_words(low: u64, high: u64) -> Self {
        Self(low & 0xffff_ffff | high << 32)
    }

    /// For two registers: low and high half.
    pub const fn words(self) -> (u64, u64) {
        (self.0 & 0xffff_ffff, self.0 >> 32)
    }
}

/// How memory is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// For good: it changes its owner.
    Donate,
    /// For a time, while the owner does not use it.
    Lend,
    /// For a time, together with the owner.
    Share,
}

impl Kind {
    /// Bits 4:3 of the flags of a retrieve request or response.
    pub const fn flags(self) -> u32 {
        match self {
            Self::Share => 1 << 3,
            Self::Lend => 2 << 3,
            Self::Donate => 3 << 3,
        }
    }

    /// Reads them; `None` if they say nothing.
    pub const fn from_flags(flags: u32) -> Option<Self> {
        match flags >> 3 & 3 {
            1 => Some(Self::Share),
            2 => Some(Self::Lend),
            3 => Some(Self::Donate),
            _ => None,
        }
    }
}

/// Flags of senders, and of relinquish and reclaim: zero the memory.
pub const FLAG_ZERO: u32 = 1 << 0;
/// The operation may be sliced. Margay's are bounded instead.
pub const FLAG_TIME_SLICE: u32 = 1 << 1;
/// Flags of retrieve requests: zero the memory when it is relinquished.
pub const FLAG_ZERO_AFTER: u32 = 1 << 2;
/// Flags of retrieve requests: an alignment hint, of which Margay makes no use.
pub const FLAG_ALIGNMENT: u32 = 0b1_1111 << 5;
/// Flags of retrieve requests: the list of receivers need not be complete.
pub const FLAG_BYPASS_RECEIVERS: u32 = 1 << 10;

/// Whether data may be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataAccess {
    /// Nothing is said of it.
    NotSpecified,
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Whether instructions may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionAccess {
    /// Nothing is said of it.
    NotSpecified,
    /// No.
    NotExecutable,
    /// Yes.
    Executable,
}

/// What a receiver may do: bits 1:0 and 3:2 of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Data.
    pub data: DataAccess,
    /// Instructions.
    pub instruction: InstructionAccess,
}

impl Permissions {
    /// Reads the byte; `None` if it holds a reserved value.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        let data = match bits & 3 {
            0 => DataAccess::NotSpecified,
            1 => DataAccess::ReadOnly,
            2 => DataAccess::ReadWrite,
            _ => return None,
        };
        let instruction = match bits >> 2 {
            0 => InstructionAccess::NotSpecified,
            1 => InstructionAccess::NotExecutable,
            2 => InstructionAccess::Executable,
            _ => return None,
        };
        Some(Self { data, instruction })
    }

    /// The byte.
    pub const fn to_bits(self) -> u8 {
        self.data as u8 | (self.instruction as u8) << 2
    }
}

/// Memory region attributes: type in bits 5:4, cacheability in 3:2, shareability in 1:0, security state in
/// bit 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub u16);

impl Attributes {
    /// Nothing is said of them.
    pub const NOT_SPECIFIED: Self = Self(0);
    /// Normal memory, write-back cacheable, inner shareable: the only kind that Margay gives.
    pub const NORMAL_WB_INNER: Self = Self(2 << 4 | 3 << 2 | 3);
}

/// The head of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who gives the memory.
    pub sender: VmId,
    /// What memory it is.
    pub attributes: Attributes,
    /// `FLAG_*`, and a [`Kind`].
    pub flags: u32,
    /// The transaction; zero in the sender's request.
    pub handle: Handle,
    /// The sender's name for it.
    pub tag: u64,
}

/// A receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Who.
    pub vm: VmId,
    /// What it may do, or wants to.
    pub permissions: Permissions,
    /// Bit 0: it does not retrieve the memory itself.
    pub flags: u8,
}

/// A piece of memory, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins.
    pub address: u64,
    /// How many pages it has.
    pub pages: u32,
}

/// What all ranges of a descriptor are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composite {
    /// Pages.
    pub pages: u32,
    /// Ranges.
    pub ranges: u32,
}

const HEADER_1_0: usize = 32;
const HEADER_1_1: usize = 48;
const RECEIVER_1_1: usize = 16;
const RECEIVER_1_2: usize = 32;
const COMPOSITE: usize = 16;
/// Bytes of a range.
pub const RANGE_SIZE: usize = 16;
/// The most receivers that a descriptor can have here: as many as fit a page.
const MAX_RECEIVERS: u32 = (PAGE as usize / RECEIVER_1_1) as u32;

#[inline(never)]
fn word(bytes: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(Error::InvalidParameters)?;
    Ok(u32::from_le_bytes(*bytes))
}

fn double(bytes: &[u8], at: usize) -> Result<u64, Error> {
    Ok(u64::from(word(bytes, at)?) | u64::from(word(bytes, at + 4)?) << 32)
}

/// A descriptor, or its first fragment, that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    bytes: &'a [u8],
    header: Header,
    receivers: usize,
    receivers_at: usize,
    receiver_size: usize,
    composite: Option<Composite>,
    ranges_at: usize,
}

impl<'a> Descriptor<'a> {
    /// Reads the first fragment of a descriptor that has `total_length` bytes. All but the ranges must be in
    /// it.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: a size, count or offset is wrong, or what must be zero is not.
    pub fn parse(fragment: &'a [u8], total_length: usize, version: Version) -> Result<Self, Error> {
        let (bytes, invalid) = (fragment, Err(Error::InvalidParameters));
        let first = word(bytes, 0)?;
        let header = Header {
            sender: VmId(first as u16),
            attributes: Attributes((first >> 16) as u16),
            flags: word(bytes, 4)?,
            handle: Handle(double(bytes, 8)?),
            tag: double(bytes, 16)?,
        };
        let (size, count, at) = if version == VERSION_1_0 {
            if first >> 24 != 0 || word(bytes, 24)? != 0 {
                return invalid;
            }
            (RECEIVER_1_1, word(bytes, 28)?, HEADER_1_0)
        } else {
            let (size, at) = (word(bytes, 24)? as usize, word(bytes, 32)? as usize);
            let known = size == RECEIVER_1_1 || (size == RECEIVER_1_2 && version == VERSION_1_2);
            let reserved = word(bytes, 36)? | word(bytes, 40)? | word(bytes, 44)?;
            if !known || reserved != 0 || at < HEADER_1_1 || !at.is_multiple_of(16) {
                return invalid;
            }
            (size, word(bytes, 28)?, at)
        };
        if count == 0 || count > MAX_RECEIVERS || fragment.len() > total_length {
            return invalid;
        }
        let receivers = count as usize;
        // Cannot overflow: each is at most a page, or a u32 in a usize of 64 bits.
        let end = at + receivers * size;
        let offset = word(bytes, at + 4)? as usize;
        for receiver in 1..receivers {
            if word(bytes, at + receiver * size + 4)? as usize != offset {
                return invalid;
            }
        }
        let mut descriptor = Self {
            bytes,
            header,
            receivers,
            receivers_at: at,
            receiver_size: size,
            composite: None,
            ranges_at: end,
        };
        if offset == 0 {
            return if total_length == end && fragment.len() == end { Ok(descriptor) } else { invalid };
        }
        let composite = Composite { pages: word(bytes, offset)?, ranges: word(bytes, offset + 4)? };
        let ranges_at = offset + COMPOSITE;
        let whole =
            (composite.ranges as usize).checked_mul(RANGE_SIZE).and_then(|len| len.checked_add(ranges_at));
        let aligned = offset.is_multiple_of(8)
            && fragment.len().checked_sub(ranges_at).is_some_and(|len| len.is_multiple_of(RANGE_SIZE));
        if offset < end
            || whole != Some(total_length)
            || !aligned
            || double(bytes, offset + 8)? != 0
            || composite.ranges == 0
        {
            return invalid;
        }
        descriptor.composite = Some(composite);
        descriptor.ranges_at = ranges_at;
        Ok(descriptor)
    }

    /// Its head.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many receivers it names.
    pub fn receiver_count(&self) -> usize {
        self.receivers
    }

    /// The receivers.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS` for one whose permissions are reserved values.
    #[inline(never)]
    pub fn receivers(&self) -> impl Iterator<Item = Result<Receiver, Error>> + use<'a> {
        let Self { bytes, receivers, receivers_at, receiver_size, .. } = *self;
        (0..receivers).map(move |i| {
            let word = word(bytes, receivers_at + i * receiver_size)?;
            let permissions = Permissions::from_bits((word >> 16) as u8).ok_or(Error::InvalidParameters)?;
            Ok(Receiver { vm: VmId(word as u16), permissions, flags: (word >> 24) as u8 })
        })
    }

    /// What it says of all ranges, if it has any.
    pub fn composite(&self) -> Option<Composite> {
        self.composite
    }

    /// The ranges in this fragment.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + use<'a> {
        let ranges: &'a [u8] = if self.composite.is_some() { &self.bytes[self.ranges_at..] } else { &[] };
        read_ranges(ranges)
    }
}

fn read_ranges(bytes: &[u8]) -> impl Iterator<Item = Range> {
    bytes.as_chunks::<RANGE_SIZE>().0.iter().map(|bytes| {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Range { address: u64::from(word(0)) | u64::from(word(4)) << 32, pages: word(8) }
    })
}

/// The ranges of a further fragment.
///
/// # Errors
/// `INVALID_PARAMETERS`: it is not made of whole ranges, at least one.
pub fn ranges(fragment: &[u8]) -> Result<impl Iterator<Item = Range>, Error> {
    if fragment.is_empty() || !fragment.len().is_multiple_of(RANGE_SIZE) {
        return Err(Error::InvalidParameters);
    }
    Ok(read_ranges(fragment))
}

/// How long a descriptor is, and how much of it has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the whole descriptor.
    pub total: usize,
    /// Bytes of the first fragment.
    pub fragment: usize,
}

/// Writes a descriptor with as many of its ranges as fit; `None` if not even the rest fits. `ranges` gives
/// all of them, as many as `composite` says.
pub fn write(
    buffer: &mut [u8],
    version: Version,
    header: &Header,
    receivers: &[Receiver],
    composite: Option<Composite>,
    ranges: impl Iterator<Item = Range>,
) -> Option<Written> {
    let (head, size) = layout(version);
    let end = head + receivers.len() * size;
    let ranges_at = end + if composite.is_some() { COMPOSITE } else { 0 };
    buffer.get_mut(..ranges_at)?.fill(0);
    let mut put = |at: usize, value: u32| buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(0, u32::from(header.sender.0) | u32::from(header.attributes.0) << 16);
    put(4, header.flags);
    put(8, header.handle.0 as u32);
    put(12, (header.handle.0 >> 32) as u32);
    put(16, header.tag as u32);
    put(20, (header.tag >> 32) as u32);
    put(28, receivers.len() as u32);
    if version != VERSION_1_0 {
        put(24, size as u32);
        put(32, head as u32);
    }
    for (i, receiver) in receivers.iter().enumerate() {
        let at = head + i * size;
        let bits = u32::from(receiver.permissions.to_bits()) << 16 | u32::from(receiver.flags) << 24;
        put(at, u32::from(receiver.vm.0) | bits);
        put(at + 4, if composite.is_some() { end as u32 } else { 0 });
    }
    let Some(composite) = composite else { return Some(Written { total: end, fragment: end }) };
    put(end, composite.pages);
    put(end + 4, composite.ranges);
    let written = write_ranges(&mut buffer[ranges_at..], ranges);
    Some(Written {
        total: ranges_at + composite.ranges as usize * RANGE_SIZE,
        fragment: ranges_at + written * RANGE_SIZE,
    })
}

/// Writes as many ranges as fit; returns how many.
pub fn write_ranges(buffer: &mut [u8], ranges: impl Iterator<Item = Range>) -> usize {
    let mut written = 0;
    for (slot, range) in buffer.as_chunks_mut::<RANGE_SIZE>().0.iter_mut().zip(ranges) {
        slot.fill(0);
        slot[..8].copy_from_slice(&range.address.to_le_bytes());
        slot[8..12].copy_from_slice(&range.pages.to_le_bytes());
        written += 1;
    }
    written
}

/// Where the ranges begin in a descriptor that [`write()`] has made for so many receivers, in bytes.
pub const fn ranges_offset(version: Version, receivers: usize) -> usize {
    let (head, size) = layout(version);
    head + receivers * size + COMPOSITE
}

/// Bytes of the header, and of a receiver, as they are written.
const fn layout(version: Version) -> (usize, usize) {
    match version {
        VERSION_1_0 => (HEADER_1_0, RECEIVER_1_1),
        VERSION_1_2 => (HEADER_1_1, RECEIVER_1_2),
        _ => (HEADER_1_1, RECEIVER_1_1),
    }
}

/// The descriptor of `FFA_MEM_RELINQUISH`, with one endpoint: its own caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relinquish {
    /// The transaction.
    pub handle: Handle,
    /// `FLAG_ZERO`, `FLAG_TIME_SLICE`.
    pub flags: u32,
    /// Who gives it back.
    pub vm: VmId,
}

impl Relinquish {
    /// Bytes of the descriptor.
    pub const SIZE: usize = 18;

    /// Reads it.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: it is too short, or does not name exactly one endpoint.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let id = bytes.get(16..18).ok_or(Error::InvalidParameters)?;
        if word(bytes, 12)? != 1 {
            return Err(Error::InvalidParameters);
        }
        let vm = VmId(u16::from_le_bytes([id[0], id[1]]));
        Ok(Self { handle: Handle(double(bytes, 0)?), flags: word(bytes, 8)?, vm })
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.handle.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_le_bytes());
        bytes[12] = 1;
        bytes[16..].copy_from_slice(&self.vm.0.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::VERSION_1_1;
    use super::*;

    fn sample(version: Version, ranges: u32, room: usize) -> ([u8; 4096], Written) {
        let permissions =
            Permissions { data: DataAccess::ReadWrite, instruction: InstructionAccess::NotExecutable };
        let receiver = |vm| Receiver { vm: VmId(vm), permissions, flags: 0 };
        let header = Header {
            sender: VmId(2),
            attributes: Attributes::NORMAL_WB_INNER,
            flags: Kind::Lend.flags(),
            handle: Handle(Handle::HYPERVISOR | 5),
            tag: 0x1122_3344_5566_7788,
        };
        let composite = (ranges > 0).then_some(Composite { pages: ranges * 2, ranges });
        let all = (0..ranges).map(|i| Range { address: 0x4000_0000 + u64::from(i) * 0x1_0000, pages: 2 });
        let mut bytes = [0xff; 4096];
        let written =
            write(&mut bytes[..room], version, &header, &[receiver(3), receiver(4)], composite, all).unwrap();
        (bytes, written)
    }

    #[test]
    fn what_is_written_is_read() {
        for version in [VERSION_1_0, VERSION_1_1, VERSION_1_2] {
            let (bytes, written) = sample(version, 3, 4096);
            assert_eq!(written.total, written.fragment);
            let parsed = Descriptor::parse(&bytes[..written.fragment], written.total, version).unwrap();
            assert_eq!((parsed.header().sender, parsed.header().tag), (VmId(2), 0x1122_3344_5566_7788));
            assert_eq!(Kind::from_flags(parsed.header().flags), Some(Kind::Lend));
            assert_eq!(parsed.composite(), Some(Composite { pages: 6, ranges: 3 }));
            assert!(parsed.receivers().map(|receiver| receiver.unwrap().vm.0).eq([3, 4]));
            assert!(parsed.ranges().map(|range| range.address).eq([0x4000_0000, 0x4001_0000, 0x4002_0000]));
            let (bytes, written) = sample(version, 0, 4096);
            let parsed = Descriptor::parse(&bytes[..written.fragment], written.total, version).unwrap();
            assert_eq!((parsed.composite(), parsed.ranges().count()), (None, 0));
        }
    }

    #[test]
    fn descriptor_continues_in_fragments() {
        let (bytes, written) = sample(VERSION_1_1, 10, 160);
        assert_eq!(written, Written { total: 96 + 160, fragment: 160 });
        let parsed = Descriptor::parse(&bytes[..160], 256, VERSION_1_1).unwrap();
        assert_eq!(parsed.ranges().count(), 4);
        assert!(Descriptor::parse(&bytes[..159], 256, VERSION_1_1).is_err());
        assert!(Descriptor::parse(&bytes[..160], 255, VERSION_1_1).is_err());
        assert!(Descriptor::parse(&bytes[..80], 256, VERSION_1_1).is_err());
        assert!(ranges(&bytes[96..120]).is_err());
        assert!(ranges(&[]).is_err());
        assert_eq!(ranges(&bytes[96..128]).unwrap().count(), 2);
    }

    #[test]
    fn checks_every_field() {
        // Where, what, in which version.
        let broken = [
            (24, 15, VERSION_1_1),
            (24, 32, VERSION_1_1),
            (28, 0, VERSION_1_1),
            (28, 255, VERSION_1_1),
            (32, 47, VERSION_1_1),
            (32, 32, VERSION_1_1),
            (36, 1, VERSION_1_1),
            (52, 0, VERSION_1_1),
            (68, 1, VERSION_1_1),
            (84, 9, VERSION_1_1),
            (88, 1, VERSION_1_1),
            (3, 1, VERSION_1_0),
            (24, 1, VERSION_1_0),
        ];
        for (at, value, version) in broken {
            let (mut bytes, written) = sample(version, 3, 4096);
            bytes[at] = value;
            let parsed = Descriptor::parse(&bytes[..written.fragment], written.total, version);
            assert_eq!(parsed.err(), Some(Error::InvalidParameters), "{value} at {at}");
        }
        let (mut bytes, written) = sample(VERSION_1_1, 3, 4096);
        bytes[50] = 0xff;
        let parsed = Descriptor::parse(&bytes[..written.fragment], written.total, VERSION_1_1).unwrap();
        assert!(parsed.receivers().next().unwrap().is_err());
    }

    #[test]
    fn relinquish_names_one() {
        let relinquish = Relinquish { handle: Handle(7), flags: FLAG_ZERO, vm: VmId(3) };
        let mut bytes = relinquish.to_bytes();
        assert_eq!(Relinquish::parse(&bytes), Ok(relinquish));
        assert!(Relinquish::parse(&bytes[..17]).is_err());
        bytes[12] = 2;
        assert!(Relinquish::parse(&bytes).is_err());
    }
}
