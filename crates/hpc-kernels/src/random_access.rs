//! HPCC RandomAccess: scattered updates of memory, in giga-updates per second (GUP/s).
//!
//! A table of 2^n words is updated 4 * 2^n times, at places that pseudo-random numbers name. The numbers are
//! made in 128 streams, each of which begins where the one before ends, so that 128 updates are independent
//! of each other; the rules allow up to 1024. Workers share the streams. Then the same updates are made
//! again, one by one in the order of the sequence: since an update is an exclusive-or, every word is now what
//! it was at first, except where two workers got into each other's way. The rules allow that in 1 % of the
//! words.

use crate::{Clock, Team, share};
use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Streams of numbers.
pub const STREAMS: usize = 128;
const UPDATES_PER_WORD: u64 = 4;
/// The smallest table whose updates the streams share equally: 2^5 words.
const MIN_LOG2: u32 = 5;
/// Words per 64 bytes, so that no two workers initialise the same cache line.
const BLOCK: usize = 8;
/// The polynomial x^64 + x^2 + x + 1 without its first term: HPCC's.
const POLYNOMIAL: u64 = 7;
/// Knuth's multiplier for 64 bits; the increment is 1.
const MULTIPLIER: u64 = 6364136223846793005;
const INCREMENT: u64 = 1;
/// Where the sequences begin.
const SEED: u64 = 1;

/// Generator of pseudo-random numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generator {
    /// A linear feedback shift register; the low bits name the word. The usual one.
    #[default]
    Polynomial,
    /// A linear congruence; the high bits name the word.
    Congruential,
}

/// A sequence of numbers. The implementations have no state: the last number is all there is.
trait Sequence {
    fn step(number: u64) -> u64;
    /// The word that a number names, of a power of two of them.
    fn index(number: u64, words: usize) -> usize;
    fn element(n: u64) -> u64;
}

struct Polynomial;
struct Congruential;

impl Sequence for Polynomial {
    /// Multiplies by x in GF(2)[x] modulo the polynomial.
    fn step(number: u64) -> u64 {
        let carry = (number as i64 >> 63) as u64;
        number << 1 ^ carry & POLYNOMIAL
    }

    fn index(number: u64, words: usize) -> usize {
        number as usize & (words - 1)
    }

    /// x^n, by squaring: the sequence begins with 1 = x^0, and each step multiplies by x.
    fn element(n: u64) -> u64 {
        power(n, SEED, |power| multiply(power, power), Self::step)
    }
}

impl Sequence for Congruential {
    fn step(number: u64) -> u64 {
        number.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT)
    }

    fn index(number: u64, words: usize) -> usize {
        (number >> (u64::BITS - words.ilog2())) as usize
    }

    /// n steps make one step with another multiplier and increment.
    fn element(n: u64) -> u64 {
        let then =
            |(m, i): (u64, u64), (k, j): (u64, u64)| (m.wrapping_mul(k), i.wrapping_mul(k).wrapping_add(j));
        let step = (MULTIPLIER, INCREMENT);
        let (m, i) = power(n, (1, 0), |half| then(half, half), |most| then(most, step));
        SEED.wrapping_mul(m).wrapping_add(i)
    }
}

/// n steps from `none`, by doubling.
fn power<T: Copy>(n: u64, none: T, double: impl Fn(T) -> T, step: impl Fn(T) -> T) -> T {
    let bits = u64::BITS - n.leading_zeros();
    (0..bits).rev().fold(none, |half, bit| {
        let whole = double(half);
        if n >> bit & 1 == 1 { step(whole) } else { whole }
    })
}

/// The product of two polynomials over GF(2), modulo [`POLYNOMIAL`].
fn multiply(one: u64, other: u64) -> u64 {
    (0..u64::BITS).rev().fold(0, |product, bit| {
        let shifted = Polynomial::step(product);
        if other >> bit & 1 == 1 { shifted ^ one } else { shifted }
    })
}

impl Generator {
    /// The `n`-th number, where the 0th is 1.
    pub fn element(self, n: u64) -> u64 {
        match self {
            Self::Polynomial => Polynomial::element(n),
            Self::Congruential => Congruential::element(n),
        }
    }

    /// The number after `number`.
    pub fn step(self, number: u64) -> u64 {
        match self {
            Self::Polynomial => Polynomial::step(number),
            Self::Congruential => Congruential::step(number),
        }
    }
}

/// Why there is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RandomAccessError {
    /// The table has fewer than 32 words.
    TooSmall(usize),
}

impl fmt::Display for RandomAccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall(words) => {
                write!(f, "RandomAccess needs a table of at least {} words, not {words}", 1 << MIN_LOG2)
            }
        }
    }
}

impl core::error::Error for RandomAccessError {}

/// Result of a RandomAccess run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The table has 2 to the power of this words.
    pub log2_words: u32,
    /// How many workers updated it.
    pub workers: usize,
    /// How the numbers were made.
    pub generator: Generator,
    /// How many updates were made.
    pub updates: u64,
    /// How long that took, in ticks.
    pub ticks: u64,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Billions (10^9) of updates per second.
    pub gups: f64,
    /// Words that are wrong.
    pub errors: u64,
    /// No more words are wrong than may be: none with one worker, 1 % with more.
    pub verified: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log2_words, workers, updates, seconds, gups, errors, .. } = self;
        writeln!(f, "RandomAccess: table of 2^{log2_words} words, {updates} updates, {workers} workers")?;
        writeln!(f, "RandomAccess: {seconds:.6} s, {gups:.9} GUP/s")?;
        let verdict = if self.verified { "verified" } else { "NOT verified" };
        write!(f, "RandomAccess: {verdict}: {errors} errors in 2^{log2_words} words")
    }
}

/// The words of the table for a machine or VM with so many bytes of memory: the largest power of two that is
/// at most half of it.
pub const fn table_words(memory: u64) -> u64 {
    match (memory / 2 / size_of::<u64>() as u64).checked_ilog2() {
        Some(log2) => 1 << log2,
        None => 0,
    }
}

/// Runs RandomAccess on the first 2^n words of `table`, as many as there are.
///
/// # Errors
/// The table has fewer than 32 words.
pub fn run(
    clock: &impl Clock,
    team: &impl Team,
    table: &[AtomicU64],
    generator: Generator,
) -> Result<Report, RandomAccessError> {
    let log2 = table.len().checked_ilog2().filter(|log2| *log2 >= MIN_LOG2);
    let log2 = log2.ok_or(RandomAccessError::TooSmall(table.len()))?;
    let table = &table[..1 << log2];
    let workers = team.size();
    let updates = updates_of(table);

    team.run(&|rank| {
        let mine = share(table.len(), BLOCK, rank, workers);
        for (index, word) in mine.clone().zip(&table[mine]) {
            word.store(index as u64, Relaxed);
        }
    });
    let start = clock.now();
    team.run(&|rank| match generator {
        Generator::Polynomial => update::<Polynomial>(table, rank, workers),
        Generator::Congruential => update::<Congruential>(table, rank, workers),
    });
    let ticks = clock.now().wrapping_sub(start);
    match generator {
        Generator::Polynomial => replay::<Polynomial>(table),
        Generator::Congruential => replay::<Congruential>(table),
    }

    let errors =
        table.iter().zip(0..).filter(|(word, index): &(_, u64)| word.load(Relaxed) != *index).count() as u64;
    let seconds = clock.seconds(ticks.max(1));
    let allowed = if workers == 1 { 0 } else { table.len() as u64 / 100 };
    Ok(Report {
        log2_words: log2,
        workers,
        generator,
        updates,
        ticks,
        seconds,
        gups: updates as f64 / seconds / 1e9,
        errors,
        verified: errors <= allowed,
    })
}

fn updates_of(table: &[AtomicU64]) -> u64 {
    UPDATES_PER_WORD * table.len() as u64
}

/// An update. A load and a store rather than an atomic exclusive-or: what gets lost then is what the 1 % is
/// for.
#[inline]
fn exclusive_or<S: Sequence>(table: &[AtomicU64], number: u64) {
    if let Some(word) = table.get(S::index(number, table.len())) {
        word.store(word.load(Relaxed) ^ number, Relaxed);
    }
}

/// The updates of one worker's streams.
#[inline(never)]
fn update<S: Sequence>(table: &[AtomicU64], rank: usize, workers: usize) {
    let steps = updates_of(table) / STREAMS as u64;
    let mine = share(STREAMS, 1, rank, workers);
    let mut numbers: [u64; STREAMS] =
        core::array::from_fn(
            |stream| if mine.contains(&stream) { S::element(stream as u64 * steps) } else { 0 },
        );
    let numbers = &mut numbers[mine];
    for _ in 0..steps {
        for number in &mut *numbers {
            *number = S::step(*number);
            exclusive_or::<S>(table, *number);
        }
    }
}

/// All updates, in order.
#[inline(never)]
fn replay<S: Sequence>(table: &[AtomicU64]) {
    let mut number = SEED;
    for _ in 0..updates_of(table) {
        number = S::step(number);
        exclusive_or::<S>(table, number);
    }
}
