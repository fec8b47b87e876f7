//! Each allocation of each operation fails in turn: the operation reports `NoMemory` and has changed nothing
//! that a program can see. What follows a preparation needs no memory.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "on the development host"
)]

use address_space::{AddressSpace, PAGE, Purpose, Region, SpaceError};
use fallible::testing::{FailingAllocator, LEFT};
use linux_program::{Access, UserAddr, UserRange};

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

const DATA: Access = Access { read: true, write: true, execute: false };
const NONE: Access = Access { read: false, write: false, execute: false };

fn pages(first: u64, count: u64) -> UserRange {
    UserRange { start: UserAddr::new(first * PAGE), end: UserAddr::new((first + count) * PAGE) }
}

/// Each page's region, whatever it is joined with.
fn seen(space: &AddressSpace) -> Vec<(u64, Access)> {
    let pages =
        |region: &Region| (region.range.start.get() / PAGE..region.range.end.get() / PAGE, region.access);
    space.iter().map(pages).flat_map(|(pages, access)| pages.map(move |page| (page, access))).collect()
}

/// A space with so many regions of three pages, each four pages behind the last.
fn filled(count: u64) -> AddressSpace {
    let mut space = AddressSpace::new(pages(1, 1 << 20), pages(1, 1 << 20));
    for index in 0..count {
        let range = pages(4 + index * 4, 3);
        space.insert(Region { range, access: DATA, purpose: Purpose::Anonymous, lazy: false }).unwrap();
    }
    space
}

/// Does an operation in a new space for n = 1, 2, … until it needs no n-th allocation; returns how many it
/// needs.
fn each(count: u64, operation: impl Fn(&mut AddressSpace) -> Result<(), SpaceError>) -> u32 {
    for n in 1.. {
        let mut space = filled(count);
        let before = seen(&space);
        LEFT.set(n);
        let result = operation(&mut space);
        let left = LEFT.replace(0);
        if left > 0 {
            assert_eq!(result, Ok(()));
            return n - 1;
        }
        assert_eq!(result, Err(SpaceError::NoMemory));
        assert_eq!(seen(&space), before);
        // It can be done when there is memory again.
        assert_eq!(operation(&mut space), Ok(()));
    }
    unreachable!("an operation needs a finite number of allocations")
}

#[test]
fn reports_failed_allocation_without_change() {
    let mut allocations = 0;
    // The first region; many; a full chunk; many chunks.
    for count in [0, 1, 63, 64, 65, 300, 3000] {
        allocations += each(count, |space| {
            let region = Region { range: pages(7, 1), access: NONE, purpose: Purpose::Heap, lazy: true };
            space.insert(region)
        });
        for first in [5, 4 * count / 2 + 5, 4 * count + 1] {
            // In the middle of a region, and across several.
            for size in [1, 40] {
                allocations += each(count, |space| {
                    space.prepare_removal(pages(first, size))?;
                    let left = LEFT.replace(1);
                    while space.take_first(pages(first, size)).is_some() {}
                    assert_eq!(LEFT.replace(left), 1, "taking a region out allocates");
                    Ok(())
                });
            }
        }
        if count > 0 {
            allocations += each(count, |space| {
                space.prepare_protection(pages(5, 1))?;
                let left = LEFT.replace(1);
                space.protect(pages(5, 1), NONE);
                assert_eq!(LEFT.replace(left), 1, "changing an access allocates");
                Ok(())
            });
        }
    }
    assert!(allocations > 20, "{allocations}");
}

#[test]
fn prepared_change_cannot_fail() {
    for count in [0, 64, 640] {
        let mut space = filled(count);
        let range = pages(4 + count * 2 / 4 * 4 + 3, 1);
        space.prepare_insertion(range).unwrap();
        LEFT.set(1);
        let inserted = space.insert(Region { range, access: NONE, purpose: Purpose::Heap, lazy: true });
        assert_eq!(LEFT.replace(0), 1);
        assert_eq!(inserted, Ok(()));
    }
}

#[test]
fn memory_is_in_proportion_to_the_regions() {
    let mut space = filled(5000);
    assert!(space.memory() < 5000 * size_of::<Region>() * 3);
    // All but each hundredth go again.
    for index in (0..5000).filter(|index| index % 100 != 0) {
        space.prepare_removal(pages(4 + index * 4, 3)).unwrap();
        assert!(space.take_first(pages(4 + index * 4, 3)).is_some());
    }
    assert_eq!(space.count(), 50);
    assert!(space.memory() < 50 * size_of::<Region>() * 4 + 3 * 64 * size_of::<Region>());
}
