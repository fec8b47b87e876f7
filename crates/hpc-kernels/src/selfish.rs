//! Selfish-detour: the noise that a core suffers.
//!
//! A loop reads the counter and nothing else. An iteration that takes much longer than the shortest was
//! interrupted: a detour, recorded with its place in time. The method is that of Beckman and others ("The
//! influence of operating systems on the performance of collective operations at extreme scale", 2006);
//! parameters are those of netgauge's noise measurement.

use crate::Clock;
use core::fmt;

/// Recorded iterations in a round of calibration.
const ROUND: usize = 25;
/// So many rounds in a row must have no shorter iteration.
const QUIET_ROUNDS: u32 = 100;
/// Shorter measurements say little; in nanoseconds.
const SHORT: u64 = 1_000_000_000;

/// An iteration that took long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detour {
    /// When it began, in ticks from the start of the measurement.
    pub from: u64,
    /// When it ended, likewise.
    pub to: u64,
}

/// Parameters of a selfish-detour run.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How much longer than the shortest iteration a detour takes, in percent of it.
    pub threshold_percent: u64,
    /// The measurement ends after so many ticks, or when the buffer is full.
    pub period: u64,
}

impl Config {
    /// Nine times the shortest iteration, as netgauge.
    pub const THRESHOLD_PERCENT: u64 = 900;

    /// A measurement of `seconds` with the usual threshold.
    pub fn seconds(clock: &impl Clock, seconds: u64) -> Self {
        let period = clock.frequency_hz().saturating_mul(seconds);
        Self { threshold_percent: Self::THRESHOLD_PERCENT, period }
    }
}

/// Why there is no measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfishError {
    /// The buffer has room for less than the 25 iterations of a calibration round.
    Buffer,
}

impl fmt::Display for SelfishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer => write!(f, "selfish-detour needs a buffer for at least {ROUND} detours"),
        }
    }
}

impl core::error::Error for SelfishError {}

/// Result of a selfish-detour run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report<'a> {
    /// The detours, in the order in which they happened.
    pub detours: &'a [Detour],
    /// The shortest iteration, in ticks; 1 if the counter is too coarse to measure it.
    pub min: u64,
    /// The shortest iteration, in nanoseconds.
    pub min_ns: u64,
    /// Iterations of more than so many ticks are detours.
    pub threshold: u64,
    /// Iterations, detours included.
    pub iterations: u64,
    /// How long the measurement took, in ticks.
    pub period: u64,
    /// How long the measurement took, in nanoseconds.
    pub period_ns: u64,
    /// What all detours took beyond the shortest iteration, in ticks.
    pub lost: u64,
    /// What all detours took beyond the shortest iteration, in nanoseconds.
    pub lost_ns: u64,
    /// What the longest detour took beyond the shortest iteration, in nanoseconds.
    pub longest_ns: u64,
    /// `lost` in percent of `period`.
    pub noise_percent: f64,
    /// The counter did not move in an iteration: take the figures with caution.
    pub coarse: bool,
    /// The measurement ended because the buffer was full.
    pub full: bool,
    /// The measurement took less than a second.
    pub short: bool,
    /// The counter never went backwards, the detours are in order, do not overlap and fit into the period.
    pub verified: bool,
    frequency_hz: u64,
}

/// A detour as it is plotted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds since the first detour.
    pub at_ns: u64,
    /// What it took beyond the shortest iteration, in nanoseconds.
    pub length_ns: u64,
}

struct Frequency(u64);

impl Clock for Frequency {
    fn now(&self) -> u64 {
        0
    }

    fn frequency_hz(&self) -> u64 {
        self.0
    }
}

impl<'a> Report<'a> {
    /// The detours with their times in nanoseconds.
    pub fn points(&self) -> impl Iterator<Item = Point> + use<'a> {
        let (clock, min) = (Frequency(self.frequency_hz), self.min);
        let first = self.detours.first().map_or(0, |detour| detour.from);
        self.detours.iter().map(move |detour| Point {
            at_ns: clock.nanoseconds(detour.from.wrapping_sub(first)),
            length_ns: clock.nanoseconds(beyond(*detour, min)),
        })
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "selfish: period {} ns, {} iterations", self.period_ns, self.iterations)?;
        let (min, ns) = (self.min, self.min_ns);
        writeln!(f, "selfish: shortest iteration {min} ticks = {ns} ns, threshold {} ticks", self.threshold)?;
        write!(
            f,
            "selfish: {} detours, {} ns, longest {} ns, ",
            self.detours.len(),
            self.lost_ns,
            self.longest_ns
        )?;
        writeln!(f, "noise {:.6} %", self.noise_percent)?;
        for (is, remark) in [
            (self.coarse, "the counter is too coarse for the loop"),
            (self.full, "ended early: the buffer is full"),
            (self.short, "measured for less than a second"),
        ] {
            if is {
                writeln!(f, "selfish: {remark}")?;
            }
        }
        write!(f, "selfish: {}", if self.verified { "verified" } else { "NOT verified" })
    }
}

fn beyond(detour: Detour, min: u64) -> u64 {
    detour.to.wrapping_sub(detour.from).saturating_sub(min)
}

/// What the loop has seen.
struct Seen {
    recorded: usize,
    iterations: u64,
    period: u64,
}

/// The loop: records the iterations of at least `shortest` ticks, until the buffer is full or `period` ticks
/// are over. Calibration and measurement run this same code, so it is not inlined into either.
#[inline(never)]
fn watch(clock: &impl Clock, buffer: &mut [Detour], shortest: u64, period: u64) -> Seen {
    let room = buffer.len();
    let mut slots = buffer.iter_mut();
    let mut iterations = 0;
    let start = clock.now();
    let mut previous = start;
    loop {
        let now = clock.now();
        iterations += 1;
        if now.wrapping_sub(previous) >= shortest {
            if let Some(slot) = slots.next() {
                *slot = Detour { from: previous.wrapping_sub(start), to: now.wrapping_sub(start) };
            }
            if slots.len() == 0 {
                return Seen { recorded: room, iterations, period: now.wrapping_sub(start) };
            }
        }
        previous = now;
        if now.wrapping_sub(start) >= period {
            return Seen { recorded: room - slots.len(), iterations, period: now.wrapping_sub(start) };
        }
    }
}

/// The shortest iteration, in ticks; 0 if the counter does not move in one.
fn calibrate(clock: &impl Clock, buffer: &mut [Detour]) -> u64 {
    let mut min = u64::MAX;
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS && min > 0 {
        let seen = watch(clock, buffer, 0, u64::MAX);
        let lengths = buffer[..seen.recorded].iter().map(|detour| detour.to.wrapping_sub(detour.from));
        let shortest = lengths.min().unwrap_or(0);
        quiet = if shortest < min { 0 } else { quiet + 1 };
        min = min.min(shortest);
    }
    min
}

/// Measures the noise of the core that runs this. Whoever calls it is not to be moved to another core.
///
/// `buffer` is written as a whole before the measurement, so that no page of it is touched for the first time
/// in it.
///
/// # Errors
/// The buffer has room for less than 25 detours.
pub fn run<'a>(
    clock: &impl Clock,
    buffer: &'a mut [Detour],
    config: Config,
) -> Result<Report<'a>, SelfishError> {
    buffer.fill(Detour { from: u64::MAX, to: u64::MAX });
    let round = buffer.get_mut(..ROUND).ok_or(SelfishError::Buffer)?;
    let calibrated = calibrate(clock, round);
    let min = calibrated.max(1);
    let threshold = u64::try_from(u128::from(min) * u128::from(config.threshold_percent) / 100);
    let threshold = threshold.unwrap_or(u64::MAX);
    let seen = watch(clock, buffer, threshold.saturating_add(1), config.period);

    let full = seen.recorded == buffer.len();
    let detours = &buffer[..seen.recorded];
    let lengths = || detours.iter().map(|detour| beyond(*detour, min));
    let lost = lengths().fold(0, u64::saturating_add);
    let in_order = detours.is_sorted_by(|one, next| one.to <= next.from);
    // A counter that went below its start has, seen from there, gone more than half around.
    let forward = i64::try_from(seen.period).is_ok();
    let sane = detours.iter().all(|detour| detour.from < detour.to && detour.to <= seen.period);
    Ok(Report {
        detours,
        min,
        min_ns: clock.nanoseconds(min),
        threshold,
        iterations: seen.iterations,
        period: seen.period,
        period_ns: clock.nanoseconds(seen.period),
        lost,
        lost_ns: clock.nanoseconds(lost),
        longest_ns: clock.nanoseconds(lengths().max().unwrap_or(0)),
        noise_percent: if seen.period == 0 { 0.0 } else { 100.0 * lost as f64 / seen.period as f64 },
        coarse: calibrated == 0,
        full,
        short: clock.nanoseconds(seen.period) < SHORT,
        verified: in_order && sane && forward && seen.iterations > 0,
        frequency_hz: clock.frequency_hz(),
    })
}
