//! Margay's front door: `cargo xtask setup | build | image | run | test | bench | doc | fuzz | ci`.
//!
//! One file a verb. What several verbs need is beside them: [`toolchain`] (which cargo builds for bare
//! metal), [`image`] (ELF to arm64 `Image`), [`bundle`] (the initrd that carries the VMs), [`qemu`] (a
//! machine with a time limit) and [`console`] (what its console said).

mod artefacts;
mod bench;
mod board;
mod build;
mod bundle;
mod ci;
mod console;
mod control;
mod doc;
mod fuzz;
mod image;
mod linux;
#[cfg(test)]
mod pages;
mod paths;
mod program;
#[cfg(test)]
mod prose;
mod qemu;
mod run;
mod sdcard;
mod serial;
mod setup;
mod step;
#[cfg(test)]
mod structure;
mod table;
mod terminal;
mod test;
mod toolchain;
mod tree;

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
    /// Build a board's images and its bundle into target/images/BOARD/
    Build(build::Args),
    /// Write a board's bootable SD card into target/images/BOARD/card.img
    Image(sdcard::Args),
    /// Run verified workloads natively and in isolated VMs, and compare them
    Run(run::Args),
    /// Run the host tests and the QEMU regression suite
    Test(test::Args),
    /// Count instructions per path, and compare them with the committed baseline
    Bench(bench::Args),
    /// Make the book and the crates' documentation: target/site/index.html
    Doc,
    /// Run the fuzz targets, each for a while
    Fuzz(fuzz::Args),
    /// What a change must pass: format, lints, documentation, tests
    Ci,
}

fn main() -> ExitCode {
    end_on_closed_pipe();
    let done = match Cli::parse().verb {
        Verb::Setup => setup::verb(),
        Verb::Build(args) => build::verb(&args),
        Verb::Image(args) => sdcard::verb(&args),
        Verb::Run(args) => run::verb(&args),
        Verb::Test(args) => test::verb(&args),
        Verb::Bench(args) => bench::verb(&args),
        Verb::Doc => doc::verb(),
        Verb::Fuzz(args) => fuzz::verb(&args),
        Verb::Ci => ci::verb(),
    };
    artefacts::remove_snapshot();
    report(done)
}

/// Restores the default action of SIGPIPE, which Rust's runtime ignores: `cargo xtask run | head` then ends
/// quietly, as other tools do, instead of panicking in `println!`. QEMU dies with this process.
fn end_on_closed_pipe() {
    #[cfg(unix)]
    // SAFETY: no other thread runs yet, and the default action involves no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
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
