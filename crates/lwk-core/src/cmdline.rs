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

    /// The whole line.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The words for the kernel, in order: up to `--`.
    pub fn words(self) -> impl DoubleEndedIterator<Item = &'a str> {
        let end = self.separator().unwrap_or(self.0.len());
        self.0[..end].split_ascii_whitespace()
    }

    /// The words behind `--`: arguments of the first program.
    pub fn arguments(self) -> impl Iterator<Item = &'a str> {
        let start = self.separator().map_or(self.0.len(), |at| at + 2);
        self.0[start..].split_ascii_whitespace()
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

    /// Whether `key` is there, with or without a value.
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

    /// The comma-separated items of `key`, none if it is absent.
    pub fn list(self, key: &str) -> impl Iterator<Item = &'a str> {
        self.get(key).unwrap_or("").split(',').filter(|item| !item.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_last_one_counts() {
        let line = CommandLine::new(" a=1\tb  a=2 ");
        assert_eq!(line.get("a"), Some("2"));
        assert_eq!(line.get("b"), None);
        assert!(line.has("b") && line.has("a") && !line.has("c"));
    }

    #[test]
    fn what_is_behind_two_dashes_is_for_the_program() {
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
