//! Archives: what is read, and what is refused in which words.
mod common;

use bundle::{Archive, ArchiveProblem, Entry};
use common::{newc, old_binary};

fn files() -> Vec<(String, Vec<u8>)> {
    vec![("a".into(), b"first".to_vec()), ("./dir/b".into(), vec![]), ("c".into(), vec![9; 70_001])]
}

fn problem(bytes: &[u8]) -> ArchiveProblem {
    Archive::new(bytes).unwrap_err().problem
}

#[test]
fn all_forms_are_read() {
    let checked = {
        let mut bytes = newc(&files());
        let at: Vec<_> = (0..bytes.len() - 6).filter(|at| bytes[*at..].starts_with(b"070701")).collect();
        for at in at {
            bytes[at + 5] = b'2';
        }
        bytes
    };
    for mut bytes in [newc(&files()), checked, old_binary(&files())] {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let archive = Archive::new(&bytes).unwrap();
        let names: Vec<_> = archive.entries().map(|entry| entry.name).collect();
        assert_eq!(names, ["a", "dir/b", "c"]);
        assert_eq!(archive.entries().next(), Some(Entry { name: "a", data: b"first" }));
        assert_eq!(archive.find("dir/b"), Some(&[][..]));
        assert_eq!(archive.find("c").unwrap(), &files()[2].1);
        assert_eq!(archive.find("TRAILER!!!"), None);
        assert_eq!(archive.find("d"), None);
    }
    assert_eq!(Archive::new(&newc(&[])).unwrap().entries().count(), 0);
}

#[test]
fn detects_every_truncation() {
    let files = &files()[..2];
    for bytes in [newc(files), old_binary(files)] {
        // The last bytes are padding of the trailer.
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for len in 0..last {
            Archive::new(&bytes[..len]).unwrap_err();
        }
    }
}

#[test]
fn problems_have_names() {
    let good = newc(&files());
    assert_eq!(problem(b""), ArchiveProblem::NoTrailer);
    assert_eq!(problem(b"garbage"), ArchiveProblem::Magic);
    assert_eq!(problem(&good[..60]), ArchiveProblem::HeaderCut);
    assert_eq!(problem(&good[..110]), ArchiveProblem::NameCut);
    assert_eq!(problem(&good[..114]), ArchiveProblem::DataCut);
    let trailer = good.len() - 124;
    assert_eq!(problem(&good[..trailer]), ArchiveProblem::NoTrailer);
    let patched = |at: usize, text: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + text.len()].copy_from_slice(text);
        bytes
    };
    assert_eq!(problem(&patched(54, b"zzzzzzzz")), ArchiveProblem::Number);
    assert_eq!(problem(&patched(54, b"+0000005")), ArchiveProblem::Number);
    assert_eq!(problem(&patched(94, b"00000000")), ArchiveProblem::Name);
    assert_eq!(problem(&patched(94, b"ffffffff")), ArchiveProblem::Name);
    assert_eq!(problem(&patched(110, b"\xff")), ArchiveProblem::Name);
    assert_eq!(problem(&patched(110, b"\0")), ArchiveProblem::Name);
    assert_eq!(problem(&patched(111, b"x")), ArchiveProblem::Name);
    let too_large = patched(54, b"fffffff0");
    let error = Archive::new(&too_large).unwrap_err();
    assert_eq!(error.to_string(), "a (at byte 0): the archive ends within the file's data");
    let mut behind = good.clone();
    behind.extend_from_slice(b"\0\0more");
    assert_eq!(problem(&behind), ArchiveProblem::AfterTrailer);
    let twice = newc(&[("./x".into(), vec![1]), ("y".into(), vec![]), ("x".into(), vec![2])]);
    let error = Archive::new(&twice).unwrap_err();
    assert_eq!((error.name, error.problem), (Some("x"), ArchiveProblem::Duplicate));
}

#[test]
fn names_and_numbers_of_files_are_bounded() {
    let of_length = |len| newc(&[("n".repeat(len), vec![])]);
    Archive::new(&of_length(255)).unwrap();
    assert_eq!(problem(&of_length(256)), ArchiveProblem::Name);
    let count = |count: usize| newc(&(0..count).map(|n| (n.to_string(), vec![])).collect::<Vec<_>>());
    assert_eq!(Archive::new(&count(256)).unwrap().entries().count(), 256);
    assert_eq!(problem(&count(257)), ArchiveProblem::TooMany);
}
