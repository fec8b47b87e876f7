//! Each allocation of each operation fails in turn: the operation reports `NoSpace` and has changed nothing.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "on the development host"
)]

use fallible::testing::{FailingAllocator, LEFT};
use memfs::{FileSystem, FsError, NodeId, Start};

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

/// Names, sizes and contents below a directory.
fn all(fs: &FileSystem, directory: NodeId, text: &mut Vec<String>) {
    let mut position = 2;
    while let Some((name, node, next)) = fs.entry_at(directory, position).unwrap() {
        let (stat, mut content) = (fs.stat(node), Vec::new());
        if stat.kind == memfs::Kind::File {
            content.resize(stat.size as usize, 0);
            fs.read_at(node, 0, &mut content).unwrap();
        }
        let sum = content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        text.push(format!("{} in {directory:?}: {stat:?} {sum}", String::from_utf8_lossy(name)));
        if stat.kind == memfs::Kind::Directory {
            all(fs, node, text);
        }
        position = next;
    }
}

fn picture(fs: &FileSystem) -> Vec<String> {
    let mut text = Vec::new();
    all(fs, NodeId::ROOT, &mut text);
    text
}

type Operation = fn(&mut FileSystem) -> memfs::Result<()>;

const OPERATIONS: [(&str, Operation); 9] = [
    ("create a file", |fs| fs.create_file(Start::Root, b"new", 0o644, 0).map(drop)),
    ("create a directory", |fs| fs.create_directory(Start::Root, b"a/new", 0o755, 0).map(drop)),
    ("create a link", |fs| fs.create_symlink(Start::Root, b"new", b"target", 0).map(drop)),
    ("create a device", |fs| fs.create_device(Start::Root, b"new", memfs::Device(1), 0o666).map(drop)),
    ("rename", |fs| fs.rename((Start::Root, b"a/small"), (Start::Root, b"moved"))),
    ("replace", |fs| fs.rename((Start::Root, b"a/small"), (Start::Root, b"large"))),
    ("write", |fs| {
        let file = fs.find(Start::Root, b"a/small", true)?;
        fs.write_at(file, 100, &[7; 300_000])
    }),
    ("write to what is in the archive", |fs| {
        let file = fs.find(Start::Root, b"archived", true)?;
        fs.write_at(file, 1, b"x")
    }),
    ("truncate to more", |fs| {
        let file = fs.find(Start::Root, b"large", true)?;
        fs.truncate(file, 500_000)
    }),
];

/// A file system with something of everything, whose tables are as full as `extra` more names make them.
fn prepared(archive: &'static [u8], extra: u32) -> FileSystem {
    let mut fs = FileSystem::new();
    fs.add_archive(archive).unwrap();
    let a = fs.create_directory(Start::Root, b"a", 0o755, 0).unwrap();
    for (directory, name, size) in [(a, &b"small"[..], 10), (NodeId::ROOT, b"large", 200_000)] {
        let file = fs.create_file(Start::At(directory), name, 0o644, 0).unwrap();
        fs.write_at(file, 0, &vec![3; size]).unwrap();
    }
    for number in 0..extra {
        fs.create_file(Start::Root, format!("extra{number}").as_bytes(), 0o644, 0).unwrap();
    }
    fs
}

fn archive() -> &'static [u8] {
    let mut bytes = Vec::new();
    for (name, mode, data) in [("archived", 0o100_644, &b"text"[..]), ("TRAILER!!!", 0, b"")] {
        let header = [1, mode, 0, 0, 1, 7, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend_from_slice(b"070701");
        for word in header {
            bytes.extend_from_slice(format!("{word:08x}").as_bytes());
        }
        for part in [name.as_bytes(), b"\0"] {
            bytes.extend_from_slice(part);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Box::leak(bytes.into_boxed_slice())
}

#[test]
fn survives_failure_of_each_allocation() {
    let archive = archive();
    let mut failures = 0;
    for (name, operation) in OPERATIONS {
        for extra in 0..20 {
            for failing in 1.. {
                let mut fs = prepared(archive, extra);
                let before = picture(&fs);
                LEFT.set(failing);
                let result = operation(&mut fs);
                let happened = LEFT.replace(0) == 0;
                if !happened {
                    assert_eq!(result, Ok(()), "{name}");
                    break;
                }
                failures += 1;
                assert_eq!(result, Err(FsError::NoSpace), "{name}, allocation {failing}");
                assert_eq!(picture(&fs), before, "{name}, allocation {failing}");
                assert_eq!(operation(&mut fs), Ok(()), "{name}, after allocation {failing} failed");
            }
        }
    }
    assert!(failures > 300, "{failures}");
}
