//! Bundles: the initrd that carries the manifest and the VMs' images, made from TOML that is easy to write by
//! hand.
//!
//! ```toml
//! [[vm]]                      # the first VM is the primary, the scheduler
//! name = "sched"
//! kernel = "sched.img"        # in target/images/<board>/
//! bootargs = "exit-when=all-stopped"
//!
//! [[vm]]
//! name = "compute1"
//! kernel = "guest-hpc.img"
//! vcpus = 1
//! memory = "128M"
//! bootargs = "workload=stream"
//! properties = { "margay,note" = "any other property of the manifest's node; false removes one" }
//! ```

pub mod cpio;
mod damage;
mod manifest;

use crate::{board::Board, paths};
use ::bundle::{MachineLimits, Manifest};
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

use cpio::Entry;
pub use cpio::Form;
pub use damage::Damage;

/// More memory than any bundle asks for.
const PLENTY: u64 = 1 << 40;

/// The manifest's name in a bundle.
pub const MANIFEST: &str = "manifest.dtb";

/// Properties of a manifest node, beyond those that have a key of their own.
pub type Properties = BTreeMap<String, toml::Value>;

/// What a bundle holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// The VMs, the primary first.
    #[serde(default)]
    pub vm: Vec<Vm>,
    /// Files that are written out here rather than built.
    #[serde(default)]
    pub file: Vec<File>,
    /// More properties of the node `hypervisor`.
    #[serde(default)]
    pub hypervisor: Properties,
    /// The form of the archive.
    #[serde(default)]
    pub archive: Form,
    /// What the native kernel runs beside it, for comparison.
    #[serde(default)]
    pub native: Native,
}

/// One VM.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Vm {
    pub name: String,
    pub kernel: Option<String>,
    pub ramdisk: Option<String>,
    pub fdt: Option<String>,
    pub vcpus: Option<u32>,
    /// Bytes, or `"128M"`.
    pub memory: Option<toml::Value>,
    pub bootargs: Option<String>,
    /// So many VMs of this kind, named with numbers from 1.
    pub copies: Option<u32>,
    #[serde(default)]
    pub properties: Properties,
}

impl Vm {
    /// A VM with a kernel and its command line.
    fn new(name: &str, kernel: &str, bootargs: &str) -> Self {
        Self {
            name: name.into(),
            kernel: Some(kernel.into()),
            ramdisk: None,
            fdt: None,
            vcpus: None,
            memory: None,
            bootargs: Some(bootargs.into()),
            copies: None,
            properties: Properties::new(),
        }
    }
}

/// A file given by its content, by its size alone (zeroes), or as a device tree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    pub name: String,
    #[serde(default)]
    pub text: String,
    pub size: Option<usize>,
    /// Properties, and tables for child nodes.
    pub tree: Option<toml::Table>,
    /// What was made elsewhere.
    #[serde(skip)]
    pub bytes: Option<Vec<u8>>,
}

/// The native kernel's part of a board's bundle file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Native {
    #[serde(default)]
    pub bootargs: String,
}

impl Spec {
    /// A board's own bundle, `images/<board>/bundle.toml`, or that of all others.
    pub fn of_board(board: &Board) -> Result<Self> {
        let images = paths::root().join("images");
        let own = images.join(board.name).join("bundle.toml");
        let common = images.join("bundle.toml");
        Self::load(if own.exists() { &own } else { &common })
    }

    /// A board's bundle with Linux as login VM, which the control task starts at once; the workers are on
    /// demand.
    pub fn with_login(board: &Board) -> Result<Self> {
        let login = board.login.as_ref();
        let login = login.with_context(|| format!("no UART of {} is known for a login VM", board.name))?;
        let path = paths::root().join("images/login.toml");
        let mut spec = Self::load(&path)?;
        for vm in spec.vm.iter_mut().filter(|vm| vm.kernel.as_deref() == Some("linux.img")) {
            let more = vm.bootargs.take().unwrap_or_default();
            vm.bootargs = Some(format!("console={} {more}", login.tty));
        }
        Ok(spec)
    }

    /// A bundle with one VM beside the scheduler: the kernel that runs programs, with this command line and
    /// root file system.
    pub fn of_program(name: &str, vcpus: u32, memory_mib: u64, bootargs: &str, root: Vec<u8>) -> Self {
        const ROOT: &str = "root.cpio";
        let program = Vm {
            ramdisk: Some(ROOT.into()),
            vcpus: Some(vcpus),
            memory: Some(format!("{memory_mib}M").into()),
            ..Vm::new(name, "guest-lwk.img", bootargs)
        };
        Self {
            vm: vec![Vm::new("sched", "sched.img", "exit-when=all-stopped"), program],
            file: vec![File::made(ROOT, root)],
            ..Self::default()
        }
    }

    /// A bundle with nothing but the primary, which runs this program in the control task's place.
    pub fn of_primary_program(name: &str, bootargs: &str, root: Vec<u8>) -> Self {
        const ROOT: &str = "root.cpio";
        let primary = Vm { ramdisk: Some(ROOT.into()), ..Vm::new(name, "primary.img", bootargs) };
        Self { vm: vec![primary], file: vec![File::made(ROOT, root)], ..Self::default() }
    }

    fn load(path: &Path) -> Result<Self> {
        let text = String::from_utf8(paths::read(path)?).context("a bundle file is UTF-8 text")?;
        toml::from_str(&text).with_context(|| format!("cannot understand {}", paths::shown(path)))
    }

    /// With each copy of a VM written out.
    fn expanded(&self) -> Self {
        let copies = |vm: &Vm| match vm.copies {
            None => vec![vm.clone()],
            Some(n) => {
                (1..=n).map(|i| Vm { name: format!("{}{i}", vm.name), copies: None, ..vm.clone() }).collect()
            }
        };
        Self { vm: self.vm.iter().flat_map(copies).collect(), ..self.clone() }
    }

    /// The bundle's files, with the images from `dir`.
    fn entries(&self, dir: &Path) -> Result<Vec<Entry>> {
        let mut entries = vec![Entry::new(MANIFEST, manifest::write(&self.expanded())?)];
        for vm in &self.vm {
            for name in [&vm.kernel, &vm.ramdisk, &vm.fdt].into_iter().flatten() {
                if entries.iter().any(|entry| entry.name == *name) {
                    continue;
                }
                let content = match self.file.iter().find(|file| file.name == *name) {
                    Some(file) => file.content()?,
                    None => paths::read(&dir.join(name))
                        .with_context(|| format!("VM {} needs {name}", vm.name))?,
                };
                entries.push(Entry::new(name, content));
            }
        }
        for file in &self.file {
            if !entries.iter().any(|entry| entry.name == file.name) {
                entries.push(Entry::new(&file.name, file.content()?));
            }
        }
        Ok(entries)
    }

    /// The bundle, with the images from `dir`, as the hypervisor will accept it.
    pub fn build(&self, dir: &Path) -> Result<Vec<u8>> {
        let bundle = cpio::archive(&self.entries(dir)?, self.archive)?;
        check(&bundle, PLENTY)
            .map_err(|sentence| anyhow!("the hypervisor would refuse this bundle: {sentence}"))?;
        Ok(bundle)
    }

    /// As [`build`](Self::build), and the VMs fit into a machine with `memory` bytes: the hypervisor's own
    /// sentence otherwise, and what the VMs ask for.
    pub fn build_for(&self, dir: &Path, memory: u64) -> Result<Vec<u8>> {
        let bundle = self.build(dir)?;
        let sizes = self.vm.iter().filter_map(|vm| {
            let bytes = match vm.memory.as_ref()? {
                toml::Value::Integer(bytes) => u64::try_from(*bytes).ok()?,
                other => parse_size(other.as_str()?)?,
            };
            Some(bytes.saturating_mul(vm.copies.unwrap_or(1).into()))
        });
        let wanted = sizes.fold(0, u64::saturating_add);
        let sentence = match check(&bundle, memory) {
            Err(sentence) => sentence,
            Ok(()) if wanted >= memory => "the VMs' memory does not fit".into(),
            Ok(()) => return Ok(bundle),
        };
        bail!(
            "the hypervisor would refuse this bundle: {sentence} (the VMs ask for {} MiB, the machine has {} MiB; see --memory)",
            wanted >> 20,
            memory >> 20
        )
    }

    /// The bundle with the primary and one VM, which the primary starts.
    pub fn with_only(&self, vm: &Vm) -> Self {
        let mut vms: Vec<Vm> = self.vm.iter().take(1).cloned().collect();
        vms.push(vm.clone());
        Self { vm: vms, ..self.clone() }
    }

    /// The bundle, damaged on purpose.
    pub fn build_damaged(&self, dir: &Path, damage: &[Damage]) -> Result<Vec<u8>> {
        damage::apply(self.entries(dir)?, self.archive, damage)
    }
}

/// What the hypervisor's own reader says about a bundle, on a machine with `memory` bytes.
pub fn check(bundle: &[u8], memory: u64) -> std::result::Result<(), String> {
    Manifest::check(bundle, &MachineLimits { memory }).map(drop).map_err(|error| error.to_string())
}

impl File {
    /// With what was made elsewhere.
    pub fn made(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), text: String::new(), size: None, tree: None, bytes: Some(bytes) }
    }

    fn content(&self) -> Result<Vec<u8>> {
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let mut content = match &self.tree {
            Some(tree) => manifest::tree(tree).with_context(|| format!("cannot write {}", self.name))?,
            None => self.text.clone().into_bytes(),
        };
        content.resize(self.size.unwrap_or(content.len()), 0);
        Ok(content)
    }
}

/// Bytes of `128M`, `1G`, `64K` or a plain number.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("128M"), Some(128 << 20));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("16777216T"), None);
        assert_eq!(parse_size("12X"), None);
        assert_eq!(parse_size("M"), None);
    }

    #[test]
    fn files_are_in_once_and_the_manifest_comes_first() {
        let spec: Spec = toml::from_str(
            "[[vm]]\nname = 'a'\nkernel = 'k'\n[[vm]]\nname = 'b'\nkernel = 'k'\nramdisk = 'r'\n\
             [[file]]\nname = 'r'\nsize = 3\n[[file]]\nname = 'k'\ntext = 'kernel'\n",
        )
        .unwrap();
        let entries = spec.entries(Path::new("/nonexistent")).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, [MANIFEST, "k", "r"]);
        assert_eq!(entries[1].content, b"kernel");
        assert_eq!(entries[2].content, [0; 3]);
    }

    #[test]
    fn refuses_vms_that_need_more_than_the_machine_has_in_mib() {
        let dir = std::env::temp_dir().join(format!("xtask-fit-{}", std::process::id()));
        let mut kernel = vec![0; 8192];
        kernel[16..24].copy_from_slice(&0x1_0000u64.to_le_bytes());
        kernel[24] = 0b1010;
        kernel[56..60].copy_from_slice(b"ARM\x64");
        crate::paths::write(&dir.join("k"), &kernel).unwrap();
        let spec = |copies: u32| -> Spec {
            toml::from_str(&format!(
                "[[vm]]\nname = 'a'\nkernel = 'k'\n[[vm]]\nname = 'b'\nkernel = 'k'\nmemory = '300M'\ncopies = {copies}\n"
            ))
            .unwrap()
        };
        assert!(spec(2).build_for(&dir, 1 << 30).is_ok());
        for copies in [4, 1] {
            let error = spec(copies).build_for(&dir, 256 << 20).unwrap_err().to_string();
            let wanted =
                format!("the VMs ask for {} MiB, the machine has 256 MiB; see --memory", copies * 300);
            assert!(
                error.contains("the hypervisor would refuse this bundle") && error.contains(&wanted),
                "{error}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
