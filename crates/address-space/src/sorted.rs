//! Regions in the order of their addresses, in chunks: where memory runs out is known before anything
//! changes.
//!
//! A search looks at the first region of each chunk, then at one chunk; an insertion moves at most a chunk,
//! and the list of chunks. Neighbours that fit into half a chunk are joined, so that the memory for `n`
//! regions is that of `4 n` at most, and one chunk.
#![expect(clippy::disallowed_methods, reason = "there is room; the crate's tests have each allocation fail")]

use crate::{Region, SpaceError};
use alloc::vec::Vec;
use linux_program::UserAddr;

/// Regions of a chunk.
const CHUNK: usize = 64;
/// Chunks that are kept for the next insertions.
const SPARE: usize = 2;

type Chunk = Vec<Region>;

#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: usize,
    at: usize,
}

/// Regions by their first address.
#[derive(Debug, Default)]
pub struct Sorted {
    /// None is empty, and each has room for [`CHUNK`].
    chunks: Vec<Chunk>,
    /// Empty ones with room, for insertions that may not fail.
    spare: Vec<Chunk>,
    count: usize,
}

impl Sorted {
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), spare: Vec::new(), count: 0 }
    }

    pub const fn len(&self) -> usize {
        self.count
    }

    /// Bytes of the kernel's memory.
    pub const fn memory(&self) -> usize {
        (self.chunks.len() + self.spare.len()) * (CHUNK * size_of::<Region>() + size_of::<Chunk>())
    }

    /// The last region that begins at an address or before it.
    fn place(&self, address: UserAddr) -> Option<Place> {
        let chunk = self.chunks.partition_point(|chunk| chunk[0].range.start <= address).checked_sub(1)?;
        let at = self.chunks[chunk].partition_point(|region| region.range.start <= address) - 1;
        Some(Place { chunk, at })
    }

    fn exact(&self, address: UserAddr) -> Option<Place> {
        self.place(address).filter(|place| self.chunks[place.chunk][place.at].range.start == address)
    }

    pub fn at_or_before(&self, address: UserAddr) -> Option<&Region> {
        self.place(address).map(|place| &self.chunks[place.chunk][place.at])
    }

    pub fn get_mut(&mut self, address: UserAddr) -> Option<&mut Region> {
        let place = self.exact(address)?;
        Some(&mut self.chunks[place.chunk][place.at])
    }

    /// From the region that an address is in, or else the next one.
    pub fn from(&self, address: UserAddr) -> impl Iterator<Item = &Region> {
        let first = match self.place(address) {
            Some(place) if self.chunks[place.chunk][place.at].range.contains(address) => place,
            Some(place) => Place { at: place.at + 1, ..place },
            None => Place { chunk: 0, at: 0 },
        };
        self.chunks[first.chunk.min(self.chunks.len())..].iter().flatten().skip(first.at)
    }

    /// Makes room: so many insertions cannot fail.
    pub fn reserve(&mut self, count: usize) -> Result<(), SpaceError> {
        // Room for more, so that removals can keep them.
        self.spare
            .try_reserve(count.max(SPARE).saturating_sub(self.spare.len()))
            .map_err(|_| SpaceError::NoMemory)?;
        while self.spare.len() < count {
            let mut chunk = Chunk::new();
            chunk.try_reserve_exact(CHUNK).map_err(|_| SpaceError::NoMemory)?;
            self.spare.push(chunk);
        }
        self.chunks.try_reserve(count).map_err(|_| SpaceError::NoMemory)
    }

    /// Adds a region, for which [room](Self::reserve) has been made and which none overlaps.
    pub fn insert(&mut self, region: Region) {
        self.count += 1;
        let Some(Place { chunk, at }) = self.place(region.range.start) else {
            match self.chunks.first_mut().filter(|first| first.len() < CHUNK) {
                Some(first) => first.insert(0, region),
                None => self.insert_chunk(0, region),
            }
            return;
        };
        let here = &mut self.chunks[chunk];
        if here.len() < CHUNK {
            here.insert(at + 1, region);
        } else if at + 1 == CHUNK {
            self.insert_chunk(chunk + 1, region);
        } else {
            let mut upper = self.spare.pop().unwrap_or_default();
            upper.extend(here.drain(CHUNK / 2..));
            if at < CHUNK / 2 {
                here.insert(at + 1, region);
            } else {
                upper.insert(at + 1 - CHUNK / 2, region);
            }
            self.chunks.insert(chunk + 1, upper);
        }
    }

    fn insert_chunk(&mut self, at: usize, region: Region) {
        let mut chunk = self.spare.pop().unwrap_or_default();
        chunk.push(region);
        self.chunks.insert(at, chunk);
    }

    /// Takes the region that begins at an address out.
    pub fn remove(&mut self, address: UserAddr) -> Option<Region> {
        let Place { chunk, at } = self.exact(address)?;
        let region = self.chunks[chunk].remove(at);
        self.count -= 1;
        if self.chunks[chunk].is_empty() {
            self.take_chunk(chunk);
        } else if !self.join(chunk) && chunk > 0 {
            self.join(chunk - 1);
        }
        Some(region)
    }

    /// Joins a chunk with the next one, if both together fill half of one.
    fn join(&mut self, chunk: usize) -> bool {
        let [one, other, ..] = &mut self.chunks[chunk..] else { return false };
        let joins = one.len() + other.len() <= CHUNK / 2;
        if joins {
            one.append(other);
            self.take_chunk(chunk + 1);
        }
        joins
    }

    fn take_chunk(&mut self, chunk: usize) {
        let mut empty = self.chunks.remove(chunk);
        if self.spare.len() < SPARE.min(self.spare.capacity()) {
            empty.clear();
            self.spare.push(empty);
        }
    }
}
