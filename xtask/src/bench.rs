//! `cargo xtask bench`: counted instructions per path, beside other systems' figures, against a committed baseline.
//!
//! With `-icount shift=0` and a 1 GHz counter one tick is one instruction, and every run gives the same figures: a
//! path that grows is a regression, not noise.

use crate::{
    board::{self, Board},
    build,
    bundle::Spec,
    console::{self, Line, Said},
    paths,
    qemu::{End, Machine},
    setup, table,
};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// How much a path may grow over its baseline.
const TOLERANCE: f64 = 1.02;
/// The bundle of the measured stack.
const STACK: &str = include_str!("../bench-bundle.toml");
const PEERS: &str = include_str!("../bench-peers.toml");

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// The board to measure
    #[arg(long, default_value = "qemu-virt")]
    board: String,
    /// Make these figures the baseline
    #[arg(long)]
    update_baseline: bool,
}

/// Instructions by path.
type Figures = BTreeMap<String, f64>;

/// What else is known about a path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Peer {
    about: String,
    hafnium_main: Option<f64>,
    hafnium_best: Option<f64>,
}

/// The committed figures, by board.
#[derive(Default, Deserialize, Serialize)]
#[serde(transparent)]
struct Baseline(BTreeMap<String, Figures>);

/// Runs the verb.
pub fn verb(args: &Args) -> Result<()> {
    let board = board::find(&args.board)?;
    let peers: BTreeMap<String, Peer> =
        toml::from_str(PEERS).context("cannot understand xtask/bench-peers.toml")?;
    let spec: Spec = toml::from_str(STACK).context("cannot understand xtask/bench-bundle.toml")?;
    let mut baseline = read_baseline()?;

    let toolchain = setup::ensure_toolchain()?;
    setup::ensure_qemu()?;
    build::images(board, &toolchain, &[])?;
    let mut native = machine(board, "native.img")?;
    native.bootargs.clone_from(&spec.native.bootargs);
    let mut stack = machine(board, "hv.img")?;
    let bundle = paths::images(board.name).join("bench.cpio");
    paths::write(&bundle, &spec.build(&paths::images(board.name))?)?;
    stack.initrd = Some(bundle);

    let mut figures = measure("native", &native)?;
    figures.extend(measure("stack", &stack)?);
    let known = baseline.0.get(board.name).cloned().unwrap_or_default();
    println!("\n{}", report(&figures, &known, &peers));
    println!(
        "Instructions counted by QEMU (-icount shift=0, one core); what caches and TLBs cost is not in them."
    );
    if args.update_baseline {
        baseline.0.insert(board.name.into(), figures);
        return write_baseline(&baseline);
    }
    let faults = regressions(&figures, &known);
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

fn machine(board: &'static Board, image: &str) -> Result<Machine> {
    let mut machine = Machine::new(board, build::image_path(board, image)?);
    machine.cores = 1;
    machine.icount = true;
    machine.limit = Duration::from_mins(5);
    Ok(machine)
}

/// The figures that a machine says.
fn measure(title: &str, machine: &Machine) -> Result<Figures> {
    eprintln!("... measuring: {title}");
    let log = paths::logs().join(format!("bench-{title}.log"));
    let outcome = machine.run(|_| None)?;
    paths::write(&log, (outcome.lines.join("\n") + "\n").as_bytes())?;
    let log = paths::shown(&log);
    ensure!(
        outcome.end == End::PowerOff,
        "{title}: the machine {}; its console is in {log}",
        outcome.end.describe(machine.limit)
    );
    let status = console::exit_status(&outcome.lines);
    ensure!(status == Some(0), "{title}: it did not end with @exit status=0; its console is in {log}");
    let figures: Figures = outcome
        .lines
        .iter()
        .filter_map(|line| match Line::of(line).said() {
            Some(Said::Bench { path, instructions }) => Some((path, instructions)),
            _ => None,
        })
        .collect();
    ensure!(!figures.is_empty(), "{title}: the machine measured nothing; its console is in {log}");
    Ok(figures)
}

fn report(figures: &Figures, known: &Figures, peers: &BTreeMap<String, Peer>) -> String {
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), table::figure);
    let rows: Vec<Vec<String>> = figures
        .iter()
        .map(|(path, count)| {
            let peer = peers.get(path);
            vec![
                path.clone(),
                table::figure(*count),
                show(known.get(path).copied()),
                show(peer.and_then(|peer| peer.hafnium_best)),
                show(peer.and_then(|peer| peer.hafnium_main)),
                peer.map(|peer| peer.about.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    table::render(&["path", "instructions", "baseline", "Hafnium best", "Hafnium main", "what it is"], &rows)
}

/// Paths that grew, and paths that are gone.
fn regressions(figures: &Figures, known: &Figures) -> Vec<String> {
    let fault = |(path, before): (&String, &f64)| match figures.get(path) {
        None => Some(format!("{path} was not measured")),
        Some(now) if *now > before * TOLERANCE => Some(format!(
            "{path} grew from {} to {} instructions",
            table::figure(*before),
            table::figure(*now)
        )),
        Some(_) => None,
    };
    known.iter().filter_map(fault).collect()
}

fn baseline_path() -> PathBuf {
    paths::root().join("xtask/bench-baseline.toml")
}

fn read_baseline() -> Result<Baseline> {
    let path = baseline_path();
    if !path.exists() {
        return Ok(Baseline::default());
    }
    let text = String::from_utf8(paths::read(&path)?).context("the baseline is UTF-8 text")?;
    toml::from_str(&text).with_context(|| format!("cannot understand {}", paths::shown(&path)))
}

fn write_baseline(baseline: &Baseline) -> Result<()> {
    let text = toml::to_string(baseline).context("cannot write the baseline")?;
    let head = "# Counted instructions that a path may not outgrow by more than 2 %.\n\
                # Written by `cargo xtask bench --update-baseline`.\n\n";
    paths::write(&baseline_path(), (head.to_owned() + &text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, f64)]) -> Figures {
        list.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect()
    }

    #[test]
    fn growth_beyond_the_tolerance_is_told() {
        let known = figures(&[("same", 100.0), ("grown", 100.0), ("gone", 1.0)]);
        let now = figures(&[("same", 102.0), ("grown", 103.0), ("new", 5.0)]);
        assert_eq!(
            regressions(&now, &known),
            ["gone was not measured", "grown grew from 100 to 103 instructions"]
        );
    }

    #[test]
    fn the_committed_files_are_well_formed() {
        let peers: BTreeMap<String, Peer> = toml::from_str(PEERS).unwrap();
        assert!(peers.values().all(|peer| !peer.about.is_empty()));
        let spec: Spec = toml::from_str(STACK).unwrap();
        assert_eq!(spec.vm.len(), 2);
        read_baseline().unwrap();
    }
}
