//! Access to a block of device registers.
pub use mmio_block::MmioBlock;
use safe_mmio::fields::{ReadPure, WriteOnly};

/// A block of device registers, addressed by byte offset. The hardware is a [`MmioBlock`]; a test is a model.
///
/// Offsets are multiples of the access size and lie within the block: the drivers only use offsets that the
/// architecture defines.
pub trait Mmio: Copy {
    /// Reads a 32-bit register.
    fn read32(&self, offset: usize) -> u32;
    /// Reads a 64-bit register.
    fn read64(&self, offset: usize) -> u64;
    /// Writes one byte of a register that allows byte access.
    fn write8(&self, offset: usize, value: u8);
    /// Writes a 32-bit register.
    fn write32(&self, offset: usize, value: u32);
    /// Writes a 64-bit register.
    fn write64(&self, offset: usize, value: u64);
    /// The block that begins `offset` bytes into this one.
    #[must_use]
    fn at(&self, offset: usize) -> Self;
}

impl Mmio for MmioBlock {
    #[inline]
    fn read32(&self, offset: usize) -> u32 {
        self.register::<ReadPure<u32>>(offset).read()
    }

    #[inline]
    fn read64(&self, offset: usize) -> u64 {
        self.register::<ReadPure<u64>>(offset).read()
    }

    #[inline]
    fn write8(&self, offset: usize, value: u8) {
        self.register::<WriteOnly<u8>>(offset).write(value);
    }

    #[inline]
    fn write32(&self, offset: usize, value: u32) {
        self.register::<WriteOnly<u32>>(offset).write(value);
    }

    #[inline]
    fn write64(&self, offset: usize, value: u64) {
        self.register::<WriteOnly<u64>>(offset).write(value);
    }

    #[inline]
    fn at(&self, offset: usize) -> Self {
        MmioBlock::at(*self, offset)
    }
}
