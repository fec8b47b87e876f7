//! Reading a tree that has been checked.

use crate::{
    BEGIN_NODE, END_NODE, Error, MAGIC, NOP, OFF_DT_STRINGS, OFF_DT_STRUCT, OFF_MEM_RSVMAP, PROP, TOTAL_SIZE,
    check, text, word,
};

/// Flattened device tree whose structure has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a>(&'a [u8]);

impl<'a> Tree<'a> {
    /// Checks a flattened device tree. `blob` may be longer than the tree.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(blob: &'a [u8]) -> Result<Self, Error> {
        let total = Self::size(blob).ok_or(Error::NotADeviceTree)?;
        let bytes = blob.get(..total).ok_or(Error::Truncated { total, given: blob.len() })?;
        check::check(bytes)?;
        Ok(Self(bytes))
    }

    /// The size in bytes of the tree at the start of `blob`, from its header; `None` if it is none (DT spec,
    /// 5.2).
    pub fn size(blob: &[u8]) -> Option<usize> {
        if word(blob, 0)? == MAGIC { word(blob, TOTAL_SIZE).map(|size| size as usize) } else { None }
    }

    /// The tree itself, trimmed to its size.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Returns the root node.
    #[inline(never)]
    pub fn root(&self) -> Node<'a> {
        Node { blob: self.0, at: self.field(OFF_DT_STRUCT) }
    }

    /// The entries of the memory reservation block: base and size (DT spec, 5.3).
    pub fn reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let block = self.0.get(self.field(OFF_MEM_RSVMAP)..).unwrap_or_default();
        let entry = |entry: &[u8; 16]| {
            let both = u128::from_be_bytes(*entry);
            ((both >> 64) as u64, both as u64)
        };
        block.as_chunks().0.iter().map(entry).take_while(|entry| *entry != (0, 0))
    }

    fn field(&self, offset: usize) -> usize {
        word(self.0, offset).unwrap_or(0) as usize
    }
}

/// The token at `at` that is no `NOP`, where it is, and where the next one is. A node's name belongs to its
/// token, a property's value to its.
#[inline(never)]
fn token(blob: &[u8], mut at: usize) -> (u32, usize, usize) {
    loop {
        let token = word(blob, at).unwrap_or(0);
        let length = match token {
            NOP => {
                at += 4;
                continue;
            }
            BEGIN_NODE => blob
                .get(at + 4..)
                .and_then(|name| name.iter().position(|byte| *byte == 0))
                .map_or(0, |end| end + 1),
            PROP => 8 + word(blob, at + 4).unwrap_or(0) as usize,
            _ => 0,
        };
        return (token, at, (at + 4 + length).next_multiple_of(4));
    }
}

/// Splits text at the first `at`. (`core`'s functions search for any pattern, at four times the size.)
#[inline(never)]
pub fn split(text: &str, at: u8) -> (&str, &str) {
    let end = text.bytes().position(|byte| byte == at).unwrap_or(text.len());
    (text.get(..end).unwrap_or(text), text.get(end + 1..).unwrap_or_default())
}

/// Node of a device tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    blob: &'a [u8],
    /// Where its first token is.
    at: usize,
}

impl<'a> Node<'a> {
    /// Returns the node's name with its unit address; empty for the root.
    pub fn name(&self) -> &'a str {
        text(self.blob, self.at + 4).unwrap_or_default()
    }

    /// Returns the node's offset, which is unique in its tree.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Returns the node's name without its unit address.
    pub fn base_name(&self) -> &'a str {
        let name = self.name();
        split(name, b'@').0
    }

    /// Returns the node's properties.
    pub fn properties(&self) -> Properties<'a> {
        let (_, _, at) = token(self.blob, self.at);
        Properties { blob: self.blob, at }
    }

    /// The value of a property.
    #[inline(never)]
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.properties().find(|property| property.is(name)).map(|property| property.value())
    }

    /// Returns the node's children.
    #[inline(never)]
    pub fn children(&self) -> Children<'a> {
        let mut properties = self.properties();
        while properties.next().is_some() {}
        Children { blob: self.blob, at: properties.at }
    }

    /// The child with this name.
    #[inline(never)]
    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        self.children().find(|child| child.name() == name)
    }
}

/// Property of a device-tree node.
#[derive(Clone, Copy, Debug)]
pub struct Property<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Property<'a> {
    fn word(&self, offset: usize) -> usize {
        word(self.blob, offset).unwrap_or(0) as usize
    }

    fn name_at(&self) -> usize {
        self.word(OFF_DT_STRINGS) + self.word(self.at + 8)
    }

    /// Returns the property's name.
    pub fn name(&self) -> &'a str {
        text(self.blob, self.name_at()).unwrap_or_default()
    }

    /// Returns whether this is its name.
    fn is(&self, name: &str) -> bool {
        let rest = self.blob.get(self.name_at()..).and_then(|bytes| bytes.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Returns the property's value.
    pub fn value(&self) -> &'a [u8] {
        let start = self.at + 12;
        self.blob.get(start..start + self.word(self.at + 4)).unwrap_or_default()
    }
}

/// The properties of a node.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Property<'a>> {
        let (kind, at, next) = token(self.blob, self.at);
        if kind != PROP {
            return None;
        }
        self.at = next;
        Some(Property { blob: self.blob, at })
    }
}

/// The children of a node.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    blob: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Node<'a>> {
        let (kind, at, mut next) = token(self.blob, self.at);
        if kind != BEGIN_NODE {
            return None;
        }
        let mut depth = 1;
        while depth > 0 {
            let (kind, _, after) = token(self.blob, next);
            next = after;
            match kind {
                BEGIN_NODE => depth += 1,
                END_NODE => depth -= 1,
                PROP => {}
                // Not in a checked tree.
                _ => return None,
            }
        }
        self.at = next;
        Some(Node { blob: self.blob, at })
    }
}
