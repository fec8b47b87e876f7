//! Which cargo builds for bare metal, and how it is called.
//!
//! Three ways lead there: a toolchain with the targets' `core` installed; one with the library's source, from
//! which `-Zbuild-std` makes it (what a Linux distribution ships); or `rustup target add`, which is
//! [`setup`](crate::setup)'s business.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The hypervisor's target: no floating point, so that a VM's FP/SIMD state stays where it is.
pub const HYPERVISOR: &str = "aarch64-unknown-none-softfloat";
/// The lightweight kernel's target: applications are linked in and want vectors.
pub const KERNEL: &str = "aarch64-unknown-none";
/// The target of the lightweight kernel that runs programs: FP/SIMD registers are theirs alone.
pub const PROGRAMS: &str = HYPERVISOR;
/// The oldest compiler that will do, as in the workspace's `rust-version`.
const OLDEST: (u32, u32) = (1, 95);

/// A way to build for bare metal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain, with both targets installed.
    Installed,
    /// The active toolchain, building `core` from its own source.
    FromSource,
    /// A distribution's toolchain in this directory, building `core` from its own source.
    Distribution(PathBuf),
}

impl Toolchain {
    /// The first way that exists on this machine now.
    pub fn find() -> Option<Self> {
        let rustc = active("RUSTC", "rustc");
        if recent(&rustc) && [HYPERVISOR, KERNEL].iter().all(|target| has_core(&rustc, target)) {
            return Some(Self::Installed);
        }
        if recent(&rustc) && has_source(&rustc) {
            return Some(Self::FromSource);
        }
        let bin = PathBuf::from("/usr/bin");
        let rustc = bin.join("rustc");
        (bin.join("cargo").exists() && recent(&rustc) && has_source(&rustc))
            .then_some(Self::Distribution(bin))
    }

    /// What compiles for bare metal, `core` included: what counted instructions depend on.
    pub fn compiler(&self) -> String {
        let rustc = match self {
            Self::Installed | Self::FromSource => active("RUSTC", "rustc"),
            Self::Distribution(bin) => bin.join("rustc"),
        };
        let version = version_of(&rustc).and_then(|text| text.split_whitespace().nth(1).map(str::to_owned));
        let version = version.unwrap_or_else(|| "of an unknown version".into());
        let source = if *self == Self::Installed { "" } else { ", core from source" };
        format!("rustc {version}{source}")
    }

    /// `cargo <verb>` for a bare-metal target.
    pub fn cargo(&self, verb: &str, target: &str) -> Command {
        self.cargo_with(verb, target, "core,alloc,compiler_builtins")
    }

    /// As [`cargo`](Self::cargo), with these parts of the library made from source if it has to be.
    pub fn cargo_with(&self, verb: &str, target: &str, library: &str) -> Command {
        let mut cargo = match self {
            Self::Installed | Self::FromSource => host_cargo(),
            Self::Distribution(bin) => {
                let mut cargo = clean(bin.join("cargo"));
                for rustup in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "CARGO", "LD_LIBRARY_PATH"] {
                    cargo.env_remove(rustup);
                }
                let path = env::var_os("PATH").unwrap_or_default();
                let dirs = std::iter::once(bin.clone()).chain(env::split_paths(&path));
                if let Ok(path) = env::join_paths(dirs) {
                    cargo.env("PATH", path);
                }
                cargo
            }
        };
        cargo.arg(verb).args(["--target", target]);
        if *self != Self::Installed {
            cargo.env("RUSTC_BOOTSTRAP", "1").arg(format!("-Zbuild-std={library}"));
            if !library.starts_with("std") {
                cargo.arg("-Zbuild-std-features=compiler-builtins-mem");
            }
            if let Some(linker) = self.linker() {
                let target = target.to_uppercase().replace('-', "_");
                cargo.env(format!("CARGO_TARGET_{target}_LINKER"), linker);
            }
        }
        cargo
    }

    /// The LLVM linker to use: the toolchain's own (`None` if it just has one), another Rust toolchain's, or
    /// the system's. Distributions split it off into a package of its own.
    pub fn linker(&self) -> Option<PathBuf> {
        let own = match self {
            Self::Installed => return None,
            Self::FromSource => active("RUSTC", "rustc"),
            Self::Distribution(bin) => bin.join("rustc"),
        };
        let rust_lld = |rustc: &Path| Some(tools_of(rustc)?.join("rust-lld"));
        let path = env::var_os("PATH").unwrap_or_default();
        let in_path = |name: &'static str| env::split_paths(&path).map(move |dir| dir.join(name));
        let versioned = (14..40).rev().map(|version| PathBuf::from(format!("/usr/bin/ld.lld-{version}")));
        let mut candidates = rust_lld(&own)
            .into_iter()
            .chain(rust_lld(&active("RUSTC", "rustc")))
            .chain(in_path("rust-lld"))
            .chain(in_path("ld.lld"))
            .chain(versioned);
        candidates.find(|candidate| candidate.is_file())
    }

    /// Whether programs can be linked.
    pub fn links(&self) -> bool {
        *self == Self::Installed || self.linker().is_some()
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => "the active Rust toolchain, with both bare-metal targets".into(),
            Self::FromSource => "the active Rust toolchain, building core from its source".into(),
            Self::Distribution(bin) => {
                let version = version_of(&bin.join("rustc")).unwrap_or_default();
                format!("{} in {}, building core from its source", version.trim(), bin.display())
            }
        }
    }
}

/// The cargo that runs this program, for everything that runs on the host.
pub fn host_cargo() -> Command {
    clean(active("CARGO", "cargo"))
}

/// `program` in the workspace, without the environment that `cargo run` gave *us* (it would make cargo
/// rebuild things).
pub fn clean(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::paths::root());
    for (name, _) in env::vars_os() {
        if is_disturbing(&name.to_string_lossy()) {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether a variable of the environment would change what a nested cargo builds or where: what `cargo run`
/// sets for this program, flags and targets that replace those of the workspace (cargo's reference,
/// "Environment variables": `RUSTFLAGS` takes the place of `target.*.rustflags`), and overrides of profiles.
/// The target directory is passed on the command line.
fn is_disturbing(name: &str) -> bool {
    const SET_BY_CARGO: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    const REPLACING: [&str; 7] = [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_BUILD_BUILD_DIR",
        "CARGO_UNSTABLE_BUILD_STD",
    ];
    let of_a_target = name.starts_with("CARGO_TARGET_AARCH64_UNKNOWN_")
        && ["_RUSTFLAGS", "_LINKER", "_RUNNER"].iter().any(|end| name.ends_with(end));
    SET_BY_CARGO.iter().any(|prefix| name.starts_with(prefix))
        || REPLACING.contains(&name)
        || of_a_target
        || name.starts_with("CARGO_PROFILE_")
}

fn active(variable: &str, name: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}

fn ask(rustc: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new(rustc);
    if rustc.is_absolute() && rustc.starts_with("/usr/bin") {
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("LD_LIBRARY_PATH");
    }
    let output = command.args(args).current_dir(crate::paths::root()).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version_of(rustc: &Path) -> Option<String> {
    ask(rustc, &["--version"])
}

fn recent(rustc: &Path) -> bool {
    version_of(rustc).and_then(|text| parse_version(&text)).is_some_and(|version| version >= OLDEST)
}

/// `(major, minor)` of the first thing in `text` that looks like a version.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    text.split_whitespace().find_map(|word| {
        let mut parts = word.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some((major, minor))
    })
}

/// Whether the active toolchain has a target's library.
pub fn has_library(target: &str) -> bool {
    has_core(&active("RUSTC", "rustc"), target)
}

fn has_core(rustc: &Path, target: &str) -> bool {
    let Some(dir) = ask(rustc, &["--print", "target-libdir", "--target", target]) else { return false };
    let Ok(entries) = std::fs::read_dir(dir.trim()) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

/// Where a toolchain keeps its tools.
fn tools_of(rustc: &Path) -> Option<PathBuf> {
    let libraries = ask(rustc, &["--print", "target-libdir"])?;
    Some(Path::new(libraries.trim()).parent()?.join("bin"))
}

fn has_source(rustc: &Path) -> bool {
    ask(rustc, &["--print", "sysroot"]).is_some_and(|root| {
        Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").exists()
    })
}

#[cfg(test)]
mod tests {
    use super::{is_disturbing, parse_version};

    #[test]
    fn flags_of_the_environment_do_not_reach_the_kernels() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS",
            "CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_PKG_NAME",
        ] {
            assert!(is_disturbing(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "CARGO_INCREMENTAL",
            "RUSTC_WRAPPER",
            "PATH",
        ] {
            assert!(!is_disturbing(name), "{name}");
        }
    }

    #[test]
    fn versions_are_read_from_what_tools_say() {
        assert_eq!(parse_version("rustc 1.96.0 (ac68faa20 2026-05-25)"), Some((1, 96)));
        assert_eq!(parse_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some((10, 0)));
        assert_eq!(parse_version("no version here"), None);
    }
}
