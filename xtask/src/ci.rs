//! `cargo xtask ci`: what a change must pass.

use crate::{
    board, setup, step, test,
    toolchain::{self, Toolchain, host_cargo},
};
use anyhow::Result;
use std::{collections::BTreeSet, process::Command};

/// Runs the verb: every check, then the tests; stops at the first check that fails.
pub fn verb() -> Result<()> {
    let toolchain = setup::ensure_toolchain()?;
    format()?;
    lint_host()?;
    for set in bare_metal() {
        lint(&toolchain, &set)?;
    }
    document()?;
    for set in bare_metal() {
        document_bare_metal(&toolchain, &set)?;
    }
    test::verb(&test::Args::default())
}

/// Packages that are built together for bare metal.
struct Set {
    name: String,
    target: &'static str,
    args: Vec<&'static str>,
}

fn bare_metal() -> Vec<Set> {
    let mut sets = Vec::new();
    let mut seen = BTreeSet::new();
    for board in board::BOARDS.iter().filter(|board| seen.insert(board.package)) {
        for (feature, target) in
            [("hv", toolchain::HYPERVISOR), ("lwk", toolchain::KERNEL), ("programs", toolchain::PROGRAMS)]
        {
            sets.push(Set {
                name: format!("{}-{feature}", board.name),
                target,
                args: vec!["--package", board.package, "--no-default-features", "--features", feature],
            });
        }
    }
    sets.push(Set {
        name: "guests".into(),
        target: toolchain::KERNEL,
        args: vec!["--package", "margay-guest"],
    });
    sets.push(Set {
        name: "guest-programs".into(),
        target: toolchain::PROGRAMS,
        args: vec!["--package", "margay-guest", "--features", "programs", "--bin", "guest-lwk"],
    });
    sets
}

fn format() -> Result<()> {
    let mut cargo = host_cargo();
    cargo.args(["fmt", "--all", "--check"]);
    check("format", "ci-format", cargo)
}

fn lint_host() -> Result<()> {
    let mut cargo = host_cargo();
    cargo.args(["clippy", "--all-targets", "--", "-D", "warnings"]);
    check("clippy, host", "ci-clippy-host", cargo)
}

fn lint(toolchain: &Toolchain, set: &Set) -> Result<()> {
    let mut cargo = toolchain.cargo("clippy", set.target);
    cargo.args(&set.args).args(["--", "-D", "warnings"]);
    check(&format!("clippy, {}", set.name), &format!("ci-clippy-{}", set.name), cargo)
}

fn document() -> Result<()> {
    let mut cargo = host_cargo();
    cargo.args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    check("rustdoc, host", "ci-doc-host", cargo)
}

fn document_bare_metal(toolchain: &Toolchain, set: &Set) -> Result<()> {
    let mut cargo = toolchain.cargo("doc", set.target);
    cargo.args(["--no-deps"]).args(&set.args).env("RUSTDOCFLAGS", "-D warnings");
    check(&format!("rustdoc, {}", set.name), &format!("ci-doc-{}", set.name), cargo)
}

fn check(title: &str, log: &str, command: Command) -> Result<()> {
    step::run(title, log, command).map(drop)
}
