//! Access to a block of device registers.
use core::ptr::NonNull;
use safe_mmio::{UniqueMmioPointer, fields::ReadPureWrite};

/// A block of 32-bit registers, addressed by byte offset. The hardware is an [`MmioBlock`]; a test is a model.
pub trait Mmio: Copy {
    /// Reads a register.
    fn read(&self, offset: usize) -> u32;
    /// Writes a register.
    fn write(&self, offset: usize, value: u32);
}

/// Registers of a device in the address space of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioBlock(usize);

impl MmioBlock {
    /// A block that begins at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy of it is used, the registers of the device are mapped at `base` as device memory, readable
    /// and writable, for the block's size, and nothing else drives the device.
    #[inline]
    pub const unsafe fn new(base: usize) -> Self {
        Self(base)
    }

    #[inline]
    fn register(self, offset: usize) -> UniqueMmioPointer<'static, ReadPureWrite<u32>> {
        let pointer = core::ptr::with_exposed_provenance_mut(self.0 + offset);
        // SAFETY: the caller of `MmioBlock::new` vouches for the mapping, which begins above address zero. The pointer lives for one
        // access only, and one access to a device register is indivisible.
        unsafe { UniqueMmioPointer::new(NonNull::new_unchecked(pointer)) }
    }
}

impl Mmio for MmioBlock {
    #[inline]
    fn read(&self, offset: usize) -> u32 {
        self.register(offset).read()
    }

    #[inline]
    fn write(&self, offset: usize, value: u32) {
        self.register(offset).write(value);
    }
}
