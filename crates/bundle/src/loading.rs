//! Where things go in the memory of a secondary.
//!
//! The header of the kernel decides, and nothing else:
//!
//! * An arm64 `Image` is loaded as the arm64 boot protocol wants it: the device tree at the beginning of
//!   memory, the kernel 2 MiB and its `text_offset` above, the ramdisk at the next 2 MiB boundary after it.
//!   x0 is the address of the tree, which is the bundle's, amended, or, if the bundle brings none, one that
//!   is made.
//! * A flat kernel is loaded as Hafnium loads it: the kernel at the beginning of memory, its device tree,
//!   amended, in the last pages, one of them spare. x0 is the address of the tree; without one, it is the
//!   size of memory in bytes. A ramdisk, which Hafnium does not have for secondaries, lies right below the
//!   tree.
//!
//! For a flat kernel, an FF-A partition manifest is the tree, as it is with Hafnium.

use crate::{Image, KernelFormat};
use hv_abi::layout::{BLOCK, DEVICE_TREE_MAX, KERNEL_OFFSET, PAGE};

/// Distances from the first byte of a secondary's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading {
    /// The kernel's first byte.
    pub kernel: u64,
    /// The ramdisk, if there is one.
    pub ramdisk: Option<u64>,
    /// The device tree, if there is one.
    pub tree: Option<u64>,
    /// How many bytes the tree can have once it is amended.
    pub tree_room: u64,
    /// Bytes of memory that all of this takes.
    pub needed: u64,
}

impl Loading {
    /// For `memory` bytes (whole pages), and a ramdisk and a device tree of so many bytes.
    pub fn of(image: &Image, memory: u64, ramdisk: Option<u64>, tree: Option<u64>) -> Self {
        if image.format == KernelFormat::Arm64Image {
            let kernel = KERNEL_OFFSET + image.text_offset;
            let end = kernel.saturating_add(image.memory_size);
            let place = ramdisk.and_then(|_| end.checked_next_multiple_of(BLOCK));
            let needed = place.unwrap_or(end).saturating_add(ramdisk.unwrap_or(0));
            return Self { kernel, ramdisk: place, tree: Some(0), tree_room: DEVICE_TREE_MAX, needed };
        }
        let pages = |bytes: u64| bytes.next_multiple_of(PAGE);
        let tree_room = tree.map_or(0, |bytes| pages(bytes) + PAGE);
        let at = memory.saturating_sub(tree_room);
        let below = ramdisk.map_or(0, pages);
        Self {
            kernel: 0,
            ramdisk: ramdisk.map(|_| at.saturating_sub(below)),
            tree: tree.map(|_| at),
            tree_room,
            needed: pages(image.memory_size) + below + tree_room,
        }
    }

    /// Returns x0 at the entry of a VM's kernel that has `memory` bytes from `base`.
    pub fn argument(&self, base: u64, memory: u64) -> u64 {
        self.tree.map_or(memory, |tree| base + tree)
    }
}
