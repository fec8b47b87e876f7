//! `cargo xtask ci`: what a change must pass.

use crate::{
    board, paths, setup, step, test,
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
    miri()?;
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
        sets.push(Set {
            name: format!("{}-hv", board.name),
            target: toolchain::HYPERVISOR,
            args: vec!["--package", board.package],
        });
    }
    // The kernels, for most boards, and for those with a feature of their own.
    let variants: BTreeSet<&[&str]> = board::BOARDS.iter().map(|board| board.kernels).collect();
    for (package, name, target, features) in [
        ("margay-kernels", "kernels", toolchain::KERNEL, ["--features", "workloads"].as_slice()),
        ("margay-kernels", "kernels-for-programs", toolchain::PROGRAMS, &["--features", "programs"]),
        ("margay-guest", "guests", toolchain::KERNEL, &[]),
        (
            "margay-guest",
            "guest-for-programs",
            toolchain::PROGRAMS,
            &["--features", "programs", "--bin", "guest-lwk"],
        ),
    ] {
        for variant in &variants {
            let words: Vec<&str> = [name].into_iter().chain(variant.iter().skip(1).copied()).collect();
            sets.push(Set {
                name: words.join("-"),
                target,
                args: ["--package", package].iter().chain(features).chain(*variant).copied().collect(),
            });
        }
    }
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

/// Packages whose tests Miri goes through in a few minutes, with few cases of each property. What it cannot
/// run are the models of all states, and what executes AArch64 instructions.
const UNDER_MIRI: [&str; 11] = [
    "devtree",
    "drivers-bcm2836",
    "drivers-gic",
    "drivers-power",
    "drivers-uart",
    "hv-abi",
    "margay-fallible",
    "mmio-block",
    "plain-numbers",
    "vm-control",
    "vtimer",
];

/// Looks for undefined behaviour in what tests of libraries do, where a nightly compiler with Miri is
/// installed.
fn miri() -> Result<()> {
    let nightly = || {
        let mut cargo = toolchain::clean("cargo".into());
        cargo.args(["+nightly", "miri"]);
        cargo
    };
    if !nightly().arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("--  Miri: left out (rustup toolchain install nightly --component miri,rust-src)");
        return Ok(());
    }
    let mut cargo = nightly();
    cargo.args(["test", "--lib", "--tests", "--target-dir"]).arg(paths::cargo_target().join("miri"));
    cargo.args(UNDER_MIRI.iter().flat_map(|package| ["--package", package]));
    cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "2");
    check("Miri", "ci-miri", cargo)
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
