//! The HPC workloads.
use lwk_core::{app::{App, Status}, println, team::Team};

/// Runs.
pub fn main(app: &App) -> Status {
    println!("hello {} cores", app.cores());
    let mut team = Team::new(app.cores());
    for _ in 0..3 {
        team.run(&|member| println!("member {member}"));
    }
    Status::SUCCESS
}
