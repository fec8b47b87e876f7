//! Tests of prose: how long lines are, and which words are not used.

use crate::paths;
use std::{fs, path::PathBuf};

/// The most columns of a comment: `max_width` of rustfmt.toml, which formats no comments.
const COMMENT: usize = 110;
/// What is still to be done: where longer lines and excluded words are.
const TO_DO: [&str; 2] = ["crates/hv-core/", "crates/drivers-gic/"];
/// The most columns of a line in a page.
const PAGE: usize = 100;

/// The project's own files with one of these extensions.
fn files(extensions: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![paths::root()]);
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() {
                if name != "target" && name != ".git" && name != "corpus" && name != "fixtures" {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|own| extensions.iter().any(|extension| own == *extension))
            {
                found.push(path);
            }
        }
    }
    found
}

fn is_to_do(path: &std::path::Path) -> bool {
    TO_DO.iter().any(|part| paths::shown(path).starts_with(part))
}

/// Whether a line could be broken: it has a blank after its first word, where the first word ends within the
/// limit.
fn breakable(text: &str) -> bool {
    text.trim().contains(' ')
}

#[test]
fn lines_of_pages_are_short() {
    let mut long = Vec::new();
    for path in files(&["md"]).into_iter().filter(|path| !is_to_do(path)) {
        let mut fenced = false;
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            // Tables, and the list of devices that a test makes.
            let table = line.trim_start().starts_with('|') || line.starts_with("* **`");
            if line.chars().count() > PAGE
                && !fenced
                && !table
                && !line.starts_with("    ")
                && !line.starts_with('#')
            {
                let text = line.trim_start_matches(['-', '*', ' ']);
                // A link, or code, that does not fit is a line of its own.
                if breakable(text) && !text.starts_with('[') && !text.starts_with('`') {
                    long.push(format!("{}:{}", paths::shown(&path), number + 1));
                }
            }
        }
    }
    assert!(long.is_empty(), "longer than {PAGE} columns: {long:#?}");
}

#[test]
fn comments_are_short() {
    let mut long = Vec::new();
    for path in files(&["rs"]).into_iter().filter(|path| !is_to_do(path)) {
        let mut fenced = false;
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let comment = comment.trim_start_matches(['/', '!']).trim();
            fenced ^= comment.starts_with("```");
            if line.chars().count() > COMMENT && !fenced && !comment.starts_with('|') && breakable(comment) {
                long.push(format!("{}:{}", paths::shown(&path), number + 1));
            }
        }
    }
    assert!(long.is_empty(), "comments longer than {COMMENT} columns: {long:#?}");
}

/// The words and names in the first column of the glossary's last table.
fn excluded() -> Vec<String> {
    let page = fs::read_to_string(paths::root().join("docs/glossary.md")).unwrap();
    let table = page.split("## Names that are not used").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    rows.skip(1).flat_map(|row| row.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Whether `text` has `word` with no letter, digit or underscore beside it.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

#[test]
fn glossary_excludes_words_that_are_found_nowhere() {
    let words = excluded();
    assert!(words.len() > 15);
    let mut found = Vec::new();
    for path in files(&["rs", "md", "S", "c", "toml"]) {
        if path.ends_with("docs/glossary.md") || is_to_do(&path) {
            continue;
        }
        for (number, line) in fs::read_to_string(&path).unwrap_or_default().lines().enumerate() {
            for word in words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{}:{}: {word}", paths::shown(&path), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{} uses of excluded words: {:#?}", found.len(), &found[..found.len().min(40)]);
}
