//! The kernel's translation tables: W^X, in the largest blocks.

use super::{
    layout::{DEVICE_TREE, DEVICES, IMAGE, LINEAR, PHYS_END, Phys},
    physical,
    regions::{FreeList, PAGE},
};
use crate::{arch, logging, sync::IrqMutex};
use aarch64_paging::{
    MapError, Mapping,
    descriptor::{El1Attributes as Attributes, PhysicalAddress, VirtualAddress},
    paging::{Constraints, El1And0, MemoryRegion, PageTable, Translation, VaRange},
};
use core::{
    cell::UnsafeCell,
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};
use fallible::OutOfMemory;
use machine::Region;

type Table = PageTable<Attributes>;

/// Tables that are needed before free memory can be reached. Four for each discontinuous piece of memory, at
/// most.
const POOL_TABLES: usize = 64;

#[repr(C, align(4096))]
struct Page([u8; PAGE as usize]);

struct Pool(UnsafeCell<[Page; POOL_TABLES]>);

// SAFETY: each table of the pool is handed out once, by `KernelTables::allocate_table`.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([const { Page([0; PAGE as usize]) }; POOL_TABLES]));
static POOL_USED: AtomicUsize = AtomicUsize::new(0);
/// Physical address of the image.
static IMAGE_PHYS: AtomicU64 = AtomicU64::new(0);
/// Physical address of the level 0 table, for cores that start later.
static ROOT: AtomicU64 = AtomicU64::new(0);
static TABLES: IrqMutex<Option<Mapping<KernelTables, El1And0>>> = IrqMutex::new(None);
/// Pages for tables that [`map_stack`] needs, which cannot give up half way. Locked behind [`TABLES`].
static SPARE: IrqMutex<heapless::Vec<Phys, SPARE_TABLES>> = IrqMutex::new(heapless::Vec::new());
/// One for each level, and one more where a stack reaches across the end of a table.
const SPARE_TABLES: usize = 4;

const NORMAL: Attributes = Attributes::ATTRIBUTE_INDEX_0
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::ACCESSED)
    .union(Attributes::UXN)
    .union(Attributes::VALID);
const TEXT: Attributes = NORMAL.union(Attributes::READ_ONLY);
const READ_ONLY: Attributes = TEXT.union(Attributes::PXN);
const READ_WRITE: Attributes = NORMAL.union(Attributes::PXN);
const DEVICE: Attributes = Attributes::ATTRIBUTE_INDEX_1
    .union(Attributes::ACCESSED)
    .union(Attributes::UXN)
    .union(Attributes::PXN)
    .union(Attributes::VALID);

/// Where tables come from: the pool in the image until the linear map works, free memory afterwards.
struct KernelTables;

/// The physical address of something in the image.
pub(crate) fn image_phys(address: usize) -> Phys {
    Phys(IMAGE_PHYS.load(Ordering::Relaxed) + (address - IMAGE) as u64)
}

impl Translation<Attributes> for KernelTables {
    fn allocate_table(&mut self) -> (NonNull<Table>, PhysicalAddress) {
        let index = POOL_USED.fetch_add(1, Ordering::Relaxed);
        if index < POOL_TABLES {
            // SAFETY: the index is below the length, and no other call gets this one.
            let table = unsafe { POOL.0.get().cast::<Table>().add(index) };
            let phys = image_phys(table.addr());
            // The pool is in .bss and has been zeroed.
            return (
                NonNull::new(table).expect("the pool is not at address 0"),
                PhysicalAddress(phys.0 as usize),
            );
        }
        let spare = SPARE.lock().pop();
        let phys = spare.or_else(|| physical::take(PAGE)).expect("no memory for a translation table");
        let table = core::ptr::with_exposed_provenance_mut::<Table>(LINEAR + phys.0 as usize);
        // SAFETY: the page has just been taken from free memory, which the linear map holds.
        unsafe { table.cast::<u8>().write_bytes(0, PAGE as usize) };
        (NonNull::new(table).expect("the linear map is not at address 0"), PhysicalAddress(phys.0 as usize))
    }

    unsafe fn deallocate_table(&mut self, _table: NonNull<Table>) {
        // Kernel mappings are made once and stay. A table that a larger mapping replaces is lost, not reused.
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<Table> {
        let pa = pa.0 as u64;
        let image = IMAGE_PHYS.load(Ordering::Relaxed);
        let in_image = pa.checked_sub(image).filter(|&offset| (offset as usize) < arch::image().end - IMAGE);
        let address = match in_image {
            Some(offset) => IMAGE + offset as usize,
            None => LINEAR + pa as usize,
        };
        NonNull::new(core::ptr::with_exposed_provenance_mut(address)).expect("no table is at address 0")
    }
}

/// Maps a range of addresses to physical memory. What is mapped already may not change its block sizes.
fn map_in(
    tables: &mut Mapping<KernelTables, El1And0>,
    range: Range<usize>,
    phys: Phys,
    attributes: Attributes,
) -> Result<(), MapError> {
    if range.is_empty() {
        return Ok(());
    }
    let region = MemoryRegion::new(range.start, range.end);
    tables.map_range(&region, PhysicalAddress(phys.0 as usize), attributes, Constraints::NO_CONTIGUOUS_HINT)
}

/// Builds the final tables and switches this core to them.
///
/// `memory` is all memory that the linear map is to hold, `dtb` the bytes of the device tree.
pub(super) fn init(image: Phys, memory: &FreeList, dtb: Range<u64>) -> Result<(), MapError> {
    IMAGE_PHYS.store(image.0, Ordering::Relaxed);
    let mut tables = Mapping::with_asid_and_va_range(KernelTables, 0, 0, El1And0, VaRange::Upper);
    let sections = arch::image();
    for (range, attributes) in [
        (sections.text, TEXT),
        (sections.rodata, READ_ONLY),
        (sections.data, READ_WRITE),
        // Between them is the guard page of the boot stack.
        (sections.stacks, READ_WRITE),
    ] {
        let phys = image_phys(range.start);
        map_in(&mut tables, range, phys, attributes)?;
    }
    for range in memory.iter().filter(|range| range.end <= PHYS_END) {
        let at = LINEAR + range.start as usize..LINEAR + range.end as usize;
        map_in(&mut tables, at, Phys(range.start), READ_WRITE)?;
    }
    let page = PAGE - 1;
    let (first, end) = (dtb.start & !page, (dtb.end + page) & !page);
    let at = DEVICE_TREE + (first & 0x1f_ffff) as usize;
    map_in(&mut tables, at..at + (end - first) as usize, Phys(first), READ_ONLY)?;

    if logging::is_shown(log::Level::Debug) {
        log_blocks(&tables, memory);
    }
    let root = tables.root_address().0 as u64;
    ROOT.store(root, Ordering::Relaxed);
    tables.mark_active();
    // SAFETY: the new tables map everything that the kernel uses at the addresses where it is now: text,
    // data, this core's stack and the device tree.
    unsafe { arch::change_tables(Phys(root), image) };
    leave_identity_map();
    *TABLES.lock() = Some(tables);
    Ok(())
}

/// Logs how many entries of each size the linear map has.
fn log_blocks(tables: &Mapping<KernelTables, El1And0>, memory: &FreeList) {
    let mut blocks = [0; 3];
    for range in memory.iter().filter(|range| range.end <= PHYS_END) {
        let at = MemoryRegion::new(LINEAR + range.start as usize, LINEAR + range.end as usize);
        let _ = tables.walk_range(&at, &mut |_, _, level| {
            blocks.get_mut(level.wrapping_sub(1)).map(|count| *count += 1).ok_or(())
        });
    }
    let [gib, mib, kib] = blocks;
    log::debug!("linear map: {gib} blocks of 1 GiB, {mib} of 2 MiB, {kib} of 4 KiB");
}

/// Switches this core's lower half off, which held the identity map of the image, and makes the processor
/// refuse to execute what is writable.
pub(crate) fn leave_identity_map() {
    // SAFETY: nothing of the kernel is in the lower half, and no mapping is both writable and executable.
    unsafe { arch::enforce_wx(image_phys(arch::image().empty_table)) };
}

/// A table without an entry: a lower half where nothing is.
#[cfg(programs)]
pub(crate) fn empty_table() -> Phys {
    image_phys(arch::image().empty_table)
}

/// Physical address of the root table, for cores that start later.
pub(crate) fn root() -> Phys {
    Phys(ROOT.load(Ordering::Relaxed))
}

/// Maps a device's registers; returns their address. Mapping the same device again is harmless.
///
/// # Errors
/// The range is mapped in another way.
pub fn map_device(region: Region) -> Result<usize, MapError> {
    map_window(region, DEVICE)
}

/// Maps memory that is shared with others, or received from them, as ordinary data; returns its address. What
/// is there may change at any time.
///
/// # Errors
/// The range is mapped in another way.
pub fn map_shared(region: Region) -> Result<usize, MapError> {
    map_window(region, READ_WRITE)
}

/// Maps physical memory read-execute, in the window of devices; returns its address.
///
/// # Safety
/// Nothing else maps the memory writable, and what is there may be executed.
///
/// # Errors
/// The range is mapped in another way.
pub unsafe fn map_code(region: Region) -> Result<usize, MapError> {
    map_window(region, TEXT)
}

fn map_window(region: Region, attributes: Attributes) -> Result<usize, MapError> {
    let (start, end) = (region.base & !(PAGE - 1), region.end().next_multiple_of(PAGE));
    if end > PHYS_END {
        return Err(MapError::AddressRange(VirtualAddress(DEVICES.saturating_add(end as usize))));
    }
    let range = DEVICES + start as usize..DEVICES + end as usize;
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().expect("devices are mapped after the tables are made");
    map_in(tables, range, Phys(start), attributes)?;
    arch::table_written();
    Ok(DEVICES + region.base as usize)
}

/// Maps memory for a stack at a place that has never been mapped; returns its first address. The place is
/// asked for when there is memory for the tables.
///
/// # Errors
/// There is no memory for tables.
pub(super) fn map_stack(place: impl FnOnce() -> Range<usize>, phys: Phys) -> Result<usize, OutOfMemory> {
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().expect("stacks are made after the tables");
    {
        let mut spare = SPARE.lock();
        while !spare.is_full() {
            let _ = spare.push(physical::take(PAGE).ok_or(OutOfMemory)?);
        }
    }
    let range = place();
    let bottom = range.start;
    map_in(tables, range, phys, READ_WRITE).expect("the place is one for stacks, and free");
    arch::table_written();
    Ok(bottom)
}
