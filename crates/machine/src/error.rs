//! What can be wrong with a device tree.
use core::fmt;

/// Why a device tree was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
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
    /// A property has a value that its node's kind does not allow.
    BadProperty {
        /// What kind of node.
        node: &'static str,
        /// Which property.
        property: &'static str,
    },
    /// The interrupt controller has more redistributor regions than are supported.
    TooManyRedistributorRegions,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADeviceTree => f.write_str("this is not a device tree"),
            Self::Truncated { total, given } => {
                write!(f, "the device tree is {total} bytes long but only {given} are there")
            }
            Self::Malformed { problem, offset } => {
                write!(f, "the device tree is malformed at byte {offset}: ")?;
                f.write_str(problem)
            }
            Self::BadProperty { node, property } => {
                for part in ["in the device tree, property `", property, "` of ", node, " makes no sense"] {
                    f.write_str(part)?;
                }
                Ok(())
            }
            Self::TooManyRedistributorRegions => {
                f.write_str("the interrupt controller has too many redistributor regions")
            }
        }
    }
}

impl From<devtree::Error> for MachineError {
    fn from(error: devtree::Error) -> Self {
        match error {
            devtree::Error::NotADeviceTree => Self::NotADeviceTree,
            devtree::Error::Truncated { total, given } => Self::Truncated { total, given },
            devtree::Error::Malformed { problem, offset } => Self::Malformed { problem, offset },
        }
    }
}

impl core::error::Error for MachineError {}
