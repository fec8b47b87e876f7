//! Entries of directories.

use super::files::open_file;
use crate::{
    arch::UserFrame,
    task::name::Name,
    user::{
        copy,
        errno::{Errno, Result},
        files::{Object, with_files},
        process::Process,
        thread::UserThread,
    },
};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use fallible::TryVec as _;
use memfs::Kind;

/// `d_type`.
fn directory_type(kind: Kind) -> u8 {
    match kind {
        Kind::Device(_) => 2,
        Kind::Directory => 4,
        Kind::File => 8,
        Kind::Symlink => 10,
    }
}

/// Adds an entry, if it fits; false if not.
fn put_entry(
    text: &mut Vec<u8>,
    room: usize,
    inode: u64,
    next: u64,
    kind: Kind,
    name: &[u8],
) -> Result<bool> {
    const HEADER: usize = 19;
    let size = (HEADER + name.len() + 1).next_multiple_of(8);
    let end = text.len() + size;
    if end > room {
        return if text.is_empty() { Err(Errno::EINVAL) } else { Ok(false) };
    }
    text.try_reserve(size).map_err(|_| Errno::ENOMEM)?;
    text.try_extend(&inode.to_le_bytes())?;
    text.try_extend(&next.to_le_bytes())?;
    text.try_extend(&(size as u16).to_le_bytes())?;
    text.try_push(directory_type(kind))?;
    text.try_extend(name)?;
    while text.len() < end {
        text.try_push(0)?;
    }
    Ok(true)
}

/// Entries of a process's threads from a position on: two for the directories, then numbers of threads.
fn put_tasks(process: &Process, mut position: u64, text: &mut Vec<u8>, room: usize) -> Result<u64> {
    const DIRECTORIES: u64 = 2;
    loop {
        let (inode, name) = match position {
            0 => (1, Name::new(format_args!("."))),
            1 => (1, Name::new(format_args!(".."))),
            _ => {
                let first = u32::try_from(position - DIRECTORIES).unwrap_or(u32::MAX);
                let Some(id) = process.next_thread_id(first) else { return Ok(position) };
                position = u64::from(id) + DIRECTORIES;
                (u64::from(id), Name::new(format_args!("{id}")))
            }
        };
        if !put_entry(text, room, inode, position + 1, Kind::Directory, name.as_str().as_bytes())? {
            return Ok(position);
        }
        position += 1;
    }
}

pub fn getdents64(thread: &UserThread, frame: &mut UserFrame) -> Result<u64> {
    let [file, to, room, ..] = frame.x;
    let open = open_file(thread, file)?;
    let mut position = open.offset.load(Ordering::Relaxed);
    let mut text: Vec<u8> = Vec::new();
    let room = (room as usize).min(64 << 10);
    match &open.object {
        Object::Node(node) => with_files(|files| {
            while let Some((name, entry, next)) = files.entry_at(*node, position)? {
                if !put_entry(&mut text, room, entry.inode(), next, files.kind(entry), name)? {
                    break;
                }
                position = next;
            }
            Ok::<_, Errno>(())
        })?,
        Object::Tasks(process) => position = put_tasks(process, position, &mut text, room)?,
        _ => return Err(Errno::ENOTDIR),
    }
    copy::write_bytes(to, &text)?;
    open.offset.store(position, Ordering::Relaxed);
    Ok(text.len() as u64)
}
