//! The intermediate-physical layout of a secondary VM, whatever physical memory backs it. It depends on the
//! kernel's format.
//!
//! An arm64 `Image`:
//!
//! ```text
//! RAM_BASE                   the device tree (x0 of the boot vCPU), up to DEVICE_TREE_MAX bytes
//! RAM_BASE + KERNEL_OFFSET   the kernel image, plus its own text_offset; the entry is its first byte
//! …                          the ramdisk, if any, at the next 2 MiB boundary after the kernel's image_size
//! RAM_BASE + mem_size        end of memory
//! ```
//! A flat kernel, as Hafnium's guests are:
//!
//! ```text
//! RAM_BASE                   the kernel; the entry is its first byte
//! …
//!                            the ramdisk, if any, right below the device tree
//!                            the device tree, if the bundle brings one (then x0 of the boot vCPU, else x0 is mem_size),
//!                            in whole pages, with one to spare
//! RAM_BASE + mem_size        end of memory
//! ```
//! Hafnium gives its secondaries the physical addresses of their memory; Margay's are always here. A guest
//! that finds itself by its program counter, as Hafnium's do, cannot know.
//!
//! Memory and device regions of an FF-A partition manifest are where the manifest has them. Every other
//! intermediate address is unmapped: touching it stops the VM.

/// Where a secondary's memory begins: 1 GiB, so that 2 MiB and 1 GiB blocks can map it.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Distance from [`RAM_BASE`] to the kernel: one 2 MiB block, as the arm64 boot protocol wants alignment.
pub const KERNEL_OFFSET: u64 = 0x20_0000;
/// The largest device tree, in bytes.
pub const DEVICE_TREE_MAX: u64 = 0x20_0000;
/// Alignment of the ramdisk and of physical memory behind a secondary, in bytes.
pub const BLOCK: u64 = 0x20_0000;
/// From where a secondary with `memory` bytes sees memory that it receives, and memory regions for which its
/// partition manifest names no address.
pub const fn window(memory: u64) -> u64 {
    (RAM_BASE + memory).next_multiple_of(1 << 30)
}
/// Size of a page, the unit of every mapping, in bytes.
pub const PAGE: u64 = 4096;
