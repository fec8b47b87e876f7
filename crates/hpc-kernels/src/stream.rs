//! STREAM 5.10: the bandwidth of memory.
//!
//! Three arrays of N elements of 8 bytes, four kernels, each run [`NTIMES`] times and timed alone; the first
//! time does not count. An official figure wants each array at least four times as large as all last-level
//! caches together.

use crate::{Clock, MAX_WORKERS, Team, share};
use core::fmt;
use heapless::Vec;
use spin::Mutex;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of times that each kernel runs.
pub const NTIMES: u32 = 10;
/// Fewer leave nothing to report.
const NTIMES_MIN: u32 = 2;
const SCALAR: f64 = 3.0;
/// The largest mean relative error of an array that is correct.
const EPSILON: f64 = 1e-13;
/// A test of fewer ticks is not measured well.
const ENOUGH_TICKS: u64 = 20;
/// Workers share an array in pieces of so many lines, because caches often fetch two.
const BLOCK: usize = 2;
/// Elements in a line.
const ELEMENTS: usize = 8;
const BYTES: u64 = size_of::<f64>() as u64;

/// A cache line of elements: what arrays are made of.
///
/// The alignment is part of the type because `aarch64-unknown-none` is a target with strict alignment: the
/// compiler takes vector loads apart, element by element, unless it knows that they are aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
pub struct Line(pub [f64; ELEMENTS]);

/// Kernels, in the order in which they run.
const KERNELS: [(&str, Kernel, u64); 4] =
    [("Copy", copy, 2), ("Scale", scale, 2), ("Add", add, 3), ("Triad", triad, 3)];

type Kernel = fn(&mut Part<'_>);

/// One worker's share of the arrays.
struct Part<'a> {
    a: &'a mut [Line],
    b: &'a mut [Line],
    c: &'a mut [Line],
}

type Parts<'a> = Vec<Mutex<Part<'a>>, MAX_WORKERS>;

/// Why there is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The arrays are empty, or not equally long.
    Arrays,
    /// Each kernel has to run at least twice.
    Times(u32),
    /// There are more workers than [`MAX_WORKERS`].
    Workers(usize),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrays => f.write_str("STREAM needs three arrays of the same length"),
            Self::Times(times) => write!(f, "STREAM runs each kernel at least twice, not {times} times"),
            Self::Workers(workers) => {
                write!(f, "STREAM runs on at most {MAX_WORKERS} workers, not {workers}")
            }
        }
    }
}

impl core::error::Error for StreamError {}

/// Result of one STREAM kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Copy, Scale, Add or Triad.
    pub name: &'static str,
    /// Bytes that it reads and writes.
    pub bytes: u64,
    /// Bytes per shortest time, in MB/s (a MB has 10^6 bytes).
    pub best_rate: f64,
    /// Mean time, in seconds.
    pub avg: f64,
    /// Shortest time, in seconds.
    pub min: f64,
    /// Longest time, in seconds.
    pub max: f64,
    /// Shortest time, in ticks.
    pub min_ticks: u64,
    /// Longest time, in ticks.
    pub max_ticks: u64,
}

/// Result of a STREAM run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Elements of each array.
    pub elements: usize,
    /// How often each kernel ran.
    pub times: u32,
    /// How many workers ran it.
    pub workers: usize,
    /// The smallest step of the clock that was seen, in ticks.
    pub clock_step: u64,
    /// Copy, Scale, Add and Triad.
    pub kernels: [Figures; 4],
    /// The mean relative errors of the arrays a, b and c.
    pub errors: [f64; 3],
    /// A test takes at least 20 steps of the clock: the figures are good.
    pub long_enough: bool,
    /// All errors are at most 10^-13.
    pub verified: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = (self.elements as u64 * BYTES) as f64 / 1048576.0;
        writeln!(f, "STREAM: {} elements, {mib:.1} MiB per array, {} workers", self.elements, self.workers)?;
        writeln!(f, "Function    Best Rate MB/s  Avg time     Min time     Max time")?;
        for Figures { name, best_rate, avg, min, max, .. } in &self.kernels {
            writeln!(f, "{name:<12}{best_rate:>12.1}  {avg:>11.6}  {min:>11.6}  {max:>11.6}")?;
        }
        if !self.long_enough {
            writeln!(
                f,
                "STREAM: each test takes less than {ENOUGH_TICKS} steps of the clock: use larger arrays"
            )?;
        }
        let [a, b, c] = self.errors;
        let verdict = if self.verified { "verified" } else { "NOT verified" };
        write!(f, "STREAM: {verdict}: mean relative errors {a:e} {b:e} {c:e}")
    }
}

/// Divides memory into three arrays of whole lines, as large as possible.
pub fn split(memory: &mut [f64]) -> [&mut [Line]; 3] {
    let bytes = memory.as_mut_bytes();
    let skip = bytes.as_ptr().align_offset(align_of::<Line>()).min(bytes.len());
    let bytes = &mut bytes[skip..];
    let lines = bytes.len() / size_of::<Line>() / 3;
    let Ok((lines, _)) = <[Line]>::mut_from_prefix_with_elems(bytes, 3 * lines) else {
        // Not reached: the bytes are aligned, and enough.
        return Default::default();
    };
    let (a, rest) = lines.split_at_mut(lines.len() / 3);
    let (b, c) = rest.split_at_mut(rest.len() / 2);
    [a, b, c]
}

/// Runs STREAM on the arrays a, b and c. Each worker touches its own share first, and always the same.
///
/// # Errors
/// See [`StreamError`].
pub fn run(
    clock: &impl Clock,
    team: &impl Team,
    arrays: [&mut [Line]; 3],
    times: u32,
) -> Result<Report, StreamError> {
    let [a, b, c] = arrays;
    let (lines, workers) = (a.len(), team.size());
    if lines == 0 || b.len() != lines || c.len() != lines {
        return Err(StreamError::Arrays);
    }
    if times < NTIMES_MIN {
        return Err(StreamError::Times(times));
    }
    let parts = divide(a, b, c, workers).ok_or(StreamError::Workers(workers))?;
    let timed = |kernel: Kernel| {
        let start = clock.now();
        team.run(&|rank| kernel(&mut parts[rank].lock()));
        clock.now().wrapping_sub(start)
    };

    timed(fill);
    let clock_step = step_of(clock);
    let long_enough = timed(double) >= ENOUGH_TICKS.saturating_mul(clock_step);
    let mut ticks = [Ticks::default(); 4];
    for round in 0..times {
        for ((_, kernel, _), ticks) in KERNELS.iter().zip(&mut ticks) {
            let length = timed(*kernel);
            if round > 0 {
                ticks.add(length);
            }
        }
    }

    let elements = lines * ELEMENTS;
    let errors = errors(&parts, elements, times);
    let figures = |kernel: usize| {
        let (name, _, arrays) = KERNELS[kernel];
        let Ticks { min, max, sum } = ticks[kernel];
        let bytes = arrays * BYTES * elements as u64;
        Figures {
            name,
            bytes,
            // A time of no ticks was shorter than one.
            best_rate: bytes as f64 / 1e6 / clock.seconds(min.max(1)),
            avg: clock.seconds(sum) / f64::from(times - 1),
            min: clock.seconds(min),
            max: clock.seconds(max),
            min_ticks: min,
            max_ticks: max,
        }
    };
    Ok(Report {
        elements,
        times,
        workers,
        clock_step,
        kernels: core::array::from_fn(figures),
        errors,
        long_enough,
        // Written so that an error that is not a number is one.
        verified: errors.iter().all(|error| *error <= EPSILON),
    })
}

#[derive(Clone, Copy)]
struct Ticks {
    min: u64,
    max: u64,
    sum: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        Self { min: u64::MAX, max: 0, sum: 0 }
    }
}

impl Ticks {
    fn add(&mut self, length: u64) {
        self.min = self.min.min(length);
        self.max = self.max.max(length);
        self.sum = self.sum.saturating_add(length);
    }
}

/// Divides arrays among workers.
fn divide<'a>(
    mut a: &'a mut [Line],
    mut b: &'a mut [Line],
    mut c: &'a mut [Line],
    workers: usize,
) -> Option<Parts<'a>> {
    let lines = a.len();
    let mut parts = Vec::new();
    for rank in 0..workers {
        let len = share(lines, BLOCK, rank, workers).len();
        let part =
            Part { a: a.split_off_mut(..len)?, b: b.split_off_mut(..len)?, c: c.split_off_mut(..len)? };
        parts.push(Mutex::new(part)).ok()?;
    }
    Some(parts)
}

/// The smallest step that the clock makes, in ticks; 1 if it stands still.
fn step_of(clock: &impl Clock) -> u64 {
    const STEPS: usize = 20;
    const PATIENCE: usize = 1_000_000;
    let mut smallest = u64::MAX;
    for _ in 0..STEPS {
        let start = clock.now();
        let step = (0..PATIENCE).map(|_| clock.now().wrapping_sub(start)).find(|step| *step > 0);
        smallest = smallest.min(step.unwrap_or(1));
    }
    smallest
}

#[inline(never)]
fn fill(part: &mut Part<'_>) {
    part.a.fill(Line([1.0; ELEMENTS]));
    part.b.fill(Line([2.0; ELEMENTS]));
    part.c.fill(Line([0.0; ELEMENTS]));
}

#[inline(never)]
fn double(part: &mut Part<'_>) {
    for Line(a) in &mut *part.a {
        for a in a {
            *a *= 2.0;
        }
    }
}

fn copy(part: &mut Part<'_>) {
    copy_lines(part.c, part.a);
}

/// Element by element, because the compiler makes a call of `memcpy` of any plain loop, and that measures
/// `memcpy`.
#[inline(never)]
fn copy_lines(to: &mut [Line], from: &[Line]) {
    for (Line([t0, t1, t2, t3, t4, t5, t6, t7]), Line([f0, f1, f2, f3, f4, f5, f6, f7])) in
        to.iter_mut().zip(from)
    {
        (*t0, *t1, *t2, *t3, *t4, *t5, *t6, *t7) = (*f0, *f1, *f2, *f3, *f4, *f5, *f6, *f7);
    }
}

fn scale(part: &mut Part<'_>) {
    scale_lines(part.b, part.c);
}

#[inline(never)]
fn scale_lines(to: &mut [Line], from: &[Line]) {
    for (Line(to), Line(from)) in to.iter_mut().zip(from) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = SCALAR * from;
        }
    }
}

fn add(part: &mut Part<'_>) {
    add_lines(part.c, part.a, part.b);
}

#[inline(never)]
fn add_lines(to: &mut [Line], one: &[Line], other: &[Line]) {
    for ((Line(to), Line(one)), Line(other)) in to.iter_mut().zip(one).zip(other) {
        for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
            *to = one + other;
        }
    }
}

fn triad(part: &mut Part<'_>) {
    triad_lines(part.a, part.b, part.c);
}

#[inline(never)]
fn triad_lines(to: &mut [Line], one: &[Line], other: &[Line]) {
    for ((Line(to), Line(one)), Line(other)) in to.iter_mut().zip(one).zip(other) {
        for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
            *to = one + SCALAR * other;
        }
    }
}

/// The mean relative errors of the arrays, against the same operations on three numbers.
fn errors(parts: &Parts<'_>, elements: usize, times: u32) -> [f64; 3] {
    let expected = expected(times);
    let mut sums = [0.0; 3];
    for part in parts {
        let part = part.lock();
        for ((sum, expected), array) in sums.iter_mut().zip(expected).zip([&part.a, &part.b, &part.c]) {
            *sum +=
                array.iter().flat_map(|Line(line)| line).map(|value| (value - expected).abs()).sum::<f64>();
        }
    }
    core::array::from_fn(|array| sums[array] / elements as f64 / expected[array])
}

/// Returns the value of each element of a, b and c after `times` rounds. With ten, a is 2 * 15^10.
pub fn expected(times: u32) -> [f64; 3] {
    let (mut a, mut b, mut c) = (2.0, 2.0, 0.0);
    for _ in 0..times {
        c = a;
        b = SCALAR * c;
        c = a + b;
        a = b + SCALAR * c;
    }
    [a, b, c]
}
