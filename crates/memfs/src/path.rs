//! Paths: how they are followed, and the path of a directory.
#![expect(
    clippy::disallowed_methods,
    reason = "there is room; `tests/allocation.rs` has each allocation fail"
)]

use crate::{Content, FileSystem, FsError, Kind, LONGEST_NAME, MOST_LINKS, NodeId, Result, Start};
use alloc::vec::Vec;

/// The last name of a path, and the directory it is in.
pub(crate) struct Last<'a> {
    pub(crate) directory: NodeId,
    pub(crate) name: &'a [u8],
    /// The path ends in a slash: only a directory will do.
    pub(crate) slash: bool,
}

impl FileSystem {
    /// What `name` is in a directory.
    pub(crate) fn entry(&self, directory: NodeId, name: &[u8]) -> Result<Option<NodeId>> {
        match &self.node(directory)?.content {
            Content::Directory(found) if name == b".." => Ok(Some(found.parent)),
            Content::Directory(_) if name == b"." => Ok(Some(directory)),
            Content::Directory(found) => Ok(found.get(name)),
            _ => Err(FsError::NotADirectory),
        }
    }

    /// Follows a path up to its last name.
    pub(crate) fn walk<'a>(&self, start: Start, path: &'a [u8], links: &mut usize) -> Result<Last<'a>> {
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

    /// Returns whether a directory is another one, or somewhere below it.
    pub(crate) fn is_below(&self, directory: NodeId, above: NodeId) -> Result<bool> {
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

    /// The path of a directory, from the root.
    ///
    /// # Errors
    /// [`FsError::NotFound`]: it has been removed; [`FsError::NoSpace`].
    pub fn path_of(&self, directory: NodeId) -> Result<Vec<u8>> {
        let mut size = 0;
        self.names_up(directory, |name| size += name.len() + 1)?;
        let mut path = Vec::new();
        path.try_reserve_exact(size.max(1)).map_err(|_| FsError::NoSpace)?;
        path.resize(size.max(1), b'/');
        let mut end = size;
        self.names_up(directory, |name| {
            path[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
        })?;
        Ok(path)
    }

    /// The names of a directory and of those above it.
    fn names_up(&self, directory: NodeId, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut here = directory;
        while here != NodeId::ROOT {
            if self.node(here)?.links == 0 {
                return Err(FsError::NotFound);
            }
            let parent = self.entry(here, b"..")?.ok_or(FsError::NotFound)?;
            let Content::Directory(above) = &self.node(parent)?.content else {
                return Err(FsError::NotADirectory);
            };
            each(above.name_of(here).ok_or(FsError::NotFound)?);
            here = parent;
        }
        Ok(())
    }
}
