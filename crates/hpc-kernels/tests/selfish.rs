//! Selfish-detour with a clock whose interruptions are scripted.
mod common;

use common::Host;
use hpc_kernels::{
    Clock,
    selfish::{self, Config, Detour, Point, SelfishError},
};
use proptest::prelude::*;
use std::{cell::Cell, collections::BTreeMap};

/// Reads of the clock in the calibration of a quiet core: the first round finds the minimum, a hundred do
/// not.
const CALIBRATION: u64 = 101 * 26;
const LOOP: u64 = 3;

/// Every read takes [`LOOP`] ticks of 10 ns, except for some.
struct Scripted {
    reads: Cell<u64>,
    now: Cell<u64>,
    late: BTreeMap<u64, u64>,
}

impl Scripted {
    fn new(late: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let late = late.into_iter().map(|(read, by)| (CALIBRATION + read, by)).collect();
        Self { reads: Cell::new(0), now: Cell::new(1000), late }
    }
}

impl Clock for Scripted {
    fn now(&self) -> u64 {
        let late = self.late.get(&self.reads.get()).copied().unwrap_or(0);
        self.reads.set(self.reads.get() + 1);
        self.now.set(self.now.get() + LOOP + late);
        self.now.get()
    }

    fn frequency_hz(&self) -> u64 {
        100_000_000
    }
}

fn config(period: u64) -> Config {
    Config { threshold_percent: Config::THRESHOLD_PERCENT, period }
}

#[test]
fn a_quiet_core_has_no_detour() {
    let clock = Scripted::new([]);
    let mut buffer = [Detour::default(); 25];
    let report = selfish::run(&clock, &mut buffer, config(3000)).unwrap();
    assert_eq!((report.min, report.min_ns, report.threshold), (3, 30, 27));
    assert_eq!((report.iterations, report.period, report.period_ns), (1000, 3000, 30_000));
    assert!(report.detours.is_empty() && report.verified && report.short && !report.full && !report.coarse);
    assert_eq!((report.lost, report.noise_percent), (0, 0.0));
}

#[test]
fn finds_scripted_detours() {
    // The 0th read is the start. 24 + 3 ticks are not more than the threshold, 25 + 3 are.
    let clock = Scripted::new([(10, 25), (20, 24), (30, 97), (31, 50)]);
    let mut buffer = [Detour::default(); 30];
    let report = selfish::run(&clock, &mut buffer, config(100_000_000)).unwrap();
    assert_eq!(
        report.detours,
        [
            Detour { from: 27, to: 55 },
            Detour { from: 55 + 9 * 3 + 27 + 9 * 3, to: 55 + 9 * 3 + 27 + 9 * 3 + 100 },
            Detour { from: 236, to: 289 },
        ]
    );
    assert_eq!((report.lost, report.lost_ns, report.longest_ns), (25 + 97 + 50, 1720, 970));
    let points: Vec<_> = report.points().collect();
    assert_eq!(points[0], Point { at_ns: 0, length_ns: 250 });
    assert_eq!(points[1], Point { at_ns: (136 - 27) * 10, length_ns: 970 });
    assert!(report.verified && !report.short);
    assert!((report.noise_percent - 172.0 / 1_000_000.0).abs() < 1e-7);
    assert!(report.to_string().contains("3 detours, 1720 ns, longest 970 ns, noise 0.000172 %"));
}

#[test]
fn ends_when_buffer_is_full() {
    let clock = Scripted::new((0..1000).map(|n| (10 * n, 500)));
    let mut buffer = [Detour::default(); 40];
    let report = selfish::run(&clock, &mut buffer, config(u64::MAX)).unwrap();
    assert!(report.full && report.verified);
    assert_eq!((report.detours.len(), report.iterations), (40, 400));
    assert_eq!(report.detours[39].to, report.period);
}

#[test]
fn reports_coarse_counter() {
    struct Coarse(Cell<u64>);
    impl Clock for Coarse {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            self.0.get() / 10
        }
        fn frequency_hz(&self) -> u64 {
            1_000_000
        }
    }
    let mut buffer = [Detour::default(); 40];
    let report = selfish::run(&Coarse(Cell::new(0)), &mut buffer, config(1_000_000)).unwrap();
    assert!(report.coarse && report.verified);
    assert_eq!((report.min, report.threshold, report.detours.len()), (1, 9, 0));
    assert!(report.to_string().contains("too coarse"));
}

#[test]
fn reports_counter_going_backwards() {
    struct Backwards(Cell<u64>);
    impl Clock for Backwards {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            let reads = self.0.get();
            if reads == CALIBRATION + 500 { 3 } else { reads * 3 }
        }
        fn frequency_hz(&self) -> u64 {
            1_000_000
        }
    }
    let mut buffer = [Detour::default(); 40];
    let report = selfish::run(&Backwards(Cell::new(0)), &mut buffer, config(100_000)).unwrap();
    assert!(!report.verified);
}

#[test]
fn the_calibration_needs_room() {
    let mut buffer = [Detour::default(); 24];
    assert_eq!(selfish::run(&Host::new(), &mut buffer, config(1)), Err(SelfishError::Buffer));
}

#[test]
fn a_real_clock_works() {
    let clock = Host::new();
    let mut buffer = vec![Detour::default(); 50_000];
    let config = Config { period: 20_000_000, ..Config::seconds(&clock, 1) };
    let report = selfish::run(&clock, &mut buffer, config).unwrap();
    assert!(report.verified && report.iterations > 100);
}

proptest! {
    #[test]
    fn every_scripted_detour_is_found(
        late in prop::collection::btree_map(1u64..2000, 1u64..2000, 0..60),
        room in 25usize..80,
    ) {
        let clock = Scripted::new(late.clone());
        let mut buffer = vec![Detour::default(); room];
        let all: u64 = late.values().sum();
        let report = selfish::run(&clock, &mut buffer, config(2000 * LOOP + all)).unwrap();
        let lengths: Vec<_> = report.detours.iter().map(|detour| detour.to - detour.from - LOOP).collect();
        let expected: Vec<_> = late.values().copied().filter(|by| by + LOOP > 27).take(room).collect();
        prop_assert_eq!(&lengths, &expected);
        prop_assert_eq!(report.full, expected.len() == room);
        prop_assert_eq!(report.lost, expected.iter().sum::<u64>());
        prop_assert!(report.verified);
    }
}
