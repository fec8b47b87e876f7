//! Expectations: what a console must say, must not say, and how the machine must end.
//!
//! A pattern is a part of a line, in which `*` stands for anything:
//! `[one] @result workload=stream *verified=yes`.

use crate::{
    console,
    qemu::{End, Outcome},
};
use serde::Deserialize;
use std::time::Duration;

/// Bad news, unless a scenario expects exactly that line.
const BAD_NEWS: &[&str] = &["panic: ", "fatal: ", "verified=no", "ok=no"];
/// How long a machine that is not to shut down may go on after all was said.
const GRACE: Duration = Duration::from_secs(2);

/// What is expected of a machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Expect {
    /// Lines that must come, in this order.
    pub lines: Vec<String>,
    /// Lines that must come, in any order.
    pub also: Vec<String>,
    /// Lines that must not come, besides bad news in general.
    pub never: Vec<String>,
    pub ends: Ends,
    /// The kernel's `@exit status`.
    pub status: Option<i64>,
}

/// How a machine must end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ends {
    /// It shuts itself down.
    #[default]
    PowerOff,
    /// Either way: what it said is all that counts.
    Anyhow,
}

impl Expect {
    /// Whether there is nothing to see.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.also.is_empty()
    }

    /// All that is wrong with `outcome`, in sentences.
    pub fn check(&self, outcome: &Outcome, limit: Duration) -> Vec<String> {
        let mut faults = Vec::new();
        let lines = &outcome.lines;
        let mut from = 0;
        for pattern in &self.lines {
            if let Some(at) = lines[from..].iter().position(|line| matches(pattern, line)) {
                from += at + 1;
            } else {
                let after =
                    from.checked_sub(1).map(|at| format!(" after \"{}\"", lines[at])).unwrap_or_default();
                faults.push(format!("no line \"{pattern}\"{after}"));
                break;
            }
        }
        for pattern in self.also.iter().filter(|pattern| !lines.iter().any(|line| matches(pattern, line))) {
            faults.push(format!("no line \"{pattern}\""));
        }
        let expected = |line: &str| self.lines.iter().chain(&self.also).any(|pattern| matches(pattern, line));
        let forbidden = |line: &&String| {
            self.never.iter().any(|pattern| matches(pattern, line))
                || BAD_NEWS.iter().any(|bad| line.contains(bad)) && !expected(line)
        };
        faults.extend(lines.iter().filter(forbidden).take(3).map(|line| format!("unwanted line \"{line}\"")));
        match (&outcome.end, self.ends) {
            (End::PowerOff, _) | (End::Stopped, Ends::Anyhow) => {}
            (End::TimeUp, Ends::Anyhow) => {
                if !faults.is_empty() {
                    faults.push(format!("{} s were not enough", limit.as_secs()));
                }
            }
            (end, _) => faults.push(format!("the machine {}", end.describe(limit))),
        }
        if let Some(wanted) = self.status {
            match console::exit_status(lines) {
                Some(status) if status == wanted => {}
                Some(status) => faults.push(format!("it ended with status {status}, not {wanted}")),
                None => faults.push("it ended without an @exit line".into()),
            }
        }
        faults
    }

    /// Follows a console, to stop a machine that need not shut down once it has said everything.
    pub fn watcher(&self) -> Watcher<'_> {
        Watcher { expect: self, next: 0, missing: self.also.iter().collect() }
    }
}

/// See [`Expect::watcher`].
pub struct Watcher<'a> {
    expect: &'a Expect,
    next: usize,
    missing: Vec<&'a String>,
}

impl Watcher<'_> {
    /// Takes a line; answers after how long the machine is to be stopped, once nothing more is awaited of it.
    pub fn see(&mut self, line: &str) -> Option<Duration> {
        if self.expect.lines.get(self.next).is_some_and(|pattern| matches(pattern, line)) {
            self.next += 1;
        }
        self.missing.retain(|pattern| !matches(pattern, line));
        let complete = self.next == self.expect.lines.len() && self.missing.is_empty();
        (complete && self.expect.ends == Ends::Anyhow).then_some(GRACE)
    }
}

/// Whether `line` contains `pattern`, whose `*` stand for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| {
        let found = rest.find(part);
        if let Some(at) = found {
            rest = &rest[at + part.len()..];
        }
        found.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(expect: &str, lines: &[&str], end: End) -> Vec<String> {
        let expect: Expect = toml::from_str(expect).unwrap();
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        expect.check(&Outcome { lines, end, took: Duration::ZERO }, Duration::from_secs(9))
    }

    #[test]
    fn patterns_are_parts_of_lines() {
        assert!(matches("b*d", "abcde"));
        assert!(matches("", "x"));
        assert!(!matches("d*b", "abcde"));
        assert!(!matches("aa*a", "aa"));
        assert!(matches("[one] *ok=yes", "[one] @check name=x ok=yes"));
    }

    #[test]
    fn order_matters_for_lines_and_not_for_also() {
        let said = ["a", "b", "c"];
        assert!(faults("lines = ['a', 'c']\nalso = ['c', 'b']", &said, End::PowerOff).is_empty());
        assert_eq!(faults("lines = ['c', 'a']", &said, End::PowerOff), ["no line \"a\" after \"c\""]);
        assert_eq!(faults("also = ['d']", &said, End::PowerOff), ["no line \"d\""]);
    }

    #[test]
    fn unexpected_warnings_fail_a_case() {
        let said = ["[hv] fatal: no bundle"];
        assert!(faults("lines = ['[hv] fatal: *bundle']", &said, End::PowerOff).is_empty());
        assert_eq!(faults("", &said, End::PowerOff).len(), 1);
        assert_eq!(faults("never = ['x']", &["xyz"], End::PowerOff), ["unwanted line \"xyz\""]);
    }

    #[test]
    fn the_end_and_the_status_count() {
        assert_eq!(faults("", &[], End::TimeUp), ["the machine did not shut itself down within 9 s"]);
        assert!(faults("ends = 'anyhow'", &[], End::TimeUp).is_empty());
        assert_eq!(faults("ends = 'anyhow'", &[], End::Failed("x".into())).len(), 1);
        assert_eq!(
            faults("status = 0", &["@exit status=2"], End::PowerOff),
            ["it ended with status 2, not 0"]
        );
        assert_eq!(faults("status = 0", &[], End::PowerOff).len(), 1);
    }

    #[test]
    fn watcher_stops_when_all_lines_were_seen() {
        let expect: Expect = toml::from_str("lines = ['a', 'b']\nalso = ['c']\nends = 'anyhow'").unwrap();
        let mut watcher = expect.watcher();
        let stops: Vec<bool> = ["b", "c", "a", "b"].iter().map(|line| watcher.see(line).is_some()).collect();
        assert_eq!(stops, [false, false, false, true]);
    }
}
