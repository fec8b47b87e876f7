//! Access to a block of UART registers.
pub use mmio_block::MmioBlock;
use safe_mmio::fields::{ReadWrite, WriteOnly};

/// Width of register accesses: `reg-io-width` of a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
}

impl Width {
    /// The width of this many bytes: 1, 2 or 4.
    pub const fn from_bytes(bytes: u8) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            _ => None,
        }
    }

    /// Returns the width in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
        }
    }
}

/// A block of UART registers, addressed by byte offset. The hardware is a [`MmioBlock`]; a test is a model.
///
/// The width is a part of each access, because the same 16550 is found behind buses that allow different
/// ones. Offsets are multiples of the width.
pub trait Mmio: Copy + Sync {
    /// Reads a register.
    fn read(&self, offset: usize, width: Width) -> u32;
    /// Writes a register. Bits of `value` beyond the width are not written.
    fn write(&self, offset: usize, width: Width, value: u32);
}

impl Mmio for MmioBlock {
    #[inline]
    fn read(&self, offset: usize, width: Width) -> u32 {
        // Reading a UART's register may take a byte out of its FIFO: `ReadWrite`, whose reads may do
        // something.
        match width {
            Width::Byte => self.register::<ReadWrite<u8>>(offset).read().into(),
            Width::Half => self.register::<ReadWrite<u16>>(offset).read().into(),
            Width::Word => self.register::<ReadWrite<u32>>(offset).read(),
        }
    }

    #[inline]
    fn write(&self, offset: usize, width: Width, value: u32) {
        match width {
            Width::Byte => self.register::<WriteOnly<u8>>(offset).write(value as u8),
            Width::Half => self.register::<WriteOnly<u16>>(offset).write(value as u16),
            Width::Word => self.register::<WriteOnly<u32>>(offset).write(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn accesses_have_the_configured_width() {
        let memory = [const { Cell::new(0x8877_6655_u32) }; 2];
        // SAFETY: the memory is the test's own, may change behind a shared reference, and outlives the block.
        let block = unsafe { MmioBlock::new(memory.as_ptr().expose_provenance()) };
        for (width, read) in [(Width::Byte, 0x55), (Width::Half, 0x6655), (Width::Word, 0x8877_6655)] {
            assert_eq!(block.read(4, width), read);
            assert_eq!(Width::from_bytes(width.bytes() as u8), Some(width));
        }
        block.write(4, Width::Byte, 0xffff_ff11);
        assert_eq!(memory[1].get(), 0x8877_6611);
        block.write(4, Width::Half, 0xffff_2222);
        assert_eq!(memory[1].get(), 0x8877_2222);
        block.write(4, Width::Word, 0x3333_3333);
        assert_eq!((memory[0].get(), memory[1].get()), (0x8877_6655, 0x3333_3333));
        assert_eq!(Width::from_bytes(8), None);
    }
}
