//! The HPC workloads: `workload=selfish,stream,randomaccess,abreast,bench`, and `crash.KIND` for programs
//! that fail.
//!
//! | parameter | meaning | default |
//! |---|---|---|
//! | `selfish.ms` | how long noise is measured | 1000 |
//! | `selfish.max` | at most so many detours are recorded | 16384 |
//! | `stream.n` | elements in each array | 200000 |
//! | `stream.times` | how often each kernel runs | 10 |
//! | `gups.log2` | the table has 2 to the power of this words | 18 |
//! | `abreast.ms` | how long it is watched whether all cores run at the same time | 3000 |
//! | `abreast.after-ms` | how long they run before | 0 |
//! | `abreast.apart` | more than this of the time without the others is too much, in % | 30 |
//! | `abreast.share` | the part of the time that they are to have, in %, give or take 15 | any |
//! | `threads` | cores that STREAM and RandomAccess use | all |

use crate::{
    abreast, bench, crash,
    support::{AllCores, Counter},
};
use core::{fmt, sync::atomic::AtomicU64};
use hpc_kernels::{
    random_access::{self, Generator},
    selfish::{self, Detour},
    stream,
};
use lwk_core::{
    app::{App, Status},
    memory, println,
    team::Team,
};

/// Whether a workload's result is right; the text says why there is none.
type Outcome = Result<bool, &'static str>;

/// The program.
pub fn main(app: &App) -> Status {
    let line = app.command_line();
    if line.get("workload").is_none() {
        println!("no workload= on the command line: nothing to do");
    }
    let mut ok = true;
    for name in line.list("workload") {
        let outcome = match name {
            "selfish" => selfish(app),
            "stream" => stream(app),
            "randomaccess" => random_access(app),
            "abreast" => abreast(app),
            "bench" => Ok(bench::kernel(app)),
            _ if name.starts_with("crash.") => Ok(crash::run(&name["crash.".len()..])),
            _ => Err("there is no such workload"),
        };
        let verified = outcome.unwrap_or_else(|why| {
            println!("{name}: {why}");
            println!("@result workload={name} verified=no");
            false
        });
        ok &= verified;
    }
    Status::of(ok)
}

const fn yes(verified: bool) -> &'static str {
    if verified { "yes" } else { "no" }
}

// Result lines stay below 120 characters: the hypervisor breaks longer ones.

/// Prints a report for people, each line whole.
fn show(report: &impl fmt::Display) {
    println!("{report}");
}

fn team(app: &App) -> AllCores {
    AllCores(Team::new(app.command_line().number("threads").unwrap_or_else(|| app.cores())))
}

fn selfish(app: &App) -> Outcome {
    let line = app.command_line();
    let room: usize = line.number("selfish.max").unwrap_or(16384);
    let ms: u64 = line.number("selfish.ms").unwrap_or(1000);
    let mut config = selfish::Config::seconds(&Counter, 1);
    config.period = config.period.saturating_mul(ms) / 1000;
    let mut buffer = alloc::vec![Detour::default(); room];
    let report = selfish::run(&Counter, &mut buffer, config).map_err(|_| "selfish.max is too small")?;
    show(&report);
    println!(
        "@result workload=selfish verified={} metric=noise_percent noise_percent={:.6} unit=% detours={}",
        yes(report.verified),
        report.noise_percent,
        report.detours.len()
    );
    Ok(report.verified)
}

fn stream(app: &App) -> Outcome {
    let line = app.command_line();
    let n: usize = line.number("stream.n").unwrap_or(200_000);
    let times = line.number("stream.times").unwrap_or(stream::NTIMES);
    let bytes = n.checked_mul(3 * size_of::<f64>()).ok_or("stream.n is too large")?;
    let mut block = memory::allocate(bytes as u64).ok_or("not enough memory for stream.n")?;
    let arrays = stream::split(&mut block.as_slice()[..3 * n]);
    let team = team(app);
    let report =
        stream::run(&Counter, &team, arrays, times).map_err(|_| "stream.n or stream.times is wrong")?;
    show(&report);
    let [_, _, _, triad] = report.kernels.map(|kernel| kernel.best_rate);
    println!(
        "@result workload=stream verified={} metric=triad_mb_s triad_mb_s={triad:.1} unit=MB/s threads={} n={n}",
        yes(report.verified),
        report.workers
    );
    Ok(report.verified)
}

fn random_access(app: &App) -> Outcome {
    let log2: u32 = app.command_line().number("gups.log2").unwrap_or(18);
    let bytes = 8_u64.checked_shl(log2).filter(|_| log2 < 48).ok_or("gups.log2 is too large")?;
    let mut block = memory::allocate(bytes).ok_or("not enough memory for gups.log2")?;
    let table: &[AtomicU64] = &block.as_slice::<AtomicU64>()[..1 << log2];
    let team = team(app);
    let report = random_access::run(&Counter, &team, table, Generator::Polynomial)
        .map_err(|_| "gups.log2 is too small")?;
    show(&report);
    println!(
        "@result workload=randomaccess verified={} metric=gups gups={:.6} unit=GUP/s threads={} log2={log2}",
        yes(report.verified),
        report.gups,
        report.workers
    );
    Ok(report.verified)
}

fn abreast(app: &App) -> Outcome {
    let line = app.command_line();
    let after = line.number("abreast.after-ms").unwrap_or(0);
    let ms = line.number("abreast.ms").unwrap_or(3000);
    let seen = abreast::look(&team(app), after, ms).ok_or("abreast needs two cores, and time")?;
    let most: usize = line.number("abreast.apart").unwrap_or(30);
    let due: Option<usize> = line.number("abreast.share");
    let fair = due.is_none_or(|due| seen.ran.abs_diff(due.saturating_mul(10)) <= 150);
    let verified = fair && seen.apart <= most.saturating_mul(10);
    println!(
        "@result workload=abreast verified={} metric=apart_per_mille apart_per_mille={} ran_per_mille={}",
        yes(verified),
        seen.apart,
        seen.ran
    );
    Ok(verified)
}
