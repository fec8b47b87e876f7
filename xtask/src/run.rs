//! `cargo xtask run`: the workloads on the native kernel, then in isolated VMs, and a table of both. With
//! `--program`: any static Linux program, on the kernel itself or in a VM.

use crate::{
    artefacts::{self, Lock},
    board::{self, Board},
    build,
    bundle::{Spec, Vm, parse_size},
    console::{self, Line, Outcome, Said},
    linux, paths, program,
    qemu::{End, Machine},
    setup, table,
    toolchain::Toolchain,
    tree,
};
use anyhow::{Context, Result, bail};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board to run
    #[arg(long, default_value = "qemu-virt")]
    board: String,
    /// Cores of the machine (default: 4, or what the board has)
    #[arg(long)]
    cores: Option<u32>,
    /// Memory of the machine, such as 512M (default: 1G, or what the board has)
    #[arg(long)]
    memory: Option<String>,
    /// Measure the workloads by wall time, which under emulation says little, rather than count instructions
    #[arg(long, conflicts_with_all = ["program", "icount", "login"])]
    wall: bool,
    /// Let the clock count instructions instead of time: the same on every run, and slower (workloads are
    /// counted anyway)
    #[arg(long)]
    icount: bool,
    /// Start stopped and wait for a debugger
    #[arg(long)]
    gdb: bool,
    /// Boot with Debian's Linux as login VM, whose terminal is this one (Ctrl-A X ends it)
    #[arg(long, conflicts_with_all = ["program", "icount", "gdb"])]
    login: bool,
    /// Run this static Linux program for AArch64 instead
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Run the program in a VM rather than on the native kernel
    #[arg(long, requires = "program")]
    vm: bool,
    /// Run the program in the primary VM, in the control task's place
    #[arg(long, requires = "program", conflicts_with = "vm")]
    primary: bool,
    /// A file for the program, to be found as /NAME (may be repeated)
    #[arg(long, value_name = "FILE", requires = "program")]
    with: Vec<PathBuf>,
    /// A variable for the program (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", requires = "program")]
    env: Vec<String>,
    /// More of the kernel's command line, such as quantum-ms=10 (may be repeated)
    #[arg(long, value_name = "WORD", requires = "program")]
    boot: Vec<String>,
    /// How long the program may take, in seconds
    #[arg(long, default_value_t = 3600, requires = "program")]
    limit: u64,
    /// Arguments of the program
    #[arg(last = true, requires = "program")]
    arguments: Vec<String>,
}

/// What a machine is expected to verify: workloads by who runs them (`None` is the native kernel).
type Results = BTreeMap<(Option<String>, String), Outcome>;

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let board = board::find(&args.board)?;
    let (cores, memory) = board.machine.size(args.cores, args.memory.as_deref())?;
    let run = Run { args, board, cores, memory };
    let toolchain = setup::ensure_toolchain()?;
    setup::ensure_qemu()?;
    let lock = artefacts::lock()?;
    if let Some(file) = &args.program {
        return run_program(&run, &toolchain, lock, file);
    }
    if args.login {
        return login(&run, &toolchain, lock);
    }
    let spec = Spec::of_board(board)?;
    build::bundled(board, &toolchain, &spec, &["hv", "native"])?;
    let dir = paths::images(board.name);
    let bundle = spec.build_for(&dir, run.bytes())?;
    paths::write(&dir.join("bundle.cpio"), &bundle)?;
    artefacts::freeze(lock, &[board.name])?;
    run.workloads(&spec)
}

/// A run of the verb: its board, and how large the machine is.
struct Run<'a> {
    args: &'a Args,
    board: &'static Board,
    cores: u32,
    memory: String,
}

impl Run<'_> {
    fn bytes(&self) -> u64 {
        parse_size(&self.memory).unwrap_or(u64::MAX)
    }

    /// Boots the workloads natively and in VMs, and prints a table of both.
    ///
    /// Counted, the clock is the number of instructions that all cores have executed (`-icount`): each VM has
    /// the machine for itself, with as many cores as it has vCPUs, and so has the native kernel. All VMs
    /// together are booted last, to see that they verify.
    fn workloads(&self, spec: &Spec) -> Result<()> {
        let wall = self.args.wall || self.args.gdb;
        let workers = |vm: &Vm| vm.vcpus.unwrap_or(1);
        let busy: Vec<&Vm> = spec
            .vm
            .iter()
            .skip(1)
            .filter(|vm| !workloads(vm.bootargs.as_deref().unwrap_or_default()).is_empty())
            .collect();
        let counts: BTreeSet<u32> = busy.iter().map(|vm| workers(vm)).collect();
        let mut faults = Vec::new();
        let mut alone = BTreeMap::new();
        for count in counts {
            let mut native = self.machine("native.img")?;
            native.bootargs = format!("{} threads={count}", spec.native.bootargs);
            if !wall {
                native.count_on(count.min(self.cores));
            }
            let (results, fault) = boot("native", &native)?;
            alone.insert(count, results);
            faults.extend(fault);
        }
        let dir = paths::images(self.board.name);
        let mut isolated = Results::new();
        for vm in busy.iter().filter(|_| !wall) {
            let mut stack = self.machine("hv.img")?;
            stack.count_on(workers(vm).min(self.cores));
            let initrd = dir.join(format!("bundle-{}.cpio", vm.name));
            paths::write(&initrd, &spec.with_only(vm).build_for(&dir, self.bytes())?)?;
            stack.initrd = Some(initrd);
            let (results, fault) = boot(&vm.name, &stack)?;
            isolated.extend(results);
            faults.extend(fault);
        }
        let mut stack = self.machine("hv.img")?;
        stack.initrd = Some(build::image_path(self.board, "bundle.cpio")?);
        let (together, fault) = boot("stack", &stack)?;
        faults.extend(fault);
        if wall {
            isolated.clone_from(&together);
        }
        let table = compare(spec, &alone, &isolated, &together, wall);
        println!("\n{}", table.text);
        println!("{}", if wall { WALL_NOTE } else { COUNTED_NOTE });
        faults.extend(table.fault);
        if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
    }

    fn machine(&self, image: &str) -> Result<Machine> {
        let mut machine = Machine::new(self.board, build::image_path(self.board, image)?);
        machine.cores = self.cores;
        machine.memory.clone_from(&self.memory);
        machine.icount = self.args.icount;
        machine.gdb = self.args.gdb;
        machine.limit = Duration::from_secs(if self.args.icount { 1200 } else { 300 });
        Ok(machine)
    }
}

/// What the counted table shows.
const COUNTED_NOTE: &str = "\
Counted by QEMU (-icount): instructions of all cores that a workload needs for a unit of its work, on the native kernel and in a VM
that has as many vCPUs, each alone on the machine. Overhead is what the VM needs more (for selfish: percentage points of lost time).
Caches and TLBs are not in it. \"verified\" is about all VMs together, too. --wall measures the emulator's wall time instead.";
const WALL_NOTE: &str = "\
Wall time under emulation: it shows the emulator and what else runs on this computer. Only that results verify means something.";

/// Boots the stack with a login VM, and gives it this terminal.
fn login(run: &Run, toolchain: &Toolchain, lock: Lock) -> Result<()> {
    let board = run.board;
    let spec = Spec::with_login(board)?;
    build::bundled(board, toolchain, &spec, &["hv-gic"])?;
    linux::prepare(&paths::images(board.name))?;
    artefacts::freeze(lock, &[board.name])?;
    let dir = paths::images(board.name);
    let initrd = dir.join("login-bundle.cpio");
    paths::write(&initrd, &spec.build_for(&dir, run.bytes())?)?;
    let mut machine = run.machine("hv-gic.img")?;
    machine.initrd = Some(initrd);
    if let (Some(tree), Some(login)) = (&machine.tree, &board.login) {
        let path = dir.join("login.dtb");
        paths::write(&path, &tree::without(&paths::read(tree)?, login.without)?)?;
        machine.tree = Some(path);
    }
    let log = paths::published().join(board.name).join("console.log");
    println!("the other consoles go to {}", paths::shown(&log));
    machine.terminal = Some(log);
    machine.attend()
}

/// The VM of a program.
const PROGRAM_VM: &str = "program";
/// Memory that the hypervisor and the primary keep for themselves, in MiB.
const OTHERS_MIB: u64 = 192;

/// Runs one program, with its console as it is; ends with its status.
fn run_program(run: &Run, toolchain: &Toolchain, lock: Lock, file: &Path) -> Result<()> {
    let (args, board) = (run.args, run.board);
    let name = |path: &Path| -> Result<String> {
        let name = path.file_name().and_then(|name| name.to_str());
        Ok(name.with_context(|| format!("{} has no name of a file", path.display()))?.to_owned())
    };
    let mut files = Vec::new();
    for path in std::iter::once(file).chain(args.with.iter().map(PathBuf::as_path)) {
        files.push((name(path)?, paths::read(path)?));
    }
    let root = program::root(&files)?;
    let mut environment = BTreeMap::new();
    for variable in &args.env {
        let (name, value) =
            variable.split_once('=').with_context(|| format!("{variable} is not NAME=VALUE"))?;
        environment.insert(name.to_owned(), value.to_owned());
    }
    let line = program::bootargs(&files[0].0, &environment, &args.arguments)?;
    // What the user says goes last, and counts.
    let epoch = program::epoch();
    let words: Vec<&str> = [epoch.as_str()]
        .into_iter()
        .chain(args.boot.iter().map(String::as_str))
        .chain([line.as_str()])
        .collect();
    let bootargs = words.join(" ");
    let (wanted, kernel): (&[&str], _) = match (args.vm, args.primary) {
        (true, _) => (&["hv", "sched", "guest-lwk"], "hv.img"),
        (_, true) => (&["hv", "primary"], "hv.img"),
        _ => (&["lwk"], "lwk.img"),
    };
    build::images(board, toolchain, &wanted.iter().map(|image| (*image).to_owned()).collect::<Vec<_>>())?;
    artefacts::freeze(lock, &[board.name])?;
    let dir = paths::images(board.name);
    let mut machine = run.machine(kernel)?;
    let initrd = dir.join("program.cpio");
    if args.vm {
        let memory = (run.bytes() >> 20).checked_sub(OTHERS_MIB).filter(|mib| *mib >= 64);
        let memory = memory.with_context(|| format!("{} of memory is too little for VMs", run.memory))?;
        let spec = Spec::of_program(PROGRAM_VM, run.cores, memory, &bootargs, root);
        paths::write(&initrd, &spec.build_for(&dir, run.bytes())?)?;
    } else if args.primary {
        let spec = Spec::of_primary_program(PROGRAM_VM, &bootargs, root);
        paths::write(&initrd, &spec.build_for(&dir, run.bytes())?)?;
    } else {
        paths::write(&initrd, &root)?;
        machine.bootargs = bootargs;
    }
    machine.initrd = Some(initrd);
    machine.limit = Duration::from_secs(args.limit);
    let prefix = format!("[{PROGRAM_VM}] ");
    let outcome = machine.run(|line| {
        println!("{}", line.strip_prefix(&prefix).unwrap_or(line));
        let fatal = Line::of(line).text.starts_with("fatal: ") || Line::of(line).text.starts_with("panic: ");
        fatal.then_some(Duration::from_secs(3))
    })?;
    let who = (args.vm || args.primary).then_some(PROGRAM_VM);
    let said = outcome.lines.iter().rev().map(|line| Line::of(line)).filter(|line| line.who == who);
    let status = said.filter_map(Line::said).find_map(|said| match said {
        Said::Exit(status) => Some(status),
        _ => None,
    });
    match (&outcome.end, status) {
        (End::PowerOff, Some(0)) => Ok(()),
        (End::PowerOff, Some(status)) => artefacts::exit(status as i32),
        (End::PowerOff, None) => bail!("the machine shut down without reporting the program's status"),
        (end, _) => bail!("the machine {}", end.describe(machine.limit)),
    }
}

/// Boots a machine with its console shown; returns its results, and what was wrong with it.
fn boot(title: &str, machine: &Machine) -> Result<(Results, Option<String>)> {
    let clock = if machine.icount { ", instructions counted" } else { "" };
    let cores = if machine.cores == 1 { "1 core".into() } else { format!("{} cores", machine.cores) };
    println!("\n== {title}: {cores}, {}{clock} ==", machine.memory);
    if machine.gdb {
        let elf = machine.kernel.with_extension("elf");
        println!("The machine waits. Attach with: gdb-multiarch {} -ex 'target remote :1234'", elf.display());
    }
    let outcome = machine.run(|line| {
        println!("{title:>8} | {line}");
        let fatal = Line::of(line).text.starts_with("fatal: ") || Line::of(line).text.starts_with("panic: ");
        fatal.then_some(Duration::from_secs(3))
    })?;
    let mut results = Results::new();
    for line in outcome.lines.iter().map(|line| Line::of(line)) {
        if let Some(Said::Result(result)) = line.said() {
            results.insert((line.who.map(str::to_owned), result.workload.clone()), result);
        }
    }
    let fault = match (&outcome.end, console::exit_status(&outcome.lines)) {
        (End::PowerOff, Some(0)) => None,
        (End::PowerOff, Some(status)) => Some(format!("{title}: it ended with status {status}")),
        (End::PowerOff, None) => Some(format!("{title}: it shut down without an @exit line")),
        (end, _) => Some(format!("{title}: the machine {}", end.describe(machine.limit))),
    };
    Ok((results, fault))
}

struct Comparison {
    text: String,
    fault: Option<String>,
}

/// One row a workload and VM, in the order of the bundle; what is missing or wrong is a fault. `native` is by
/// number of workers.
fn compare(
    spec: &Spec,
    native: &BTreeMap<u32, Results>,
    isolated: &Results,
    together: &Results,
    wall: bool,
) -> Comparison {
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    let jobs = spec.vm.iter().flat_map(|vm| {
        let workloads = workloads(vm.bootargs.as_deref().unwrap_or_default());
        workloads.into_iter().map(move |workload| (vm, workload))
    });
    for (vm, workload) in jobs {
        let workers = vm.vcpus.unwrap_or(1);
        let inside = |results: &Results| results.get(&(Some(vm.name.clone()), workload.clone())).cloned();
        let alone = native.get(&workers).and_then(|all| all.get(&(None, workload.clone()))).cloned();
        let (own, shared) = (inside(isolated), inside(together));
        let verified = [&alone, &own, &shared]
            .iter()
            .all(|result| result.as_ref().is_some_and(|result| result.verified));
        if !verified {
            missing.push(format!("{workload} in {}", vm.name));
        }
        let cost = Cost::of([&alone, &own].into_iter().flatten().next(), wall);
        let value = |result: &Option<Outcome>| result.as_ref().and_then(|result| cost.value(result.figure?));
        let show = |value: Option<f64>| value.map_or_else(|| "-".into(), table::figure);
        let (before, after) = (value(&alone), value(&own));
        let overhead = before.zip(after).and_then(|(before, after)| cost.overhead(before, after));
        rows.push(vec![
            workload,
            workers.to_string(),
            cost.what.clone(),
            show(before),
            vm.name.clone(),
            show(after),
            overhead.map_or_else(|| "-".into(), |percent| format!("{percent:+.3} %")),
            if verified { "yes" } else { "NO" }.into(),
        ]);
    }
    if rows.is_empty() {
        missing.push("no VM of the bundle has a workload".into());
    }
    let head = [
        "workload",
        "workers",
        if wall { "measured" } else { "counted" },
        "native",
        "VM",
        "in the VM",
        "overhead",
        "verified",
    ];
    let fault = (!missing.is_empty()).then(|| format!("not verified: {}", missing.join(", ")));
    Comparison { text: table::render(&head, &rows), fault }
}

/// What a unit of work costs: a rate turned round, so that less is better.
struct Cost {
    what: String,
    kind: Kind,
}

enum Kind {
    /// So many nanoseconds at a rate of one; under `-icount shift=0` an instruction takes one.
    PerUnit(f64),
    /// Lost time in percent, whose difference is the overhead.
    Lost,
}

impl Cost {
    fn of(result: Option<&Outcome>, wall: bool) -> Self {
        let unit = result.map(|result| result.unit.as_str()).unwrap_or_default();
        let clock = if wall { "ns" } else { "instructions" };
        let (what, kind) = match unit {
            "MB/s" => (format!("{clock} per MB"), Kind::PerUnit(1e9)),
            "GUP/s" => (format!("{clock} per update"), Kind::PerUnit(1.0)),
            _ => ("lost time, %".into(), Kind::Lost),
        };
        Self { what, kind }
    }

    fn value(&self, figure: f64) -> Option<f64> {
        match self.kind {
            Kind::PerUnit(one) => (figure > 0.0).then(|| one / figure),
            Kind::Lost => Some(figure),
        }
    }

    fn overhead(&self, before: f64, after: f64) -> Option<f64> {
        match self.kind {
            Kind::PerUnit(_) => (before > 0.0).then(|| (after / before - 1.0) * 100.0),
            Kind::Lost => Some(after - before),
        }
    }
}

/// The workloads that `bootargs` ask for.
fn workloads(bootargs: &str) -> Vec<String> {
    let lists = bootargs.split_whitespace().filter_map(|word| word.strip_prefix("workload="));
    lists.flat_map(|list| list.split(',')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(who: Option<&str>, verified: bool, figure: f64) -> Results {
        let outcome = Outcome {
            workload: "stream".into(),
            verified,
            metric: "triad".into(),
            unit: "MB/s".into(),
            figure: Some(figure),
        };
        Results::from([((who.map(str::to_owned), "stream".into()), outcome)])
    }

    fn spec() -> Spec {
        toml::from_str(
            "[[vm]]\nname = 'sched'\n[[vm]]\nname = 'one'\nvcpus = 2\nbootargs = 'x workload=stream'\n",
        )
        .unwrap()
    }

    fn table(native: Results, inside: &Results) -> Comparison {
        compare(&spec(), &BTreeMap::from([(2, native)]), inside, inside, false)
    }

    #[test]
    fn row_has_cost_and_overhead_in_percent() {
        let table = table(results(None, true, 100.0), &results(Some("one"), true, 80.0));
        assert_eq!(table.fault, None);
        assert!(table.text.contains("instructions per MB"), "{}", table.text);
        assert!(table.text.contains("+25.000 %"), "{}", table.text);
    }

    #[test]
    fn native_figures_are_those_of_as_many_workers() {
        let inside = results(Some("one"), true, 80.0);
        let native = BTreeMap::from([(1, results(None, true, 100.0))]);
        assert!(compare(&spec(), &native, &inside, &inside, false).fault.is_some());
    }

    #[test]
    fn lost_time_is_compared_in_percentage_points() {
        let mut noise = results(None, true, 1.0).into_values().next().unwrap();
        noise.unit = "%".into();
        let cost = Cost::of(Some(&noise), false);
        assert_eq!(cost.overhead(1.0, 1.5), Some(0.5));
    }

    #[test]
    fn reports_missing_or_wrong_figures() {
        let good = results(Some("one"), true, 95.0);
        let fault = |native: &Results, inside: &Results| table(native.clone(), inside).fault;
        assert_eq!(fault(&Results::new(), &good).as_deref(), Some("not verified: stream in one"));
        assert!(fault(&results(None, true, 1.0), &Results::new()).is_some());
        assert!(fault(&results(None, true, 1.0), &results(Some("one"), false, 1.0)).is_some());
        assert!(fault(&results(None, false, 1.0), &good).is_some());
        assert!(compare(&Spec::default(), &BTreeMap::new(), &good, &good, false).fault.is_some());
    }

    #[test]
    fn workloads_are_a_list() {
        assert_eq!(workloads("a=b workload=x,y"), ["x", "y"]);
        assert!(workloads("workloads=x").is_empty());
    }
}
