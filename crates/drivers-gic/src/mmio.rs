//! Access to a block of device registers.
use core::ptr::NonNull;
use safe_mmio::{
    UniqueMmioPointer,
    fields::{ReadPure, WriteOnly},
};

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

/// Registers of a device in the address space of this program.
///
/// Accesses go through `safe-mmio`, which never emits an addressing mode that a hypervisor could not emulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioBlock(usize);

impl MmioBlock {
    /// A block that begins at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy of it is used, the registers of the device are mapped at `base` as device
    /// memory, readable and writable, for the block's architectural size, and nothing else drives the device.
    #[inline]
    pub const unsafe fn new(base: usize) -> Self {
        Self(base)
    }

    #[inline]
    fn register<T>(self, offset: usize) -> UniqueMmioPointer<'static, T> {
        let pointer = core::ptr::with_exposed_provenance_mut::<T>(self.0 + offset);
        debug_assert!(pointer.is_aligned());
        // SAFETY: the caller of `MmioBlock::new` vouches for the mapping, which begins above address zero. The pointer
        // lives for one access only, and one access to a device register is indivisible.
        unsafe { UniqueMmioPointer::new(NonNull::new_unchecked(pointer)) }
    }
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
        Self(self.0 + offset)
    }
}
