//! Free physical memory, and what is made of it at boot.

use super::{
    failing,
    layout::{DEVICE_TREE, PHYS_END, Phys},
    regions::{FreeList, PAGE},
    tables,
};
use crate::{arch, sync::IrqMutex};
use core::{fmt, ops::Range, ptr::NonNull};
use machine::{Machine, RamError, Region};
use zerocopy::{FromBytes, IntoBytes};

static FREE: IrqMutex<FreeList> = IrqMutex::new(FreeList::new());

fn range(region: Region) -> Range<u64> {
    region.base..region.end().min(PHYS_END)
}

/// The most runs of RAM that a machine may have.
const MAX_RUNS: usize = 64;

/// Finds out what is free, builds the final tables and switches to them. Once, on the boot core.
///
/// An error is to be reported once there is a console. Until then the kernel has the range that its image is
/// in.
pub(crate) fn init(machine: &Machine<'_>, image: Phys, dtb: Phys) -> Result<(), RamError> {
    let sections = arch::image();
    let image_range = image.0..image.0 + (sections.end - super::IMAGE) as u64;
    let dtb_range = dtb.0..dtb.0 + machine.dtb().len() as u64;
    debug_assert_eq!(machine.dtb().as_ptr().addr(), DEVICE_TREE + (dtb.0 as usize & 0x1f_ffff));

    let mut mapped = FreeList::new();
    let mut runs = [Region::default(); MAX_RUNS];
    let around_image = machine.memory().find(|range| range.contains(image.0));
    let (ram, result) = match machine.ram(&mut runs) {
        Ok(runs) => (runs, Ok(())),
        Err(why) => (around_image.as_slice(), Err(why)),
    };
    for memory in ram.iter().filter(|memory| memory.base < PHYS_END) {
        mapped.insert(range(*memory)).expect("memory is in too many pieces");
    }
    mapped.remove(image_range).expect("memory is in too many pieces");
    let mut free = FreeList::new();
    core::mem::swap(&mut free, &mut mapped);
    for reserved in machine.reserved().filter(|reserved| reserved.no_map) {
        free.remove(range(reserved.region)).expect("memory is in too many pieces");
    }
    tables::init(image, &free, dtb_range.clone()).expect("the kernel cannot be mapped");

    free.remove(dtb_range).expect("memory is in too many pieces");
    for reserved in machine.reserved() {
        free.remove(range(reserved.region)).expect("memory is in too many pieces");
    }
    if let Some(initrd) = machine.initrd() {
        free.remove(range(initrd)).expect("memory is in too many pieces");
    }
    // Nothing is put into page 0: a pointer to it would look like none.
    free.remove(0..PAGE).expect("memory is in too many pieces");
    *FREE.lock() = free;
    result
}

/// Takes `size` bytes.
pub(crate) fn take(size: u64) -> Option<Phys> {
    if failing::fails() {
        return None;
    }
    FREE.lock().allocate(size)
}

/// What programs leave to the kernel: for translation tables, threads and files of theirs, in bytes.
#[cfg(programs)]
const RESERVE: u64 = 16 << 20;

/// Takes `size` bytes for a program, unless too little would be left for the kernel.
#[cfg(programs)]
pub(crate) fn take_for_program(size: u64) -> Option<Phys> {
    if failing::fails() {
        return None;
    }
    let mut free = FREE.lock();
    let left = free.free_bytes().checked_sub(size)?;
    if left < RESERVE { None } else { free.allocate(size) }
}

/// Returns whether the kernel may make more of what lasts for programs (threads with their kernel stacks,
/// files, pipes, descriptors): half of the reserve stays for
/// what a call needs in passing.
#[cfg(programs)]
pub(crate) fn has_room_for_kernel(is_first: bool) -> bool {
    free_bytes() > if is_first { RESERVE / 4 } else { RESERVE / 2 }
}

/// Gives whole pages back.
pub(crate) fn give(range: Range<u64>) {
    // If the list is full, they are lost: nothing worse.
    let _ = FREE.lock().insert(range);
}

/// Returns the number of free bytes.
pub fn free_bytes() -> u64 {
    FREE.lock().free_bytes()
}

/// Takes a contiguous block of at least `size` bytes, in the largest pages that its size allows, zeroed.
pub fn allocate(size: u64) -> Option<Block> {
    let size = size.max(1).checked_next_multiple_of(PAGE)?;
    let phys = take(size)?;
    let base = NonNull::new(phys.linear())?;
    // SAFETY: the block has just been taken from free memory, all of which the linear map holds read-write.
    unsafe { base.write_bytes(0, size as usize) };
    Some(Block { base, size: size as usize })
}

/// Physically contiguous memory; goes back when dropped.
pub struct Block {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: a block owns its memory.
unsafe impl Send for Block {}

impl Block {
    /// Returns the start of the block.
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the size in bytes, a multiple of the page size.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Returns the physical address.
    pub fn phys(&self) -> Phys {
        Phys::of_linear(self.base.as_ptr()).expect("blocks are in the linear map")
    }

    /// The memory as a slice of `T`, as long as fits. It was zeroed when it was allocated.
    pub fn as_slice<T: FromBytes + IntoBytes>(&mut self) -> &mut [T] {
        // SAFETY: the block owns this memory, and it is initialised.
        let bytes = unsafe { core::slice::from_raw_parts_mut(self.base.as_ptr(), self.size) };
        let whole = self.size / size_of::<T>() * size_of::<T>();
        <[T]>::mut_from_bytes(&mut bytes[..whole]).unwrap_or(&mut [])
    }

    /// Keeps the memory for ever, as bytes.
    pub fn leak(self) -> &'static mut [u8] {
        let block = core::mem::ManuallyDrop::new(self);
        // SAFETY: the block owns this memory, which is initialised (zeroed at first), and is never given
        // back.
        unsafe { core::slice::from_raw_parts_mut(block.base.as_ptr(), block.size) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let start = self.phys().0;
        // If the list is full, the block is lost: nothing worse.
        let _ = FREE.lock().insert(start..start + self.size as u64);
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:#x}, {:#x} bytes)", self.phys().0, self.size)
    }
}
