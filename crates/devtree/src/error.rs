//! What can be wrong with a tree.

use core::fmt;
use plain_numbers::Dec;

/// Why a device tree was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes do not begin with a device tree.
    NotADeviceTree,
    /// The tree says that it is longer than the bytes given.
    Truncated {
        /// What the tree says, in bytes.
        total: usize,
        /// How many bytes there are.
        given: usize,
    },
    /// The structure of the tree is broken.
    Malformed {
        /// What is wrong.
        problem: &'static str,
        /// Where, in bytes from the start of the tree.
        offset: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADeviceTree => f.write_str("this is not a device tree"),
            Self::Truncated { total, given } => {
                write!(
                    f,
                    "the device tree is {} bytes long but only {} are there",
                    Dec(*total as u64),
                    Dec(*given as u64)
                )
            }
            Self::Malformed { problem, offset } => {
                write!(f, "the device tree is malformed at byte {}: ", Dec(*offset as u64))?;
                f.write_str(problem)
            }
        }
    }
}

impl core::error::Error for Error {}
