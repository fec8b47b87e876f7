//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while.

use crate::{paths, step, table, toolchain};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Only this target
    target: Option<String>,
    /// How long to run each
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// What is read of `fuzz/Cargo.toml`.
#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs the verb: stops at the first target that finds something.
pub fn verb(args: &Args) -> Result<()> {
    let dir = paths::root().join("fuzz");
    let targets = chosen(&dir, args.target.as_deref())?;
    ensure_tools()?;
    let mut rows = Vec::new();
    for target in &targets {
        let title = format!("fuzz {target} for {} s", args.seconds);
        let log = step::run(&title, &format!("fuzz-{target}"), run(&dir, target, args.seconds)?)?;
        rows.push(vec![target.clone(), runs(&log)]);
    }
    println!("\n{}", table::render(&["target", "inputs tried"], &rows));
    Ok(())
}

fn chosen(dir: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let text =
        String::from_utf8(paths::read(&dir.join("Cargo.toml"))?).context("fuzz/Cargo.toml is not text")?;
    let manifest: Manifest = toml::from_str(&text).context("fuzz/Cargo.toml cannot be read")?;
    let mut names: Vec<String> = manifest.bin.into_iter().map(|target| target.name).collect();
    if let Some(only) = only {
        ensure!(
            names.iter().any(|name| name == only),
            "there is no target {only}, only {}",
            names.join(", ")
        );
        names.retain(|name| name == only);
    }
    Ok(names)
}

/// `cargo +nightly`, as `rustup` understands it.
fn nightly() -> Command {
    let mut cargo = toolchain::clean("cargo".into());
    cargo.arg("+nightly");
    cargo
}

fn ensure_tools() -> Result<()> {
    if !works(nightly().arg("--version")) {
        bail!(
            "fuzzing needs a nightly compiler. Run this, then try again:\n  rustup toolchain install nightly"
        );
    }
    if !works(nightly().args(["fuzz", "--version"])) {
        let mut install = toolchain::host_cargo();
        install.args(["install", "--locked", "cargo-fuzz"]);
        step::run("cargo install cargo-fuzz", "cargo-install-fuzz", install)?;
    }
    Ok(())
}

fn works(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What is found goes to `corpus/`; `seeds/` stays as it is.
fn run(dir: &Path, target: &str, seconds: u32) -> Result<Command> {
    let corpus = dir.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("cannot make {}", paths::shown(&corpus)))?;
    let more = if target == "device_tree" { Some("crates/machine/fixtures") } else { None };
    let seeds: [Option<PathBuf>; 2] =
        [Some(dir.join("seeds").join(target)), more.map(|more| paths::root().join(more))];
    let mut cargo = nightly();
    cargo.args(["fuzz", "run", "--fuzz-dir"]).arg(dir);
    cargo.arg("--target-dir").arg(paths::cargo_target().join("fuzz")).arg(target).arg(corpus);
    cargo.args(seeds.into_iter().flatten().filter(|seeds| seeds.is_dir()));
    cargo.args(["--", &format!("-max_total_time={seconds}"), "-timeout=10"]);
    Ok(cargo)
}

/// How many inputs the fuzzer says at the end that it has tried.
fn runs(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let done =
        text.lines().rev().find_map(|line| line.strip_prefix("Done ")?.split(' ').next().map(str::to_owned));
    done.unwrap_or_else(|| "?".into())
}
