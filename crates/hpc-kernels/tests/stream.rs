//! STREAM: results, figures and refusals.
#![expect(clippy::float_cmp, reason = "the results are exact")]
mod common;

use common::{Host, Threads};
use hpc_kernels::{
    Clock, MAX_WORKERS, Serial, Team, share,
    stream::{self, Line, NTIMES, StreamError},
};
use proptest::prelude::*;
use std::cell::Cell;

#[test]
fn ten_rounds_have_a_known_result() {
    let last = 2 * 15u64.pow(9);
    assert_eq!(last, 76_886_718_750);
    let [a, b, c] = stream::expected(NTIMES).map(|value| value as u64);
    assert_eq!((a, b, c), (1_153_300_781_250, 230_660_156_250, 307_546_875_000));
    assert_eq!((b, c), (3 * last, 4 * last));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 100 }))]

    #[test]
    fn every_element_is_right(start in 0usize..9, len in 1usize..100, workers in 1usize..9, times in 2u32..13) {
        let mut memory = vec![f64::NAN; start + 24 * len + 7];
        let arrays = stream::split(&mut memory[start..]);
        prop_assume!(arrays[0].len() == len);
        let report = stream::run(&Host::new(), &Threads(workers), arrays, times).unwrap();
        prop_assert!(report.verified);
        prop_assert_eq!((report.elements, report.workers, report.times), (8 * len, workers, times));
        prop_assert_eq!(report.errors, [0.0; 3]);
        let first = memory.iter().position(|value| !value.is_nan()).unwrap();
        for (array, expected) in memory[first..].chunks(8 * len).zip(stream::expected(times)) {
            prop_assert!(array.iter().all(|value| *value == expected));
        }
        prop_assert!(first >= start && memory[first + 24 * len..].iter().all(|value| value.is_nan()));
    }

    #[test]
    fn memory_is_divided_into_whole_lines(len in 0usize..200, start in 0usize..9) {
        let mut memory = vec![0.0; start + len];
        let [a, b, c] = stream::split(&mut memory[start..]);
        prop_assert!(a.len() == b.len() && b.len() == c.len());
        prop_assert!(a.len() <= len / 24 && a.len() >= len.saturating_sub(7) / 24);
    }

    #[test]
    fn shares_cover_all_elements(len in 0usize..500, block in 1usize..20, workers in 1usize..40) {
        let mut next = 0;
        let mut sizes = Vec::new();
        for rank in 0..workers {
            let mine = share(len, block, rank, workers);
            prop_assert_eq!(mine.start, next);
            prop_assert!(mine.start.is_multiple_of(block) || mine.is_empty());
            sizes.push(mine.len());
            next = mine.end;
        }
        prop_assert_eq!(next, len);
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() < 2 * block);
    }
}

/// Every read takes the next step, then a hundred ticks.
struct Scripted(Cell<u64>, Cell<usize>, Vec<u64>);

impl Clock for Scripted {
    fn now(&self) -> u64 {
        let step = self.2.get(self.1.get()).copied().unwrap_or(100);
        self.1.set(self.1.get() + 1);
        self.0.set(self.0.get() + step);
        self.0.get()
    }

    fn frequency_hz(&self) -> u64 {
        1_000_000
    }
}

#[test]
fn the_first_time_does_not_count() {
    // Reads: 2 for the fill, 40 for the step of the clock, 2 for doubling, then 2 for each kernel of each
    // round.
    let mut steps = vec![100; 44 + 3 * 8];
    steps[43] = 2000; // doubling: 20 steps
    steps[45] = 1; // first round: shorter and longer than all others
    steps[47] = 1_000_000;
    steps[44 + 8 + 1] = 400; // Copy, second and third round
    steps[44 + 16 + 1] = 500;
    let mut memory = vec![0.0; 3007];
    let clock = Scripted(Cell::new(0), Cell::new(0), steps);
    let report = stream::run(&clock, &Serial, stream::split(&mut memory), 3).unwrap();
    assert_eq!((report.clock_step, report.long_enough), (100, true));
    let [copy, scale, add, triad] = report.kernels;
    assert_eq!((copy.min_ticks, copy.max_ticks), (400, 500));
    assert!((copy.avg - 450e-6).abs() < 1e-12 && (copy.min - 400e-6).abs() < 1e-12);
    assert!((copy.best_rate - 16_000.0 / 1e6 / 400e-6).abs() < 1e-9);
    assert_eq!((scale.min_ticks, scale.max_ticks, scale.name), (100, 100, "Scale"));
    assert_eq!([copy.bytes, scale.bytes, add.bytes, triad.bytes], [16_000, 16_000, 24_000, 24_000]);
    let text = report.to_string();
    assert!(
        text.contains("Function    Best Rate MB/s")
            && text.ends_with("verified: mean relative errors 0e0 0e0 0e0")
    );
}

#[test]
fn survives_stopped_clock() {
    struct Still;
    impl Clock for Still {
        fn now(&self) -> u64 {
            7
        }
        fn frequency_hz(&self) -> u64 {
            1000
        }
    }
    let mut memory = vec![0.0; 300];
    let report = stream::run(&Still, &Serial, stream::split(&mut memory), 2).unwrap();
    assert!(report.verified && !report.long_enough && report.kernels[0].best_rate.is_finite());
}

#[test]
fn detects_idle_worker() {
    struct Lazy;
    impl Team for Lazy {
        fn size(&self) -> usize {
            2
        }
        fn run(&self, work: &(dyn Fn(usize) + Sync)) {
            work(0);
        }
    }
    for stale in [0.0, f64::NAN] {
        let mut memory = vec![stale; 300];
        let report = stream::run(&Host::new(), &Lazy, stream::split(&mut memory), 2).unwrap();
        assert!(!report.verified);
        assert!(report.to_string().contains("NOT verified"));
    }
}

#[test]
fn nonsense_is_refused() {
    let line = Line::default();
    let (mut a, mut b, mut c) = ([line; 4], [line; 4], [line; 3]);
    let run = |team: &dyn Fn() -> usize, arrays: [&mut [Line]; 3], times| {
        stream::run(&Host::new(), &Threads(team()), arrays, times).map(drop)
    };
    assert_eq!(run(&|| 1, [&mut a, &mut b, &mut c], 10), Err(StreamError::Arrays));
    assert_eq!(run(&|| 1, [&mut [], &mut [], &mut []], 10), Err(StreamError::Arrays));
    assert_eq!(run(&|| 1, [&mut a, &mut b, &mut [line; 4]], 1), Err(StreamError::Times(1)));
    let many = MAX_WORKERS + 1;
    assert_eq!(run(&|| many, [&mut a, &mut b, &mut [line; 4]], 2), Err(StreamError::Workers(many)));
}
