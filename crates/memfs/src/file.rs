//! The contents of files and links.

use crate::{Content, FileSystem, FsError, LARGEST_FILE, NodeId, Result, chunks::Chunks};

impl Content {
    /// Memory that the contents take besides the node.
    pub(crate) fn allocated(&self) -> u64 {
        match self {
            Self::Written(chunks) => chunks.allocated(),
            Self::Symlink(target) => target.len() as u64,
            Self::Archived(_) | Self::Directory(_) | Self::Device(_) => 0,
        }
    }
}

impl FileSystem {
    /// All bytes of a file, if it is still as in the archive: they stay for ever.
    pub fn archived(&self, node: NodeId) -> Option<&'static [u8]> {
        match self.node(node).ok()?.content {
            Content::Archived(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes of a file from an offset on that lie together: none at its end, or behind it.
    ///
    /// # Errors
    /// [`FsError::IsADirectory`], [`FsError::Invalid`].
    pub fn piece_at(&self, node: NodeId, offset: u64) -> Result<&[u8]> {
        match &self.node(node)?.content {
            Content::Archived(bytes) => {
                Ok(usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default())
            }
            Content::Written(chunks) => Ok(chunks.piece(offset)),
            Content::Directory(_) => Err(FsError::IsADirectory),
            Content::Symlink(_) | Content::Device(_) => Err(FsError::Invalid),
        }
    }

    /// Returns the target of a symbolic link.
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
    /// As [`piece_at`](Self::piece_at).
    pub fn read_at(&self, node: NodeId, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        loop {
            let piece = self.piece_at(node, offset.saturating_add(done as u64))?;
            let count = piece.len().min(into.len() - done);
            if count == 0 {
                return Ok(done);
            }
            into[done..done + count].copy_from_slice(&piece[..count]);
            done += count;
        }
    }

    /// Writes to a file, which grows if need be; between its old end and the new bytes it is zero.
    ///
    /// # Errors
    /// As [`piece_at`](Self::piece_at), and [`FsError::TooLarge`], [`FsError::NoSpace`].
    pub fn write_at(&mut self, node: NodeId, offset: u64, from: &[u8]) -> Result<()> {
        let end = offset.checked_add(from.len() as u64).ok_or(FsError::TooLarge)?;
        self.piece_at(node, 0)?;
        if !from.is_empty() {
            let size = self.stat(node).size;
            self.resize(node, size.max(end))?.write(offset, from);
        }
        Ok(())
    }

    /// Cuts a file, or adds zeros.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn truncate(&mut self, node: NodeId, size: u64) -> Result<()> {
        self.piece_at(node, 0)?;
        self.resize(node, size).map(drop)
    }

    fn resize(&mut self, id: NodeId, size: u64) -> Result<&mut Chunks> {
        if size > LARGEST_FILE {
            return Err(FsError::TooLarge);
        }
        let room = self.room;
        let node = self.node_mut(id)?;
        let before = node.content.allocated();
        if size.saturating_sub(before) > room {
            return Err(FsError::NoSpace);
        }
        if let Content::Archived(bytes) = node.content {
            let kept = &bytes[..bytes.len().min(size as usize)];
            let mut chunks = Chunks::copy_of(kept)?;
            chunks.resize(size)?;
            node.content = Content::Written(chunks);
        } else if let Content::Written(chunks) = &mut node.content {
            chunks.resize(size)?;
        }
        let after = node.content.allocated();
        self.room = (room.saturating_add(before)).saturating_sub(after);
        match &mut self.node_mut(id)?.content {
            Content::Written(chunks) => Ok(chunks),
            _ => Err(FsError::Invalid),
        }
    }
}
