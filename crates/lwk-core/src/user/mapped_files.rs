//! The files that a process has mapped privately.
//!
//! A mapping is a copy of the file's pages. The file stays open as long as a region maps it, so that
//! `madvise` can restore the contents that the file has then.
//!
//! Files are locked before address spaces (a copy to a program may fault), so nothing here reads or closes a
//! file while the space is locked: [`Process::with_space`](super::process::Process::with_space) closes them
//! afterwards.

use super::{
    errno::{Errno, Result},
    files::{Object, Open, read_node},
    space::{Space, range},
    thread::UserThread,
};
use address_space::Purpose;
use alloc::vec::Vec;
use fallible::{Arc, TryVec as _};
use linux_program::{UserAddr, UserRange};

/// What is copied at once.
const CHUNK: u64 = 64 << 10;

/// A file with the address that its first byte would have, which may be below 0.
#[derive(Clone, Debug)]
struct MappedFile {
    open: Arc<Open>,
    base: u64,
}

/// The files of a space's regions, by the number in [`Purpose::File`].
#[derive(Debug, Default)]
pub struct MappedFiles {
    files: Vec<Slot>,
    /// How many slots are [`Slot::Unused`].
    unused: usize,
}

#[derive(Debug)]
enum Slot {
    Free,
    Mapped(MappedFile),
    /// No region maps it any more; it is still open.
    Unused(#[expect(dead_code, reason = "it is only kept, and closed when it is dropped")] MappedFile),
}

impl MappedFiles {
    /// Bytes of the kernel's memory.
    pub const fn memory(&self) -> usize {
        self.files.capacity() * size_of::<Slot>()
    }

    /// Takes a file that can be closed.
    pub fn take_unused(&mut self) -> Option<impl Sized + use<>> {
        if self.unused == 0 {
            return None;
        }
        self.unused -= 1;
        let slot = self.files.iter_mut().find(|slot| matches!(slot, Slot::Unused(_)))?;
        Some(core::mem::replace(slot, Slot::Free))
    }

    fn get(&self, purpose: Purpose) -> Option<&MappedFile> {
        let Purpose::File(number) = purpose else { return None };
        match self.files.get(number as usize)? {
            Slot::Mapped(file) => Some(file),
            Slot::Free | Slot::Unused(_) => None,
        }
    }

    fn add(&mut self, file: MappedFile) -> Result<Purpose> {
        let free = self.files.iter().position(|slot| matches!(slot, Slot::Free));
        let number = free.unwrap_or(self.files.len());
        match self.files.get_mut(number) {
            Some(slot) => *slot = Slot::Mapped(file),
            None => self.files.try_push(Slot::Mapped(file))?,
        }
        Ok(Purpose::File(number as u32))
    }
}

/// A part of an address space that is a copy of a part of a file.
#[derive(Debug)]
pub struct FilePart {
    range: UserRange,
    file: MappedFile,
}

impl Space {
    /// The purpose of a new mapping of a file; the caller says [where](Self::place_file) it is, or releases
    /// it.
    pub fn add_file(&mut self, open: Arc<Open>) -> Result<Purpose> {
        self.files.add(MappedFile { open, base: 0 })
    }

    /// Says at which address a file's byte at `offset` is.
    pub fn place_file(&mut self, purpose: Purpose, at: UserAddr, offset: u64) {
        if let Purpose::File(number) = purpose
            && let Some(Slot::Mapped(file)) = self.files.files.get_mut(number as usize)
        {
            file.base = at.get().wrapping_sub(offset);
        }
    }

    /// The purpose of a region that moves by this distance.
    pub fn moved_purpose(&mut self, purpose: Purpose, distance: u64) -> Result<Purpose> {
        match self.files.get(purpose).cloned() {
            Some(file) => self.files.add(MappedFile { base: file.base.wrapping_add(distance), ..file }),
            None => Ok(purpose),
        }
    }

    /// Releases a region's file if no other region maps it.
    pub fn release_file(&mut self, purpose: Purpose) {
        let Purpose::File(number) = purpose else { return };
        if self.regions.iter().all(|region| region.purpose != purpose)
            && let Some(slot) = self.files.files.get_mut(number as usize)
            && matches!(slot, Slot::Mapped(_))
            && let Slot::Mapped(file) = core::mem::replace(slot, Slot::Free)
        {
            *slot = Slot::Unused(file);
            self.files.unused += 1;
        }
    }

    /// The parts of a range that are mappings of files.
    pub fn file_parts(&self, within: UserRange) -> Result<Vec<FilePart>> {
        let mut parts = Vec::new();
        for region in self.regions.overlapping(within) {
            let Some(file) = self.files.get(region.purpose) else { continue };
            let part = range(within.start.max(region.range.start), within.end.min(region.range.end));
            parts.try_push(FilePart { range: part, file: file.clone() })?;
        }
        Ok(parts)
    }

    /// Copies to a place if it is still a mapping of this file.
    fn fill_from_file(&mut self, at: UserAddr, file: &MappedFile, bytes: &[u8]) -> Result<()> {
        let region = self.regions.find(at).ok_or(Errno::ENOMEM)?;
        let same = |mapped: &MappedFile| Arc::ptr_eq(&mapped.open, &file.open) && mapped.base == file.base;
        let whole = region.range.covers(range(at, UserAddr::new(at.get() + bytes.len() as u64)));
        if !whole || !self.files.get(region.purpose).is_some_and(same) {
            return Err(Errno::ENOMEM);
        }
        self.write(at, bytes)
    }
}

impl FilePart {
    /// Copies the file's present contents to the mapping, which is zero; what lies beyond the file's end
    /// stays zero.
    pub fn load(&self, thread: &UserThread) -> Result<()> {
        let Object::Node(node) = self.file.open.object else { return Err(Errno::ENODEV) };
        let mut buffer = Vec::try_filled(0, self.range.len().min(CHUNK) as usize)?;
        let mut at = self.range.start.get();
        while at < self.range.end.get() {
            let offset = at.wrapping_sub(self.file.base);
            let wanted = (self.range.end.get() - at).min(CHUNK) as usize;
            let count = read_node(node, offset, &mut buffer[..wanted])?;
            if count == 0 {
                break;
            }
            let part = &buffer[..count];
            thread.process().with_space(|space| space.fill_from_file(UserAddr::new(at), &self.file, part))?;
            at += count as u64;
        }
        Ok(())
    }
}
