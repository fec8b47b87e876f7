//! Scenarios: one file of `tests/` each, with one or several cases. `tests/README.md` explains the keys.

use super::{expect::Expect, merge::merge};
use crate::{
    board,
    bundle::{Damage, File, Form, Properties, Spec, Vm},
    paths,
    program::Program,
    serial,
};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeSet, fs, mem, path::Path};
use toml::{Table, Value};

/// One machine to boot, and what is expected of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scenario {
    /// The file's name and the case's.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// Whether `--quick` runs it, on its own board and in the first of its places.
    quick: bool,
    pub board: String,
    /// Other boards that it runs on as well; `all` of them.
    pub also_on: Vec<String>,
    /// The image to boot, `hv` or `native`.
    pub boot: String,
    pub cores: u32,
    /// Cores that the device tree marks as disabled.
    pub disabled_cores: Vec<u32>,
    /// Nodes that a board's device tree is to lack, by their paths.
    pub without_nodes: Vec<String>,
    pub memory: String,
    /// The exception level to enter at, 1 or 2.
    pub el: u32,
    /// `gic-version` of a `virt` machine; 0: the board's.
    pub gic: u32,
    /// Whether there is firmware at EL3, the board's `firmware.img`; otherwise QEMU answers for it.
    pub firmware: bool,
    /// QEMU's `-cpu`; empty: the board's.
    pub cpu: String,
    pub icount: bool,
    /// Whether the files `linux.img`, `linux.cpio` and `login.cpio` are wanted: Debian's kernel, and RAM
    /// disks.
    pub linux: bool,
    /// Whether it boots from an SD card with all of it, through U-Boot.
    pub card: bool,
    /// Whether the machine has a second serial line; its output has the prefix `[uart1] `.
    pub second_serial: bool,
    /// QEMU's arguments for more devices.
    pub devices: Vec<String>,
    /// Input there, each when a text has been output.
    pub dialogue: serial::Dialogue,
    /// The native kernel's command line.
    pub bootargs: String,
    /// Seconds.
    pub timeout: u64,
    /// `board`: the board's own; `none`; by default what `vm` and `file` say.
    pub bundle: String,
    pub vm: Vec<Vm>,
    pub file: Vec<File>,
    pub hypervisor: Properties,
    /// The form of the bundle: `newc` or `old-binary`.
    pub archive: Form,
    pub damage: Vec<Damage>,
    /// Orders for the control task: `/script` in `control.cpio`.
    pub script: String,
    /// Where the program runs.
    pub places: Vec<Place>,
    /// A program to run: on the native kernel, and in a VM.
    pub program: Option<Program>,
    /// Where this one runs it.
    #[serde(skip)]
    pub place: Place,
    pub expect: Expect,
}

/// Where a scenario's program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// On the native kernel.
    #[default]
    Native,
    /// In the primary VM, in the control task's place.
    Primary,
    /// In a secondary VM.
    #[serde(rename = "vm")]
    Secondary,
}

/// The VMs of a scenario's program, and its memory in MiB.
pub const PROGRAM_PRIMARY: &str = "primary";
pub const PROGRAM_VM: &str = "one";
pub const PROGRAM_MEMORY: u64 = 512;

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: String::new(),
            about: String::new(),
            quick: false,
            board: "qemu-virt".into(),
            also_on: Vec::new(),
            boot: "hv".into(),
            cores: 4,
            disabled_cores: Vec::new(),
            without_nodes: Vec::new(),
            memory: "1G".into(),
            el: 2,
            gic: 0,
            firmware: false,
            cpu: String::new(),
            icount: false,
            linux: false,
            card: false,
            second_serial: false,
            devices: Vec::new(),
            dialogue: serial::Dialogue::new(),
            bootargs: String::new(),
            timeout: 60,
            bundle: String::new(),
            vm: Vec::new(),
            file: Vec::new(),
            hypervisor: Properties::new(),
            archive: Form::default(),
            damage: Vec::new(),
            script: String::new(),
            places: vec![Place::Native, Place::Secondary, Place::Primary],
            program: None,
            place: Place::Native,
            expect: Expect::default(),
        }
    }
}

impl Scenario {
    /// This scenario's program wherever it is to run: on the native kernel, in a VM that has as many vCPUs as
    /// the machine has cores, in the primary.
    fn with_program(self) -> Vec<Self> {
        if self.program.is_none() {
            return vec![self];
        }
        let at = |place: &Place| match place {
            Place::Native => Self { boot: "lwk".into(), ..self.clone() },
            Place::Primary => self.in_vm(Place::Primary, "primary", PROGRAM_PRIMARY),
            Place::Secondary => {
                let mut inside = self.in_vm(Place::Secondary, "vm", PROGRAM_VM);
                // The machine ends well, whatever becomes of the VM.
                if let Some(status) = inside.expect.status.replace(0) {
                    inside.expect.also.push(format!("[{PROGRAM_VM}] @exit status={status}"));
                }
                inside
            }
        };
        self.places.iter().map(at).collect()
    }

    /// The same in a VM, which says what is expected of the program.
    fn in_vm(&self, place: Place, title: &str, vm: &str) -> Self {
        let mut expect = self.expect.clone();
        for line in expect.lines.iter_mut().chain(&mut expect.also) {
            *line = format!("[{vm}] *{line}");
        }
        Self { name: format!("{} ({title})", self.name), place, expect, ..self.clone() }
    }

    /// Whether it is one of those for daily work.
    pub const fn is_quick(&self) -> bool {
        self.quick
    }

    /// The VM that says what the program says.
    pub fn program_vm(&self) -> Option<&'static str> {
        match self.place {
            Place::Native => None,
            Place::Primary => Some(PROGRAM_PRIMARY),
            Place::Secondary => Some(PROGRAM_VM),
        }
    }

    /// The bundle that this scenario writes out, if it does.
    pub fn spec(&self) -> Option<Spec> {
        (!self.vm.is_empty() && self.bundle.is_empty()).then(|| Spec {
            vm: self.vm.clone(),
            file: self.file.clone(),
            hypervisor: self.hypervisor.clone(),
            archive: self.archive,
            ..Spec::default()
        })
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.about.is_empty(), "`about` does not say what is checked");
        ensure!(
            ["", "board", "login", "none"].contains(&self.bundle.as_str()),
            "`bundle` is \"board\", \"login\" or \"none\""
        );
        ensure!([1, 2].contains(&self.el), "`el` is 1 or 2");
        let compared = self.program.as_ref().is_some_and(|program| program.compared);
        ensure!(
            compared || !self.expect.is_empty(),
            "`expect` has no `lines` and no `also`: nothing would be checked"
        );
        for name in self.also_on.iter().filter(|name| *name != "all") {
            board::find(name)?;
        }
        ensure!(
            self.damage.is_empty() || !self.vm.is_empty() || self.bundle == "board",
            "there is no bundle to damage"
        );
        Ok(())
    }
}

/// Every case of every scenario in `dir`, by name.
pub fn load_all(dir: &Path) -> Result<Vec<Scenario>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", paths::shown(dir)))?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = String::from_utf8(paths::read(&path)?).context("a scenario is UTF-8 text")?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        all.extend(
            cases(&stem, &text).with_context(|| format!("cannot understand {}", paths::shown(&path)))?,
        );
    }
    let mut names = BTreeSet::new();
    for scenario in &all {
        ensure!(names.insert(&scenario.name), "two scenarios are called {}", scenario.name);
    }
    Ok(all)
}

/// The cases of the file `stem`.
fn cases(stem: &str, text: &str) -> Result<Vec<Scenario>> {
    let mut file: Table = toml::from_str(text)?;
    ensure!(!file.contains_key("name"), "a scenario is named by its file");
    let cases = match file.remove("case") {
        Some(Value::Array(cases)) => cases,
        Some(_) => anyhow::bail!("cases are written as [[case]]"),
        None => vec![Value::Table(Table::new())],
    };
    let single = cases.len() == 1;
    let mut all = Vec::new();
    for case in cases {
        let Value::Table(case) = case else { anyhow::bail!("cases are written as [[case]]") };
        let name = match case.get("name").and_then(Value::as_str) {
            Some(name) => format!("{stem}: {name}"),
            None if single => stem.to_owned(),
            None => anyhow::bail!("a case has no name"),
        };
        let scenario = Value::Table(merge(&file, &case)).try_into::<Scenario>();
        let mut scenario = scenario.with_context(|| name.clone())?;
        scenario.check().with_context(|| name.clone())?;
        scenario.name = name;
        let others = mem::take(&mut scenario.also_on);
        for other in board::BOARDS.iter().map(|board| board.name).filter(|name| *name != scenario.board) {
            if others.iter().any(|name| name == "all" || name == other) {
                let name = format!("{} ({other})", scenario.name);
                let other = Scenario { name, board: other.into(), quick: false, ..scenario.clone() };
                all.extend(other.with_program());
            }
        }
        let mut own = scenario.with_program();
        own.iter_mut().skip(1).for_each(|elsewhere| elsewhere.quick = false);
        all.extend(own);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "about = 'x'\ncores = 2\n[expect]\nlines = ['a']\n[[vm]]\nname = 'one'\nkernel = 'k'\n";

    #[test]
    fn a_file_is_a_scenario_and_cases_vary_it() {
        let one = cases("boot", FILE).unwrap();
        assert_eq!((one.len(), one[0].name.as_str(), one[0].cores), (1, "boot", 2));
        let two =
            cases("boot", &format!("{FILE}[[case]]\nname = 'p'\n[[case]]\nname = 'q'\ncores = 8\n")).unwrap();
        assert_eq!((two[1].name.as_str(), two[0].cores, two[1].cores), ("boot: q", 2, 8));
        assert_eq!(two[1].spec().unwrap().vm.len(), 1);
    }

    #[test]
    fn quick_scenarios_run_once_on_their_own_board() {
        let board = cases("f", &format!("quick = true\nalso-on = ['all']\n{FILE}")).unwrap();
        assert!(board.len() > 1);
        let quick: Vec<_> = board.iter().filter(|scenario| scenario.is_quick()).collect();
        assert_eq!((quick.len(), quick[0].board.as_str()), (1, "qemu-virt"));
        let all = load_all(&paths::root().join("tests")).unwrap();
        let mut quick = all.iter().filter(|scenario| scenario.is_quick());
        assert!(quick.clone().count() > 40);
        // Debian's kernel is not fetched, only one board is built.
        assert!(quick.all(|scenario| !scenario.linux && scenario.board == "qemu-virt"));
    }

    #[test]
    fn reports_mistakes_in_a_file() {
        let sentence = |text: &str| format!("{:#}", cases("f", text).unwrap_err());
        assert!(sentence("about = 'x'\n").contains("nothing would be checked"));
        assert!(sentence(&format!("core = 3\n{FILE}")).contains("core"));
        assert!(sentence(&format!("el = 3\n{FILE}")).contains("el"));
        assert!(sentence(&format!("name = 'y'\n{FILE}")).contains("named by its file"));
        assert!(sentence(&format!("{FILE}[[case]]\ncores = 1\n[[case]]\ncores = 2\n")).contains("no name"));
    }

    /// An arm64 `Image` of 8 KiB that needs 64 KiB.
    fn kernel() -> Vec<u8> {
        let mut kernel = vec![0; 8192];
        kernel[16..24].copy_from_slice(&0x1_0000u64.to_le_bytes());
        kernel[24] = 0b1010;
        kernel[56..60].copy_from_slice(b"ARM\x64");
        kernel
    }

    /// The hypervisor says what its reader says, so the scenarios can be tried without it.
    #[test]
    fn broken_bundles_are_refused_with_the_expected_sentence() {
        let dir = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        for name in ["sched.img", "guest-hpc.img"] {
            paths::write(&dir.join(name), &kernel()).unwrap();
        }
        let all = load_all(&paths::root().join("tests")).unwrap();
        let broken: Vec<_> = all.iter().filter(|case| case.name.starts_with("broken-bundles: ")).collect();
        assert!(broken.len() > 20);
        let mut wrong = Vec::new();
        for case in broken {
            let Some(spec) = case.spec() else { continue };
            let bundle = spec.build_damaged(&dir, &case.damage).unwrap();
            let line = match crate::bundle::check(&bundle, 1 << 30) {
                Ok(()) => "accepted".to_owned(),
                Err(sentence) => format!("[hv] fatal: {sentence}"),
            };
            let outcome = crate::qemu::Outcome {
                lines: vec![line.clone()],
                end: crate::qemu::End::PowerOff,
                took: std::time::Duration::ZERO,
            };
            let faults = case.expect.check(&outcome, std::time::Duration::ZERO);
            if !faults.is_empty() {
                wrong.push(format!("{}: {} but it says: {line}", case.name, faults.join("; ")));
            }
        }
        let _ = fs::remove_dir_all(&dir);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_committed_scenarios_are_well_formed() {
        let all = load_all(&paths::root().join("tests")).unwrap();
        assert!(!all.is_empty());
    }
}
