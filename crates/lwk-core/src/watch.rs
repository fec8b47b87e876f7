//! A watch on stuck cores that costs nothing while they run.
//!
//! Nobody looks at a core that is left alone. An interrupt to another core is a question, and its handler the
//! answer: who asks a core that has owed an answer for too long says so, with the task that it runs. Who
//! waits in vain for what tasks of a core do, such as the end of a process, requests a report of where it is;
//! a core that cannot, because its interrupts are masked, owes an answer then. Who waits for a lock for too
//! long says that.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Watch on the answers of a core to interrupts from others.
#[derive(Debug, Default)]
pub struct Watch {
    /// When it was asked for the first time since its last answer; 0 if it owes none.
    asked: AtomicU64,
    /// That it owes an answer has been reported.
    reported: AtomicBool,
    /// Its next answer is to include a report of what it runs.
    report_requested: AtomicBool,
}

impl Watch {
    /// Returns a watch of a core that owes no answer.
    pub const fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            reported: AtomicBool::new(false),
            report_requested: AtomicBool::new(false),
        }
    }

    /// Records a request at `now`; returns the time since which an answer is overdue, if one is.
    ///
    /// An answer at the same moment may be taken for one to this question; it is looked at again with the
    /// next one.
    #[inline]
    pub fn ask(&self, now: u64) -> Option<u64> {
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == 0 {
            self.asked.store(now.max(1), Ordering::Relaxed);
        }
        (asked != 0).then_some(asked)
    }

    /// Returns whether that is too long, and news.
    pub fn is_news(&self, since: u64, now: u64, patience: u64) -> bool {
        now.saturating_sub(since) > patience && !self.reported.swap(true, Ordering::Relaxed)
    }

    /// Records an answer; returns whether a report was requested.
    #[inline]
    pub fn answer(&self) -> bool {
        self.asked.store(0, Ordering::Relaxed);
        self.report_requested.load(Ordering::Relaxed) && self.take_request()
    }

    #[cold]
    fn take_request(&self) -> bool {
        self.reported.store(false, Ordering::Relaxed);
        self.report_requested.swap(false, Ordering::Relaxed)
    }

    /// Requests a report of what the core runs, with its next answer.
    pub fn request_report(&self) {
        self.report_requested.store(true, Ordering::Relaxed);
    }
}

#[cfg(target_os = "none")]
pub use kernel::*;

#[cfg(target_os = "none")]
mod kernel {
    use super::{AtomicBool, AtomicU64, Ordering};
    use crate::{
        arch,
        backtrace::Code,
        console::print_urgently,
        percore::{self, PerCore},
        time,
    };

    /// How long others wait for an answer, unless `watch-ms=` says otherwise. In a VM a core waits for its
    /// turn.
    pub(crate) const PATIENCE_MS: u64 = 10_000;
    static PATIENCE: AtomicU64 = AtomicU64::new(u64::MAX);

    /// Sets how long others wait, in milliseconds.
    pub(crate) fn init(ms: u64) {
        PATIENCE.store(time::frequency().ns_to_ticks(ms.saturating_mul(1_000_000)), Ordering::Relaxed);
    }

    /// Returns the time until which a waiter that begins now waits for a core.
    pub fn deadline() -> u64 {
        time::ticks().saturating_add(PATIENCE.load(Ordering::Relaxed))
    }

    /// A core is asked that has owed an answer since a moment.
    #[cold]
    #[inline(never)]
    pub(crate) fn overdue(core: &PerCore, since: u64) {
        let now = time::stopwatch();
        if !core.watch.is_news(since, now, PATIENCE.load(Ordering::Relaxed)) {
            return;
        }
        let ms = time::frequency().ticks_to_ns(now.saturating_sub(since)) / 1_000_000;
        let core_index = core.index();
        let reported = core.scheduler.with_running_name(|name| {
            print_urgently(format_args!(
                "WARN  core {core_index} has not answered for {ms} ms; it runs {name}\n"
            ));
        });
        if reported.is_none() {
            print_urgently(format_args!(
                "WARN  core {core_index} has not answered for {ms} ms, and holds its queue\n"
            ));
        }
    }

    /// Requests a report on the console of what a core runs.
    pub fn request_report(core: &PerCore) {
        core.watch.request_report();
        core.interrupt();
    }

    /// On a core that is asked, in its interrupt handler.
    #[cold]
    #[inline(never)]
    pub(crate) fn report_here(core: &PerCore) {
        let pc = Code(arch::interrupted_pc());
        let index = core.index();
        core.scheduler.with_running_name(|name| log::warn!("core {index} runs {name} at {pc}"));
    }

    /// This core waits for a lock for so long that its holder must be stuck.
    #[cold]
    #[inline(never)]
    pub(crate) fn lock_is_stuck() {
        static REPORTED: AtomicBool = AtomicBool::new(false);
        if !REPORTED.swap(true, Ordering::Relaxed) {
            let core = percore::this().index();
            print_urgently(format_args!("WARN  core {core} waits for a lock that is not released\n"));
            print_urgently(format_args!("{}", crate::backtrace::Backtrace::here()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_clears_overdue_state() {
        let watch = Watch::new();
        for now in [0, 100, 5000] {
            assert_eq!(watch.ask(now), None);
            assert!(!watch.answer());
        }
    }

    #[test]
    fn reports_overdue_answer_once_since_first_request() {
        let watch = Watch::new();
        assert_eq!(watch.ask(100), None);
        assert_eq!(watch.ask(150), Some(100));
        assert!(!watch.is_news(100, 150, 50));
        assert_eq!(watch.ask(151), Some(100));
        assert!(watch.is_news(100, 151, 50));
        assert!(!watch.is_news(100, 200, 50));
        assert!(!watch.answer());
        assert_eq!(watch.ask(300), None);
    }

    #[test]
    fn reports_once_per_request_and_again_after_answer() {
        let watch = Watch::new();
        watch.ask(1);
        assert!(watch.is_news(1, 100, 50));
        watch.request_report();
        assert!(watch.answer());
        assert!(!watch.answer());
        watch.ask(200);
        assert!(watch.is_news(200, 300, 50));
    }
}
