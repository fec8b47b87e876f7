//! Margay's front door: `cargo xtask setup | build | run | test | bench | ci`.
//!
//! One file a verb. What several verbs need is beside them: [`toolchain`] (which cargo builds for bare metal),
//! [`image`] (ELF to arm64 `Image`), [`bundle`] (the initrd that carries the VMs), [`qemu`] (a machine with a time
//! limit) and [`console`] (what its console said).

mod board;
mod build;
mod bundle;
mod console;
mod image;
mod paths;
mod qemu;
mod run;
mod setup;
mod step;
mod table;
mod toolchain;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, build, run, test and measure Margay.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install what building and running needs
    Setup,
    /// Build a board's images and its bundle into target/images/<board>/
    Build(build::Args),
    /// Run verified workloads natively and in isolated VMs, and compare them
    Run(run::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::verb(),
        Verb::Build(args) => build::verb(&args),
        Verb::Run(args) => run::verb(&args),
    };
    report(done)
}

/// A failure is one sentence for people, not a backtrace.
fn report(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
