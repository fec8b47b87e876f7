//! Numbers as text, in few bytes of code: what the library's formatting of numbers costs beyond that is its
//! options.
//!
//! ```
//! use plain_numbers::{Dec, Hex};
//!
//! assert_eq!(format!("{} is {}", Dec(255), Hex(255)), "255 is 0xff");
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::fmt::{self, Write};

/// As `{}`. Widths and other options have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dec(pub u64);

/// As `{:#x}`. Widths and other options have no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

/// From the most significant digit on.
#[inline(never)]
fn digits(f: &mut fmt::Formatter<'_>, number: u64, base: u64) -> fmt::Result {
    let mut unit = 1;
    while number / unit >= base {
        unit *= base;
    }
    while unit > 0 {
        let digit = (number / unit % base) as u8;
        f.write_char((if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }).into())?;
        unit /= base;
    }
    Ok(())
}

impl fmt::Display for Dec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        digits(f, self.0, 10)
    }
}

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        digits(f, self.0, 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;

    #[test]
    fn boundary_values() {
        for number in [0, 1, 9, 10, 15, 16, 99, 100, u64::MAX - 1, u64::MAX] {
            assert_eq!(format!("{}", Dec(number)), format!("{number}"));
            assert_eq!(format!("{}", Hex(number)), format!("{number:#x}"));
        }
    }

    proptest! {
        #[test]
        fn matches_standard_library(number: u64, shift in 0..64) {
            let number = number >> shift;
            prop_assert_eq!(format!("{}", Dec(number)), format!("{number}"));
            prop_assert_eq!(format!("{}", Hex(number)), format!("{number:#x}"));
        }
    }
}
