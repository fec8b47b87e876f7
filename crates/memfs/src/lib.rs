//! A file system in memory, made of a cpio archive.
//!
//! ```
//! use memfs::{FileSystem, Kind, Start};
//!
//! let mut files = FileSystem::new();
//! let directory = files.create_directory(Start::Root, b"/tmp", 0o777, 0).unwrap();
//! let file = files.create_file(Start::At(directory), b"notes", 0o644, 0).unwrap();
//! files.write_at(file, 0, b"hello").unwrap();
//! let mut text = [0; 16];
//! assert_eq!(files.read_at(file, 1, &mut text), Ok(4));
//! assert_eq!(files.find(Start::Root, b"/tmp/../tmp/notes", true), Ok(file));
//! assert_eq!(files.stat(file).kind, Kind::File);
//! ```
//!
//! Nodes are numbered, and a number stays a node's own as long as it has a name or somebody has
//! [opened](FileSystem::open) it. Links that lead through themselves end in [`FsError::Loop`].
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_macros,
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "on the development host"
    )
)]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
mod chunks;
mod directory;
mod file;
mod path;
#[cfg(test)]
mod tests;
mod tree;

use alloc::vec::Vec;
use chunks::Chunks;
use core::fmt;
use directory::Directory;

/// The most symbolic links on one way, as Linux.
const MOST_LINKS: usize = 40;
/// Bytes that a node and its directory entry cost, besides its name.
pub const NODE_COST: u64 = 320;
/// `NAME_MAX`.
const LONGEST_NAME: usize = 255;
/// A file cannot be larger, in bytes: what is written beyond gets `EFBIG`.
pub const LARGEST_FILE: u64 = 1 << 40;

/// Type bits of `st_mode`.
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Number of a node: what `st_ino` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// Returns the inode number, from 1.
    pub const fn inode(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// Which device a node stands for, by the kernel's own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub u32);

/// Type of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Device(Device),
}

/// Directory at which relative paths start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the root.
    Root,
    /// In this directory.
    At(NodeId),
}

/// Why an operation is refused: by the names of POSIX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsError {
    /// `ENOENT`.
    NotFound,
    /// `ENOTDIR`.
    NotADirectory,
    /// `EISDIR`.
    IsADirectory,
    /// `EEXIST`.
    Exists,
    /// `ENOTEMPTY`.
    NotEmpty,
    /// `ELOOP`.
    Loop,
    /// `ENAMETOOLONG`.
    NameTooLong,
    /// `EFBIG`.
    TooLarge,
    /// `ENOSPC`.
    NoSpace,
    /// `EINVAL`.
    Invalid,
    /// `EBUSY`: the root, or something mounted.
    Busy,
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "there is no such file",
            Self::NotADirectory => "it is not a directory",
            Self::IsADirectory => "it is a directory",
            Self::Exists => "it exists",
            Self::NotEmpty => "the directory is not empty",
            Self::Loop => "there are too many symbolic links",
            Self::NameTooLong => "a name is too long",
            Self::TooLarge => "the file would be too large",
            Self::NoSpace => "there is no memory left for files",
            Self::Invalid => "invalid argument",
            Self::Busy => "it is in use",
        })
    }
}

impl core::error::Error for FsError {}

/// Result of file system operations.
pub type Result<T> = core::result::Result<T, FsError>;

/// The result of `stat` of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its number.
    pub node: NodeId,
    /// What it is.
    pub kind: Kind,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 when it was last written.
    pub modified: u64,
}

#[derive(Debug)]
enum Content {
    /// In the archive, until it is written to.
    Archived(&'static [u8]),
    Written(Chunks),
    Directory(Directory),
    Symlink(Vec<u8>),
    Device(Device),
}

#[derive(Debug)]
struct Node {
    content: Content,
    permissions: u32,
    links: u32,
    opened: u32,
    modified: u64,
}

/// File system in memory.
#[derive(Debug)]
pub struct FileSystem {
    nodes: Vec<Option<Node>>,
    /// Numbers that are free; there is always room in it for all.
    free: Vec<u32>,
    /// Bytes that files, names and nodes may still take from memory.
    room: u64,
    /// Key of the hashes of names.
    seed: u64,
}

impl Default for FileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl FileSystem {
    /// An empty root directory.
    #[expect(clippy::disallowed_macros, reason = "at boot")]
    pub fn new() -> Self {
        let root = Node {
            content: Content::Directory(Directory::new(NodeId::ROOT, 0)),
            permissions: 0o755,
            links: 2,
            opened: 0,
            modified: 0,
        };
        Self { nodes: alloc::vec![Some(root)], free: Vec::new(), room: u64::MAX, seed: 0 }
    }

    /// Limits what files, names and nodes that are made from now on may take from memory; the contents of
    /// files of the archive count once they are written to.
    pub fn set_room(&mut self, bytes: u64) {
        self.room = bytes;
    }

    /// Sets the key of the hashes of names, so that nobody can foresee which names collide.
    pub const fn set_hash_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    fn charge(&mut self, bytes: u64) -> Result<()> {
        self.room = self.room.checked_sub(bytes).ok_or(FsError::NoSpace)?;
        Ok(())
    }

    const fn refund(&mut self, bytes: u64) {
        self.room = self.room.saturating_add(bytes);
    }

    fn node(&self, node: NodeId) -> Result<&Node> {
        self.nodes.get(node.0 as usize).and_then(Option::as_ref).ok_or(FsError::NotFound)
    }

    fn node_mut(&mut self, node: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(node.0 as usize).and_then(Option::as_mut).ok_or(FsError::NotFound)
    }

    /// Holds a node until it is closed: it outlives its names.
    ///
    /// # Errors
    /// [`FsError::NotFound`].
    pub fn open(&mut self, node: NodeId) -> Result<()> {
        self.node_mut(node)?.opened += 1;
        Ok(())
    }

    /// Ends an [`open`](Self::open).
    pub fn close(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.opened = node.opened.saturating_sub(1);
            self.free_if_unused(id);
        }
    }

    /// Returns the type of a node; a file if the node does not exist.
    pub fn kind(&self, node: NodeId) -> Kind {
        match self.node(node).map(|node| &node.content) {
            Ok(Content::Directory(_)) => Kind::Directory,
            Ok(Content::Symlink(_)) => Kind::Symlink,
            Ok(Content::Device(device)) => Kind::Device(*device),
            Ok(Content::Archived(_) | Content::Written(_)) | Err(_) => Kind::File,
        }
    }

    /// Returns the attributes of a node; only its number if the node does not exist.
    pub fn stat(&self, id: NodeId) -> Stat {
        let kind = self.kind(id);
        let Ok(node) = self.node(id) else {
            return Stat { node: id, kind, mode: REGULAR, links: 0, size: 0, modified: 0 };
        };
        let (bits, size) = match &node.content {
            Content::Archived(bytes) => (REGULAR, bytes.len() as u64),
            Content::Written(chunks) => (REGULAR, chunks.len()),
            Content::Directory(_) => (DIRECTORY, 0),
            Content::Symlink(target) => (SYMLINK, target.len() as u64),
            Content::Device(_) => (CHARACTER, 0),
        };
        Stat {
            node: id,
            kind,
            mode: bits | node.permissions,
            links: node.links,
            size,
            modified: node.modified,
        }
    }

    /// Says when a node was last written.
    pub fn set_modified(&mut self, node: NodeId, seconds: u64) {
        if let Ok(node) = self.node_mut(node) {
            node.modified = seconds;
        }
    }
}
