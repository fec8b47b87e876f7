//! Against a model that keeps every page for itself.

use super::*;
use proptest::prelude::*;
use std::{collections::BTreeMap as Model, vec::Vec};

const ALL: UserRange = range(UserAddr::new(PAGE), UserAddr::new(200 * PAGE));
const AREA: UserRange = range(UserAddr::new(20 * PAGE), UserAddr::new(180 * PAGE));
const DATA: Access = Access { read: true, write: true, execute: false };

fn pages(first: u64, count: u64) -> UserRange {
    range(UserAddr::new(first * PAGE), UserAddr::new((first + count) * PAGE))
}

fn region(first: u64, count: u64, access: Access, purpose: Purpose) -> Region {
    Region { range: pages(first, count), access, purpose, lazy: false }
}

fn numbers(range: UserRange) -> impl Iterator<Item = u64> {
    range.start.get() / PAGE..range.end.get() / PAGE
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(Region),
    Remove(UserRange),
    Protect(UserRange, Access),
    Place(u64, Option<u64>),
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        Just(DATA),
        Just(Access { write: false, ..DATA }),
        Just(Access { read: false, write: false, execute: false })
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let purpose = prop_oneof![
        4 => Just(Purpose::Anonymous),
        2 => Just(Purpose::Heap),
        1 => Just(Purpose::Kernel),
    ];
    let some = || (0..210_u64, 0..30_u64).prop_map(|(first, count)| pages(first, count));
    prop_oneof![
        (0..205_u64, 0..20_u64, access(), purpose).prop_map(|(f, c, a, p)| Step::Insert(region(f, c, a, p))),
        some().prop_map(Step::Remove),
        (some(), access()).prop_map(|(range, access)| Step::Protect(range, access)),
        (0..40_u64, proptest::option::of(0..210_u64)).prop_map(|(size, wish)| Step::Place(size, wish)),
    ]
}

/// What is in a range, taken out.
fn remove(space: &mut AddressSpace, cut: UserRange) -> Result<Vec<Region>, SpaceError> {
    space.prepare_removal(cut)?;
    Ok(core::iter::from_fn(|| space.take_first(cut)).collect())
}

/// The regions of a range as they were before their access was changed.
fn protect(space: &mut AddressSpace, cut: UserRange, access: Access) -> Result<Vec<Region>, SpaceError> {
    space.prepare_protection(cut)?;
    let before = space.overlapping(cut).copied().collect();
    space.protect(cut, access);
    Ok(before)
}

fn is_valid(range: UserRange) -> bool {
    ALL.covers(range) && !range.is_empty()
}

proptest! {
    #[test]
    fn matches_page_by_page_model(steps in proptest::collection::vec(step(), 1..60)) {
        let mut space = AddressSpace::new(ALL, AREA);
        let mut model: Model<u64, (Access, Purpose)> = Model::new();
        for step in steps {
            match step {
                Step::Insert(region) => {
                    let free = numbers(region.range).all(|page| !model.contains_key(&page));
                    let expected = if !is_valid(region.range) {
                        Err(SpaceError::Range)
                    } else if free { Ok(()) } else { Err(SpaceError::Overlap) };
                    prop_assert_eq!(space.insert(region), expected);
                    if expected.is_ok() {
                        model.extend(numbers(region.range).map(|page| (page, (region.access, region.purpose))));
                    }
                }
                Step::Remove(range) => {
                    let kernel = numbers(range).any(|page| model.get(&page).is_some_and(|p| p.1 == Purpose::Kernel));
                    let gone = remove(&mut space, range);
                    if !is_valid(range) {
                        prop_assert_eq!(gone, Err(SpaceError::Range));
                    } else if kernel {
                        prop_assert_eq!(gone, Err(SpaceError::Kernel));
                    } else {
                        for region in gone.unwrap() {
                            for page in numbers(region.range) {
                                prop_assert!(numbers(range).any(|inside| inside == page));
                                prop_assert_eq!(model.remove(&page), Some((region.access, region.purpose)));
                            }
                        }
                        prop_assert!(numbers(range).all(|page| !model.contains_key(&page)));
                    }
                }
                Step::Protect(range, access) => {
                    let hole = numbers(range).any(|page| !model.contains_key(&page));
                    let kernel = numbers(range).any(|page| model.get(&page).is_some_and(|p| p.1 == Purpose::Kernel));
                    match protect(&mut space, range, access) {
                        Ok(before) => {
                            prop_assert!(is_valid(range) && !hole && !kernel);
                            let count: u64 = before.iter().map(|region| region.range.len()).sum();
                            prop_assert_eq!(count, range.len());
                            for region in before {
                                for page in numbers(region.range) {
                                    prop_assert_eq!(model[&page], (region.access, region.purpose));
                                }
                            }
                            for page in numbers(range) {
                                model.get_mut(&page).unwrap().0 = access;
                            }
                        }
                        Err(SpaceError::Range) => prop_assert!(!is_valid(range)),
                        Err(SpaceError::Hole) => prop_assert!(hole),
                        Err(SpaceError::Kernel) => prop_assert!(kernel),
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Step::Place(count, wish) => {
                    let wish = wish.map(|page| UserAddr::new(page * PAGE));
                    let free = |first: u64| (first..first + count).all(|page| !model.contains_key(&page));
                    let fits = numbers(AREA).any(|first| AREA.covers(pages(first, count)) && free(first));
                    match space.free_place(count * PAGE, wish) {
                        Some(place) => {
                            prop_assert_eq!(place.len(), count * PAGE);
                            prop_assert!(free(place.start.get() / PAGE));
                            prop_assert!(ALL.covers(place));
                            if Some(place.start) != wish {
                                prop_assert!(AREA.covers(place));
                            }
                        }
                        None => prop_assert!(count == 0 || !fits),
                    }
                }
            }
            let listed: Model<u64, (Access, Purpose)> = space
                .iter()
                .flat_map(|region| numbers(region.range).map(|page| (page, (region.access, region.purpose))))
                .collect();
            prop_assert_eq!(&listed, &model);
            prop_assert_eq!(space.bytes(), model.len() as u64 * PAGE);
            let regions: Vec<_> = space.iter().collect();
            for pair in regions.windows(2) {
                prop_assert!(pair[0].range.end <= pair[1].range.start);
            }
            for page in 0..210 {
                let found = space.find(UserAddr::new(page * PAGE + 5)).map(|region| (region.access, region.purpose));
                prop_assert_eq!(found, model.get(&page).copied());
            }
        }
    }
}

#[test]
fn merges_equal_neighbours() {
    let mut space = AddressSpace::new(ALL, AREA);
    space.insert(region(20, 2, DATA, Purpose::Anonymous)).unwrap();
    space.insert(region(24, 2, DATA, Purpose::Anonymous)).unwrap();
    space.insert(region(22, 2, DATA, Purpose::Anonymous)).unwrap();
    space.insert(region(26, 2, DATA, Purpose::Heap)).unwrap();
    let ranges: Vec<_> = space.iter().map(|region| region.range).collect();
    assert_eq!(ranges, [pages(20, 6), pages(26, 2)]);
    let none = Access { read: false, write: false, execute: false };
    assert_eq!(protect(&mut space, pages(21, 1), none).unwrap(), [region(21, 1, DATA, Purpose::Anonymous)]);
    assert_eq!(space.iter().count(), 4);
    protect(&mut space, pages(21, 1), DATA).unwrap();
    assert_eq!(space.iter().count(), 2);
}

#[test]
fn empty_range_contains_nothing() {
    let mut space = AddressSpace::new(ALL, AREA);
    space.insert(region(20, 4, DATA, Purpose::Anonymous)).unwrap();
    assert_eq!(space.first(pages(22, 0)), None);
    assert_eq!(space.first(pages(22, 1)), Some(region(20, 4, DATA, Purpose::Anonymous)));
    assert!(space.is_free(pages(20, 0)));
}

/// Regions without an order, many more than a chunk holds.
#[test]
fn many_regions_are_found_again() {
    let mut space = AddressSpace::new(pages(1, 1 << 20), pages(1, 1 << 20));
    let mut model = Model::new();
    let mut state = 1_u64;
    for step in 0..60_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // First it grows, then it shrinks.
        let (page, grows) =
            ((state >> 33) % 10_000 * 2 + 2, (state >> 20) % 10 < if step < 30_000 { 7 } else { 3 });
        if grows {
            let new = region(page, 1, DATA, Purpose::Anonymous);
            let expected = if model.insert(page, new).is_some() { Err(SpaceError::Overlap) } else { Ok(()) };
            assert_eq!(space.insert(new), expected);
        } else {
            assert_eq!(remove(&mut space, pages(page, 1)).unwrap().first(), model.remove(&page).as_ref());
        }
        if step % 1000 == 0 {
            assert!(space.iter().eq(model.values()));
        }
        assert_eq!(space.count(), model.len());
    }
    assert!(space.iter().eq(model.values()));
}

#[test]
fn large_places_begin_at_blocks() {
    let wide = range(UserAddr::new(PAGE), UserAddr::new(1 << 40));
    let mut space = AddressSpace::new(wide, range(UserAddr::new(0x1000_1000), UserAddr::new(1 << 39)));
    let small = space.free_place(PAGE, None).unwrap();
    assert_eq!(small.start, UserAddr::new(0x1000_1000));
    let large = space.free_place(3 * BLOCK, None).unwrap();
    assert_eq!(large.start, UserAddr::new(0x1020_0000));
    space.insert(Region { range: large, access: DATA, purpose: Purpose::Anonymous, lazy: true }).unwrap();
    assert_eq!(space.free_place(BLOCK, None).unwrap().start, large.end);
    assert_eq!(space.free_place(BLOCK, Some(large.start)).unwrap().start, large.end);
    assert_eq!(space.free_place(!(PAGE - 1), None), None);
}

#[test]
fn there_is_a_limit() {
    let wide = range(UserAddr::new(PAGE), UserAddr::new(1 << 40));
    let mut space = AddressSpace::new(wide, wide);
    for page in 0..MOST_REGIONS as u64 - 1 {
        space.insert(region(2 * page + 1, 1, DATA, Purpose::Anonymous)).unwrap();
    }
    let last = 2 * MOST_REGIONS as u64;
    space.insert(region(last, 3, DATA, Purpose::Anonymous)).unwrap();
    assert_eq!(space.insert(region(last + 10, 1, DATA, Purpose::Heap)), Err(SpaceError::TooMany));
    let before = space.bytes();
    assert_eq!(remove(&mut space, pages(last + 1, 1)), Err(SpaceError::TooMany));
    assert_eq!(space.bytes(), before);
    assert_eq!(remove(&mut space, pages(last, 1)).map(|gone| gone.len()), Err(SpaceError::TooMany));
}
