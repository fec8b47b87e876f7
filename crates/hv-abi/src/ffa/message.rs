//! Messages in the TX and RX buffers: the header of `FFA_MSG_SEND2` (DEN0077A, table 7.3).

use super::{Error, VERSION_1_2, Version};
use crate::ids::VmId;

const SIZE_1_1: usize = 20;
const SIZE_1_2: usize = 40;

/// A message: who, to whom, and where in the buffer the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sends it.
    pub sender: VmId,
    /// Who receives it.
    pub receiver: VmId,
    /// Where the payload begins, in bytes from the start of the buffer.
    pub offset: usize,
    /// Bytes of payload.
    pub size: usize,
    /// The service that it is for; zero if none is named, or the version has no word for it.
    pub uuid: [u32; 4],
}

impl Message {
    /// Bytes of a header.
    pub fn header_size(version: Version) -> usize {
        if version == VERSION_1_2 { SIZE_1_2 } else { SIZE_1_1 }
    }

    /// Reads the header at the start of a buffer.
    ///
    /// # Errors
    /// `INVALID_PARAMETERS`: the payload is not in the buffer behind the header, or there are flags.
    pub fn parse(buffer: &[u8], version: Version) -> Result<Self, Error> {
        let word = |at: usize| {
            let bytes =
                buffer.get(at..).and_then(|bytes| bytes.first_chunk()).ok_or(Error::InvalidParameters)?;
            Ok(u32::from_le_bytes(*bytes))
        };
        let ids = word(12)?;
        let (offset, size) = (word(8)? as usize, word(16)? as usize);
        let uuid = if version == VERSION_1_2 { [word(24)?, word(28)?, word(32)?, word(36)?] } else { [0; 4] };
        let within = offset.checked_add(size).is_some_and(|end| end <= buffer.len());
        // Reserved words should be zero, flags must be: Linux leaves in the former what the buffer held
        // before.
        if offset < Self::header_size(version) || !within || word(0)? != 0 {
            return Err(Error::InvalidParameters);
        }
        Ok(Self { sender: VmId((ids >> 16) as u16), receiver: VmId(ids as u16), offset, size, uuid })
    }

    /// Writes the header, for a payload that `offset` and `size` place; `None` if the buffer is too short for
    /// them.
    pub fn write(&self, buffer: &mut [u8], version: Version) -> Option<()> {
        let header = buffer.get_mut(..Self::header_size(version))?;
        header.fill(0);
        let ids = u32::from(self.sender.0) << 16 | u32::from(self.receiver.0);
        for (at, value) in [(8, self.offset as u32), (12, ids), (16, self.size as u32)] {
            header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        if version == VERSION_1_2 {
            for (slot, word) in header[24..].chunks_exact_mut(4).zip(self.uuid) {
                slot.copy_from_slice(&word.to_le_bytes());
            }
        }
        (self.offset.checked_add(self.size)? <= buffer.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::VERSION_1_1;
    use super::*;

    #[test]
    fn headers_round_trip_and_are_checked() {
        for version in [VERSION_1_1, VERSION_1_2] {
            let offset = Message::header_size(version);
            let uuid = if version == VERSION_1_2 { [1, 2, 3, 4] } else { [0; 4] };
            let message = Message { sender: VmId(2), receiver: VmId(3), offset, size: 4, uuid };
            let mut buffer = [0xff; 64];
            message.write(&mut buffer, version).unwrap();
            assert_eq!(Message::parse(&buffer, version), Ok(message));
            assert!(Message::parse(&buffer[..offset + 3], version).is_err());
            for (at, value) in [(0, 1), (8, 19), (11, 0xff), (19, 0xff)] {
                let mut broken = buffer;
                broken[at] = value;
                assert!(Message::parse(&broken, version).is_err(), "{at}");
            }
            let mut stale = buffer;
            stale[4..8].fill(0xff);
            if version == VERSION_1_2 {
                stale[20..24].fill(0xff);
            }
            assert_eq!(Message::parse(&stale, version), Ok(message));
        }
    }
}
