//! Debian packages whose files are wanted, not their installation: boot firmware of boards.
//!
//! apt downloads and checks them, with lists of its own under `target/debian/`: nothing on this machine
//! changes, no privilege is needed, and it does not matter which architectures the machine has. The release
//! is always the same one, so that a card does not depend on the machine it was made on.

use super::apt;
use crate::{paths, step};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const RELEASE: &str = "bookworm";
const COMPONENTS: &str = "main non-free-firmware";
/// What the machine does after updates of its own lists (in containers: empty its cache) is not for these.
const NO_HOOKS: &str = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
                        #clear APT::Update::Post-Invoke-Success;\n";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The directory with the files of the arm64 `package`, fetched if it is not there yet.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let dir = paths::debian().join(package);
    if dir.exists() {
        return Ok(dir);
    }
    let by_hand = || {
        format!(
            "unpack https://packages.debian.org/{RELEASE}/{package} into {} (`dpkg-deb -x`)",
            paths::shown(&dir)
        )
    };
    if !Path::new("/usr/bin/apt-get").exists() || !Path::new(KEYS).exists() {
        bail!("Debian's {package} cannot be fetched here (this is not Debian): {}", by_hand());
    }
    fetch(package, &dir)
        .with_context(|| format!("Debian's {package} cannot be fetched; try again or {}", by_hand()))?;
    Ok(dir)
}

fn fetch(package: &str, dir: &Path) -> Result<()> {
    let lists = Lists::at(paths::debian().join(".apt"))?;
    step::run(
        &format!("looking for Debian's {package}"),
        "apt-lists",
        lists.apt(&["update", "--error-on=any"]),
    )?;

    let partial = paths::debian().join(format!(".{package}.{}.partial", std::process::id()));
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", paths::shown(&partial)))?;
    let mut download = lists.apt(&["download", package]);
    download.current_dir(&partial);
    let done = step::run(&format!("fetching Debian's {package}"), "apt-download", download)
        .and_then(|_| unpack(package, &partial))
        .and_then(|()| fs::rename(partial.join("files"), dir).context("cannot move what was unpacked"));
    let _ = fs::remove_dir_all(&partial);
    done
}

/// Unpacks the one archive in `dir` into `files` there.
fn unpack(package: &str, dir: &Path) -> Result<()> {
    let archive = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", paths::shown(dir)))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt said it had downloaded it, but there is no .deb")?;
    let mut command = Command::new("dpkg-deb");
    // With what the package says of itself.
    command.arg("-R").arg(archive).arg(dir.join("files"));
    step::run(&format!("unpacking Debian's {package}"), "dpkg-unpack", command)?;
    Ok(())
}

/// Lists of packages that are not the machine's.
struct Lists(PathBuf);

impl Lists {
    fn at(dir: PathBuf) -> Result<Self> {
        let sentence = || format!("cannot make {}", paths::shown(&dir));
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part)).with_context(sentence)?;
        }
        let source = format!("deb [signed-by={KEYS}] {} {RELEASE} {COMPONENTS}\n", apt::mirror());
        fs::write(dir.join("sources.list"), source).with_context(sentence)?;
        fs::write(dir.join("apt.conf"), NO_HOOKS).with_context(sentence)?;
        // What is installed: nothing.
        fs::write(dir.join("status"), "").with_context(sentence)?;
        Ok(Self(dir))
    }

    fn apt(&self, verb: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command.arg("-c").arg(self.0.join("apt.conf"));
        let mut set = |name: &str, value: &str| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        let here = |part: &str| self.0.join(part).display().to_string();
        set("APT::Architecture", "arm64");
        set("APT::Architectures", "arm64");
        set("Dir::State", &here("state"));
        set("Dir::State::status", &here("status"));
        set("Dir::Cache", &here("cache"));
        set("Dir::Etc::sourcelist", &here("sources.list"));
        set("Dir::Etc::sourceparts", "/dev/null");
        set("Acquire::Languages", "none");
        set("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false");
        // To root, apt gives a user of its own for downloads, who may not write here.
        set("APT::Sandbox::User", "root");
        command.args(verb).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}
