//! Reading the properties of one node, with errors that say which.

use crate::error::{At, BundleError, Problem};
use devtree::Node;

pub(crate) type Result<'a, T> = core::result::Result<T, BundleError<'a>>;

/// The node that is being read, and how errors name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) at: At<'a>,
    pub(crate) node: Node<'a>,
}

/// A list of 32-bit numbers in a device tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cells<'a>(&'a [[u8; 4]]);

impl<'a> Cells<'a> {
    /// The numbers in these bytes, big-endian.
    pub const fn new(bytes: &'a [[u8; 4]]) -> Self {
        Self(bytes)
    }

    /// The numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().map(|cell| u32::from_be_bytes(*cell))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Place<'a> {
    pub(crate) fn error(&self, property: &'a str, problem: Problem<'a>) -> BundleError<'a> {
        BundleError::Property { file: self.file, at: self.at, property, problem }
    }

    pub(crate) fn missing<T>(&self, property: &'a str, value: Option<T>) -> Result<'a, T> {
        value.ok_or_else(|| self.error(property, Problem::Missing))
    }

    pub(crate) fn value(&self, property: &str) -> Option<&'a [u8]> {
        self.node.value(property)
    }

    /// Whether a property that has no value is there.
    pub(crate) fn flag(&self, property: &'a str) -> Result<'a, bool> {
        match self.value(property) {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(_) => Err(self.error(property, Problem::NotEmpty)),
        }
    }

    /// One string.
    pub(crate) fn text(&self, property: &'a str) -> Result<'a, Option<&'a str>> {
        let Some(value) = self.value(property) else { return Ok(None) };
        let text = value.strip_suffix(b"\0").and_then(|text| core::str::from_utf8(text).ok());
        let text = text.filter(|text| !text.contains('\0'));
        text.map(Some).ok_or_else(|| self.error(property, Problem::NotText))
    }

    /// A number of one or two cells.
    pub(crate) fn number(&self, property: &'a str) -> Result<'a, Option<u64>> {
        match self.value(property) {
            None => Ok(None),
            Some(&[a, b, c, d]) => Ok(Some(u64::from(u32::from_be_bytes([a, b, c, d])))),
            Some(value) => match value.as_array() {
                Some(bytes) => Ok(Some(u64::from_be_bytes(*bytes))),
                None => Err(self.error(property, Problem::NotNumber)),
            },
        }
    }

    /// A number from `min` to `max`.
    pub(crate) fn ranged(&self, property: &'a str, min: u64, max: u64) -> Result<'a, Option<u64>> {
        let number = self.number(property)?;
        match number {
            Some(value) if !(min..=max).contains(&value) => {
                Err(self.error(property, Problem::Range { value, min, max }))
            }
            _ => Ok(number),
        }
    }

    /// A list of cells; empty if it is not there.
    pub(crate) fn cells(&self, property: &'a str) -> Result<'a, Cells<'a>> {
        match self.value(property).unwrap_or_default().as_chunks() {
            (cells, []) => Ok(Cells(cells)),
            _ => Err(self.error(property, Problem::NotCells)),
        }
    }

    /// Whether a string is one of those in `compatible`.
    pub(crate) fn is_compatible(&self, wanted: &str) -> bool {
        let value = self.value("compatible").unwrap_or_default();
        value.split(|byte| *byte == 0).any(|text| text == wanted.as_bytes())
    }
}
