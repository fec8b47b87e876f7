//! All cores at one job.

use crate::{
    percore,
    sync::IrqMutex,
    task::{self, Handle},
};
use alloc::vec::Vec;
use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use fallible::Arc;

/// What members do; the argument is the member's number.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// A pointer to the job of the moment. The leader waits for all members before the job goes.
#[derive(Clone, Copy)]
struct JobPointer(*const Job<'static>);

// SAFETY: the job is `Sync`, and outlives its use by the members: see `Team::run`.
unsafe impl Send for JobPointer {}

struct Shared {
    /// One slot for each worker: what it is to do next.
    jobs: Vec<IrqMutex<Option<JobPointer>>>,
    /// Workers that have not finished the job.
    busy: AtomicUsize,
    leader: Handle,
    dissolved: AtomicBool,
}

/// Tasks on several cores that do the same job together: the task that made it, and one on each other core.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<Handle>,
    /// A team belongs to the task that made it.
    _not_send_nor_sync: PhantomData<*const ()>,
}

impl Team {
    /// A team of at most `size` members, one a core, this task the first.
    #[expect(
        clippy::disallowed_methods,
        reason = "kernels with an application of their own have no programs"
    )]
    pub fn new(size: usize) -> Self {
        let me = task::current();
        let others: Vec<_> = percore::all()
            .iter()
            .filter(|core| core.takes_tasks() && core.index() != me.core())
            .take(size.saturating_sub(1))
            .collect();
        let shared = Shared {
            jobs: others.iter().map(|_| IrqMutex::new(None)).collect(),
            busy: AtomicUsize::new(0),
            leader: me,
            dissolved: AtomicBool::new(false),
        };
        let shared = Arc::try_new(shared).expect("memory for a team");
        let workers = others
            .iter()
            .enumerate()
            .map(|(slot, core)| {
                let shared = shared.clone();
                task::spawn(core.index(), format_args!("team/{}", slot + 1), move || work(&shared, slot))
            })
            .collect();
        Self { shared, workers, _not_send_nor_sync: PhantomData }
    }

    /// Returns the number of members.
    pub fn size(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(member)` once on each member, members counted from 0, and returns when all are done.
    pub fn run(&self, job: &Job<'_>) {
        let shared = &self.shared;
        // One job at a time: only the leader can call this, and not from within a job, because a job is
        // `Sync`.
        shared.busy.store(self.workers.len(), Ordering::Relaxed);
        // SAFETY: only the lifetime is changed. No worker has the pointer when this function returns: each
        // takes it out of its slot, and counts down after its last use; this function waits for that, also if
        // `job` of this member panics, because a panic ends the machine.
        let pointer = JobPointer(unsafe { core::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) });
        for (slot, worker) in shared.jobs.iter().zip(&self.workers) {
            *slot.lock() = Some(pointer);
            worker.wake();
        }
        job(0);
        while shared.busy.load(Ordering::Acquire) > 0 {
            task::park();
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.dissolved.store(true, Ordering::Release);
        for worker in &self.workers {
            worker.wake();
            worker.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team({})", self.size())
    }
}

/// A worker's life.
fn work(shared: &Shared, slot: usize) {
    while !shared.dissolved.load(Ordering::Acquire) {
        let Some(job) = shared.jobs[slot].lock().take() else {
            task::park();
            continue;
        };
        // SAFETY: the leader keeps the job alive until `busy` is counted down.
        unsafe { (*job.0)(slot + 1) };
        if shared.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
            shared.leader.wake();
        }
    }
}
