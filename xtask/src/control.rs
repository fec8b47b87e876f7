//! The control task, and the root file system of the primary that it is in.

use crate::{
    bundle::cpio::{Entry, Form, archive},
    paths, setup, step,
    toolchain::{Toolchain, host_cargo},
};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// The primary's RAM disk in a bundle.
pub const ROOT: &str = "control.cpio";
/// Where its script is in there.
const SCRIPT: &str = "script";
/// The package and its program.
const PACKAGE: &str = "margay-control";
const BIN: &str = "control";
/// The profile of the workspace's Cargo.toml.
const PROFILE: &str = "control";
/// Linux programs by a distribution's compiler, which has no library for musl.
const GNU: &str = "aarch64-unknown-linux-gnu";

/// Builds the control task; returns its file.
fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    let (mut cargo, target) = if setup::ensure_rust_target() {
        let mut cargo = host_cargo();
        cargo.args(["build", "--target", setup::RUST_TARGET]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        (cargo, setup::RUST_TARGET)
    } else if *toolchain == Toolchain::Installed || !setup::ensure_compilers() {
        bail!("the control task is a Linux program in Rust: rustup target add {}", setup::RUST_TARGET)
    } else {
        let mut cargo = toolchain.cargo_with("build", GNU, "std,panic_abort");
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-Ctarget-feature=+crt-static");
        (cargo, GNU)
    };
    cargo.args(["--profile", PROFILE, "--package", PACKAGE]);
    cargo.arg("--target-dir").arg(paths::cargo_target());
    step::run("building the control task", "build-control", cargo)?;
    Ok(paths::cargo_target().join(target).join(PROFILE).join(BIN))
}

/// Builds the control task, and puts it and its root file system into a directory.
pub fn prepare(toolchain: &Toolchain, dir: &std::path::Path) -> Result<()> {
    let program = paths::read(&build(toolchain)?)?;
    paths::write(&dir.join(BIN), &program)?;
    paths::write(&dir.join(ROOT), &root(&program, None)?)
}

/// The root file system of a control task with a script.
pub fn with_script(dir: &std::path::Path, script: &str) -> Result<Vec<u8>> {
    root(&paths::read(&dir.join(BIN))?, Some(script))
}

fn root(program: &[u8], script: Option<&str>) -> Result<Vec<u8>> {
    let mut entries = vec![Entry::new("init", program.to_vec())];
    entries.extend(script.map(|script| Entry::new(SCRIPT, script.into())));
    archive(&entries, Form::Newc)
}
