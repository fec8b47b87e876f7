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
//! Nodes are numbered, and a number stays a node's own as long as it has a name or somebody has [opened](FileSystem::open)
//! it. Links that lead through themselves end in [`FsError::Loop`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod archive;
#[cfg(test)]
mod tests;

use alloc::{collections::BTreeMap, vec::Vec};
use archive::{ArchiveError, Problem};
use core::fmt;

/// The most symbolic links on one way, as Linux.
const MOST_LINKS: usize = 40;
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

    /// The number, from 1.
    pub const fn inode(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// Which device a node stands for, by the kernel's own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device(pub u32);

/// What a node is.
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

/// Where a path begins that does not begin with `/`.
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
            Self::Invalid => "it makes no sense",
            Self::Busy => "it is in use",
        })
    }
}

impl core::error::Error for FsError {}

/// What operations return.
pub type Result<T> = core::result::Result<T, FsError>;

/// What `stat` tells of a node.
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
    Written(Vec<u8>),
    Directory {
        entries: BTreeMap<Vec<u8>, NodeId>,
        parent: NodeId,
    },
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

/// A file system.
#[derive(Debug)]
pub struct FileSystem {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    /// Bytes that files may still take from memory.
    room: u64,
}

impl Default for FileSystem {
    fn default() -> Self {
        Self::new()
    }
}

/// The last name of a path, and the directory it is in.
struct Last<'a> {
    directory: NodeId,
    name: &'a [u8],
    /// The path ends in a slash: only a directory will do.
    slash: bool,
}

impl FileSystem {
    /// An empty root directory.
    pub fn new() -> Self {
        let root = Node {
            content: Content::Directory { entries: BTreeMap::new(), parent: NodeId::ROOT },
            permissions: 0o755,
            links: 2,
            opened: 0,
            modified: 0,
        };
        Self { nodes: alloc::vec![Some(root)], free: Vec::new(), room: u64::MAX }
    }

    /// Limits what files may take from memory; files of the archive count once they are written to.
    pub fn set_room(&mut self, bytes: u64) {
        self.room = bytes;
    }

    /// Adds all that an archive holds. Directories need not come before what is in them.
    ///
    /// # Errors
    /// The first entry that makes no sense; what came before it is there.
    pub fn add_archive(&mut self, bytes: &'static [u8]) -> core::result::Result<(), ArchiveError> {
        for entry in archive::entries(bytes) {
            let (at, entry) = entry?;
            let content = match entry.mode & TYPE {
                DIRECTORY => None,
                SYMLINK => Some(Content::Symlink(entry.data.to_vec())),
                // Devices of archives are Linux's numbers; the kernel has its own `/dev`. Nor are there pipes or sockets.
                REGULAR | 0 => Some(Content::Archived(entry.data)),
                _ => continue,
            };
            let permissions = entry.mode & 0o7777;
            let wrong = |_| ArchiveError { at, problem: Problem::Path };
            self.add_entry(entry.path, content, permissions, u64::from(entry.modified)).map_err(wrong)?;
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        path: &[u8],
        content: Option<Content>,
        permissions: u32,
        time: u64,
    ) -> Result<()> {
        let mut directory = NodeId::ROOT;
        let mut names =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").peekable();
        while let Some(name) = names.next() {
            if name == b".." {
                return Err(FsError::Invalid);
            }
            if names.peek().is_none() && content.is_some() {
                let content = content.ok_or(FsError::Invalid)?;
                // The last one of a name counts, as when an archive is unpacked.
                if self.entry(directory, name)?.is_some_and(|old| self.kind(old) != Kind::Directory) {
                    self.remove_entry(directory, name)?;
                }
                return self.add(directory, name, content, permissions, time).map(drop);
            }
            directory = match self.entry(directory, name)? {
                Some(found) if self.kind(found) == Kind::Directory => found,
                Some(_) => return Err(FsError::NotADirectory),
                None => self.add(directory, name, Self::empty(directory), 0o755, time)?,
            };
        }
        let node = self.node_mut(directory)?;
        (node.permissions, node.modified) = (permissions, time);
        Ok(())
    }

    const fn empty(parent: NodeId) -> Content {
        Content::Directory { entries: BTreeMap::new(), parent }
    }

    fn node(&self, node: NodeId) -> Result<&Node> {
        self.nodes.get(node.0 as usize).and_then(Option::as_ref).ok_or(FsError::NotFound)
    }

    fn node_mut(&mut self, node: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(node.0 as usize).and_then(Option::as_mut).ok_or(FsError::NotFound)
    }

    fn entries_mut(&mut self, directory: NodeId) -> Result<&mut BTreeMap<Vec<u8>, NodeId>> {
        match &mut self.node_mut(directory)?.content {
            Content::Directory { entries, .. } => Ok(entries),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// What `name` is in a directory.
    fn entry(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        match &self.node(directory)?.content {
            Content::Directory { parent, .. } if name == b".." => Ok(Some(*parent)),
            Content::Directory { .. } if name == b"." => Ok(Some(directory)),
            Content::Directory { entries, .. } => Ok(entries.get(name).copied()),
            _ => Err(FsError::NotADirectory),
        }
    }

    fn add(
        &mut self,
        directory: NodeId,
        name: &[u8],
        content: Content,
        permissions: u32,
        modified: u64,
    ) -> Result<NodeId> {
        if name.len() > LONGEST_NAME {
            return Err(FsError::NameTooLong);
        }
        // A directory that has been removed takes nothing in.
        if self.node(directory)?.links == 0 {
            return Err(FsError::NotFound);
        }
        if self.entry(directory, name)?.is_some() {
            return Err(FsError::Exists);
        }
        let is_directory = matches!(content, Content::Directory { .. });
        let links = if is_directory { 2 } else { 1 };
        let node = Node { content, permissions, links, opened: 0, modified };
        let id = if let Some(free) = self.free.pop() {
            self.nodes[free as usize] = Some(node);
            NodeId(free)
        } else {
            let id = u32::try_from(self.nodes.len()).map_err(|_| FsError::NoSpace)?;
            self.nodes.push(Some(node));
            NodeId(id)
        };
        self.entries_mut(directory)?.insert(name.to_vec(), id);
        if is_directory {
            self.node_mut(directory)?.links += 1;
        }
        Ok(id)
    }

    /// Takes a name away, and what it was the name of if nobody else knows it.
    fn remove_entry(&mut self, directory: NodeId, name: &[u8]) -> Result<()> {
        let gone = self.entries_mut(directory)?.remove(name).ok_or(FsError::NotFound)?;
        let is_directory = self.kind(gone) == Kind::Directory;
        if is_directory {
            self.node_mut(directory)?.links -= 1;
        }
        let node = self.node_mut(gone)?;
        node.links = if is_directory { 0 } else { node.links - 1 };
        self.free_if_unused(gone);
        Ok(())
    }

    fn free_if_unused(&mut self, id: NodeId) {
        if self.node(id).is_ok_and(|node| node.links == 0 && node.opened == 0) {
            if let Some(Node { content: Content::Written(bytes), .. }) = self.nodes[id.0 as usize].take() {
                self.room = self.room.saturating_add(bytes.len() as u64);
            }
            self.free.push(id.0);
        }
    }

    /// Follows a path up to its last name.
    fn walk<'a>(&self, start: Start, path: &'a [u8], links: &mut usize) -> Result<Last<'a>> {
        if path.is_empty() {
            return Err(FsError::NotFound);
        }
        let mut directory = match start {
            Start::At(directory) if path[0] != b'/' => directory,
            _ => NodeId::ROOT,
        };
        let slash = path.ends_with(b"/");
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if name.len() > LONGEST_NAME {
                return Err(FsError::NameTooLong);
            }
            if names.peek().is_none() {
                if self.kind(directory) != Kind::Directory {
                    return Err(FsError::NotADirectory);
                }
                return Ok(Last { directory, name, slash });
            }
            let next = self.entry(directory, name)?.ok_or(FsError::NotFound)?;
            directory = self.follow(directory, next, links)?;
        }
        // Only slashes: the root.
        Ok(Last { directory, name: b".", slash })
    }

    /// Where a symbolic link leads, to its end.
    fn follow(&self, directory: NodeId, node: NodeId, links: &mut usize) -> Result<NodeId> {
        let Content::Symlink(target) = &self.node(node)?.content else { return Ok(node) };
        *links += 1;
        if *links > MOST_LINKS {
            return Err(FsError::Loop);
        }
        let last = self.walk(Start::At(directory), target, links)?;
        let found = self.entry(last.directory, last.name)?.ok_or(FsError::NotFound)?;
        self.follow(last.directory, found, links)
    }

    /// The node at the end of a path; of a symbolic link there, itself or where it leads.
    ///
    /// # Errors
    /// As `open` of POSIX.
    pub fn find(&self, start: Start, path: &[u8], follow: bool) -> Result<NodeId> {
        let mut links = 0;
        let last = self.walk(start, path, &mut links)?;
        let found = self.entry(last.directory, last.name)?.ok_or(FsError::NotFound)?;
        let found =
            if follow || last.slash { self.follow(last.directory, found, &mut links)? } else { found };
        if last.slash && self.kind(found) != Kind::Directory {
            return Err(FsError::NotADirectory);
        }
        Ok(found)
    }

    fn create(
        &mut self,
        start: Start,
        path: &[u8],
        content: Content,
        mode: u32,
        time: u64,
    ) -> Result<NodeId> {
        let last = self.walk(start, path, &mut 0)?;
        if self.entry(last.directory, last.name)?.is_some() {
            return Err(FsError::Exists);
        }
        let (directory, name, slash) = (last.directory, last.name, last.slash);
        let content = match content {
            Content::Directory { .. } => Self::empty(directory),
            _ if slash => return Err(FsError::IsADirectory),
            other => other,
        };
        self.add(directory, name, content, mode & 0o7777, time)
    }

    /// Makes an empty file.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_file(&mut self, start: Start, path: &[u8], mode: u32, time: u64) -> Result<NodeId> {
        self.create(start, path, Content::Written(Vec::new()), mode, time)
    }

    /// Makes an empty directory.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_directory(&mut self, start: Start, path: &[u8], mode: u32, time: u64) -> Result<NodeId> {
        self.create(start, path, Self::empty(NodeId::ROOT), mode, time)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_symlink(&mut self, start: Start, path: &[u8], target: &[u8], time: u64) -> Result<NodeId> {
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        self.create(start, path, Content::Symlink(target.to_vec()), 0o777, time)
    }

    /// Makes a device.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_device(&mut self, start: Start, path: &[u8], device: Device, mode: u32) -> Result<NodeId> {
        self.create(start, path, Content::Device(device), mode, 0)
    }

    /// Makes a file with contents, and the directories that it needs: what a kernel tells in `/proc` and `/sys`. One that
    /// exists is kept.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`] and others.
    pub fn provide(&mut self, path: &[u8], contents: &[u8]) -> Result<()> {
        let content = Some(Content::Written(contents.to_vec()));
        match self.find(Start::Root, path, false) {
            Ok(_) => Ok(()),
            Err(_) => self.add_entry(path, content, 0o444, 0),
        }
    }

    /// Makes the directories of a path that are missing.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`] and others.
    pub fn provide_directory(&mut self, path: &[u8]) -> Result<()> {
        match self.find(Start::Root, path, true) {
            Ok(found) if self.kind(found) == Kind::Directory => Ok(()),
            Ok(_) => Err(FsError::NotADirectory),
            Err(_) => self.add_entry(path, None, 0o755, 0),
        }
    }

    /// Removes a name of something that is not a directory.
    ///
    /// # Errors
    /// As `unlink` of POSIX.
    pub fn unlink(&mut self, start: Start, path: &[u8]) -> Result<()> {
        let last = self.walk(start, path, &mut 0)?;
        let found = self.entry(last.directory, last.name)?.ok_or(FsError::NotFound)?;
        if self.kind(found) == Kind::Directory {
            return Err(FsError::IsADirectory);
        }
        if last.slash {
            return Err(FsError::NotADirectory);
        }
        let (directory, name) = (last.directory, last.name);
        self.remove_entry(directory, name)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As `rmdir` of POSIX.
    pub fn remove_directory(&mut self, start: Start, path: &[u8]) -> Result<()> {
        let last = self.walk(start, path, &mut 0)?;
        match last.name {
            b"." => return Err(FsError::Invalid),
            b".." => return Err(FsError::NotEmpty),
            _ => {}
        }
        let found = self.entry(last.directory, last.name)?.ok_or(FsError::NotFound)?;
        match &self.node(found)?.content {
            Content::Directory { entries, .. } if entries.is_empty() => {}
            Content::Directory { .. } => return Err(FsError::NotEmpty),
            _ => return Err(FsError::NotADirectory),
        }
        let (directory, name) = (last.directory, last.name);
        self.remove_entry(directory, name)
    }

    /// Gives something another name; what had that name before is gone.
    ///
    /// # Errors
    /// As `rename` of POSIX.
    pub fn rename(&mut self, from: (Start, &[u8]), to: (Start, &[u8])) -> Result<()> {
        let source = self.walk(from.0, from.1, &mut 0)?;
        let target = self.walk(to.0, to.1, &mut 0)?;
        if [source.name, target.name].iter().any(|name| [&b"."[..], b".."].contains(name)) {
            return Err(FsError::Busy);
        }
        let node = self.entry(source.directory, source.name)?.ok_or(FsError::NotFound)?;
        let is_directory = self.kind(node) == Kind::Directory;
        if !is_directory && (source.slash || target.slash) {
            return Err(FsError::NotADirectory);
        }
        if target.name.len() > LONGEST_NAME {
            return Err(FsError::NameTooLong);
        }
        if is_directory && self.is_below(target.directory, node)? {
            return Err(FsError::Invalid);
        }
        if let Some(old) = self.entry(target.directory, target.name)? {
            if old == node {
                return Ok(());
            }
            match (&self.node(old)?.content, is_directory) {
                (Content::Directory { entries, .. }, true) if entries.is_empty() => {}
                (Content::Directory { .. }, true) => return Err(FsError::NotEmpty),
                (Content::Directory { .. }, false) => return Err(FsError::IsADirectory),
                (_, true) => return Err(FsError::NotADirectory),
                (_, false) => {}
            }
            self.remove_entry(target.directory, target.name)?;
        }
        self.entries_mut(source.directory)?.remove(source.name);
        self.entries_mut(target.directory)?.insert(target.name.to_vec(), node);
        if is_directory {
            self.node_mut(source.directory)?.links -= 1;
            self.node_mut(target.directory)?.links += 1;
            if let Content::Directory { parent, .. } = &mut self.node_mut(node)?.content {
                *parent = target.directory;
            }
        }
        Ok(())
    }

    /// Whether a directory is another one, or somewhere below it.
    fn is_below(&self, directory: NodeId, above: NodeId) -> Result<bool> {
        let mut here = directory;
        loop {
            if here == above {
                return Ok(true);
            }
            let parent = self.entry(here, b"..")?.unwrap_or(NodeId::ROOT);
            if parent == here {
                return Ok(false);
            }
            here = parent;
        }
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

    /// What a node is; a file if there is none of this number.
    pub fn kind(&self, node: NodeId) -> Kind {
        match self.node(node).map(|node| &node.content) {
            Ok(Content::Directory { .. }) => Kind::Directory,
            Ok(Content::Symlink(_)) => Kind::Symlink,
            Ok(Content::Device(device)) => Kind::Device(*device),
            Ok(Content::Archived(_) | Content::Written(_)) | Err(_) => Kind::File,
        }
    }

    /// What there is to tell of a node; nothing but its number if there is none.
    pub fn stat(&self, id: NodeId) -> Stat {
        let kind = self.kind(id);
        let Ok(node) = self.node(id) else {
            return Stat { node: id, kind, mode: REGULAR, links: 0, size: 0, modified: 0 };
        };
        let (bits, size) = match &node.content {
            Content::Archived(bytes) => (REGULAR, bytes.len()),
            Content::Written(bytes) => (REGULAR, bytes.len()),
            Content::Directory { .. } => (DIRECTORY, 0),
            Content::Symlink(target) => (SYMLINK, target.len()),
            Content::Device(_) => (CHARACTER, 0),
        };
        Stat {
            node: id,
            kind,
            mode: bits | node.permissions,
            links: node.links,
            size: size as u64,
            modified: node.modified,
        }
    }

    /// All bytes of a file, if it is still as in the archive: they stay for ever.
    pub fn archived(&self, node: NodeId) -> Option<&'static [u8]> {
        match self.node(node).ok()?.content {
            Content::Archived(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// [`FsError::IsADirectory`], [`FsError::Invalid`].
    pub fn bytes(&self, node: NodeId) -> Result<&[u8]> {
        match &self.node(node)?.content {
            Content::Archived(bytes) => Ok(bytes),
            Content::Written(bytes) => Ok(bytes),
            Content::Directory { .. } => Err(FsError::IsADirectory),
            Content::Symlink(_) | Content::Device(_) => Err(FsError::Invalid),
        }
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// [`FsError::Invalid`]: it is none.
    pub fn read_link(&self, node: NodeId) -> Result<&[u8]> {
        match &self.node(node)?.content {
            Content::Symlink(target) => Ok(target),
            _ => Err(FsError::Invalid),
        }
    }

    /// Reads from a file; returns how many bytes, fewer only at its end.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn read_at(&self, node: NodeId, offset: u64, into: &mut [u8]) -> Result<usize> {
        let bytes = self.bytes(node)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    /// Writes to a file, which grows if need be; between its old end and the new bytes it is zero.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`FsError::TooLarge`], [`FsError::NoSpace`].
    pub fn write_at(&mut self, node: NodeId, offset: u64, from: &[u8]) -> Result<()> {
        let end = offset.checked_add(from.len() as u64).ok_or(FsError::TooLarge)?;
        let size = self.bytes(node)?.len() as u64;
        if !from.is_empty() {
            let bytes = self.resize(node, size.max(end))?;
            bytes[offset as usize..end as usize].copy_from_slice(from);
        }
        Ok(())
    }

    /// Cuts a file, or adds zeros.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn truncate(&mut self, node: NodeId, size: u64) -> Result<()> {
        self.bytes(node)?;
        self.resize(node, size).map(drop)
    }

    /// Says when a node was last written.
    pub fn set_modified(&mut self, node: NodeId, seconds: u64) {
        if let Ok(node) = self.node_mut(node) {
            node.modified = seconds;
        }
    }

    fn resize(&mut self, id: NodeId, size: u64) -> Result<&mut [u8]> {
        if size > LARGEST_FILE {
            return Err(FsError::TooLarge);
        }
        let room = self.room;
        let node = self.node_mut(id)?;
        let taken = match &mut node.content {
            Content::Archived(_) => 0,
            Content::Written(bytes) => bytes.len() as u64,
            _ => return Err(FsError::Invalid),
        };
        let more = size.saturating_sub(taken);
        if more > room {
            return Err(FsError::NoSpace);
        }
        let mut owned = match core::mem::replace(&mut node.content, Content::Archived(&[])) {
            Content::Written(bytes) => bytes,
            content => {
                let Content::Archived(bytes) = content else { return Err(FsError::Invalid) };
                let mut owned = Vec::new();
                let kept = &bytes[..bytes.len().min(size as usize)];
                if owned.try_reserve(size as usize).is_err() {
                    node.content = Content::Archived(bytes);
                    return Err(FsError::NoSpace);
                }
                owned.extend_from_slice(kept);
                owned
            }
        };
        let grows = (size as usize).saturating_sub(owned.len());
        let fits = owned.try_reserve(grows).is_ok();
        if fits {
            owned.resize(size as usize, 0);
        }
        node.content = Content::Written(owned);
        if !fits {
            return Err(FsError::NoSpace);
        }
        self.room = (room + taken).saturating_sub(size);
        match &mut self.node_mut(id)?.content {
            Content::Written(bytes) => Ok(bytes),
            _ => Err(FsError::Invalid),
        }
    }

    /// The entry of a directory at `position`, from 0, and the position behind it: `.` and `..`, then the names in order.
    /// Names added or removed meanwhile do not make others appear twice or be left out, but for those next to them.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`].
    pub fn entry_at(&self, directory: NodeId, position: u64) -> Result<Option<(&[u8], NodeId)>> {
        let Content::Directory { entries, parent } = &self.node(directory)?.content else {
            return Err(FsError::NotADirectory);
        };
        Ok(match position {
            0 => Some((b".", directory)),
            1 => Some((b"..", *parent)),
            _ => {
                let index = usize::try_from(position - 2).map_err(|_| FsError::Invalid)?;
                entries.iter().nth(index).map(|(name, node)| (name.as_slice(), *node))
            }
        })
    }

    /// The path of a directory, from the root.
    ///
    /// # Errors
    /// [`FsError::NotFound`]: it has been removed.
    pub fn path_of(&self, directory: NodeId) -> Result<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut here = directory;
        while here != NodeId::ROOT {
            if self.node(here)?.links == 0 {
                return Err(FsError::NotFound);
            }
            let parent = self.entry(here, b"..")?.ok_or(FsError::NotFound)?;
            let Content::Directory { entries, .. } = &self.node(parent)?.content else {
                return Err(FsError::NotADirectory);
            };
            let (name, _) = entries.iter().find(|(_, node)| **node == here).ok_or(FsError::NotFound)?;
            names.push(name);
            here = parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(path)
    }
}
