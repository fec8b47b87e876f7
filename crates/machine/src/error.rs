//! What can be wrong with a device tree.
use core::fmt;

/// Why a device tree was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineError {
    /// The tree cannot be read.
    Tree(devtree::Error),
    /// A property has a value that its node's kind does not allow.
    BadProperty {
        /// What kind of node.
        node: &'static str,
        /// Which property.
        property: &'static str,
    },
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(why) => why.fmt(f),
            Self::BadProperty { node, property } => {
                for part in ["in the device tree, property `", property, "` of ", node, " is invalid"] {
                    f.write_str(part)?;
                }
                Ok(())
            }
        }
    }
}

impl From<devtree::Error> for MachineError {
    fn from(error: devtree::Error) -> Self {
        Self::Tree(error)
    }
}

impl core::error::Error for MachineError {}
