//! Reading the properties of one node, with errors that say which.

use crate::error::{At, BundleError, Problem};
use alloc::boxed::Box;
use devtree::Node;

/// Errors are large and rare; what goes through every `?` is a pointer.
pub(crate) type Result<'a, T> = core::result::Result<T, Box<BundleError<'a>>>;

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

    /// Returns the numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().map(|cell| u32::from_be_bytes(*cell))
    }

    /// The one at `index`; 0 if there is none.
    pub fn get(&self, index: usize) -> u32 {
        self.0.get(index).map_or(0, |cell| u32::from_be_bytes(*cell))
    }

    /// The first `count`.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self(self.0.get(..count).unwrap_or(self.0))
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Place<'a> {
    /// An error about a property.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, property: &'a str, problem: Problem) -> Box<BundleError<'a>> {
        self.refuse(property, problem, 0, 0, 0)
    }

    /// An error about a property, or about something in it, with a number.
    #[cold]
    #[inline(never)]
    pub(crate) fn error_of(&self, property: &'a str, problem: Problem, number: u64) -> Box<BundleError<'a>> {
        self.refuse(property, problem, number, 0, 0)
    }

    /// An error about a property, with numbers.
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(
        &self,
        property: &'a str,
        problem: Problem,
        a: u64,
        b: u64,
        c: u64,
    ) -> Box<BundleError<'a>> {
        let text = self.value(property).and_then(|value| value.strip_suffix(b"\0"));
        let text = text.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
        self.about(property, problem, text, [a, b, c])
    }

    /// An error about the node itself, which quotes `text`.
    #[cold]
    #[inline(never)]
    pub(crate) fn node_error(&self, problem: Problem, text: &'a str) -> Box<BundleError<'a>> {
        self.about("", problem, text, [0; 3])
    }

    fn about(
        &self,
        property: &'a str,
        problem: Problem,
        text: &'a str,
        numbers: [u64; 3],
    ) -> Box<BundleError<'a>> {
        let (file, at) = (self.file, Some(self.at));
        Box::new(BundleError { file, at, property, problem, text, numbers, cause: None })
    }

    pub(crate) fn value(&self, property: &str) -> Option<&'a [u8]> {
        self.node.value(property)
    }

    /// The node's child with this name.
    #[inline(never)]
    pub(crate) fn child(&self, name: &'static str) -> Option<Self> {
        Some(Self { at: At::Child(name, ""), node: self.node.child(name)?, ..*self })
    }

    /// Returns whether a property that has no value is there.
    #[inline(never)]
    pub(crate) fn flag(&self, property: &'a str) -> Result<'a, bool> {
        match self.value(property) {
            None => Ok(false),
            Some([]) => Ok(true),
            Some(_) => Err(self.error(property, Problem::NotEmpty)),
        }
    }

    /// One string.
    #[inline(never)]
    pub(crate) fn text(&self, property: &'a str) -> Result<'a, Option<&'a str>> {
        let Some(value) = self.value(property) else { return Ok(None) };
        let text = value.strip_suffix(b"\0").filter(|text| !text.contains(&0));
        match text.and_then(|text| core::str::from_utf8(text).ok()) {
            None => Err(self.error(property, Problem::NotText)),
            text => Ok(text),
        }
    }

    /// One string, which must be there.
    #[inline(never)]
    pub(crate) fn required_text(&self, property: &'a str) -> Result<'a, &'a str> {
        self.text(property)?.ok_or_else(|| self.error(property, Problem::Missing))
    }

    /// A number of one or two cells, from `min` to `max`.
    #[inline(never)]
    pub(crate) fn ranged(&self, property: &'a str, min: u64, max: u64) -> Result<'a, Option<u64>> {
        let Some(bytes) = self.value(property) else { return Ok(None) };
        if !matches!(bytes.len(), 4 | 8) {
            return Err(self.error(property, Problem::NotNumber));
        }
        let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if value < min || value > max {
            return Err(self.refuse(property, Problem::Range, value, min, max));
        }
        Ok(Some(value))
    }

    /// Any number of one or two cells.
    #[inline(never)]
    pub(crate) fn number(&self, property: &'a str) -> Result<'a, Option<u64>> {
        self.ranged(property, 0, u64::MAX)
    }

    /// A number that must be there.
    #[inline(never)]
    pub(crate) fn required(&self, property: &'a str, min: u64, max: u64) -> Result<'a, u64> {
        self.ranged(property, min, max)?.ok_or_else(|| self.error(property, Problem::Missing))
    }

    /// A list of cells, as many as a multiple of `group`; empty if it is not there.
    #[inline(never)]
    pub(crate) fn cells(&self, property: &'a str, group: usize) -> Result<'a, Cells<'a>> {
        match self.value(property).unwrap_or_default().as_chunks() {
            (cells, []) if cells.len().is_multiple_of(group) => Ok(Cells(cells)),
            _ => Err(self.error(property, Problem::NotCells)),
        }
    }

    /// Returns whether a string is one of those in `compatible`.
    #[inline(never)]
    pub(crate) fn is_compatible(&self, wanted: &str) -> bool {
        let value = self.value("compatible").unwrap_or_default();
        value.split(|byte| *byte == 0).any(|text| text == wanted.as_bytes())
    }

    /// Sees to it that a string is one of those in `compatible`.
    #[inline(never)]
    pub(crate) fn check_compatible(&self, wanted: &'static str) -> Result<'a, ()> {
        if self.is_compatible(wanted) { Ok(()) } else { Err(self.node_error(Problem::NotCompatible, wanted)) }
    }
}
