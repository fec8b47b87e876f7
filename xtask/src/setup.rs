//! `cargo xtask setup`: find or install what building and running needs.
//!
//! Fast when everything is there, and safe to run again. Where it may not install, it prints the commands.

mod apt;
pub mod debian;

use crate::{step, toolchain, toolchain::Toolchain};
use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};

/// The oldest QEMU whose `-cpu max` counts with 1 GHz and whose GICv3 does what Margay asks for.
const OLDEST_QEMU: (u32, u32) = (8, 0);
/// The emulator's program.
pub const QEMU: &str = "qemu-system-aarch64";

/// What builds and runs programs for Linux on AArch64.
const COMPILERS: [&str; 4] =
    ["aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++", "aarch64-linux-gnu-gfortran", "qemu-aarch64-static"];

/// The target of Rust programs for Linux: its library comes with musl, so that nothing else is needed.
pub const RUST_TARGET: &str = "aarch64-unknown-linux-musl";

/// Runs the verb.
pub fn verb() -> Result<()> {
    let toolchain = ensure_toolchain()?;
    println!("bare metal: {}", toolchain.describe());
    let qemu = ensure_qemu()?;
    println!("emulator:   {qemu}");
    let compilers = ensure_compilers();
    if compilers {
        println!("programs:   {}", COMPILERS.join(", "));
    }
    // The control task, which `run` boots, is a Linux program: Rust's library for musl, or a cross compiler
    // and the library's source.
    ensure!(
        can_build_programs(toolchain::has_library(RUST_TARGET), compilers, &toolchain),
        "`cargo xtask run` cannot build the control task, a Linux program in Rust: rustup target add {RUST_TARGET}"
    );
    Ok(())
}

/// Whether there is a way to build the control task: see [`control`](crate::control).
fn can_build_programs(library: bool, compilers: bool, toolchain: &Toolchain) -> bool {
    library || (compilers && *toolchain != Toolchain::Installed)
}

/// A way to build for bare metal, installed if need be.
pub fn ensure_toolchain() -> Result<Toolchain> {
    let toolchain = match Toolchain::find() {
        Some(found) => found,
        None => install_toolchain()?,
    };
    if !toolchain.links() {
        let packages = ["lld"];
        apt::install("LLVM's linker", &packages, None, &apt::by_hand(&packages, None))?;
        ensure!(toolchain.links(), "lld is installed, but there is no ld.lld in PATH");
    }
    Ok(toolchain)
}

fn install_toolchain() -> Result<Toolchain> {
    if add_rustup_targets()
        && let Some(found) = Toolchain::find()
    {
        return Ok(found);
    }
    let packages = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "rustfmt-web"];
    let by_hand = format!(
        "  rustup target add {} {}\nor, on Debian, as root:\n{}",
        toolchain::HYPERVISOR,
        toolchain::KERNEL,
        apt::by_hand(&packages, None)
    );
    apt::install("a Rust toolchain for bare metal", &packages, None, &by_hand)?;
    Toolchain::find()
        .context("the distribution's Rust is installed, but it is older than 1.95 or has no library source")
}

fn add_rustup_targets() -> bool {
    rustup_add(&[toolchain::HYPERVISOR, toolchain::KERNEL])
}

fn rustup_add(targets: &[&str]) -> bool {
    let rustup = Command::new("rustup").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !rustup.is_ok_and(|status| status.success()) {
        return false;
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add"]).args(targets).current_dir(crate::paths::root());
    step::run_quietly(&format!("rustup: adding {}", targets.join(" and ")), "rustup", command)
        .is_ok_and(|step| step.success)
}

/// A recent enough QEMU, installed if need be; returns what it calls itself.
pub fn ensure_qemu() -> Result<String> {
    match qemu_version() {
        Some((text, version)) if version >= OLDEST_QEMU => return Ok(text),
        Some((text, _)) => println!("{text} is too old: {OLDEST_QEMU:?} or later is needed"),
        None => {}
    }
    let packages = ["qemu-system-arm"];
    let suite = apt::backports();
    let by_hand = apt::by_hand(&packages, suite.as_deref());
    apt::install("QEMU for ARM", &packages, suite.as_deref(), &by_hand)?;
    match qemu_version() {
        Some((text, version)) if version >= OLDEST_QEMU => Ok(text),
        Some((text, _)) => bail!("the distribution's {text} is too old; install QEMU 8.0 or later by hand"),
        None => bail!("qemu-system-arm is installed, but {QEMU} does not run"),
    }
}

/// Compilers for Linux on AArch64 and an emulator of it, installed if need be: tests start real programs.
/// Returns whether all are there; where they may not be installed, says what follows.
pub fn ensure_compilers() -> bool {
    let there = |tool: &&str| {
        let mut command = Command::new(tool);
        let status =
            command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        status.status().is_ok_and(|status| status.success())
    };
    if COMPILERS.iter().all(there) {
        ensure_rust_target();
        return true;
    }
    let packages = [
        "gcc-aarch64-linux-gnu",
        "g++-aarch64-linux-gnu",
        "gfortran-aarch64-linux-gnu",
        "libc6-dev-arm64-cross",
        "qemu-user-static",
    ];
    let by_hand = apt::by_hand(&packages, None);
    if let Err(why) = apt::install("compilers for Linux on AArch64", &packages, None, &by_hand) {
        println!("{why:#}\nWithout them, the host tests that start real Linux programs are skipped.");
        return false;
    }
    ensure_rust_target();
    true
}

/// Rust's library for Linux programs.
pub fn ensure_rust_target() -> bool {
    if toolchain::has_library(RUST_TARGET) || rustup_add(&[RUST_TARGET]) {
        return true;
    }
    println!("Rust programs for Linux cannot be built: rustup target add {RUST_TARGET}");
    false
}

fn qemu_version() -> Option<(String, (u32, u32))> {
    let output = Command::new(QEMU).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned();
    let version = toolchain::parse_version(&text)?;
    Some((text, version))
}

#[cfg(test)]
mod tests {
    use super::{Toolchain, can_build_programs};

    #[test]
    fn setup_fails_when_run_cannot_build_the_control_task() {
        assert!(can_build_programs(true, false, &Toolchain::Installed));
        assert!(can_build_programs(false, true, &Toolchain::FromSource));
        assert!(!can_build_programs(false, false, &Toolchain::FromSource));
        assert!(!can_build_programs(false, true, &Toolchain::Installed));
    }
}
