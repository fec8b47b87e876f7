//! The tree of names: what makes, removes and renames nodes.
#![expect(
    clippy::disallowed_methods,
    reason = "there is room; `tests/allocation.rs` has each allocation fail"
)]

use crate::{
    Content, DIRECTORY, Device, FileSystem, FsError, Kind, LONGEST_NAME, NODE_COST, Node, NodeId, REGULAR,
    Result, SYMLINK, Start, TYPE,
    archive::{self, ArchiveError, Problem},
    chunks::Chunks,
    directory::{Directory, copy},
};

impl FileSystem {
    /// Adds all that an archive holds. Directories need not come before what is in them.
    ///
    /// # Errors
    /// The first malformed entry; the entries before it are in the tree.
    pub fn add_archive(&mut self, bytes: &'static [u8]) -> core::result::Result<(), ArchiveError> {
        for entry in archive::entries(bytes) {
            let (at, entry) = entry?;
            let content = match entry.mode & TYPE {
                DIRECTORY => None,
                SYMLINK => Some(Content::Symlink(
                    copy(entry.data).map_err(|_| ArchiveError { at, problem: Problem::Path })?,
                )),
                // Devices of archives are Linux's numbers; the kernel has its own `/dev`. Nor are there pipes
                // or sockets.
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
                None => self.add(directory, name, self.empty(directory), 0o755, time)?,
            };
        }
        let node = self.node_mut(directory)?;
        (node.permissions, node.modified) = (permissions, time);
        Ok(())
    }

    const fn empty(&self, parent: NodeId) -> Content {
        Content::Directory(Directory::new(parent, self.seed))
    }

    fn directory_mut(&mut self, directory: NodeId) -> Result<&mut Directory> {
        match &mut self.node_mut(directory)?.content {
            Content::Directory(found) => Ok(found),
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
        let is_directory = matches!(content, Content::Directory(_));
        let links = if is_directory { 2 } else { 1 };
        let cost = NODE_COST + name.len() as u64 + content.allocated();
        // Everything that can fail comes first.
        if self.free.is_empty() {
            let all = self.nodes.len() + 1;
            u32::try_from(all).map_err(|_| FsError::NoSpace)?;
            self.nodes.try_reserve(1).map_err(|_| FsError::NoSpace)?;
            self.free.try_reserve(all).map_err(|_| FsError::NoSpace)?;
        }
        self.charge(cost)?;
        let id = NodeId(self.free.last().copied().unwrap_or(self.nodes.len() as u32));
        let inserted = self.directory_mut(directory).and_then(|directory| directory.insert(name, id));
        if let Err(error) = inserted {
            self.refund(cost);
            return Err(error);
        }
        let node = Node { content, permissions, links, opened: 0, modified };
        match self.free.pop() {
            Some(free) => self.nodes[free as usize] = Some(node),
            None => self.nodes.push(Some(node)),
        }
        if is_directory {
            self.node_mut(directory)?.links += 1;
        }
        Ok(id)
    }

    /// Takes a name away, and what it was the name of if nobody else knows it.
    fn remove_entry(&mut self, directory: NodeId, name: &[u8]) -> Result<()> {
        let gone = self.directory_mut(directory)?.remove(name).ok_or(FsError::NotFound)?;
        self.refund(name.len() as u64);
        self.lost_name(directory, gone)
    }

    /// A node has one name less in a directory.
    fn lost_name(&mut self, directory: NodeId, gone: NodeId) -> Result<()> {
        let is_directory = self.kind(gone) == Kind::Directory;
        if is_directory {
            self.node_mut(directory)?.links -= 1;
        }
        let node = self.node_mut(gone)?;
        node.links = if is_directory { 0 } else { node.links - 1 };
        self.free_if_unused(gone);
        Ok(())
    }

    pub(crate) fn free_if_unused(&mut self, id: NodeId) {
        if self.node(id).is_ok_and(|node| node.links == 0 && node.opened == 0)
            && let Some(node) = self.nodes[id.0 as usize].take()
        {
            self.refund(NODE_COST + node.content.allocated());
            // `add` has made room for it.
            self.free.push(id.0);
        }
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
            Content::Directory(_) => self.empty(directory),
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
        self.create(start, path, Content::Written(Chunks::new()), mode, time)
    }

    /// Makes an empty directory.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_directory(&mut self, start: Start, path: &[u8], mode: u32, time: u64) -> Result<NodeId> {
        self.create(start, path, self.empty(NodeId::ROOT), mode, time)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_symlink(&mut self, start: Start, path: &[u8], target: &[u8], time: u64) -> Result<NodeId> {
        if target.is_empty() {
            return Err(FsError::NotFound);
        }
        self.create(start, path, Content::Symlink(copy(target)?), 0o777, time)
    }

    /// Makes a device.
    ///
    /// # Errors
    /// [`FsError::Exists`] and others.
    pub fn create_device(&mut self, start: Start, path: &[u8], device: Device, mode: u32) -> Result<NodeId> {
        self.create(start, path, Content::Device(device), mode, 0)
    }

    /// Makes a file with contents, and the directories that it needs: text that a kernel generates in `/proc`
    /// and `/sys`. One that exists is kept.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`] and others.
    pub fn provide(&mut self, path: &[u8], contents: &[u8]) -> Result<()> {
        if self.find(Start::Root, path, false).is_ok() {
            return Ok(());
        }
        let content = Content::Written(Chunks::copy_of(contents)?);
        self.add_entry(path, Some(content), 0o444, 0)
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
            Content::Directory(found) if found.is_empty() => {}
            Content::Directory(_) => return Err(FsError::NotEmpty),
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
                (Content::Directory(found), true) if found.is_empty() => {}
                (Content::Directory(_), true) => return Err(FsError::NotEmpty),
                (Content::Directory(_), false) => return Err(FsError::IsADirectory),
                (_, true) => return Err(FsError::NotADirectory),
                (_, false) => {}
            }
            self.directory_mut(target.directory)?.replace(target.name, node);
            self.lost_name(target.directory, old)?;
        } else {
            // A directory that has been removed takes nothing in.
            if self.node(target.directory)?.links == 0 {
                return Err(FsError::NotFound);
            }
            let cost = target.name.len() as u64;
            self.charge(cost)?;
            self.directory_mut(target.directory)?
                .insert(target.name, node)
                .inspect_err(|_| self.refund(cost))?;
        }
        self.directory_mut(source.directory)?.remove(source.name);
        self.refund(source.name.len() as u64);
        if is_directory {
            self.node_mut(source.directory)?.links -= 1;
            self.node_mut(target.directory)?.links += 1;
            self.directory_mut(node)?.parent = target.directory;
        }
        Ok(())
    }

    /// Returns the first entry of a directory at or after `position`, and the position to continue at: `.`
    /// and `..` at 0 and 1, then the names in the order in which they were made. Positions stay true while
    /// names are added and removed.
    ///
    /// # Errors
    /// [`FsError::NotADirectory`].
    pub fn entry_at(&self, directory: NodeId, position: u64) -> Result<Option<(&[u8], NodeId, u64)>> {
        let Content::Directory(found) = &self.node(directory)?.content else {
            return Err(FsError::NotADirectory);
        };
        Ok(match position {
            0 => Some((b".", directory, 1)),
            1 => Some((b"..", found.parent, 2)),
            _ => found.entry_from(position),
        })
    }
}
