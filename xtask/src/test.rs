//! `cargo xtask test`: the host tests of every crate, then the QEMU regression suite in `tests/`.

mod expect;
mod host;
mod merge;
mod scenario;
mod two_builds;

use crate::{
    artefacts, bench, board, build,
    bundle::{File, Spec},
    control, linux, paths,
    qemu::{Machine, Outcome},
    sdcard, setup, tree,
};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use scenario::{Place, Scenario};
use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// Arguments of the verb.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Only tests and scenarios whose name contains this
    filter: Option<String>,
    /// Only the host tests
    #[arg(long, conflicts_with = "machine")]
    host: bool,
    /// Only the QEMU scenarios
    #[arg(long)]
    machine: bool,
    /// All host tests and the scenarios that are marked `quick`: less than five minutes, for daily work
    #[arg(long, conflicts_with_all = ["filter", "host", "machine"])]
    quick: bool,
    /// Scenarios at a time (default: one a core of this machine)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: Option<u32>,
    /// Keep the console logs of scenarios that pass, too
    #[arg(long)]
    keep_logs: bool,
    /// Boot the images as they are in target/images
    #[arg(long)]
    no_build: bool,
    /// Only say what the scenarios are
    #[arg(long)]
    list: bool,
}

/// What is tested beside the scenarios.
struct Extra {
    name: &'static str,
    about: &'static str,
    boards: fn() -> Vec<&'static str>,
    check: fn() -> Verdict,
}

/// In the order in which they follow the scenarios. The counting comes last: it is short, and what it counts
/// depends on no neighbour.
const EXTRAS: [Extra; 2] = [
    Extra {
        name: two_builds::NAME,
        about: two_builds::ABOUT,
        boards: || two_builds::BOARDS.into(),
        check: two_builds,
    },
    Extra {
        name: "bench",
        about: "No counted path, nor the hypervisor itself, is larger than it may be, on any board.",
        boards: || board::BOARDS.iter().map(|board| board.name).collect(),
        check: count,
    },
];

/// How many passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
}

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let mut scenarios = scenario::load_all(&paths::root().join("tests"))?;
    scenarios.retain(|scenario| scenario.name.contains(filter) && (!args.quick || scenario.is_quick()));
    let extras: Vec<&Extra> =
        EXTRAS.iter().filter(|extra| extra.name.contains(filter) && !args.quick).collect();
    if args.list {
        for scenario in &scenarios {
            println!("{}: {}", scenario.name, scenario.about);
        }
        for extra in &extras {
            println!("{}: {}", extra.name, extra.about);
        }
        return Ok(());
    }
    let mut tally = Tally::default();
    if !args.machine {
        if filter.is_empty() {
            setup::ensure_compilers();
        }
        tally = host::run(filter)?;
    }
    let machine = !(extras.is_empty() && scenarios.is_empty());
    if machine && !args.host {
        let machine = machine_tests(&scenarios, &extras, args)?;
        tally = Tally { passed: tally.passed + machine.passed, failed: tally.failed + machine.failed };
    }
    if tally == Tally::default() {
        bail!("no test or scenario has a name with \"{filter}\" in it");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    // The last line has been printed; only the status is left to report.
    if tally.failed > 0 { artefacts::exit(1) } else { Ok(()) }
}

fn machine_tests(scenarios: &[Scenario], extras: &[&Extra], args: &Args) -> Result<Tally> {
    setup::ensure_qemu()?;
    let mut boards: BTreeSet<&str> = scenarios.iter().map(|scenario| scenario.board.as_str()).collect();
    boards.extend(extras.iter().flat_map(|extra| (extra.boards)()));
    let lock = artefacts::lock()?;
    if !args.no_build {
        let toolchain = setup::ensure_toolchain()?;
        for name in &boards {
            build::everything(board::find(name)?, &toolchain)?;
        }
    }
    for scenario in scenarios.iter().filter(|scenario| scenario.linux) {
        linux::prepare(&paths::images(&scenario.board))?;
    }
    artefacts::freeze(lock, &boards.into_iter().collect::<Vec<_>>())?;
    fs::create_dir_all(paths::test_logs()).context("cannot make target/test-logs")?;

    let jobs =
        args.jobs.map_or_else(|| thread::available_parallelism().map_or(2, usize::from), |n| n as usize);
    let jobs_in_all = scenarios.len() + extras.len();
    let progress = ProgressBar::new(jobs_in_all as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} scenarios, {elapsed}") {
        progress.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..jobs.min(jobs_in_all) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let verdict = match (scenarios.get(n), extras.get(n.saturating_sub(scenarios.len()))) {
                        (Some(scenario), _) => try_scenario(scenario, args.keep_logs),
                        (None, Some(extra)) => (extra.check)(),
                        (None, None) => break,
                    };
                    progress.suspend(|| println!("{verdict}"));
                    progress.inc(1);
                    if let Ok(mut tally) = tally.lock() {
                        if verdict.faults.is_empty() { tally.passed += 1 } else { tally.failed += 1 }
                    }
                }
            });
        }
    });
    progress.finish_and_clear();
    Ok(tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Counts instructions and bytes.
fn count() -> Verdict {
    let since = Instant::now();
    let (faults, remark) = match bench::check() {
        Ok((faults, remark)) => (faults, Some(remark)),
        Err(error) => (vec![format!("{error:#}")], None),
    };
    let seconds = since.elapsed().as_secs_f32();
    Verdict { name: "bench".into(), seconds, faults, log: None, remark }
}

/// Builds for two boards at once.
fn two_builds() -> Verdict {
    let since = Instant::now();
    let faults = two_builds::check(paths::images).err().map(|error| format!("{error:#}"));
    let seconds = since.elapsed().as_secs_f32();
    Verdict {
        name: two_builds::NAME.into(),
        seconds,
        faults: faults.into_iter().collect(),
        log: None,
        remark: None,
    }
}

/// What came of a scenario.
struct Verdict {
    name: String,
    seconds: f32,
    faults: Vec<String>,
    log: Option<PathBuf>,
    remark: Option<String>,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let word = if self.faults.is_empty() { "pass" } else { "FAIL" };
        write!(f, "{word} {} ({:.1} s)", self.name, self.seconds)?;
        if let Some(remark) = &self.remark {
            write!(f, ": {remark}")?;
        }
        for fault in &self.faults {
            write!(f, "\n     {fault}")?;
        }
        match &self.log {
            Some(log) => write!(f, "\n     console: {}", paths::shown(log)),
            None => Ok(()),
        }
    }
}

fn try_scenario(scenario: &Scenario, keep: bool) -> Verdict {
    let name = scenario.name.clone();
    let stem = file_stem(&name);
    let file = |extension: &str| paths::test_logs().join(format!("{stem}.{extension}"));
    let (bundle, log) = (file("cpio"), file("log"));
    let _ = fs::remove_file(&log);
    match boot(scenario, &bundle) {
        Err(error) => {
            Verdict { name, seconds: 0.0, faults: vec![format!("{error:#}")], log: None, remark: None }
        }
        Ok((machine, outcome)) => {
            let mut faults = scenario.expect.check(&outcome, machine.limit);
            faults.extend(compare_program(scenario, &outcome));
            let kept = (keep || !faults.is_empty())
                .then(|| paths::write(&log, (outcome.lines.join("\n") + "\n").as_bytes()).map(|()| log));
            if faults.is_empty() {
                let _ = fs::remove_file(&bundle);
            }
            Verdict {
                name,
                seconds: outcome.took.as_secs_f32(),
                faults,
                log: kept.and_then(Result::ok),
                remark: None,
            }
        }
    }
}

/// What a program did otherwise than under the emulator of Linux programs.
fn compare_program(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    let Some(program) = scenario.program.as_ref().filter(|program| program.compared) else {
        return Vec::new();
    };
    let who = scenario.program_vm();
    match program.reference() {
        Ok(reference) => reference.compare(&outcome.lines, who),
        Err(error) => vec![format!("{error:#}")],
    }
}

/// A scenario's name as a file's.
fn file_stem(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

fn boot(scenario: &Scenario, bundle: &std::path::Path) -> Result<(Machine, Outcome)> {
    let board = board::find(&scenario.board)?;
    let mut machine = Machine::new(board, build::image_path(board, &format!("{}.img", scenario.boot))?);
    machine.cores = scenario.cores;
    machine.memory.clone_from(&scenario.memory);
    machine.el2 = scenario.el == 2;
    if scenario.gic != 0 {
        machine.gic = board::Gic::Version(scenario.gic);
    }
    if !scenario.cpu.is_empty() {
        machine.cpu.clone_from(&scenario.cpu);
    }
    machine.icount = scenario.icount;
    machine.bootargs.clone_from(&scenario.bootargs);
    machine.limit = std::time::Duration::from_secs(scenario.timeout);
    let mut spec = match scenario.bundle.as_str() {
        "board" => Some(Spec::of_board(board)?),
        "login" => Some(Spec::with_login(board)?),
        _ => scenario.spec(),
    };
    if let Some(program) = &scenario.program {
        let (root, bootargs) = (program.root()?, program.bootargs(&scenario.bootargs)?);
        match scenario.place {
            Place::Native => {
                paths::write(bundle, &root)?;
                machine.initrd = Some(bundle.to_owned());
                machine.bootargs = bootargs;
            }
            Place::Primary => {
                spec = Some(Spec::of_primary_program(scenario::PROGRAM_PRIMARY, &bootargs, root));
            }
            Place::Secondary => {
                let (name, memory) = (scenario::PROGRAM_VM, scenario::PROGRAM_MEMORY);
                spec = Some(Spec::of_program(name, scenario.cores, memory, &bootargs, root));
            }
        }
    }
    if !scenario.script.is_empty()
        && let Some(spec) = &mut spec
    {
        let root = control::with_script(&paths::images(board.name), &scenario.script)?;
        spec.file.push(File::made(control::ROOT, root));
    }
    if let Some(spec) = spec {
        let bytes = spec.build_damaged(&paths::images(board.name), &scenario.damage)?;
        if scenario.card {
            let kernel = format!("{}.img", scenario.boot);
            let (card, uboot) = sdcard::for_qemu(board, &kernel, bytes)?;
            let path = bundle.with_extension("img");
            sdcard::write_sparse(&path, &card)?;
            (machine.kernel, machine.card) = (uboot, Some(path));
        } else {
            paths::write(bundle, &bytes)?;
            machine.initrd = Some(bundle.to_owned());
        }
    }
    if scenario.firmware {
        machine.firmware = Some(build::image_path(board, "firmware.img")?);
    }
    if !scenario.disabled_cores.is_empty() || scenario.firmware || board.timer.is_some() {
        let path = bundle.with_extension("dtb");
        tree::write(&machine, &scenario.disabled_cores, &path)?;
        machine.tree = Some(path);
    }
    if !scenario.without_nodes.is_empty() {
        let path = bundle.with_extension("dtb");
        let from =
            machine.tree.as_deref().context("only a board whose device tree is a file can lack nodes")?;
        tree::write_without(from, &scenario.without_nodes, &path)?;
        machine.tree = Some(path);
    }
    let mut watcher = scenario.expect.watcher();
    machine.devices.clone_from(&scenario.devices);
    if scenario.second_serial {
        let dialogue = if scenario.linux && scenario.dialogue.is_empty() {
            linux::dialogue()
        } else {
            scenario.dialogue.clone()
        };
        machine.second_serial = Some(dialogue);
    }
    let outcome = machine.run(|line| watcher.see(line))?;
    if let Some(path) = &machine.card {
        let _ = fs::remove_file(path);
    }
    Ok((machine, outcome))
}
