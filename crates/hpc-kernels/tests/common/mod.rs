//! A clock and a team of the host.
#![allow(dead_code, missing_docs)]

use hpc_kernels::{Clock, Team};
use std::{thread, time::Instant};

pub struct Host(pub Instant);

impl Host {
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Host {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn frequency_hz(&self) -> u64 {
        1_000_000_000
    }
}

pub struct Threads(pub usize);

impl Team for Threads {
    fn size(&self) -> usize {
        self.0
    }

    fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        thread::scope(|scope| {
            for rank in 0..self.0 {
                scope.spawn(move || work(rank));
            }
        });
    }
}
