//! Programs for Linux on AArch64: those of `tests/programs`, compiled; root file systems for the kernel that
//! runs them; and what `qemu-aarch64-static` makes of the same file.

use crate::{
    bundle::cpio::{Entry, Form, archive},
    console::Line,
    paths, setup, step,
};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The emulator of Linux programs.
const EMULATOR: &str = "qemu-aarch64-static";
/// How long a program may take in it.
const LIMIT_SECONDS: u32 = 60;
/// What `timeout` ends with when time is up.
const TIME_UP: i32 = 124;

/// A program of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Program {
    /// The file in `tests/programs`, without its extension.
    pub name: String,
    #[serde(default)]
    pub arguments: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Whether its output is to be that of the same file under Linux' emulator; otherwise the scenario says
    /// it all.
    #[serde(default = "yes")]
    pub compared: bool,
}

const fn yes() -> bool {
    true
}

/// What a program did where Linux' interface is emulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    lines: Vec<String>,
    /// The exit status as a shell reports it.
    status: i64,
}

impl Program {
    /// The kernel's command line for it, with `more` words of which an `epoch=` counts instead of the
    /// present.
    pub fn bootargs(&self, more: &str) -> Result<String> {
        let own = bootargs(&self.name, &self.environment, &self.arguments)?;
        let words = [&epoch(), more, &own];
        Ok(words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" "))
    }

    /// A root file system with it.
    pub fn root(&self) -> Result<Vec<u8>> {
        root(&[(self.name.clone(), paths::read(&compile(&self.name)?)?)])
    }

    /// Runs it under the emulator.
    pub fn reference(&self) -> Result<Reference> {
        // Some write to files of the same name.
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock();
        // An emulator that hangs is one that does not know a call: it must not hang the suite.
        let mut command = Command::new("timeout");
        command
            .arg(LIMIT_SECONDS.to_string())
            .arg(EMULATOR)
            .arg("-0")
            .arg(format!("/{}", self.name))
            .arg(compile(&self.name)?)
            .args(&self.arguments);
        command.env_clear().env("HOME", "/").env("PATH", "/bin:/usr/bin").env("TERM", "linux");
        command.envs(&self.environment).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().with_context(|| format!("cannot start {EMULATOR}"))?;
        let signal = {
            use std::os::unix::process::ExitStatusExt;
            output.status.signal()
        };
        let status = match (output.status.code(), signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => bail!("{EMULATOR} ended without a status"),
        };
        ensure!(status != TIME_UP, "{} does not end under {EMULATOR}", self.name);
        let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        Ok(Reference { lines, status: status.into() })
    }
}

impl Reference {
    /// What is different on a console, in sentences; `who` is the VM that ran it.
    pub fn compare(&self, console: &[String], who: Option<&str>) -> Vec<String> {
        let mut faults = Vec::new();
        let said = console.iter().map(|line| Line::of(line)).filter(|line| line.who == who);
        let mut rest = self.lines.iter();
        let mut expected = rest.next();
        for line in said {
            if expected.is_some_and(|expected| expected.trim_end() == line.text.trim_end()) {
                expected = rest.next();
                continue;
            }
            let of_kernel = ["INFO ", "WARN ", "@exit "].iter().any(|word| line.text.starts_with(word));
            // What the kernel reports of a crash is for the scenario to expect.
            if !of_kernel && self.status < 128 {
                faults.push(format!("it said \"{}\", which Linux' emulator did not hear", line.text));
                if faults.len() >= 3 {
                    break;
                }
            }
        }
        if let Some(missing) = expected {
            faults.push(format!("it did not say \"{missing}\", as under Linux' emulator"));
        }
        let status = format!("@exit status={}", self.status);
        if !console.iter().map(|line| Line::of(line)).any(|line| line.who == who && line.text == status) {
            faults.push(format!("no \"{status}\", as under Linux' emulator"));
        }
        faults
    }
}

/// The word that says when it is: for VMs, and machines without a clock that knows.
pub fn epoch() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("epoch={}", now.as_secs())
}

/// The kernel's command line for a program at `/name`.
pub fn bootargs(name: &str, environment: &BTreeMap<String, String>, arguments: &[String]) -> Result<String> {
    let mut words = vec![format!("init=/{name}")];
    words.extend(environment.iter().map(|(name, value)| format!("env.{name}={value}")));
    if !arguments.is_empty() {
        words.push("--".into());
        words.extend_from_slice(arguments);
    }
    for word in &words {
        let plain = !word.is_empty() && !word.contains(char::is_whitespace);
        ensure!(plain, "\"{word}\" cannot be on a kernel's command line: words there end at blanks");
    }
    Ok(words.join(" "))
}

/// A root file system of files.
pub fn root(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let entries: Vec<Entry> = files.iter().map(|(name, content)| Entry::new(name, content.clone())).collect();
    archive(&entries, Form::Newc)
}

/// The source of a program.
fn source(name: &str) -> Result<PathBuf> {
    let dir = paths::root().join("tests/programs");
    let found = ["c", "cc", "f90", "rs"].iter().map(|extension| dir.join(format!("{name}.{extension}")));
    found
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("there is no program {name} in {}", paths::shown(&dir)))
}

/// Words behind `build:` in the source's first line.
fn options(source: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8(paths::read(source)?).context("a source is UTF-8 text")?;
    let first = text.lines().next().unwrap_or_default();
    let words = first.split_once("build:").map_or("", |(_, words)| words);
    Ok(words.trim_end_matches("*/").split_whitespace().map(str::to_owned).collect())
}

/// Compiles a program of `tests/programs`, unless that is done; returns its file.
pub fn compile(name: &str) -> Result<PathBuf> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let source = source(name)?;
    let program = paths::root().join("target/programs").join(name);
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if modified(&program).is_some_and(|built| Some(built) > modified(&source)) {
        return Ok(program);
    }
    ensure!(setup::ensure_compilers(), "{} cannot be compiled here", paths::shown(&source));
    fs::create_dir_all(paths::root().join("target/programs")).context("cannot make target/programs")?;
    let mut options = options(&source)?;
    let musl = options.iter().position(|word| word == "musl").map(|at| options.remove(at)).is_some();
    let extension = source.extension().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = match (extension.as_str(), musl) {
        ("c", true) => musl_gcc(&source)?,
        ("rs", _) => {
            let mut command = Command::new("rustc");
            command.args([
                "--edition",
                "2024",
                "-O",
                "--target",
                setup::RUST_TARGET,
                "-C",
                "linker=rust-lld",
            ]);
            command.arg(&source).current_dir(paths::root());
            command
        }
        (extension, _) => {
            let compiler = match extension {
                "c" => "gcc",
                "cc" => "g++",
                _ => "gfortran",
            };
            let mut command = Command::new(format!("aarch64-linux-gnu-{compiler}"));
            if !options.iter().any(|option| option == "-static-pie") {
                command.arg("-static");
            }
            command.arg("-O2").arg(&source);
            command
        }
    };
    command.args(options).arg("-o").arg(&program);
    let finished = step::run_quietly(&format!("compiling {name}"), &format!("program-{name}"), command)?;
    finished.into_result()?;
    Ok(program)
}

/// gcc with Debian's musl in place of its own C library.
fn musl_gcc(source: &Path) -> Result<Command> {
    let files = setup::debian::unpacked("musl-dev")?;
    let library = files.join("usr/lib/aarch64-linux-musl");
    let part = |name: &str| library.join(name);
    let mut command = Command::new("aarch64-linux-gnu-gcc");
    command.args(["-O2", "-static", "-nostdinc", "-nostdlib", "-isystem"]);
    command.arg(files.join("usr/include/aarch64-linux-musl"));
    command.args([part("crt1.o"), part("crti.o"), source.to_owned(), part("libc.a")]);
    command.arg("-lgcc").args([part("libc.a"), part("crtn.o")]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn output_is_compared_line_by_line() {
        let reference = Reference { lines: lines("a\nb"), status: 3 };
        let good = lines("INFO  Margay\na\nb\nINFO  x exited\n@exit status=3");
        assert!(reference.compare(&good, None).is_empty());
        assert!(reference.compare(&lines("a\nb\nc\n@exit status=3"), None)[0].contains("said \"c\""));
        assert!(reference.compare(&lines("b\na\n@exit status=3"), None).len() > 1);
        assert!(reference.compare(&lines("a\n@exit status=3"), None)[0].contains("did not say \"b\""));
        assert!(reference.compare(&lines("a\nb\n@exit status=0"), None)[0].contains("status=3"));
        assert!(!reference.compare(&good, Some("one")).is_empty());
        let inside = lines("[one] a\n[two] x\n[one] b\n[one] @exit status=3\n@exit status=0");
        assert!(reference.compare(&inside, Some("one")).is_empty());
    }

    #[test]
    fn a_command_line_is_made_of_words() {
        let environment = BTreeMap::from([("N".to_owned(), "4".to_owned())]);
        let line = bootargs("a.out", &environment, &["-x".to_owned(), "y".to_owned()]).unwrap();
        assert_eq!(line, "init=/a.out env.N=4 -- -x y");
        assert!(bootargs("a.out", &environment, &["a b".to_owned()]).is_err());
    }
}
