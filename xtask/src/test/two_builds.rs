//! Two `cargo xtask build` that start together in one checkout, for two boards whose programs have the same
//! names.
//!
//! This process holds the lock of the images until both have said that they wait, so they do compete for it.
//! Afterwards each board's published image has to be the one that was built for it before.

use crate::{artefacts, board, paths};
use anyhow::{Context, Result, bail, ensure};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

/// What `cargo xtask test` calls it.
pub const NAME: &str = "two-builds";
/// What it checks.
pub const ABOUT: &str = "Of two builds in one checkout the second waits, and no board gets another's image.";
/// Two boards with an `hv` of their own each.
pub const BOARDS: [&str; 2] = ["qemu-virt", "raspi3"];

/// Starts both builds, and compares what they leave with what `images`, the images of this run, has.
pub fn check(images: fn(&str) -> PathBuf) -> Result<()> {
    let lock = artefacts::lock()?;
    let mut builds = Vec::new();
    for name in BOARDS {
        remove_program(board::find(name)?)?;
        builds.push(Build::start(name)?);
    }
    for build in &mut builds {
        build.wait_until_it_waits()?;
    }
    drop(lock);
    for build in builds {
        build.finish()?;
    }
    let hv = |dir: &Path| paths::read(&dir.join("hv.img"));
    let built = BOARDS.map(|name| hv(&paths::published().join(name)));
    for (name, built) in BOARDS.iter().zip(built) {
        ensure!(built? == hv(&images(name))?, "{name}: two builds at once left another image than one build");
    }
    Ok(())
}

/// Makes cargo put the finished program into its place again.
fn remove_program(board: &board::Board) -> Result<()> {
    let path = paths::board_target(board.name)
        .join(crate::toolchain::HYPERVISOR)
        .join("hypervisor")
        .join(board.hypervisor);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", paths::shown(&path)))
}

/// This program. If cargo has linked it anew since it was started (the host tests do), Linux says that the
/// old file is deleted.
fn own_program() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find this program")?;
    let text = program.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| program.clone(), PathBuf::from))
}

struct Build {
    board: &'static str,
    child: Child,
    messages: BufReader<ChildStderr>,
}

impl Build {
    fn start(board: &'static str) -> Result<Self> {
        let mut child = Command::new(own_program()?)
            .args(["build", "--only", "hv", "--board", board])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start cargo xtask build")?;
        let messages = BufReader::new(child.stderr.take().context("a build without messages")?);
        Ok(Self { board, child, messages })
    }

    fn wait_until_it_waits(&mut self) -> Result<()> {
        let mut seen = String::new();
        while self.messages.read_line(&mut seen)? > 0 {
            if seen.contains("waiting for another cargo xtask") {
                return Ok(());
            }
        }
        bail!("the build for {} did not wait: {}", self.board, seen.trim())
    }

    fn finish(mut self) -> Result<()> {
        let mut rest = String::new();
        self.messages.read_to_string(&mut rest)?;
        ensure!(
            self.child.wait()?.success(),
            "the build for {} failed while another one ran: {}",
            self.board,
            rest.trim()
        );
        Ok(())
    }
}
