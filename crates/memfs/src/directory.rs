//! The entries of a directory: in the order in which they were made, and found by a hash of their names.
//!
//! An entry has a *cookie*, which no other entry of its directory ever gets. Who reads a directory continues
//! at a cookie, so that entries which are made or removed meanwhile do not move the others.
#![expect(
    clippy::disallowed_methods,
    reason = "there is room; `tests/allocation.rs` has each allocation fail"
)]

use crate::{FsError, NodeId, Result};
use alloc::vec::Vec;

/// Cookies of `.` and `..` are 0 and 1.
pub const FIRST_COOKIE: u64 = 2;
/// Removed entries that are always kept until the next compaction.
const SLACK: usize = 16;

#[derive(Debug)]
struct Entry {
    cookie: u64,
    name: Vec<u8>,
    hash: u32,
    /// `None`: it has been removed.
    node: Option<NodeId>,
}

/// A directory.
#[derive(Debug)]
pub struct Directory {
    pub parent: NodeId,
    /// Key of the hash.
    seed: u64,
    /// By ascending cookies.
    entries: Vec<Entry>,
    /// Open addressing: a position in `entries` plus 1; 0 is free. At most half is in use.
    index: Vec<u32>,
    present: usize,
    next_cookie: u64,
}

/// A copy of a byte string.
pub fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| FsError::NoSpace)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

impl Directory {
    /// An empty directory.
    pub const fn new(parent: NodeId, seed: u64) -> Self {
        Self { parent, seed, entries: Vec::new(), index: Vec::new(), present: 0, next_cookie: FIRST_COOKIE }
    }

    /// Returns whether nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.present == 0
    }

    fn hash(&self, name: &[u8]) -> u32 {
        let mut hash = self.seed ^ name.len() as u64;
        for byte in name {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
        (hash ^ (hash >> 32)) as u32
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let mask = self.index.len().checked_sub(1)?;
        let hash = self.hash(name);
        let mut slot = hash as usize & mask;
        loop {
            let position = (self.index[slot] as usize).checked_sub(1)?;
            let entry = &self.entries[position];
            if entry.hash == hash && entry.node.is_some() && entry.name == name {
                return Some(position);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Returns the node with this name.
    pub fn get(&self, name: &[u8]) -> Option<NodeId> {
        self.entries[self.position(name)?].node
    }

    /// The name of a node.
    pub fn name_of(&self, node: NodeId) -> Option<&[u8]> {
        let entry = self.entries.iter().find(|entry| entry.node == Some(node))?;
        Some(&entry.name)
    }

    fn enter(index: &mut [u32], hash: u32, position: usize) {
        let mask = index.len() - 1;
        let mut slot = hash as usize & mask;
        while index[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        index[slot] = position as u32 + 1;
    }

    fn rebuild(&mut self) {
        self.index.fill(0);
        for (position, entry) in self.entries.iter().enumerate() {
            Self::enter(&mut self.index, entry.hash, position);
        }
    }

    fn compact(&mut self) {
        self.entries.retain(|entry| entry.node.is_some());
        self.rebuild();
    }

    /// Adds a name that is not there yet. Nothing has changed if there is no memory.
    ///
    /// # Errors
    /// [`FsError::NoSpace`].
    pub fn insert(&mut self, name: &[u8], node: NodeId) -> Result<()> {
        let name = copy(name)?;
        let wanted = (2 * (self.entries.len() + 1)).next_power_of_two().max(8);
        self.entries.try_reserve(1).map_err(|_| FsError::NoSpace)?;
        if wanted > self.index.len() {
            self.index.try_reserve_exact(wanted - self.index.len()).map_err(|_| FsError::NoSpace)?;
            self.index.resize(wanted, 0);
            self.rebuild();
        }
        let hash = self.hash(&name);
        Self::enter(&mut self.index, hash, self.entries.len());
        self.entries.push(Entry { cookie: self.next_cookie, name, hash, node: Some(node) });
        self.next_cookie += 1;
        self.present += 1;
        Ok(())
    }

    /// Gives a name that is there to another node.
    pub fn replace(&mut self, name: &[u8], node: NodeId) {
        if let Some(position) = self.position(name) {
            self.entries[position].node = Some(node);
        }
    }

    /// Removes a name; returns what it was the name of.
    pub fn remove(&mut self, name: &[u8]) -> Option<NodeId> {
        let position = self.position(name)?;
        let entry = &mut self.entries[position];
        entry.name = Vec::new();
        let node = entry.node.take();
        self.present -= 1;
        if self.entries.len() > 2 * self.present + SLACK {
            self.compact();
        }
        node
    }

    /// Returns the first entry at or after a cookie: name, node, and cookie to continue at.
    pub fn entry_from(&self, cookie: u64) -> Option<(&[u8], NodeId, u64)> {
        let first = self.entries.partition_point(|entry| entry.cookie < cookie);
        self.entries[first..]
            .iter()
            .find_map(|entry| entry.node.map(|node| (entry.name.as_slice(), node, entry.cookie + 1)))
    }
}
