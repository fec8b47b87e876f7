//! Installing Debian packages, or saying how.

use crate::step;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/margay-backports.list";

/// The backports suite that is needed for a recent QEMU, if this Debian needs one.
pub fn backports() -> Option<String> {
    (os_release("VERSION_CODENAME").as_deref() == Some("bookworm")).then(|| "bookworm-backports".to_owned())
}

/// The commands that install `packages`, for people.
pub fn by_hand(packages: &[&str], suite: Option<&str>) -> String {
    let add = |suite| format!("  echo '{}' > {BACKPORTS_LIST}\n", source_line(suite));
    let source = suite.filter(|suite| !has_suite(suite)).map(add).unwrap_or_default();
    let from = suite.map(|suite| format!("-t {suite} ")).unwrap_or_default();
    let packages = packages.join(" ");
    format!("{source}  apt-get update\n  apt-get install {from}--no-install-recommends {packages}")
}

/// Installs `packages`, from `suite` if given; where that is not allowed, fails and shows `by_hand`.
pub fn install(what: &str, packages: &[&str], suite: Option<&str>, by_hand: &str) -> Result<()> {
    if !is_debian() || !is_root() {
        let why = if is_debian() { "this is not root" } else { "this is not Debian" };
        bail!("{what} is missing and cannot be installed here ({why}). Run this, then try again:\n{by_hand}");
    }
    println!("installing {what}: {}", packages.join(" "));
    if let Some(suite) = suite.filter(|suite| !has_suite(suite)) {
        println!("adding the apt source {BACKPORTS_LIST}");
        fs::write(BACKPORTS_LIST, source_line(suite) + "\n")
            .with_context(|| format!("cannot write {BACKPORTS_LIST}"))?;
    }
    step::run("apt-get update", "apt-update", apt(&["update"]))?;
    let mut args = vec!["install", "-y", "--no-install-recommends"];
    if let Some(suite) = suite {
        args.extend(["-t", suite]);
    }
    args.extend(packages);
    step::run(&format!("apt-get install {}", packages.join(" ")), "apt-install", apt(&args))?;
    Ok(())
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_debian() -> bool {
    let debian = |key| os_release(key).is_some_and(|value| value.split(' ').any(|id| id == "debian"));
    Path::new("/usr/bin/apt-get").exists() && (debian("ID") || debian("ID_LIKE"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// The text of every apt source.
fn sources() -> String {
    let mut text = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "list" || extension == "sources") {
            text += &fs::read_to_string(path).unwrap_or_default();
            text.push('\n');
        }
    }
    text
}

fn has_suite(suite: &str) -> bool {
    sources().lines().any(|line| !line.trim_start().starts_with('#') && line.contains(suite))
}

/// The source line of `suite`, on the mirror this machine already uses.
fn source_line(suite: &str) -> String {
    format!("deb {} {suite} main", mirror())
}

/// The mirror of Debian that this machine already uses, or the usual one.
pub fn mirror() -> String {
    mirror_in(&sources()).to_owned()
}

/// The first mirror of Debian proper (not of its security updates) that `sources` names.
fn mirror_in(sources: &str) -> &str {
    let is_mirror = |word: &&str| word.contains("://") && word.trim_end_matches('/').ends_with("/debian");
    sources
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .find_map(|line| line.split_whitespace().find(is_mirror))
        .unwrap_or("http://deb.debian.org/debian")
}

#[cfg(test)]
mod tests {
    use super::mirror_in;

    #[test]
    fn the_mirror_in_use_is_found() {
        let sources = "# deb http://old/debian x main\nURIs: http://mirror.example/debian-security\n\
                       URIs: http://mirror.example/debian\n";
        assert_eq!(mirror_in(sources), "http://mirror.example/debian");
        assert_eq!(
            mirror_in("deb [signed-by=/k] https://a.example/debian/ bookworm main"),
            "https://a.example/debian/"
        );
        assert_eq!(mirror_in(""), "http://deb.debian.org/debian");
    }
}
