//! Long steps: a command that runs under a spinner, with its output in a log file.

use crate::paths;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, IsTerminal, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Runs `command` as the step `title`; its output goes to `target/logs/<log>.log`, and to the error if it
/// fails. Returns the log.
pub fn run(title: &str, log: &str, command: Command) -> Result<PathBuf> {
    let log = run_quietly(title, log, command)?;
    log.into_result()
}

/// What a finished step leaves behind.
pub struct Finished {
    pub log: PathBuf,
    pub success: bool,
    title: String,
}

impl Finished {
    /// The log of a step that succeeded, or a sentence with the end of the log of one that did not.
    pub fn into_result(self) -> Result<PathBuf> {
        if self.success {
            return Ok(self.log);
        }
        eprintln!("{}", end_of(&self.log));
        bail!("{} failed; the whole output is in {}", self.title, paths::shown(&self.log));
    }
}

/// Like [`run`], but leaves it to the caller what a failure means.
pub fn run_quietly(title: &str, log: &str, mut command: Command) -> Result<Finished> {
    let path = paths::logs().join(format!("{log}.log"));
    fs::create_dir_all(paths::logs())
        .with_context(|| format!("cannot make {}", paths::shown(&paths::logs())))?;
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", paths::shown(&path)))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let spinner = Spinner::start(title);

    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot make a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("{title}: cannot start {program}"))?;
    drop(command); // holds the pipe's other end
    for line in BufReader::new(reader).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(file, "{line}");
        spinner.set_line(&line);
    }
    let status = child.wait().with_context(|| format!("{title}: lost sight of {program}"))?;
    spinner.stop(title, status.success());
    Ok(Finished { log: path, success: status.success(), title: title.to_owned() })
}

/// The last lines of a log; for a build, the first error too.
fn end_of(log: &std::path::Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let first_error = lines.iter().position(|line| line.starts_with("error"));
    let from = first_error.unwrap_or(lines.len().saturating_sub(20));
    lines[from..].iter().take(40).copied().collect::<Vec<_>>().join("\n")
}

/// A spinner on a terminal; two plain lines elsewhere.
struct Spinner {
    bar: Option<ProgressBar>,
    title: String,
    since: Instant,
}

impl Spinner {
    fn start(title: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(title.to_owned());
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim} {prefix:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("... {title}");
        }
        Self { bar, title: title.to_owned(), since: Instant::now() }
    }

    fn set_line(&self, line: &str) {
        if let Some(bar) = &self.bar {
            let line: String = line.trim().chars().filter(|c| !c.is_control()).take(60).collect();
            bar.set_prefix(line);
        }
    }

    fn stop(&self, title: &str, success: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.since.elapsed().as_secs_f32();
        eprintln!("{} {title} ({took:.1} s)", if success { "ok " } else { "-- " });
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar
            && !bar.is_finished()
        {
            bar.abandon_with_message(self.title.clone());
        }
    }
}
