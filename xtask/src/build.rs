//! `cargo xtask build`: a board's images and bundle.

use crate::{
    artefacts,
    board::{self, Board},
    bundle::Spec,
    control, image, paths, setup, step,
    toolchain::{self, Toolchain, host_cargo},
};
use anyhow::{Context, Result, bail, ensure};
use std::{path::Path, process::Command};

/// The package with the board-independent guest kernels.
const GUESTS: &str = "margay-guest";
/// The package with the kernels of every board.
const KERNELS: &str = "margay-kernels";
/// The kernels that run programs, native and as a guest. They are built without FP/SIMD of their own.
const LWK: &str = "lwk";
const PRIMARY: &str = "primary";
const GUEST_LWK: &str = "guest-lwk";
/// What is a flat binary: two of them, and the firmware for tests.
const FLAT: [&str; 3] = ["flat", "gic", "firmware"];

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board to build for, or `all`
    #[arg(long, default_value = "qemu-virt")]
    board: String,
    /// Build only this image (`hv`, `sched`, `native`, `lwk`, `primary` or `guest-…`; may be repeated), and
    /// no bundle
    #[arg(long)]
    only: Vec<String>,
}

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let boards = board::select(&args.board)?;
    let toolchain = setup::ensure_toolchain()?;
    let _lock = artefacts::lock()?;
    for board in boards {
        if args.only.is_empty() {
            everything(board, &toolchain)?;
        } else {
            images(board, &toolchain, &args.only)?;
        }
    }
    Ok(())
}

/// All images of `board`, and its bundle.
pub fn everything(board: &'static Board, toolchain: &Toolchain) -> Result<()> {
    images(board, toolchain, &[])?;
    let dir = paths::images(board.name);
    control::prepare(toolchain, &dir)?;
    let bundle = Spec::of_board(board)?.build(&dir)?;
    let path = dir.join("bundle.cpio");
    paths::write(&path, &bundle)?;
    println!("{} ({} KiB)", paths::shown(&path), bundle.len().div_ceil(1024));
    Ok(())
}

/// Builds what a bundle names, and these images beside it; nothing else.
pub fn bundled(board: &'static Board, toolchain: &Toolchain, spec: &Spec, others: &[&str]) -> Result<()> {
    let kernels = spec.vm.iter().filter_map(|vm| vm.kernel.as_deref()?.strip_suffix(".img"));
    // Linux is Debian's.
    let mut only: Vec<String> = kernels.filter(|image| *image != "linux").map(str::to_owned).collect();
    only.extend(others.iter().map(|image| (*image).to_owned()));
    images(board, toolchain, &only)?;
    if spec.vm.iter().any(|vm| vm.ramdisk.as_deref() == Some(control::ROOT)) {
        control::prepare(toolchain, &paths::images(board.name))?;
    }
    Ok(())
}

/// One program to build: where it comes from and what its image is called.
#[derive(Clone, Debug)]
struct Program {
    package: &'static str,
    bin: String,
    image: String,
}

/// The hypervisor's, of the workspace's Cargo.toml.
const HYPERVISOR_PROFILE: &str = "hypervisor";

/// Programs that one call of cargo builds.
struct Group {
    title: &'static str,
    target: &'static str,
    /// Of the workspace's Cargo.toml.
    profile: &'static str,
    features: Vec<&'static str>,
    programs: Vec<Program>,
}

/// Builds the images of `board`; only those called `only`, unless that is empty.
pub fn images(board: &'static Board, toolchain: &Toolchain, only: &[String]) -> Result<()> {
    let own = |bin: &str| Program { package: board.package, bin: bin.into(), image: bin.into() };
    let kernel = |bin: &str| Program { package: KERNELS, ..own(bin) };
    let guests = guest_bins()?
        .into_iter()
        .filter(|bin| bin != GUEST_LWK)
        .map(|bin| Program { package: GUESTS, image: format!("guest-{bin}"), bin })
        .collect();
    let mut hypervisor = vec![Program { image: "hv".into(), ..own(board.hypervisor) }];
    hypervisor.extend(board.others.iter().map(|(image, bin)| Program { image: (*image).into(), ..own(bin) }));
    let mut groups = [
        Group {
            title: "the hypervisor",
            target: toolchain::HYPERVISOR,
            profile: HYPERVISOR_PROFILE,
            features: Vec::new(),
            programs: hypervisor,
        },
        Group {
            title: "the lightweight kernel",
            target: toolchain::KERNEL,
            profile: "release",
            features: board.kernels.iter().copied().chain(["--features", "workloads"]).collect(),
            programs: vec![kernel("sched"), kernel("native")],
        },
        Group {
            title: "the guests",
            target: toolchain::KERNEL,
            profile: "release",
            features: board.kernels.to_vec(),
            programs: guests,
        },
        Group {
            title: "the kernel for programs",
            target: toolchain::PROGRAMS,
            profile: "programs",
            features: board.kernels.iter().copied().chain(["--features", "programs"]).collect(),
            programs: vec![kernel(LWK), kernel(PRIMARY)],
        },
        Group {
            title: "the guest for programs",
            target: toolchain::PROGRAMS,
            profile: "programs",
            features: board.kernels.iter().copied().chain(["--features", "programs"]).collect(),
            programs: vec![Program { package: GUESTS, bin: GUEST_LWK.into(), image: GUEST_LWK.into() }],
        },
    ];
    if !only.is_empty() {
        let known: Vec<_> = groups.iter().flat_map(|g| &g.programs).map(|p| p.image.clone()).collect();
        for name in only {
            ensure!(known.contains(name), "there is no image {name}; there is {}", known.join(", "));
        }
        for group in &mut groups {
            group.programs.retain(|program| only.contains(&program.image));
        }
    }
    for group in groups.iter().filter(|group| !group.programs.is_empty()) {
        compile(board, toolchain, group)?;
        for program in &group.programs {
            convert(board, group, program)?;
        }
    }
    Ok(())
}

fn compile(board: &Board, toolchain: &Toolchain, group: &Group) -> Result<()> {
    let package = group.programs[0].package;
    let mut cargo = toolchain.cargo("build", group.target);
    cargo.args(["--profile", group.profile, "--package", package]).args(&group.features);
    // The boards share what is compiled on the way (cargo's build directory), not the finished programs.
    cargo.env("CARGO_BUILD_BUILD_DIR", paths::cargo_target());
    cargo.arg("--target-dir").arg(paths::board_target(board.name));
    for program in &group.programs {
        cargo.args(["--bin", &program.bin]);
    }
    if group.profile == HYPERVISOR_PROFILE {
        // It is less than 1 MiB long, so that one instruction makes any address in it; the linker refuses
        // what is longer.
        cargo.args(["--config", &format!("target.{}.rustflags=['-Ccode-model=tiny']", group.target)]);
    }
    // Build information of the hypervisor. A build from an archive, without git, has no revision.
    cargo.env("MARGAY_REVISION", revision().unwrap_or_default());
    let title = format!("building {} for {}", group.title, board.name);
    let log = format!("build-{}-{}", board.name, group.title.replace(' ', "-").replace("the-", ""));
    step::run(&title, &log, cargo)?;
    Ok(())
}

/// The first 16 hexadecimal digits of the commit that is checked out.
fn revision() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(paths::root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.get(..16).filter(|_| output.status.success()).map(Into::into)
}

/// Makes the `Image` of a program, with its ELF beside it for debuggers.
fn convert(board: &Board, group: &Group, program: &Program) -> Result<()> {
    let elf = paths::board_target(board.name).join(group.target).join(group.profile).join(&program.bin);
    let bytes = paths::read(&elf)?;
    let image = image::from_elf(&bytes, !FLAT.contains(&&*program.bin))
        .with_context(|| format!("cannot make {}.img of {}", program.image, paths::shown(&elf)))?;
    let dir = paths::images(board.name);
    paths::write(&dir.join(format!("{}.elf", program.image)), &bytes)?;
    let path = dir.join(format!("{}.img", program.image));
    paths::write(&path, &image.bytes)?;
    println!("{} ({} KiB{})", paths::shown(&path), image.bytes.len().div_ceil(1024), symbols_note(&image));
    Ok(())
}

fn symbols_note(image: &image::Image) -> String {
    match image.symbols {
        Some(count) => format!(", {count} symbols"),
        None => String::new(),
    }
}

/// The names of the guest package's programs, as cargo sees them.
fn guest_bins() -> Result<Vec<String>> {
    let mut cargo = host_cargo();
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo cannot read the workspace: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    bins_in(&output.stdout, GUESTS)
}

fn bins_in(metadata: &[u8], package: &str) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        targets: Vec<Target>,
    }
    #[derive(serde::Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let metadata: Metadata =
        serde_json::from_slice(metadata).context("cannot understand `cargo metadata`")?;
    let targets = metadata.packages.into_iter().filter(|p| p.name == package).flat_map(|p| p.targets);
    Ok(targets.filter(|target| target.kind.iter().any(|kind| kind == "bin")).map(|t| t.name).collect())
}

/// The path of an image that has been built.
pub fn image_path(board: &Board, file: &str) -> Result<std::path::PathBuf> {
    let path = paths::images(board.name).join(file);
    ensure!(Path::exists(&path), "{} has not been built", paths::shown(&path));
    Ok(path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn distinguishes_programs_from_libraries() {
        let metadata = br#"{"packages": [
            {"name": "other", "targets": [{"name": "x", "kind": ["bin"]}]},
            {"name": "margay-guest", "targets": [{"name": "margay-guest", "kind": ["lib"]}, {"name": "hpc", "kind": ["bin"]}]}]}"#;
        assert_eq!(super::bins_in(metadata, "margay-guest").unwrap(), ["hpc"]);
    }
}
