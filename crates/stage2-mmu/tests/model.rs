//! The tables against a plain map of pages: whatever sequence of operations, both translate alike.

use hv_abi::ids::{Ipa, Pa};
use proptest::prelude::*;
use stage2_mmu::{Access, Error, IpaWidth, MemoryType, PAGE_SIZE, Room, Search, Stage2, sim::SimTables};
use std::collections::BTreeMap;

const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

fn new(bits: u8) -> (Stage2, SimTables) {
    let mut memory = SimTables::new();
    let tables = Stage2::new(IpaWidth::new(bits).unwrap(), &mut memory).unwrap();
    (tables, memory)
}

#[test]
fn the_largest_blocks_are_used() {
    let (mut t, mut m) = new(40);
    t.map(Ipa(GIB), Pa(4 * GIB), 2 * GIB + MIB2 + PAGE_SIZE, Access::RWX, MemoryType::Normal, &mut m)
        .unwrap();
    assert_eq!(t.walk(Ipa(GIB), &m).unwrap().block, GIB);
    assert_eq!(t.walk(Ipa(3 * GIB), &m).unwrap().block, MIB2);
    assert_eq!(t.walk(Ipa(3 * GIB + MIB2), &m).unwrap().block, PAGE_SIZE);
    assert_eq!(t.walk(Ipa(3 * GIB + MIB2 + PAGE_SIZE), &m), None);
    // Two root tables, one level-2 and one level-3 table.
    assert_eq!(m.pages_in_use(), 4);
}

#[test]
fn misaligned_physical_memory_gets_smaller_blocks() {
    let (mut t, mut m) = new(39);
    t.map(Ipa(GIB), Pa(GIB + MIB2), GIB, Access::RW, MemoryType::Normal, &mut m).unwrap();
    let mapping = t.walk(Ipa(GIB + 5), &m).unwrap();
    assert_eq!((mapping.pa, mapping.block, mapping.access), (Pa(GIB + MIB2 + 5), MIB2, Access::RW));
}

#[test]
fn hole_in_block_obeys_break_before_make() {
    let (mut t, mut m) = new(40);
    t.map(Ipa(0), Pa(0), GIB, Access::RWX, MemoryType::Normal, &mut m).unwrap();
    t.unmap(Ipa(MIB2 + PAGE_SIZE), PAGE_SIZE, &mut m).unwrap();
    // The 1 GiB block, then the 2 MiB block, then the page.
    assert_eq!(m.invalidated, [(Ipa(0), GIB), (Ipa(MIB2), MIB2), (Ipa(MIB2 + PAGE_SIZE), PAGE_SIZE)]);
    assert_eq!(t.walk(Ipa(MIB2 + PAGE_SIZE), &m), None);
    assert_eq!(t.walk(Ipa(MIB2), &m).unwrap().pa, Pa(MIB2));
    assert_eq!(t.walk(Ipa(2 * MIB2), &m).unwrap().block, MIB2);
}

#[test]
fn rejects_invalid_ranges() {
    let (mut t, mut m) = new(40);
    let mut map = |ipa, pa, len| t.map(Ipa(ipa), Pa(pa), len, Access::RWX, MemoryType::Normal, &mut m);
    assert_eq!(map(1, 0, PAGE_SIZE), Err(Error::Unaligned));
    assert_eq!(map(0, 1, PAGE_SIZE), Err(Error::Unaligned));
    assert_eq!(map(0, 0, 0), Err(Error::Unaligned));
    assert_eq!(map(1 << 40, 0, PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(map(u64::MAX - 4095, 0, PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(map(0, 0, PAGE_SIZE), Ok(()));
    assert_eq!(map(0, 0, PAGE_SIZE), Err(Error::AlreadyMapped(Ipa(0))));
    assert_eq!(t.walk(Ipa(u64::MAX), &m), None);
}

#[test]
fn out_of_memory_is_reported_without_change() {
    let (mut t, mut m) = new(40);
    m.budget = Some(1);
    let result = t.map(Ipa(0), Pa(0), PAGE_SIZE, Access::RWX, MemoryType::Normal, &mut m);
    assert_eq!(result, Err(Error::NoMemory));
    assert_eq!(t.walk(Ipa(0), &m), None);
}

#[test]
fn withheld_memory_returns_as_block() {
    let (mut t, mut m) = new(40);
    t.map(Ipa(0), Pa(4 * GIB), GIB, Access::RWX, MemoryType::Normal, &mut m).unwrap();
    let before = m.pages_in_use();
    let (page, len) = (Ipa(MIB2 + PAGE_SIZE), PAGE_SIZE);
    t.withhold(page, len, &mut m).unwrap();
    assert_eq!(t.walk(page, &m), None);
    let taken = t.map(page, Pa(0), len, Access::RW, MemoryType::Normal, &mut m);
    assert_eq!(taken, Err(Error::AlreadyMapped(page)));
    assert_eq!(t.walk(Ipa(MIB2), &m).unwrap().block, PAGE_SIZE);
    t.restore(page, len, &mut m).unwrap();
    let whole = t.walk(page, &m).unwrap();
    assert_eq!((whole.pa, whole.block, whole.access), (Pa(4 * GIB + page.0), GIB, Access::RWX));
    assert_eq!(m.pages_in_use(), before);
}

#[test]
fn frees_empty_tables() {
    let (mut t, mut m) = new(40);
    let before = m.pages_in_use();
    t.map(Ipa(3 * GIB), Pa(0), 3 * PAGE_SIZE, Access::RW, MemoryType::Normal, &mut m).unwrap();
    t.unmap(Ipa(3 * GIB), 3 * PAGE_SIZE, &mut m).unwrap();
    assert_eq!(m.pages_in_use(), before);
}

#[test]
fn room_is_where_nothing_is_mapped_or_withheld() {
    let (mut t, mut m) = new(39);
    let page = |n: u64| Ipa(GIB + n * PAGE_SIZE);
    t.map(page(1), Pa(0), PAGE_SIZE, Access::RW, MemoryType::Normal, &mut m).unwrap();
    t.map(page(4), Pa(0), PAGE_SIZE, Access::RW, MemoryType::Normal, &mut m).unwrap();
    t.withhold(page(4), PAGE_SIZE, &mut m).unwrap();
    let end = Ipa(2 * GIB);
    // However few entries are looked at in one go.
    for entries in [1, 2, usize::MAX] {
        let find = |limit, len| {
            let mut search = Search::from(page(0));
            loop {
                match t.find_room(search, limit, len, entries, &m) {
                    Room::Found(ipa) => return Some(ipa),
                    Room::None => return None,
                    Room::More(further) => assert_ne!(std::mem::replace(&mut search, further), further),
                }
            }
        };
        assert_eq!(find(end, PAGE_SIZE), Some(page(0)));
        assert_eq!(find(end, 2 * PAGE_SIZE), Some(page(2)));
        assert_eq!(find(end, 3 * PAGE_SIZE), Some(page(5)));
        assert_eq!(find(end, MIB2), Some(Ipa(GIB + MIB2)));
        assert_eq!(find(end, GIB), None);
        assert_eq!(find(Ipa(u64::MAX), 512 * GIB), None);
        assert_eq!(find(end, u64::MAX), None);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Map { page: u64, to: u64, pages: u64 },
    Unmap { page: u64, pages: u64 },
    Withhold { page: u64, pages: u64 },
    Restore { page: u64, pages: u64 },
}

/// Page numbers around block borders, so that splits and large blocks both happen.
fn page() -> impl Strategy<Value = u64> {
    (0u64..3, 0u64..3, 0u64..4).prop_map(|(g, m, p)| g * 262_144 + m * 512 + p)
}

fn op() -> impl Strategy<Value = Op> {
    let pages = prop_oneof![1u64..5, Just(512), Just(1024), 500u64..1030];
    prop_oneof![
        2 => (page(), page(), pages.clone()).prop_map(|(page, to, pages)| Op::Map { page, to, pages }),
        1 => (page(), pages.clone()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        1 => (page(), pages.clone()).prop_map(|(page, pages)| Op::Withhold { page, pages }),
        1 => (page(), pages).prop_map(|(page, pages)| Op::Restore { page, pages }),
    ]
}

proptest! {
    #[test]
    fn translation_matches_model(ops in prop::collection::vec(op(), 1..20)) {
        let (mut t, mut m) = new(40);
        // Page number to page number, and whether it is withheld.
        let mut model = BTreeMap::new();
        for op in ops {
            match op {
                Op::Map { page, to, pages } => {
                    let free = (page..page + pages).all(|p| !model.contains_key(&p));
                    let result = t.map(Ipa(page * PAGE_SIZE), Pa(to * PAGE_SIZE), pages * PAGE_SIZE, Access::RW,
                        MemoryType::Normal, &mut m);
                    prop_assert_eq!(result.is_ok(), free);
                    // A refused map may have filled the free part before the page that was taken.
                    for (i, p) in (page..page + pages).enumerate() {
                        if model.contains_key(&p) {
                            break;
                        }
                        model.insert(p, (to + i as u64, false));
                    }
                }
                Op::Unmap { page, pages } => {
                    t.unmap(Ipa(page * PAGE_SIZE), pages * PAGE_SIZE, &mut m).unwrap();
                    for p in page..page + pages { model.remove(&p); }
                }
                Op::Withhold { page, pages } => {
                    t.withhold(Ipa(page * PAGE_SIZE), pages * PAGE_SIZE, &mut m).unwrap();
                    for (_, (_, withheld)) in model.range_mut(page..page + pages) { *withheld = true; }
                }
                Op::Restore { page, pages } => {
                    t.restore(Ipa(page * PAGE_SIZE), pages * PAGE_SIZE, &mut m).unwrap();
                    for (_, (_, withheld)) in model.range_mut(page..page + pages) { *withheld = false; }
                }
            }
        }
        for p in (0..3u64).flat_map(|g| (0..2100).map(move |p| g * 262_144 + p)) {
            let walked = t.walk(Ipa(p * PAGE_SIZE + 7), &m).map(|mapping| mapping.pa.0);
            let there = model.get(&p).filter(|(_, withheld)| !withheld);
            prop_assert_eq!(walked, there.map(|(to, _)| to * PAGE_SIZE + 7), "page {:#x}", p);
        }
        t.unmap(Ipa(0), 8 * GIB, &mut m).unwrap();
        // Nothing but the root is left.
        prop_assert_eq!(m.pages_in_use(), 2);
    }
}
