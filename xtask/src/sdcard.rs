//! `cargo xtask image`: a bootable SD card.
//!
//! A card is a partition table, one FAT32 partition with Margay and what starts it, and on a Pine A64 a boot
//! loader in front of that; `docs/sdcard.md` describes what is on each and why. [`Card::build`] makes one of
//! bytes in memory, without privileges, and always the same one of the same bytes: identifiers and dates are
//! constants and files have an order. The file system is made by the crate `fatfs`, which allows all that;
//! the table ([`mbr`]) and U-Boot's script image ([`script`]) are a few fields each and are written here.

mod fat;
mod firmware;
mod mbr;
mod pine;
mod raspberry;
mod script;
#[cfg(test)]
mod tests;

pub use firmware::Firmware;

use crate::{
    artefacts,
    board::{self, Board},
    build,
    bundle::Spec,
    linux, paths, setup, tree,
};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const MIB: u64 = 1 << 20;
/// QEMU wants a power of two, and FAT32 with the usual clusters more than half of this.
const SMALLEST: u64 = 256 * MIB;
const LARGEST: u64 = 4096 * MIB;
/// Of the disk and of the volume: "MARG".
const ID: u32 = 0x4d41_5247;
const BUNDLE: &str = "bundle.cpio";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board: raspi3, raspi4 or pine64
    #[arg(long)]
    board: String,
    /// The arm64 Image to boot [default: target/images/BOARD/hv.img]
    #[arg(long)]
    kernel: Option<PathBuf>,
    /// Its initrd [default: target/images/BOARD/bundle.cpio]
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// With Debian's Linux as login VM
    #[arg(long, conflicts_with_all = ["kernel", "bundle"])]
    login: bool,
    /// The device tree to boot with, or another one to have on the card (may be repeated; the first one
    /// counts)
    #[arg(long)]
    tree: Vec<PathBuf>,
    /// The command line in the device tree's /chosen
    #[arg(long, default_value = "", hide_default_value = true)]
    append: String,
    /// Take the boot firmware from this directory instead of Debian's packages
    #[arg(long)]
    firmware: Option<PathBuf>,
    /// The image's size in MiB, a power of two [default: what is needed, from 256]
    #[arg(long)]
    size: Option<u64>,
    /// The file to write [default: target/images/BOARD/card.img]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// A board that boots from a card.
#[derive(Debug)]
pub struct Model {
    /// The name in `--board`.
    pub name: &'static str,
    title: &'static str,
    /// Its device tree's file name.
    tree: &'static str,
    platform: Platform,
    memory: Memory,
    /// Where the boot partition begins.
    partition: u64,
}

/// What starts a board, with where it is in Debian's packages.
#[derive(Debug)]
enum Platform {
    Raspberry { gpu: &'static [&'static str], uboot: &'static str },
    Pine { uboot: &'static str },
}

/// Where U-Boot puts what, in this order, with an end that leaves room for what it adds to the tree, and for
/// the script, which it loads to an address of its own choice. U-Boot itself has moved to the end of memory
/// by then.
#[derive(Debug)]
struct Memory {
    kernel: u64,
    kernel_end: u64,
    tree: u64,
    tree_end: u64,
    bundle: u64,
    bundle_end: u64,
}

/// U-Boot's own script address on Raspberry Pis is 0x240_0000, between kernel and tree.
const RASPBERRY_MEMORY: Memory = Memory {
    kernel: 0x20_0000,
    kernel_end: 0x240_0000,
    tree: 0x260_0000,
    tree_end: 0x268_0000,
    bundle: 0x270_0000,
    bundle_end: 0x2000_0000,
};

/// Every board that boots from a card.
pub const MODELS: &[Model] = &[
    Model {
        name: "raspi3",
        title: "Margay on a Raspberry Pi 3",
        tree: "bcm2837-rpi-3-b.dtb",
        platform: Platform::Raspberry {
            gpu: &["bootcode.bin", "start.elf", "fixup.dat"],
            uboot: "usr/lib/u-boot/rpi_3",
        },
        memory: RASPBERRY_MEMORY,
        partition: MIB,
    },
    Model {
        name: "raspi4",
        title: "Margay on a Raspberry Pi 4",
        tree: "bcm2711-rpi-4-b.dtb",
        // Its first stage is in a chip on the board.
        platform: Platform::Raspberry { gpu: &["start4.elf", "fixup4.dat"], uboot: "usr/lib/u-boot/rpi_4" },
        memory: RASPBERRY_MEMORY,
        partition: MIB,
    },
    Model {
        name: "pine64",
        title: "Margay on a Pine A64 LTS",
        tree: "sun50i-a64-pine64-lts.dtb",
        platform: Platform::Pine { uboot: "usr/lib/u-boot/pine64-lts" },
        // U-Boot's script address is 0x4fc0_0000. It moves the tree to below 0x4a00_0000.
        memory: Memory {
            kernel: 0x4020_0000,
            kernel_end: 0x4800_0000,
            tree: 0x4fa0_0000,
            tree_end: 0x4fa8_0000,
            bundle: 0x4ff0_0000,
            bundle_end: 0x5800_0000,
        },
        // Clear of U-Boot, and of the place where it once kept its environment.
        partition: 8 * MIB,
    },
];

impl Model {
    /// The board called `name`.
    pub fn find(name: &str) -> Result<&'static Self> {
        MODELS.iter().find(|model| model.name == name).ok_or_else(|| {
            let names: Vec<_> = MODELS.iter().map(|model| model.name).collect();
            anyhow!("{name} does not boot from a card; {} do", names.join(", "))
        })
    }
}

/// A file in the root directory of the boot partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    name: String,
    content: Vec<u8>,
}

impl File {
    /// A file whose `name` is a plain one, which every boot loader can find.
    pub fn new(name: &str, content: impl Into<Vec<u8>>) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        ensure!(
            (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.'),
            "{name:?} cannot be a file's name on a card"
        );
        let content = content.into();
        ensure!(!content.is_empty(), "{name} is empty");
        Ok(Self { name: name.to_owned(), content })
    }
}

/// What is to be on a card.
#[derive(Clone, Debug)]
pub struct Card {
    /// The board.
    pub model: &'static Model,
    /// The arm64 `Image` that is entered at EL2.
    pub kernel: Vec<u8>,
    /// Its initrd.
    pub bundle: Vec<u8>,
    /// Device trees by file name; the first is the board's.
    pub trees: Vec<(String, Vec<u8>)>,
    /// The command line.
    pub bootargs: String,
    /// What starts the board.
    pub firmware: Firmware,
    /// Bytes, or what is needed.
    pub size: Option<u64>,
}

impl Card {
    /// The card's bytes: mostly zeros.
    pub fn build(self) -> Result<Vec<u8>> {
        let (model, wanted) = (self.model, self.size);
        let loader = self.firmware.loader.clone();
        let files = self.files()?;
        let start = model.partition;
        let needed = start + fat::room_for(&files);
        let size = match wanted {
            Some(size) => size,
            None => needed.next_power_of_two().max(SMALLEST),
        };
        ensure!(
            size.is_power_of_two() && (SMALLEST..=LARGEST).contains(&size),
            "a card of {} MiB cannot be made: its size is a power of two from {} to {} MiB",
            size / MIB,
            SMALLEST / MIB,
            LARGEST / MIB
        );
        if needed > size {
            let largest = files.iter().max_by_key(|file| file.content.len()).context("no files")?;
            anyhow::bail!(
                "the files need {} MiB and do not fit on a card of {} MiB; the largest is {} with {} MiB",
                needed.div_ceil(MIB),
                size / MIB,
                largest.name,
                (largest.content.len() as u64).div_ceil(MIB)
            );
        }

        let mut card = vec![0; size as usize];
        card[..mbr::SECTOR as usize].copy_from_slice(&mbr::table(start, size - start, ID));
        if let Some(loader) = loader {
            let end = pine::SPL_AT + loader.len() as u64;
            ensure!(
                end <= start,
                "the boot loader reaches to byte {end}, into the partition at byte {start}"
            );
            card[pine::SPL_AT as usize..end as usize].copy_from_slice(&loader);
        }
        fat::write(&mut card[start as usize..], start, ID, &files)?;
        Ok(card)
    }

    /// The files of the boot partition, checked, in their order.
    fn files(self) -> Result<Vec<File>> {
        let model = self.model;
        let image_size = check_kernel(&self.kernel)?;
        let at = &model.memory;
        fits("the kernel", (self.kernel.len() as u64).max(image_size), at.kernel, at.kernel_end)?;
        fits("the bundle", self.bundle.len() as u64, at.bundle, at.bundle_end)?;
        ensure!(!self.trees.is_empty(), "a card needs a device tree");
        for (name, tree) in &self.trees {
            check_tree(tree).with_context(|| format!("{name} is not a device tree"))?;
            fits(name, tree.len() as u64, at.tree, at.tree_end)?;
        }

        let tree = &self.trees[0].0;
        let script = |kernel| script::text(model, kernel, tree, BUNDLE, &self.bootargs);
        // The firmware first: some boot ROMs are slow readers of directories.
        let mut files = self.firmware.files;
        match model.platform {
            Platform::Raspberry { .. } => {
                files.push(File::new("boot.scr", script::image(&script(raspberry::KERNEL)?))?);
                files.extend(raspberry::configuration(model, tree, BUNDLE, &self.bootargs)?);
                files.push(File::new(raspberry::KERNEL, self.kernel)?);
            }
            Platform::Pine { .. } => {
                ensure!(self.firmware.loader.is_some(), "a Pine A64 does not boot without a boot loader");
                files.push(File::new("boot.scr", script::image(&script(pine::KERNEL)?))?);
                files.push(File::new(pine::KERNEL, self.kernel)?);
            }
        }
        files.push(File::new(BUNDLE, self.bundle)?);
        for (name, tree) in self.trees {
            files.push(File::new(&name, tree)?);
        }
        let mut names: Vec<_> = files.iter().map(|file| file.name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        ensure!(names.len() == count, "there are two files of the same name for the card");
        Ok(files)
    }
}

/// The size in memory that the header of an arm64 `Image` gives.
fn check_kernel(kernel: &[u8]) -> Result<u64> {
    ensure!(
        kernel.len() >= 64 && kernel[56..60] == *b"ARM\x64",
        "the kernel is not an arm64 Image: it has no such header"
    );
    let mut size = [0; 8];
    size.copy_from_slice(&kernel[16..24]);
    Ok(u64::from_le_bytes(size))
}

fn check_tree(tree: &[u8]) -> Result<()> {
    ensure!(tree.len() >= 40 && tree[..4] == [0xd0, 0x0d, 0xfe, 0xed], "it has no such header");
    let size = u32::from_be_bytes([tree[4], tree[5], tree[6], tree[7]]);
    ensure!(size as usize <= tree.len(), "its header says {size} bytes, and it has {}", tree.len());
    Ok(())
}

fn fits(what: &str, size: u64, from: u64, to: u64) -> Result<()> {
    let room = to - from;
    ensure!(
        size <= room,
        "{what} needs {} KiB of memory; there are {} KiB between {from:#x} and {to:#x}",
        size.div_ceil(1024),
        room / 1024
    );
    Ok(())
}

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let model = Model::find(&args.board)?;
    let _lock = artefacts::lock()?;
    let images = paths::images(model.name);
    if args.kernel.is_none() || args.bundle.is_none() {
        build::everything(board::find(model.name)?, &setup::ensure_toolchain()?)?;
    }
    if args.login {
        linux::prepare(&images)?;
    }
    let built = |given: &Option<PathBuf>, name: &str| match given {
        Some(path) => paths::read(path),
        None => paths::read(&images.join(name)),
    };
    let board = board::find(model.name)?;
    let (kernel, bundle) = if args.login {
        (built(&None, "hv-gic.img")?, Spec::with_login(board)?.build(&images)?)
    } else {
        (built(&args.kernel, "hv.img")?, built(&args.bundle, "bundle.cpio")?)
    };
    let trees = match args.tree.as_slice() {
        [] => vec![tree(model, board.login.as_ref().filter(|_| args.login))?],
        given => given.iter().map(|path| named(path)).collect::<Result<_>>()?,
    };
    let card = Card {
        model,
        kernel,
        bundle,
        trees,
        bootargs: args.append.clone(),
        firmware: Firmware::find(model, args.firmware.as_deref())?,
        size: args.size.map(|mib| mib.saturating_mul(MIB)),
    };
    let card = card.build()?;
    let path = args.output.clone().unwrap_or_else(|| images.join("card.img"));
    write_sparse(&path, &card)?;
    println!("{} ({} MiB, mostly empty)", paths::shown(&path), card.len() as u64 / MIB);
    Ok(())
}

/// A board's device tree; with a login VM, without what takes its terminal away.
fn tree(model: &Model, login: Option<&board::Login>) -> Result<(String, Vec<u8>)> {
    let (name, bytes) = named(&paths::root().join("crates/machine/fixtures").join(model.tree))?;
    let without = login.map_or(&[][..], |login| login.without);
    Ok((name, if without.is_empty() { bytes } else { tree::without(&bytes, without)? }))
}

/// A card with a kernel that has been built for a board and this bundle, for QEMU: the bytes, and the U-Boot
/// to start with, which a board's own firmware would have loaded.
pub fn for_qemu(board: &Board, kernel: &str, bundle: Vec<u8>) -> Result<(Vec<u8>, PathBuf)> {
    let model = Model::find(board.name)?;
    let Platform::Raspberry { uboot, .. } = model.platform else {
        anyhow::bail!("QEMU has no {} to put a card into", board.name);
    };
    // It is the hypervisor with virtual controllers that has a login VM.
    let login = board.login.as_ref().filter(|_| kernel != "hv.img");
    let card = Card {
        model,
        kernel: paths::read(&paths::images(model.name).join(kernel))?,
        bundle,
        trees: vec![tree(model, login)?],
        bootargs: String::new(),
        firmware: Firmware::find(model, None)?,
        size: None,
    };
    Ok((card.build()?, setup::debian::unpacked("u-boot-rpi")?.join(uboot).join("u-boot.bin")))
}

/// A file's name and content.
fn named(path: &Path) -> Result<(String, Vec<u8>)> {
    let name = path.file_name().with_context(|| format!("{} is not a file", path.display()))?;
    Ok((name.to_string_lossy().into_owned(), paths::read(path)?))
}

/// Writes `content` as [`paths::write`] does, with holes where it is zero.
pub fn write_sparse(path: &Path, content: &[u8]) -> Result<()> {
    const CHUNK: usize = 64 << 10;
    let sentence = || format!("cannot write {}", paths::shown(path));
    // Empty at first, and with the directory it is in.
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    paths::write(&partial, &[])?;
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&partial)?;
        file.set_len(content.len() as u64)?;
        for (index, chunk) in content.chunks(CHUNK).enumerate() {
            if chunk.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start((index * CHUNK) as u64))?;
                file.write_all(chunk)?;
            }
        }
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| _ = fs::remove_file(&partial)).with_context(sentence)
}
