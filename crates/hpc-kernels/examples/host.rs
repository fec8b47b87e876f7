//! All kernels on the host: `cargo run --release -p hpc-kernels --example host [THREADS]`.

use hpc_kernels::{
    Clock, Serial, Team,
    random_access::{self, Generator},
    selfish::{self, Config, Detour},
    stream,
};
use std::{env, error::Error, process::ExitCode, sync::atomic::AtomicU64, thread, time::Instant};

struct Host(Instant);

impl Clock for Host {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn frequency_hz(&self) -> u64 {
        1_000_000_000
    }
}

struct Threads(usize);

impl Team for Threads {
    fn size(&self) -> usize {
        self.0
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        thread::scope(|scope| {
            for rank in 1..self.0 {
                scope.spawn(move || work(rank));
            }
            work(0);
        });
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let threads = env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let (clock, team) = (Host(Instant::now()), Threads(threads));

    let mut buffer = vec![Detour::default(); 50_000];
    let noise = selfish::run(&clock, &mut buffer, Config::seconds(&clock, 1))?;
    println!("{noise}\n");

    let mut memory = vec![0.0; 3 * 5_000_000];
    let bandwidth = stream::run(&clock, &team, stream::split(&mut memory), stream::NTIMES)?;
    println!("{bandwidth}\n");

    let table: Vec<_> = (0..1 << 20).map(|_| AtomicU64::new(0)).collect();
    let serial = random_access::run(&clock, &Serial, &table, Generator::Polynomial)?;
    let shared = random_access::run(&clock, &team, &table, Generator::Polynomial)?;
    println!("{serial}\n\n{shared}");
    Ok(noise.verified && bandwidth.verified && serial.verified && shared.verified)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
