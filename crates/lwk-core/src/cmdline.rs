//! The kernel command line: words separated by blanks, most of them `key=value`.

use core::str::FromStr;

/// A command line, as the boot loader gave it.
///
/// A key that is given twice counts the last time, so that a user can append to what a configuration says.
///
/// ```
/// let line = lwk_core::cmdline::CommandLine::new("workload=stream,selfish quantum-ms=50 bench");
/// assert_eq!(line.get("workload"), Some("stream,selfish"));
/// assert_eq!(line.number("quantum-ms"), Some(50_u64));
/// assert!(line.has("bench"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandLine<'a>(&'a str);

impl<'a> CommandLine<'a> {
    /// Takes a line as it is.
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// Returns the whole command line.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The words for the kernel, in order: up to `--`.
    pub fn words(self) -> impl DoubleEndedIterator<Item = &'a str> {
        let end = self.separator().unwrap_or(self.0.len());
        // Without a panic that shows characters: those need tables of Unicode.
        self.0.get(..end).unwrap_or_default().split_ascii_whitespace()
    }

    /// The words behind `--`: arguments of the first program.
    pub fn arguments(self) -> impl Iterator<Item = &'a str> {
        let start = self.separator().map_or(self.0.len(), |at| at + 2);
        self.0.get(start..).unwrap_or_default().split_ascii_whitespace()
    }

    /// Where the word `--` is.
    fn separator(self) -> Option<usize> {
        let start = self.0.as_ptr().addr();
        let word = self.0.split_ascii_whitespace().find(|word| *word == "--")?;
        Some(word.as_ptr().addr() - start)
    }

    /// The value of the last `key=value`.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.words().rev().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Returns whether `key` is there, with or without a value.
    pub fn has(self, key: &str) -> bool {
        self.words()
            .any(|word| word.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
    }

    /// The value of `key` as a decimal number; `None` if it is absent or no number.
    pub fn number<T: FromStr>(self, key: &str) -> Option<T> {
        self.get(key)?.parse().ok()
    }

    /// The value of `key` as a number, hexadecimal after `0x`.
    pub fn address(self, key: &str) -> Option<u64> {
        let value = self.get(key)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }

    /// Reports each word that the kernel ignores, with what is expected in its place: a value out of range,
    /// and, if the kernel `is_only_reader` of the line, an unknown word. Images with an application of their
    /// own have more words.
    pub fn check(self, is_only_reader: bool, report: &mut dyn FnMut(&'a str, &'static str)) {
        for word in self.words() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match KNOWN.iter().find(|known| known.key == key) {
                Some(known) if !(known.is_valid)(value) => report(word, known.expected),
                None if is_only_reader && !key.starts_with("env.") => report(word, "unknown word"),
                _ => {}
            }
        }
    }

    /// The comma-separated items of `key`, none if it is absent.
    pub fn list(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.get(key).unwrap_or("").split(',').filter(|item| !item.is_empty())
    }
}

/// A word of the kernel's.
struct Known {
    key: &'static str,
    is_valid: fn(&str) -> bool,
    expected: &'static str,
}

const fn known(key: &'static str, is_valid: fn(&str) -> bool, expected: &'static str) -> Known {
    Known { key, is_valid, expected }
}

fn is_number(value: &str) -> bool {
    value.parse::<u64>().is_ok()
}

fn is_positive(value: &str) -> bool {
    value.parse::<u64>().is_ok_and(|number| number > 0)
}

/// The kernel's words, with the values that they can have; of `policy=`, another value is fatal.
const KNOWN: &[Known] = &[
    known("init", |path| !path.is_empty(), "a path is expected"),
    known("cores", is_positive, "a number from 1 is expected"),
    known("quantum-ms", is_positive, "a number from 1 is expected"),
    known("watch-ms", is_number, "a number is expected"),
    known("epoch", is_number, "a number is expected"),
    known("policy", |_| true, ""),
    known("fail-allocations", |_| true, ""),
    known(
        "loglevel",
        |level| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            levels.iter().any(|known| known.eq_ignore_ascii_case(level))
        },
        "off, error, warn, info, debug or trace is expected",
    ),
    known(
        "console",
        |value| {
            value.split_once(',').is_some_and(|(kind, address)| {
                ["pl011", "uart8250"].contains(&kind)
                    && address
                        .strip_prefix("0x")
                        .is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
            })
        },
        "pl011,0xADDRESS or uart8250,0xADDRESS is expected",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn ignored(line: &str, is_only_reader: bool) -> Vec<&str> {
        let mut all = Vec::new();
        CommandLine::new(line).check(is_only_reader, &mut |word, _| all.push(word));
        all
    }

    #[test]
    fn reports_values_out_of_range() {
        let line = "quantum-ms=0 loglevel=loud cores=0 cores=two watch-ms epoch=-1 console=ttyS0 init= quantum-ms=7 loglevel=WARN";
        assert_eq!(
            ignored(line, false),
            [
                "quantum-ms=0",
                "loglevel=loud",
                "cores=0",
                "cores=two",
                "watch-ms",
                "epoch=-1",
                "console=ttyS0",
                "init="
            ]
        );
        assert!(ignored("policy=pinned console=pl011,0x9000000 watch-ms=0 epoch=5", true).is_empty());
    }

    #[test]
    fn reports_unknown_words_unless_an_application_reads_the_line() {
        assert_eq!(ignored("quantum=5 env.A=b quiet -- x", true), ["quantum=5", "quiet"]);
        assert!(ignored("workload=stream", false).is_empty());
    }

    #[test]
    fn the_last_one_counts() {
        let line = CommandLine::new(" a=1\tb  a=2 ");
        assert_eq!(line.get("a"), Some("2"));
        assert_eq!(line.get("b"), None);
        assert!(line.has("b") && line.has("a") && !line.has("c"));
    }

    #[test]
    fn passes_words_after_double_dash_to_program() {
        let line = CommandLine::new("init=/a.out --x -- init=/b -- c");
        assert_eq!(line.get("init"), Some("/a.out"));
        assert!(line.has("--x"));
        assert_eq!(line.arguments().collect::<Vec<_>>(), ["init=/b", "--", "c"]);
        assert_eq!(CommandLine::new("a b").arguments().count(), 0);
        assert_eq!(CommandLine::new("a --").words().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn keys_are_whole_words() {
        let line = CommandLine::new("quantum-ms=5 quantum=7");
        assert_eq!(line.number::<u32>("quantum"), Some(7));
        assert!(!line.has("quant"));
        assert_eq!(line.get("antum"), None);
    }

    #[test]
    fn values_may_hold_an_equals_sign() {
        assert_eq!(CommandLine::new("env.A=b=c").get("env.A"), Some("b=c"));
    }

    #[test]
    fn addresses_are_decimal_or_hexadecimal() {
        assert_eq!(CommandLine::new("addr=0x4000").address("addr"), Some(0x4000));
        assert_eq!(CommandLine::new("addr=12").address("addr"), Some(12));
        assert_eq!(CommandLine::new("addr=0xz").address("addr"), None);
    }

    #[test]
    fn lists_leave_out_empty_items() {
        let items: Vec<_> = CommandLine::new("w=a,,b,").list("w").collect();
        assert_eq!(items, ["a", "b"]);
        assert_eq!(CommandLine::new("").list("w").count(), 0);
    }
}
