//! Tests of the documentation: what pages quote from the sources is there, and what users meet is explained.

use crate::paths;
use clap::{Parser, error::ErrorKind};
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

/// The image builds compile the files that the page quotes, so a reader who copies the page compiles them
/// too.
#[test]
fn porting_page_quotes_files_that_are_compiled() {
    let page = text("docs/porting.md");
    let files = ["Cargo.toml", "src/lib.rs", "src/bin/hv.rs", "src/bin/hv-gic.rs"];
    let blocks = blocks(&page);
    for file in files.map(|file| text(&format!("images/zcu102/{file}"))) {
        assert!(blocks.iter().any(|(_, block)| *block == file), "docs/porting.md lacks the file\n{file}");
    }
    let boards = text("xtask/src/board.rs");
    let entry = blocks.iter().find(|(before, _)| before.contains("`BOARDS`")).map(|(_, block)| block);
    assert!(
        entry.is_some_and(|entry| boards.contains(&format!("\n{entry}")) && balanced(entry)),
        "docs/porting.md has another entry than board.rs"
    );
}

/// Every page of the documentation: its path in the tree, and its text.
fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    let mut dirs = vec![paths::root().join("docs")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(paths::shown(&path));
            }
        }
    }
    pages.extend(
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/README.md"].map(str::to_owned),
    );
    pages.into_iter().map(|path| (path.clone(), text(&path))).collect()
}

#[test]
fn book_has_each_page() {
    let summary = text("docs/SUMMARY.md");
    let missing: Vec<_> = pages()
        .into_iter()
        .filter_map(|(path, _)| path.strip_prefix("docs/").map(str::to_owned))
        .filter(|path| path != "SUMMARY.md" && !summary.contains(&format!("({path})")))
        .collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
}

/// Links to files of the tree, and to headings of pages.
#[test]
fn links_lead_somewhere() {
    let mut dangling = Vec::new();
    for (page, content) in pages() {
        let dir = paths::root().join(&page).parent().unwrap().to_owned();
        for target in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // The crates' documentation is made by `cargo xtask doc`.
            if target.contains("://") || target.starts_with("api/") || target.starts_with("api-bare-metal/") {
                continue;
            }
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
            let path = if file.is_empty() { paths::root().join(&page) } else { dir.join(file) };
            let found = match heading {
                None => path.exists(),
                Some(heading) => {
                    fs::read_to_string(&path).is_ok_and(|text| anchors(&text).any(|anchor| anchor == heading))
                }
            };
            if !found {
                dangling.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(dangling.is_empty(), "{dangling:#?}");
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(page: &str) -> impl Iterator<Item = String> {
    page.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// Each `cargo xtask` command of the documentation is one that the tool takes.
#[test]
fn commands_of_pages_are_understood() {
    let mut wrong = Vec::new();
    for (page, content) in pages() {
        let fenced = blocks(&content)
            .into_iter()
            .flat_map(|(_, block)| block.lines().map(str::to_owned).collect::<Vec<_>>());
        let inline = content
            .lines()
            .filter(|line| !line.starts_with("```"))
            .flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
        for command in fenced.chain(inline) {
            let command = command.trim().trim_start_matches("$ ");
            let Some(arguments) = command.strip_prefix("cargo xtask ") else { continue };
            let arguments = arguments.split(" #").next().unwrap_or_default();
            let arguments = arguments.split_whitespace().map(|word| word.trim_matches('"'));
            if let Err(error) = crate::Cli::try_parse_from(std::iter::once("xtask").chain(arguments))
                && !named_only(error.kind())
            {
                wrong.push(format!(
                    "{page}: `{command}`: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A command that a text names, without what it needs.
fn named_only(error: ErrorKind) -> bool {
    matches!(
        error,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::InvalidValue
    )
}

/// lwk-core exists on bare metal only, where documentation tests do not run: its example is a guest that a
/// scenario boots.
#[test]
fn lwk_core_shows_the_kernel_that_a_scenario_boots() {
    let source = text("images/guest/src/bin/hello.rs");
    let code = source.split_once('\n').unwrap().1;
    assert!(blocks(&text("crates/lwk-core/README.md")).iter().any(|(_, block)| block == code));
    let source = text("crates/lwk-core/src/lib.rs");
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let docs: Vec<_> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let docs = docs.join("\n");
    assert!(
        blocks(&docs).iter().any(|(_, block)| block == code),
        "the documentation of lwk-core shows another"
    );
}

/// Whether each brace that is opened is closed: a part of an entry is none.
fn balanced(entry: &str) -> bool {
    entry.matches('{').count() == entry.matches('}').count() && entry.trim_start().starts_with("Board {")
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

/// The string literals that `source` passes to calls that begin with one of `calls`.
fn sentences(source: &str, calls: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for call in calls {
        for rest in source.split(call).skip(1) {
            let rest = rest.trim_start();
            if let Some(literal) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                // A line that ends in a backslash goes on after the next line's indentation.
                let lines: Vec<&str> = literal.split("\\\n").collect();
                let rest = lines[1..].iter().map(|line| line.trim_start());
                found.push(lines[..1].iter().copied().chain(rest).collect());
            }
        }
    }
    found
}

fn sources(dir: &std::path::Path) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            texts.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts
}

#[test]
fn fatal_page_has_each_sentence() {
    let page = text("docs/fatal.md");
    let mut missing = Vec::new();
    for dir in ["crates/hv-core/src", "crates/lwk-core/src"] {
        for source in sources(&paths::root().join(dir)) {
            // Only the sentences themselves: what is nothing but another error's text is explained there.
            let found = sentences(&source, &["fail!(", "fatal(format_args!("]);
            missing.extend(
                found
                    .into_iter()
                    .filter(|text| text.contains(' ') && text != "fatal: {why}")
                    .filter(|text| !page.contains(&format!("| `{text}` |"))),
            );
        }
    }
    for (source, part) in [("crates/hv-core/src/plan/error.rs", "{} "), ("crates/machine/src/ram.rs", "")] {
        for text in sentences(
            &text(source),
            &["write!(f,", "write_str(", "write!(\n                f,", "write!(\n                    f,"],
        ) {
            if text.contains(part) && !page.contains(&format!("| `{text}` |")) {
                missing.push(text);
            }
        }
    }
    assert!(missing.is_empty(), "docs/fatal.md lacks {missing:#?}");
}
