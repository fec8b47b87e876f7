//! The kernel's half of the address space.
//!
//! ```text
//! LINEAR        0xffff_0000_0000_0000   all memory at LINEAR + its physical address, read-write, in large blocks;
//!                                       without the image, and without what must not be mapped
//! IMAGE         0xffff_8000_0000_0000   the image: text read-execute, rodata read, data read-write
//! DEVICE_TREE   0xffff_8000_3fc0_0000   the device tree, read-only
//! STACKS        0xffff_9000_0000_0000   kernel stacks, an unmapped guard page below each
//! DEVICES       0xffff_a000_0000_0000   device registers at DEVICES + their physical address, on demand
//! ```

/// All memory, by physical address.
pub const LINEAR: usize = 0xffff_0000_0000_0000;
/// The kernel image, as `lwk.ld` links it.
pub const IMAGE: usize = 0xffff_8000_0000_0000;
/// The device tree's first 2 MiB block, as `boot.S` maps it.
pub const DEVICE_TREE: usize = IMAGE + (510 << 21);
/// Kernel stacks.
pub const STACKS: usize = 0xffff_9000_0000_0000;
/// Device registers, by physical address.
pub const DEVICES: usize = 0xffff_a000_0000_0000;
/// Physical addresses that [`LINEAR`] and [`DEVICES`] have room for end here.
pub(crate) const PHYS_END: u64 = 1 << 44;

/// A physical address, of the machine or (in a VM) intermediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Phys(pub u64);

impl Phys {
    /// Returns the address of this memory in the linear map.
    pub const fn linear(self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(LINEAR + self.0 as usize)
    }

    /// The physical address of something in the linear map; `None` for any other address.
    pub fn of_linear(pointer: *const u8) -> Option<Self> {
        let offset = (pointer.addr() as u64).checked_sub(LINEAR as u64)?;
        (offset < PHYS_END).then_some(Self(offset))
    }
}
