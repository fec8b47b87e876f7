//! RandomAccess: the sequence, the table, the errors.
mod common;

use common::{Host, Threads};
use hpc_kernels::{
    Serial, Team,
    random_access::{self, Generator, RandomAccessError, table_words},
};
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

const GENERATORS: [Generator; 2] = [Generator::Polynomial, Generator::Congruential];

fn table(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0xbad)).collect()
}

#[test]
fn sequence_starts_with_known_values() {
    let generator = Generator::Polynomial;
    // x^0 … x^63 are single bits, and x^64 is the rest of the polynomial.
    for n in 0..64 {
        assert_eq!(generator.element(n), 1 << n);
    }
    assert_eq!([64, 65, 66].map(|n| generator.element(n)), [7, 14, 28]);
    // The period, from HPCC's documentation.
    assert_eq!(generator.element(1_317_624_576_693_539_401), 1);
    assert_eq!(Generator::Congruential.element(1), 6364136223846793006);
}

#[test]
fn jumping_ahead_is_stepping() {
    for generator in GENERATORS {
        let mut number = 1;
        for n in 0..5000 {
            assert_eq!(generator.element(n), number, "{generator:?} {n}");
            number = generator.step(number);
        }
    }
}

proptest! {
    #[test]
    fn jumping_far_ahead_is_stepping(n in 0..u64::MAX - 50, steps in 0u64..50) {
        for generator in GENERATORS {
            let number = (0..steps).fold(generator.element(n), |number, _| generator.step(number));
            prop_assert_eq!(generator.element(n + steps), number);
        }
    }
}

#[test]
fn one_worker_makes_no_errors() {
    for generator in GENERATORS {
        for log2 in 5..14 {
            let table = table((1 << log2) + 3);
            let report = random_access::run(&Host::new(), &Serial, &table, generator).unwrap();
            assert_eq!((report.log2_words, report.updates), (log2, 4 << log2));
            assert_eq!((report.errors, report.verified), (0, true));
            assert!(report.gups > 0.0 && report.gups.is_finite());
            // What is beyond the power of two is left alone.
            assert!(
                table[1 << log2..]
                    .iter()
                    .all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0xbad)
            );
        }
    }
}

#[test]
fn workers_share_the_streams() {
    for workers in [2, 3, 4, 128, 200] {
        let report =
            random_access::run(&Host::new(), &Threads(workers), &table(1 << 16), Generator::Polynomial)
                .unwrap();
        assert!(report.verified, "{workers} workers: {} errors", report.errors);
        assert!(report.to_string().contains("RandomAccess: verified: "));
    }
}

/// A team that runs its workers one after the other: no race, so no error.
struct InTurn(usize);

impl Team for InTurn {
    fn size(&self) -> usize {
        self.0
    }
    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        (0..self.0).for_each(work);
    }
}

#[test]
fn without_races_there_are_no_errors() {
    for workers in [2, 5, 127, 128, 129] {
        let report =
            random_access::run(&Host::new(), &InTurn(workers), &table(1 << 10), Generator::Polynomial)
                .unwrap();
        assert_eq!(report.errors, 0);
    }
}

#[test]
fn detects_missing_updates() {
    struct Lazy;
    impl Team for Lazy {
        fn size(&self) -> usize {
            2
        }
        fn run(&self, work: &(dyn Fn(usize) + Sync)) {
            work(0);
        }
    }
    let report = random_access::run(&Host::new(), &Lazy, &table(1 << 10), Generator::Polynomial).unwrap();
    assert!(!report.verified && report.errors > 10);
    assert!(report.to_string().contains("NOT verified"));
}

#[test]
fn tables_have_a_size() {
    assert_eq!(table_words(0), 0);
    assert_eq!(table_words(64 << 20), 4 << 20);
    assert_eq!(table_words((64 << 20) - 1), 2 << 20);
    let error = random_access::run(&Host::new(), &Serial, &table(31), Generator::Polynomial).unwrap_err();
    assert_eq!(error, RandomAccessError::TooSmall(31));
}
