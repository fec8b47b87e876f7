//! Tests of the documentation: what pages quote from the sources is there, and what users meet is explained.

use crate::paths;
use std::fs;

fn text(path: &str) -> String {
    fs::read_to_string(paths::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of a page, each with the last line of text before it.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut blocks, mut before, mut block) = (Vec::new(), String::new(), None::<String>);
    for line in page.lines() {
        match (&mut block, line.starts_with("```")) {
            (None, true) => block = Some(String::new()),
            (None, false) if !line.is_empty() => line.clone_into(&mut before),
            (None, false) => {}
            (Some(_), true) => blocks.push((before.clone(), block.take().unwrap_or_default())),
            (Some(block), false) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

/// The image builds compile the files that the page quotes, so a reader who copies the page compiles them too.
#[test]
fn porting_page_quotes_files_that_are_compiled() {
    let page = text("docs/porting.md");
    let files = ["Cargo.toml", "src/lib.rs", "src/bin/hv.rs", "src/bin/hv-gic.rs", "src/bin/native.rs"];
    let blocks = blocks(&page);
    for file in files.map(|file| text(&format!("images/zcu102/{file}"))) {
        assert!(blocks.iter().any(|(_, block)| *block == file), "docs/porting.md lacks the file\n{file}");
    }
    let boards = text("xtask/src/board.rs");
    let entry = blocks.iter().find(|(before, _)| before.contains("`BOARDS`")).map(|(_, block)| block);
    assert!(
        entry.is_some_and(|entry| boards.contains(entry)),
        "docs/porting.md has another entry than board.rs"
    );
}

#[test]
fn porting_page_explains_each_field() {
    let page = text("docs/porting.md");
    let source = text("xtask/src/board.rs");
    for part in ["pub struct Board {", "pub struct Hardware {"] {
        let body = source.split(part).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
        for name in body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next()) {
            assert!(page.contains(&format!("\n| `{name}` |")), "docs/porting.md does not explain {name}");
        }
    }
}

#[test]
fn bundle_page_explains_each_key() {
    let page = text("docs/bundle.md");
    let source = text("xtask/src/bundle.rs");
    for part in ["pub struct Spec {", "pub struct Vm {", "pub struct File {", "pub struct Native {"] {
        let body = source.split(part).nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
        let mut skipped = false;
        for line in body.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("pub ").and_then(|rest| rest.split(':').next()) {
                assert!(skipped || page.contains(&format!("\n| `{name}` |")), "docs/bundle.md lacks {name}");
            }
            skipped = line == "#[serde(skip)]";
        }
    }
}
