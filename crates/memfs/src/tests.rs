//! Paths, names, contents; and random operations against a model that is a map from paths.

use super::{archive::Problem, *};
use proptest::prelude::*;
use std::{boxed::Box, collections::BTreeMap as Model, format, string::String, vec};

/// All bytes of a file.
fn bytes(fs: &FileSystem, file: NodeId) -> Result<Vec<u8>> {
    let mut all = vec![0; fs.stat(file).size as usize];
    fs.read_at(file, 0, &mut all).map(|count| all[..count].to_vec())
}

/// All names of a directory.
fn names(fs: &FileSystem, directory: NodeId) -> Vec<Vec<u8>> {
    let mut position = 0;
    let entries = core::iter::from_fn(|| {
        let (name, _, next) = fs.entry_at(directory, position).unwrap()?;
        position = next;
        Some(name.to_vec())
    });
    entries.collect()
}

fn entry(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
        1,
        0,
        0,
        1,
        7,
        data.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn archive(entries: &[(&str, u32, &[u8])]) -> &'static [u8] {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|(name, mode, data)| entry(name, *mode, data)).collect();
    bytes.extend(entry("TRAILER!!!", 0, b""));
    Box::leak(bytes.into_boxed_slice())
}

#[test]
fn mounts_archive_as_root() {
    let mut fs = FileSystem::new();
    fs.add_archive(archive(&[
        (".", 0o040_700, b""),
        ("bin/a.out", 0o100_755, b"ELF"),
        ("./etc", 0o040_711, b""),
        ("etc/link", 0o120_777, b"../bin/a.out"),
        ("dev/null", 0o020_666, b""),
    ]))
    .unwrap();
    let file = fs.find(Start::Root, b"/etc/link", true).unwrap();
    assert_eq!(fs.archived(file), Some(&b"ELF"[..]));
    let stat = fs.stat(file);
    assert_eq!((stat.mode, stat.size, stat.modified, stat.links), (0o100_755, 3, 7, 1));
    assert_eq!(fs.stat(NodeId::ROOT).mode, 0o040_700);
    let link = fs.find(Start::Root, b"etc/link", false).unwrap();
    assert_eq!(fs.read_link(link), Ok(&b"../bin/a.out"[..]));
    assert_eq!(fs.find(Start::Root, b"/dev/null", true), Err(FsError::NotFound));
    let etc = fs.find(Start::Root, b"etc/", true).unwrap();
    assert_eq!(fs.path_of(etc).unwrap(), b"/etc");
    assert_eq!(fs.find(Start::At(etc), b"../bin/./a.out", true), Ok(file));
    // Writing copies; the archive stays.
    fs.write_at(file, 1, b"xyz").unwrap();
    assert_eq!((bytes(&fs, file), fs.archived(file)), (Ok(b"Exyz".to_vec()), None));
}

#[test]
fn rejects_damaged_archives_with_offset() {
    let good = archive(&[("a", 0o100_644, b"text")]);
    for cut in 0..good.len() - 1 {
        let bytes: &'static [u8] = Box::leak(good[..cut].to_vec().into_boxed_slice());
        let result = FileSystem::new().add_archive(bytes);
        // Padding behind the trailer's name may be missing.
        assert!(result.is_err() || cut > good.len() - 4, "{cut}");
    }
    let sentence = |entries| FileSystem::new().add_archive(archive(entries)).unwrap_err();
    let through = sentence(&[("a", 0o100_644, b"text"), ("a/b", 0o100_644, b"")]);
    assert_eq!((through.at, through.problem), (116, Problem::Path));
    assert_eq!(sentence(&[("../a", 0o100_644, b"")]).problem, Problem::Path);
    let mut number = good.to_vec();
    number[20] = b'z';
    let number: &'static [u8] = Box::leak(number.into_boxed_slice());
    let error = FileSystem::new().add_archive(number).unwrap_err();
    assert_eq!(format!("{error}"), "at byte 0: the header holds something that is not a number");
}

#[test]
fn resolves_dangling_and_cyclic_links() {
    let mut fs = FileSystem::new();
    fs.create_symlink(Start::Root, b"a", b"b", 0).unwrap();
    fs.create_symlink(Start::Root, b"b", b"/a", 0).unwrap();
    assert_eq!(fs.find(Start::Root, b"a", true), Err(FsError::Loop));
    assert_eq!(fs.find(Start::Root, b"a/x", false), Err(FsError::Loop));
    assert!(fs.find(Start::Root, b"a", false).is_ok());
    fs.create_symlink(Start::Root, b"up", b"..", 0).unwrap();
    assert_eq!(fs.find(Start::Root, b"up/up/up", true), Ok(NodeId::ROOT));
    assert_eq!(fs.create_symlink(Start::Root, b"c", b"", 0), Err(FsError::NotFound));
}

#[test]
fn open_file_survives_unlink() {
    let mut fs = FileSystem::new();
    fs.set_room(NODE_COST + 1 + 64);
    let file = fs.create_file(Start::Root, b"f", 0o600, 0).unwrap();
    fs.open(file).unwrap();
    fs.write_at(file, 0, b"0123456789").unwrap();
    assert_eq!(fs.write_at(file, 60, b"01234"), Err(FsError::NoSpace));
    assert_eq!(fs.create_file(Start::Root, b"g", 0o600, 0), Err(FsError::NoSpace), "nodes take room too");
    fs.unlink(Start::Root, b"f").unwrap();
    assert_eq!(bytes(&fs, file), Ok(b"0123456789".to_vec()));
    assert_eq!(fs.stat(file).links, 0);
    fs.close(file);
    assert_eq!(bytes(&fs, file), Err(FsError::NotFound));
    let other = fs.create_file(Start::Root, b"g", 0o600, 0).unwrap();
    assert_eq!(other, file, "its number is free again");
    assert_eq!(fs.write_at(other, 0, b"0123456789"), Ok(()), "and its room");
    fs.truncate(other, 2).unwrap();
    fs.truncate(other, 4).unwrap();
    assert_eq!(bytes(&fs, other), Ok(b"01\0\0".to_vec()));
    assert_eq!(fs.truncate(other, u64::MAX), Err(FsError::TooLarge));
    assert_eq!(fs.write_at(other, u64::MAX, b"x"), Err(FsError::TooLarge));
}

#[test]
fn rejects_rename_below_itself() {
    let mut fs = FileSystem::new();
    let a = fs.create_directory(Start::Root, b"a", 0o755, 0).unwrap();
    fs.create_directory(Start::At(a), b"b", 0o755, 0).unwrap();
    assert_eq!(fs.rename((Start::Root, b"a"), (Start::Root, b"a/b/c")), Err(FsError::Invalid));
    assert_eq!(fs.remove_directory(Start::Root, b"a"), Err(FsError::NotEmpty));
    fs.rename((Start::Root, b"a/b"), (Start::Root, b"b")).unwrap();
    assert_eq!((fs.stat(NodeId::ROOT).links, fs.stat(a).links), (4, 2));
    fs.open(a).unwrap();
    fs.remove_directory(Start::Root, b"a").unwrap();
    assert_eq!(fs.create_file(Start::At(a), b"x", 0, 0), Err(FsError::NotFound));
    assert_eq!(fs.path_of(a), Err(FsError::NotFound));
    assert_eq!(names(&fs, NodeId::ROOT), [&b"."[..], b"..", b"b"]);
}

#[test]
fn readdir_during_unlink_lists_remaining_entries() {
    let mut fs = FileSystem::new();
    let directory = fs.create_directory(Start::Root, b"d", 0o755, 0).unwrap();
    for number in 0..1000 {
        fs.create_file(Start::At(directory), format!("{number}").as_bytes(), 0o644, 0).unwrap();
    }
    let (mut position, mut seen) = (0, 0);
    while let Some((name, node, next)) = fs.entry_at(directory, position).unwrap() {
        position = next;
        if fs.kind(node) == Kind::File {
            let name = name.to_vec();
            fs.unlink(Start::At(directory), &name).unwrap();
            seen += 1;
        }
    }
    assert_eq!(seen, 1000);
    fs.remove_directory(Start::Root, b"d").unwrap();
}

#[test]
fn growing_file_is_not_copied() {
    let mut fs = FileSystem::new();
    let file = fs.create_file(Start::Root, b"f", 0o644, 0).unwrap();
    let chunk = vec![1; chunks::CHUNK];
    fs.write_at(file, 0, &chunk).unwrap();
    let first = fs.piece_at(file, 0).unwrap().as_ptr();
    for number in 1..200 {
        fs.write_at(file, number * chunk.len() as u64, &chunk).unwrap();
        assert_eq!(fs.piece_at(file, 0).unwrap().as_ptr(), first);
    }
    fs.write_at(file, 3 * chunk.len() as u64 - 2, b"abcd").unwrap();
    let mut read = [0; 6];
    assert_eq!(fs.read_at(file, 3 * chunk.len() as u64 - 3, &mut read), Ok(6));
    assert_eq!(&read, b"\x01abcd\x01");
}

#[test]
fn unlink_frees_memory() {
    let mut fs = FileSystem::new();
    let room = 100_000;
    fs.set_room(room);
    for _ in 0..3 {
        let mut made = 0;
        while fs.create_symlink(Start::Root, format!("link{made}").as_bytes(), b"target", 0).is_ok() {
            made += 1;
        }
        assert!((200..310).contains(&made), "{made}");
        fs.rename((Start::Root, b"link0"), (Start::Root, b"link1")).unwrap();
        fs.rename((Start::Root, b"link1"), (Start::Root, b"x")).unwrap();
        for number in 2..made {
            fs.unlink(Start::Root, format!("link{number}").as_bytes()).unwrap();
        }
        fs.unlink(Start::Root, b"x").unwrap();
        assert_eq!(fs.room, room);
    }
}

#[derive(Clone, Debug)]
enum Step {
    File(String),
    Directory(String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String),
    Write(String, u16, Vec<u8>),
    Truncate(String, u16),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4)
        .prop_map(|names| names.join("/"))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Step::File),
        path().prop_map(Step::Directory),
        path().prop_map(Step::Unlink),
        path().prop_map(Step::Rmdir),
        (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        (path(), 0..300_u16, proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(p, o, b)| Step::Write(p, o, b)),
        (path(), 0..300_u16).prop_map(|(p, size)| Step::Truncate(p, size)),
    ]
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.into())
}

proptest! {
    #[test]
    fn it_is_a_map_from_paths(steps in proptest::collection::vec(step(), 1..80)) {
        let mut fs = FileSystem::new();
        // `None` is a directory.
        let mut model: Model<String, Option<Vec<u8>>> = Model::from([(String::new(), None)]);
        for step in steps {
            let has_parent = |model: &Model<_, _>, path: &str| model.get(&parent(path)) == Some(&None);
            let has_child = |model: &Model<String, _>, path: &str| {
                model.keys().any(|other| other.starts_with(&format!("{path}/")))
            };
            match step {
                Step::File(path) => {
                    let fine = has_parent(&model, &path) && !model.contains_key(&path);
                    prop_assert_eq!(fs.create_file(Start::Root, path.as_bytes(), 0o644, 0).is_ok(), fine);
                    if fine { model.insert(path, Some(vec![])); }
                }
                Step::Directory(path) => {
                    let fine = has_parent(&model, &path) && !model.contains_key(&path);
                    prop_assert_eq!(fs.create_directory(Start::Root, path.as_bytes(), 0o755, 0).is_ok(), fine);
                    if fine { model.insert(path, None); }
                }
                Step::Unlink(path) => {
                    let fine = matches!(model.get(&path), Some(Some(_)));
                    prop_assert_eq!(fs.unlink(Start::Root, path.as_bytes()).is_ok(), fine);
                    if fine { model.remove(&path); }
                }
                Step::Rmdir(path) => {
                    let fine = model.get(&path) == Some(&None) && !has_child(&model, &path);
                    prop_assert_eq!(fs.remove_directory(Start::Root, path.as_bytes()).is_ok(), fine);
                    if fine { model.remove(&path); }
                }
                Step::Rename(from, to) => {
                    let below = to.starts_with(&format!("{from}/"));
                    let fits = match (model.get(&from), model.get(&to)) {

                        (Some(_), _) if from == to => true,
                        (Some(_), None) | (Some(Some(_)), Some(Some(_))) => true,
                        (Some(None), Some(None)) => !has_child(&model, &to),
                        _ => false,
                    };
                    let fine = fits && has_parent(&model, &to) && !below;
                    let result = fs.rename((Start::Root, from.as_bytes()), (Start::Root, to.as_bytes()));
                    prop_assert_eq!(result.is_ok(), fine, "{:?}", result);
                    if fine && from != to {
                        let moved: Vec<_> = model
                            .iter()
                            .filter(|(path, _)| **path == from || path.starts_with(&format!("{from}/")))
                            .map(|(path, content)| (path.clone(), content.clone()))
                            .collect();
                        model.remove(&to);
                        for (path, content) in moved {
                            model.remove(&path);
                            model.insert(format!("{to}{}", &path[from.len()..]), content);
                        }
                    }
                }
                Step::Write(path, offset, bytes) => {
                    let Ok(node) = fs.find(Start::Root, path.as_bytes(), true) else {
                        prop_assert!(!model.contains_key(&path));
                        continue;
                    };
                    let content = model.get_mut(&path).unwrap();
                    prop_assert_eq!(fs.write_at(node, offset.into(), &bytes).is_ok(), content.is_some());
                    if let Some(content) = content.as_mut().filter(|_| !bytes.is_empty()) {
                        let end = usize::from(offset) + bytes.len();
                        content.resize(content.len().max(end), 0);
                        content[usize::from(offset)..end].copy_from_slice(&bytes);
                    }
                }
                Step::Truncate(path, size) => {
                    let Ok(node) = fs.find(Start::Root, path.as_bytes(), true) else { continue };
                    let content = model.get_mut(&path).unwrap();
                    prop_assert_eq!(fs.truncate(node, size.into()).is_ok(), content.is_some());
                    if let Some(content) = content { content.resize(size.into(), 0); }
                }
            }
            for (path, content) in &model {
                let node = fs.find(Start::Root, format!("/{path}").as_bytes(), true).unwrap();
                prop_assert_eq!(bytes(&fs, node).ok(), content.clone());
            }
            let count = fs.nodes.iter().flatten().count();
            prop_assert_eq!(count, model.len(), "no node is lost, and none is left behind");
        }
    }

    #[test]
    fn archives_and_paths_cause_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        path in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..30),
    ) {
        let mut fs = FileSystem::new();
        let mut archive = entry("a", 0o100_644, b"x");
        archive.extend_from_slice(&bytes);
        let _ = fs.add_archive(Box::leak(archive.into_boxed_slice()));
        let _ = fs.create_file(Start::Root, &path, 0, 0);
        let _ = fs.create_directory(Start::Root, &path, 0, 0);
        let _ = fs.rename((Start::Root, b"a"), (Start::Root, &path));
        let _ = fs.unlink(Start::Root, &path);
        let _ = fs.remove_directory(Start::Root, &path);
        prop_assert!(fs.nodes[0].is_some());
    }
}
