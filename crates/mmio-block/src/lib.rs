#![doc = include_str!("../README.md")]
#![no_std]

use core::ptr::NonNull;
use safe_mmio::{UniqueMmioPointer, fields::ReadPureWrite};

/// Registers of a device in the address space of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioBlock(usize);

impl MmioBlock {
    /// A block that begins at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy of it is used, the registers of the device are mapped at `base` as
    /// device memory, readable and writable, for as many bytes as there are offsets that it is used with, and
    /// nothing but such values drives the device.
    #[inline]
    pub const unsafe fn new(base: usize) -> Self {
        Self(base)
    }

    /// The block that begins `offset` bytes into this one.
    #[inline]
    #[must_use]
    pub const fn at(self, offset: usize) -> Self {
        Self(self.0 + offset)
    }

    /// One register, for one access. `T` is one of `safe_mmio::fields`, as wide as the access, and divides
    /// `offset`.
    #[inline]
    pub fn register<T>(self, offset: usize) -> UniqueMmioPointer<'static, T> {
        let pointer = core::ptr::with_exposed_provenance_mut::<T>(self.0 + offset);
        debug_assert!(pointer.is_aligned());
        // SAFETY: the caller of `new` vouches for the mapping, which begins above address zero. The pointer
        // lives for one access only, and one access to a device register is indivisible.
        unsafe { UniqueMmioPointer::new(NonNull::new_unchecked(pointer)) }
    }
}

/// A block of 32-bit registers, addressed by byte offset. The hardware is an [`MmioBlock`]; a test is a
/// model.
pub trait Words: Copy {
    /// Reads a register.
    fn read(&self, offset: usize) -> u32;
    /// Writes a register.
    fn write(&self, offset: usize, value: u32);
}

impl Words for MmioBlock {
    #[inline]
    fn read(&self, offset: usize) -> u32 {
        self.register::<ReadPureWrite<u32>>(offset).read()
    }

    #[inline]
    fn write(&self, offset: usize, value: u32) {
        self.register::<ReadPureWrite<u32>>(offset).write(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn offsets_are_bytes() {
        let memory = [const { Cell::new(0_u32) }; 3];
        // SAFETY: the memory is the test's own, may change behind a shared reference, and outlives the block.
        let block = unsafe { MmioBlock::new(memory.as_ptr().expose_provenance()) };
        block.write(4, 0x8877_6655);
        assert_eq!(memory.each_ref().map(Cell::get), [0, 0x8877_6655, 0]);
        assert_eq!((block.read(4), block.at(4).read(0), block.at(4).read(4)), (0x8877_6655, 0x8877_6655, 0));
    }
}
