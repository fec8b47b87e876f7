//! `cargo xtask run`: the workloads on the native kernel, then in isolated VMs, and a table of both. With `--program`: any static
//! Linux program, on the kernel itself or in a VM.

use crate::{
    board::{self, Board},
    build,
    bundle::{Spec, parse_size},
    console::{self, Line, Outcome, Said},
    linux, paths, program,
    qemu::{End, Machine},
    setup, table,
    toolchain::Toolchain,
    tree,
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board to run
    #[arg(long, default_value = "qemu-virt")]
    board: String,
    /// Cores of the machine
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    cores: u32,
    /// Memory of the machine
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Count instructions instead of time: the same on every run, and slower
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
    let toolchain = setup::ensure_toolchain()?;
    setup::ensure_qemu()?;
    if let Some(file) = &args.program {
        return run_program(args, board, &toolchain, file);
    }
    build::everything(board, &toolchain)?;
    if args.login {
        return login(args, board);
    }
    let spec = Spec::of_board(board)?;

    let mut native = machine(args, board, "native.img")?;
    native.bootargs.clone_from(&spec.native.bootargs);
    let mut stack = machine(args, board, "hv.img")?;
    stack.initrd = Some(build::image_path(board, "bundle.cpio")?);

    let (alone, first) = boot("native", &native)?;
    let (isolated, second) = boot("stack", &stack)?;
    let table = compare(&spec, &alone, &isolated);
    println!("\n{}", table.text);
    if args.icount {
        println!("Instructions are counted, not time: rates show the emulator's clock, not a board's speed.");
    } else {
        println!(
            "Rates under emulation show the emulator; only their ratio, and that results verify, mean something."
        );
    }
    let faults: Vec<String> = [first, second, table.fault].into_iter().flatten().collect();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

/// Boots the stack with a login VM, and gives it this terminal.
fn login(args: &Args, board: &'static Board) -> Result<()> {
    let dir = paths::images(board.name);
    linux::prepare(&dir)?;
    let initrd = dir.join("login-bundle.cpio");
    paths::write(&initrd, &Spec::with_login(board)?.build(&dir)?)?;
    let mut machine = machine(args, board, "hv-gic.img")?;
    machine.initrd = Some(initrd);
    if let (Some(tree), Some(login)) = (&machine.tree, &board.login) {
        let path = dir.join("login.dtb");
        paths::write(&path, &tree::without(&paths::read(tree)?, login.without)?)?;
        machine.tree = Some(path);
    }
    let log = dir.join("console.log");
    println!("the other consoles go to {}", paths::shown(&log));
    machine.terminal = Some(log);
    machine.attend()
}

/// The VM of a program.
const PROGRAM_VM: &str = "program";
/// Memory that the hypervisor and the primary keep for themselves, in MiB.
const OTHERS_MIB: u64 = 192;

/// Runs one program, with its console as it is; ends with its status.
fn run_program(args: &Args, board: &'static Board, toolchain: &Toolchain, file: &Path) -> Result<()> {
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
    let words: Vec<&str> = args.boot.iter().map(String::as_str).chain([line.as_str()]).collect();
    let bootargs = words.join(" ");
    let initrd = paths::images(board.name).join("program.cpio");
    let mut machine;
    if args.vm {
        let memory = parse_size(&args.memory).map_or(1024, |bytes| bytes >> 20);
        let memory = memory.checked_sub(OTHERS_MIB).filter(|mib| *mib >= 64);
        let memory = memory.with_context(|| format!("{} of memory is too little for VMs", args.memory))?;
        let spec = Spec::of_program(PROGRAM_VM, args.cores, memory, &bootargs, root);
        let only = ["hv", "sched", "guest-lwk"].map(str::to_owned);
        build::images(board, toolchain, &only)?;
        paths::write(&initrd, &spec.build(&paths::images(board.name))?)?;
        machine = self::machine(args, board, "hv.img")?;
    } else if args.primary {
        let spec = Spec::of_primary_program(PROGRAM_VM, &bootargs, root);
        build::images(board, toolchain, &["hv", "primary"].map(str::to_owned))?;
        paths::write(&initrd, &spec.build(&paths::images(board.name))?)?;
        machine = self::machine(args, board, "hv.img")?;
    } else {
        build::images(board, toolchain, &["lwk".to_owned()])?;
        paths::write(&initrd, &root)?;
        machine = self::machine(args, board, "lwk.img")?;
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
        (End::PowerOff, Some(status)) => std::process::exit(status as i32),
        (End::PowerOff, None) => bail!("the machine shut down without telling the program's status"),
        (end, _) => bail!("the machine {}", end.describe(machine.limit)),
    }
}

fn machine(args: &Args, board: &'static Board, image: &str) -> Result<Machine> {
    let mut machine = Machine::new(board, build::image_path(board, image)?);
    machine.cores = args.cores;
    machine.memory.clone_from(&args.memory);
    machine.icount = args.icount;
    machine.gdb = args.gdb;
    machine.limit = Duration::from_secs(if args.icount { 1200 } else { 300 });
    Ok(machine)
}

/// Boots a machine with its console shown; returns its results, and what was wrong with it.
fn boot(title: &str, machine: &Machine) -> Result<(Results, Option<String>)> {
    println!("\n== {title}: {} cores, {} ==", machine.cores, machine.memory);
    if machine.gdb {
        let elf = machine.kernel.with_extension("elf");
        println!("The machine waits. Attach with: gdb-multiarch {} -ex 'target remote :1234'", elf.display());
    }
    let outcome = machine.run(|line| {
        println!("{title:>6} | {line}");
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

/// One row a workload and VM, in the order of the bundle; what is missing or wrong is a fault.
fn compare(spec: &Spec, native: &Results, isolated: &Results) -> Comparison {
    let mut rows = Vec::new();
    let mut missing = Vec::new();
    let jobs = spec.vm.iter().flat_map(|vm| {
        let workloads = workloads(vm.bootargs.as_deref().unwrap_or_default());
        workloads.into_iter().map(move |workload| (vm, workload))
    });
    for (vm, workload) in jobs {
        let alone = native.get(&(None, workload.clone()));
        let inside = isolated.get(&(Some(vm.name.clone()), workload.clone()));
        let figure = |result: Option<&Outcome>| result.and_then(|result| result.figure);
        let show = |value: Option<f64>| value.map_or_else(|| "-".into(), table::figure);
        let ratio = match (figure(alone), figure(inside)) {
            (Some(alone), Some(inside)) if alone != 0.0 => Some(inside / alone),
            _ => None,
        };
        let verified = [alone, inside].iter().all(|result| result.is_some_and(|result| result.verified));
        if !verified {
            missing.push(format!("{workload} in {}", vm.name));
        }
        let metric = inside.or(alone).map(|result| format!("{} {}", result.metric, result.unit));
        let name = format!("{} ({} vCPU)", vm.name, vm.vcpus.unwrap_or(1));
        rows.push(vec![
            workload,
            metric.unwrap_or_else(|| "-".into()),
            show(figure(alone)),
            name,
            show(figure(inside)),
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}")),
            if verified { "yes" } else { "NO" }.into(),
        ]);
    }
    if rows.is_empty() {
        missing.push("no VM of the bundle has a workload".into());
    }
    let head = ["workload", "metric", "native", "VM", "isolated", "ratio", "verified"];
    let fault = (!missing.is_empty()).then(|| format!("not verified: {}", missing.join(", ")));
    Comparison { text: table::render(&head, &rows), fault }
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
        toml::from_str("[[vm]]\nname = 'sched'\n[[vm]]\nname = 'one'\nbootargs = 'x workload=stream'\n")
            .unwrap()
    }

    #[test]
    fn all_verified_is_a_row_with_a_ratio() {
        let table = compare(&spec(), &results(None, true, 100.0), &results(Some("one"), true, 95.0));
        assert_eq!(table.fault, None);
        assert!(table.text.contains("0.950"), "{}", table.text);
    }

    #[test]
    fn what_is_missing_or_wrong_is_a_fault() {
        let good = results(Some("one"), true, 95.0);
        let fault = |native: &Results, inside: &Results| compare(&spec(), native, inside).fault;
        assert_eq!(fault(&Results::new(), &good).as_deref(), Some("not verified: stream in one"));
        assert!(fault(&results(None, true, 1.0), &Results::new()).is_some());
        assert!(fault(&results(None, true, 1.0), &results(Some("one"), false, 1.0)).is_some());
        assert!(fault(&results(None, false, 1.0), &good).is_some());
        assert!(compare(&Spec::default(), &Results::new(), &good).fault.is_some());
    }

    #[test]
    fn workloads_are_a_list() {
        assert_eq!(workloads("a=b workload=x,y"), ["x", "y"]);
        assert!(workloads("workloads=x").is_empty());
    }
}
