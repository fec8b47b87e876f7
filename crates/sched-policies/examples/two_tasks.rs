//! Two tasks share a core, one of them waits now and then: `cargo run -p sched-policies --example two_tasks`.

use sched_policies::{Nanos, Policy, RoundRobin, TaskId};

fn main() -> Result<(), sched_policies::PolicyError> {
    let ms = |nanos: Nanos| nanos.0 / 1_000_000;
    let mut core: RoundRobin<4> = RoundRobin::default();
    core.add(TaskId(0))?;
    core.add(TaskId(1))?;
    let mut now = Nanos(0);
    for turn in 0..6 {
        let Some(task) = core.pick_next(now) else { break };
        if turn == 3 {
            println!("{:4} ms: task {} waits", ms(now), task.0);
            core.block(task)?;
            continue;
        }
        if let Some(end) = core.next_deadline(now) {
            println!("{:4} ms: task {} runs until {} ms", ms(now), task.0, ms(end));
            now = end;
        } else {
            println!("{:4} ms: task {} has the core to itself, without a tick", ms(now), task.0);
            now = Nanos(now.0 + 500_000_000);
            core.wake(TaskId(1))?;
        }
    }
    Ok(())
}
