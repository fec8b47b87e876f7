//! `cargo xtask doc`: the book of `docs/` and the documentation of all crates, as one site in `target/site`.
//!
//! The pages are copied first: what they link to outside `docs/` is on the repository's site, not beside the
//! book.

use crate::{paths, setup, step, toolchain};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The program that makes the book, and its version.
const MDBOOK: &str = "mdbook";
const VERSION: &str = "^0.5";
/// Where sources are read on the web.
const SOURCES: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

const BOOK: &str = r#"[book]
title = "Margay"
authors = ["The Margay developers"]
language = "en"
src = "src"

[output.html]
default-theme = "light"
preferred-dark-theme = "navy"
no-section-label = true
"#;

/// Runs the verb.
pub fn verb() -> Result<()> {
    let mdbook = ensure_mdbook()?;
    let book = paths::cargo_target().join("book");
    let site = paths::cargo_target().join("site");
    for dir in [&book, &site] {
        let _ = fs::remove_dir_all(dir);
    }
    paths::write(&book.join("book.toml"), BOOK.as_bytes())?;
    copy_pages(&paths::root().join("docs"), "", &book.join("src"))?;
    let mut command = Command::new(mdbook);
    command.arg("build").arg(&book).arg("--dest-dir").arg(&site);
    step::run("the book", "doc-book", command)?;

    let mut host = toolchain::host_cargo();
    host.args([
        "doc",
        "--no-deps",
        "--workspace",
        "--lib",
        "--exclude",
        "xtask",
        "--exclude",
        "margay-control",
    ]);
    for package in bare_metal_packages()? {
        host.args(["--exclude", &package]);
    }
    step::run("the crates' documentation", "doc-host", host)?;
    copy_dir(&paths::cargo_target().join("doc"), &site.join("api"))?;
    paths::write(&site.join("api/index.html"), index(&site.join("api"))?.as_bytes())?;

    let toolchain = setup::ensure_toolchain()?;
    let mut bare = toolchain.cargo("doc", toolchain::PROGRAMS);
    bare.args(["--no-deps", "--package", "lwk-core", "--package", "hv-core"]);
    step::run("the kernels' documentation", "doc-bare-metal", bare)?;
    copy_dir(&paths::cargo_target().join(toolchain::PROGRAMS).join("doc"), &site.join("api-bare-metal"))?;
    check_links(&site)?;
    println!("{}", paths::shown(&site.join("index.html")));
    Ok(())
}

/// Checks that what the start page links to has been made.
fn check_links(site: &Path) -> Result<()> {
    let page = String::from_utf8(paths::read(&paths::root().join("docs/index.md"))?)?;
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| target.starts_with("api")) {
        ensure!(
            site.join(target).exists(),
            "docs/index.md: {target} is not in the documentation of the crates"
        );
    }
    Ok(())
}

/// The program that makes the book; installs it below `target/` if it is missing.
fn ensure_mdbook() -> Result<PathBuf> {
    let root = paths::cargo_target().join("tools");
    let program = root.join("bin").join(MDBOOK);
    if !program.exists() {
        let mut cargo = toolchain::host_cargo();
        cargo.args(["install", MDBOOK, "--version", VERSION, "--locked", "--no-default-features"]);
        cargo.args(["--features", "search", "--root"]).arg(&root);
        step::run("installing mdbook", "doc-install", cargo)?;
    }
    Ok(program)
}

/// Packages that are built for bare metal only.
fn bare_metal_packages() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(paths::root().join("images")).context("cannot read images/")?.flatten() {
        let Ok(manifest) = fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        names.extend(name.map(str::to_owned));
    }
    Ok(names)
}

/// Copies the pages below `dir`, which is `within` docs/, with their links.
fn copy_pages(dir: &Path, within: &str, to: &Path) -> Result<()> {
    let sentence = || format!("cannot read {}", paths::shown(dir));
    for entry in fs::read_dir(dir).with_context(sentence)? {
        let path = entry.with_context(sentence)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            copy_pages(&path, &format!("{within}{name}/"), &to.join(name))?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let text = String::from_utf8(paths::read(&path)?).context("pages are UTF-8 text")?;
            paths::write(&to.join(name), with_links(&text, within).as_bytes())?;
        } else {
            paths::write(&to.join(name), &paths::read(&path)?)?;
        }
    }
    Ok(())
}

/// The page with links that lead out of docs/ made links to the sources on the web. `within` is the page's
/// directory in docs/.
fn with_links(text: &str, within: &str) -> String {
    let depth = within.matches('/').count();
    let up = format!("]({}", "../".repeat(depth + 1));
    text.replace(&up, &format!("]({SOURCES}"))
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let sentence = || format!("cannot copy {}", paths::shown(from));
    fs::create_dir_all(to).with_context(sentence)?;
    for entry in fs::read_dir(from).with_context(sentence)? {
        let entry = entry.with_context(sentence)?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(sentence)?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target).with_context(sentence)?;
        }
    }
    Ok(())
}

/// A page that leads to each crate below `api`.
fn index(api: &Path) -> Result<String> {
    let mut crates: Vec<String> = fs::read_dir(api)
        .context("there is no documentation of crates")?
        .flatten()
        .filter(|entry| entry.path().join("index.html").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "src")
        .collect();
    crates.sort();
    let items = crates.iter().map(|name| format!("<li><a href=\"{name}/index.html\">{name}</a></li>\n"));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Margay's crates</title>\n\
         <style>body {{ font-family: sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em; line-height: 1.6 }}</style>\n\
         <h1>Margay's crates</h1>\n<p><a href=\"../index.html\">The book</a></p>\n<ul>\n{}</ul>\n</html>\n",
        items.collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::with_links;

    #[test]
    fn links_out_of_the_book_lead_to_the_sources() {
        let page = "see [a](b.md), [c](../crates/c) and [d](decisions/e.md)";
        let expected = format!("see [a](b.md), [c]({}crates/c) and [d](decisions/e.md)", super::SOURCES);
        assert_eq!(with_links(page, ""), expected);
        let page = "[a](../abi.md) [c](../../crates/c)";
        assert_eq!(with_links(page, "decisions/"), format!("[a](../abi.md) [c]({}crates/c)", super::SOURCES));
    }
}
