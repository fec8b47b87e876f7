//! The order of changes, as other cores see it.
//!
//! The table memory here stands for the table walkers and TLBs of other cores, at their worst: whatever they
//! could have cached since their last invalidation, they have. So it knows, for every entry of every table,
//! which valid values may be cached, and fails if
//!
//! * a valid entry is replaced by a different valid one while the old one may be cached (Arm ARM, D8.16.1,
//!   break before make);
//! * a table is given back, or used again, that an entry refers to or a cache may know;
//! * an operation ends, and a TLB may hold what the tables do not say any more.

use hv_abi::ids::{Ipa, Pa};
use proptest::prelude::*;
use stage2_mmu::{Access, ENTRIES, IpaWidth, MemoryType, PAGE_SIZE, Stage2, TableMemory};
use std::collections::{BTreeMap, BTreeSet};

const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
const BITS: u8 = 40;
const ROOTS: u64 = 2;

fn size(level: u8) -> u64 {
    1 << (12 + 9 * (3 - u32::from(level)))
}

fn is_table(value: u64, level: u8) -> bool {
    level < 3 && value & 3 == 3
}

fn address(value: u64) -> u64 {
    value & 0x0000_ffff_ffff_f000
}

/// An entry: its table and index. The root's two tables are one.
type Place = (u64, usize);

#[derive(Default)]
struct Walker {
    tables: BTreeMap<u64, Vec<u64>>,
    /// How many entries, or cached ones, refer to each table.
    ways: BTreeMap<u64, usize>,
    /// Level and first address of each table that a walker can come to.
    linked: BTreeMap<u64, (u8, u64)>,
    root: u64,
    next: u64,
    free: Vec<u64>,
    /// Valid values that may be cached, besides what the entry says now.
    stale: BTreeMap<Place, BTreeSet<u64>>,
    budget: Option<usize>,
    /// For tests of the test.
    deaf: bool,
}

impl Walker {
    /// Notes that walkers can come to a table, and to those below it.
    fn link(&mut self, table: u64, level: u8, base: u64) {
        *self.ways.entry(table).or_default() += 1;
        self.linked.insert(table, (level, base));
        for index in 0..ENTRIES {
            let value = self.tables[&table][index];
            if is_table(value, level) {
                self.link(address(value), level + 1, base + index as u64 * size(level));
            }
        }
    }

    /// A way to a table is gone; if it was the last, no walker finds the table, nor those below it.
    fn forget(&mut self, table: u64) {
        let ways = self.ways.get_mut(&table).expect("it was linked");
        *ways -= 1;
        if *ways == 0 {
            self.ways.remove(&table);
            let (level, _) = self.linked.remove(&table).expect("it was linked");
            let below: Vec<u64> =
                self.tables[&table].iter().copied().filter(|v| is_table(*v, level)).collect();
            for value in below {
                self.forget(address(value));
            }
        }
    }

    fn pages_in_use(&self) -> usize {
        self.tables.len() - self.free.len()
    }
}

impl TableMemory for Walker {
    fn allocate(&mut self, count: usize) -> Option<Pa> {
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(count)?;
        }
        if count == 1
            && let Some(table) = self.free.pop()
        {
            assert!(!self.linked.contains_key(&table), "a table is used again that a walker may know");
            self.tables.insert(table, vec![0; ENTRIES]);
            return Some(Pa(table));
        }
        let first = self.next.max(0x10_0000).next_multiple_of(count as u64 * PAGE_SIZE);
        self.next = first + count as u64 * PAGE_SIZE;
        self.tables.insert(first, vec![0; count * ENTRIES]);
        if self.root == 0 {
            self.root = first;
            self.linked.insert(first, (1, 0));
        }
        Some(Pa(first))
    }

    fn free(&mut self, table: Pa) {
        assert!(!self.linked.contains_key(&table.0), "a table is given back that a walker may know");
        assert!(!self.free.contains(&table.0), "given back twice");
        if let Some(budget) = &mut self.budget {
            *budget += 1;
        }
        self.free.push(table.0);
        // Whoever follows it all the same finds nonsense.
        self.tables.insert(table.0, vec![0xdead_0000_0000_0043; ENTRIES]);
    }

    fn read(&self, table: Pa, index: usize) -> u64 {
        self.tables[&table.0][index]
    }

    fn write(&mut self, table: Pa, index: usize, value: u64) {
        let old = std::mem::replace(&mut self.tables.get_mut(&table.0).expect("a table")[index], value);
        let Some(&(level, base)) = self.linked.get(&table.0) else { return };
        let place = (table.0, index);
        if old & 1 != 0 && old != value {
            let new = self.stale.entry(place).or_default().insert(old);
            assert!(new, "it was cached, made again, and broken again, all without maintenance");
        }
        if value & 1 != 0 {
            let cached = self.stale.get(&place).into_iter().flatten().any(|old| *old != value);
            assert!(!cached, "made before it was broken: entry {index} of a level-{level} table");
            if is_table(value, level) {
                let (lower, at) = (address(value), base + index as u64 * size(level));
                assert!(
                    !self.linked.contains_key(&lower),
                    "a table has two places, or a cache knows it elsewhere"
                );
                self.link(lower, level + 1, at);
            }
        }
    }

    fn synchronise(&mut self, ipa: Ipa, len: u64) {
        if self.deaf {
            return;
        }
        let (start, end) = (ipa.0, ipa.0 + len);
        // By address: what is cached of an entry goes only if all that the entry translates is within the
        // range.
        let mut gone = vec![];
        let linked = &self.linked;
        self.stale.retain(|(table, index), values| {
            let (level, base) = linked[table];
            let first = base + *index as u64 * size(level);
            let covered = first >= start && first + size(level) <= end;
            if covered {
                gone.extend(
                    values.iter().filter(|value| is_table(**value, level)).map(|value| address(*value)),
                );
            }
            !covered
        });
        for table in gone {
            self.forget(table);
        }
    }
}

fn new() -> (Stage2, Walker) {
    let mut memory = Walker::default();
    let tables = Stage2::new(IpaWidth::new(BITS).unwrap(), &mut memory).unwrap();
    assert_eq!(memory.tables[&memory.root].len() as u64, ROOTS * ENTRIES as u64);
    (tables, memory)
}

#[derive(Clone, Debug)]
enum Op {
    Map { page: u64, to: u64, pages: u64, access: Access },
    Unmap { page: u64, pages: u64 },
    Withhold { page: u64, pages: u64 },
    Restore { page: u64, pages: u64 },
    Budget(Option<usize>),
}

/// Page numbers around block borders, so that splits and large blocks both happen.
fn page() -> impl Strategy<Value = u64> {
    (0u64..3, 0u64..3, 0u64..4).prop_map(|(g, m, p)| g * 262_144 + m * 512 + p)
}

fn pages() -> impl Strategy<Value = u64> {
    prop_oneof![1u64..5, Just(512), Just(1024), Just(262_144), 500u64..1030]
}

fn op() -> impl Strategy<Value = Op> {
    let access = prop_oneof![Just(Access::RWX), Just(Access::RW), Just(Access::R)];
    let budget = prop_oneof![2 => Just(None), 1 => (0usize..4).prop_map(Some)];
    // Often at its own address: then blocks can form.
    let to = prop_oneof![Just(None), page().prop_map(Some)];
    prop_oneof![
        4 => (page(), to, pages(), access).prop_map(|(page, to, pages, access)| {
            Op::Map { page, to: to.unwrap_or(page), pages, access }
        }),
        2 => (page(), pages()).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        3 => (page(), pages()).prop_map(|(page, pages)| Op::Withhold { page, pages }),
        3 => (page(), pages()).prop_map(|(page, pages)| Op::Restore { page, pages }),
        1 => budget.prop_map(Op::Budget),
    ]
}

fn run(op: &Op, t: &mut Stage2, m: &mut Walker) {
    let at = |page: u64| Ipa(page * PAGE_SIZE);
    // Errors are for lack of memory, or because something is mapped; neither excuses a wrong order.
    let _ = match *op {
        Op::Map { page, to, pages, access } => {
            t.map(at(page), Pa(to * PAGE_SIZE), pages * PAGE_SIZE, access, MemoryType::Normal, m)
        }
        Op::Unmap { page, pages } => t.unmap(at(page), pages * PAGE_SIZE, m),
        Op::Withhold { page, pages } => t.withhold(at(page), pages * PAGE_SIZE, m),
        Op::Restore { page, pages } => t.restore(at(page), pages * PAGE_SIZE, m),
        Op::Budget(budget) => {
            m.budget = budget;
            Ok(())
        }
    };
    assert!(m.stale.is_empty(), "{op:?} is over, and caches know what is no more: {:x?}", m.stale);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 128 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn obeys_break_before_make(ops in prop::collection::vec(op(), 1..25)) {
        let (mut t, mut m) = new();
        for op in &ops {
            run(op, &mut t, &mut m);
        }
        m.budget = None;
        run(&Op::Unmap { page: 0, pages: 8 * GIB / PAGE_SIZE }, &mut t, &mut m);
        // The root is one here.
        prop_assert_eq!(m.pages_in_use(), 1);
    }

    /// A block is what one call of `map` made, or a part of it. So what was mapped by one call can be
    /// unmapped without memory for tables, whatever has been done to its neighbours.
    #[test]
    fn unmap_needs_no_memory(
        cut in 1u64..512,
        hole in 0u64..512,
        swap in any::<bool>(),
        big in any::<bool>(),
    ) {
        let unit = if big { MIB2 } else { PAGE_SIZE };
        let (mut t, mut m) = new();
        let base = 2 * GIB;
        let ranges = [(base, cut * unit), (base + cut * unit, (512 - cut) * unit)];
        for (at, len) in ranges {
            t.map(Ipa(at), Pa(at), len, Access::RWX, MemoryType::Normal, &mut m).unwrap();
        }
        let page = Ipa(base + hole * unit);
        t.withhold(page, PAGE_SIZE, &mut m).unwrap();
        t.restore(page, PAGE_SIZE, &mut m).unwrap();
        m.budget = Some(0);
        let (at, len) = ranges[usize::from(swap)];
        t.unmap(Ipa(at), len, &mut m).unwrap();
        prop_assert!(t.walk(Ipa(at), &m).is_none() && t.walk(Ipa(at + len - 1), &m).is_none());
    }

    /// What fails leaves the tables as they were: blocks, and memory in use.
    #[test]
    fn failure_leaves_blocks_unsplit(first in 1u64..1000, pages in 1u64..1000, budget in 0usize..4) {
        let (mut t, mut m) = new();
        t.map(Ipa(0), Pa(GIB), GIB, Access::RWX, MemoryType::Normal, &mut m).unwrap();
        let used = m.pages_in_use();
        m.budget = Some(budget);
        let (at, len) = (Ipa(first * PAGE_SIZE), pages * PAGE_SIZE);
        if t.withhold(at, len, &mut m).is_ok() {
            t.restore(at, len, &mut m).unwrap();
        }
        prop_assert_eq!((m.pages_in_use(), t.walk(at, &m).unwrap().block), (used, GIB));
        prop_assert_eq!(m.budget, Some(budget));
    }
}

/// Tables whose maintenance does nothing must be noticed.
#[test]
#[should_panic(expected = "made before it was broken")]
fn detects_split_without_tlb_maintenance() {
    let (mut t, mut m) = new();
    t.map(Ipa(0), Pa(0), GIB, Access::RWX, MemoryType::Normal, &mut m).unwrap();
    m.deaf = true;
    t.withhold(Ipa(0), PAGE_SIZE, &mut m).unwrap();
}

#[test]
#[should_panic(expected = "a walker may know")]
fn detects_table_freed_without_tlb_maintenance() {
    let (mut t, mut m) = new();
    t.map(Ipa(0), Pa(0), PAGE_SIZE, Access::RWX, MemoryType::Normal, &mut m).unwrap();
    m.deaf = true;
    t.unmap(Ipa(0), PAGE_SIZE, &mut m).unwrap();
}
