//! Earliest deadline first, with a constant-bandwidth server for each task that has a reservation.
//!
//! L. Abeni and G. Buttazzo, "Integrating Multimedia Applications in Hard Real-Time Systems", RTSS 1998.
//! Parameters, throttling and yielding are those of Linux's `SCHED_DEADLINE`.
//!
//! If the bandwidths of all servers are at most 1 together, each task gets its runtime before its deadline,
//! in each period that it asks for it, whatever the others do: EDF is optimal on one core (Liu and Layland,
//! 1973), and a server never demands more than its bandwidth. So tasks are admitted up to a bound.
//!
//! Tasks without a reservation run in the background, in turns, while no server has work and budget.

mod reservation;
mod server;

pub use reservation::{AdmissionError, Bandwidth, Reservation};

use crate::{DEFAULT_QUANTUM, Nanos, Policy, PolicyError, Result, State, TaskId, queue::Queue};
use server::Server;

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// Of a task with a reservation.
    server: Option<Server>,
    /// It has been woken, and its server does not know yet.
    woken: bool,
}

impl Entry {
    const UNKNOWN: Self = Self { state: State::Unknown, server: None, woken: false };

    /// Its server, if that has budget.
    fn funded(&self) -> Option<&Server> {
        self.server.as_ref().filter(|server| !server.is_depleted())
    }

    /// Its server, if that has none.
    fn throttled(&self) -> Option<&Server> {
        self.server.as_ref().filter(|server| server.is_depleted())
    }
}

/// Earliest deadline first, with reservations that are kept and enforced.
///
/// [`Policy::add`] adds a task without a reservation; [`Self::add_reserved`] and [`Self::reserve`] give one.
/// A task that has used its budget is throttled until its next period: [`Policy::next_deadline`] is when, and
/// the kernel has to ask again then even if the core idles meanwhile. Of equal deadlines the current task
/// goes first. A task with a reservation that yields has done its work for this period, and waits for the
/// next. `N` is the capacity; tasks are numbered below it.
#[derive(Clone, Debug)]
pub struct Edf<const N: usize> {
    entries: [Entry; N],
    /// Runnable and throttled tasks with a reservation; the current one, too.
    reserved: Queue<N>,
    /// Runnable tasks without. The head has the turn.
    background: Queue<N>,
    current: Option<TaskId>,
    /// Who has had the core since `since`. It may have blocked meanwhile.
    on_core: Option<TaskId>,
    /// The latest time passed to the policy.
    since: Nanos,
    /// A task with a reservation has been woken since.
    woken: bool,
    quantum: Nanos,
    /// What the head of the background has had of its quantum.
    turn_used: Nanos,
    bound: Bandwidth,
    /// The sum of all reservations.
    reserved_bandwidth: Bandwidth,
    /// Bandwidth that has been given back, and counts until this moment.
    leaving: (Bandwidth, Nanos),
}

impl<const N: usize> Edf<N> {
    /// A policy without tasks that admits the whole core. `quantum` is for the background.
    pub const fn new(quantum: Nanos) -> Self {
        Self {
            entries: [Entry::UNKNOWN; N],
            reserved: Queue::new(),
            background: Queue::new(),
            current: None,
            on_core: None,
            since: Nanos(0),
            woken: false,
            quantum,
            turn_used: Nanos(0),
            bound: Bandwidth::ONE,
            reserved_bandwidth: Bandwidth(0),
            leaving: (Bandwidth(0), Nanos(0)),
        }
    }

    /// Returns the bandwidth of the core that can be reserved.
    pub const fn bound(&self) -> Bandwidth {
        self.bound
    }

    /// Changes how much of the core can be reserved. Above [`Bandwidth::ONE`] deadlines can be missed.
    ///
    /// # Errors
    /// [`AdmissionError::BoundTooLow`].
    pub fn set_bound(&mut self, bound: Bandwidth) -> Result<(), AdmissionError> {
        let reserved = self.reserved_bandwidth();
        if reserved > bound {
            return Err(AdmissionError::BoundTooLow { bound, reserved });
        }
        self.bound = bound;
        Ok(())
    }

    /// How much is reserved. What a removed task had counts up to the deadline that it had then: it may have
    /// used its budget in advance.
    pub const fn reserved_bandwidth(&self) -> Bandwidth {
        self.reserved_bandwidth.plus(self.leaving.0)
    }

    /// Nanoseconds that a task runs in the background before others get their turn.
    pub const fn quantum(&self) -> Nanos {
        self.quantum
    }

    /// Changes the background's quantum, from now on.
    pub const fn set_quantum(&mut self, quantum: Nanos) {
        self.quantum = quantum;
    }

    /// [`Policy::add`], with a reservation. Its first period starts now.
    ///
    /// # Errors
    /// [`AdmissionError`], but not `BoundTooLow`.
    pub fn add_reserved(&mut self, task: TaskId, reservation: Reservation) -> Result<(), AdmissionError> {
        match self.entries.get(task.0 as usize) {
            None => return Err(PolicyError::NoRoom(task).into()),
            Some(entry) if entry.state != State::Unknown => {
                return Err(PolicyError::AlreadyThere(task).into());
            }
            Some(_) => {}
        }
        self.admit(task, reservation, Bandwidth(0), Bandwidth(0))?;
        self.entries[task.0 as usize].server = Some(Server::new(reservation));
        self.enqueue(task);
        Ok(())
    }

    /// Returns a task's reservation.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn reservation(&self, task: TaskId) -> Result<Option<Reservation>> {
        Ok(self.known(task)?.server.map(|server| *server.reservation()))
    }

    /// The absolute deadline of a task's present period, or of its last one. `None` if it has no reservation.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn deadline(&self, task: TaskId) -> Result<Option<Nanos>> {
        Ok(self.known(task)?.server.map(|server| server.deadline()))
    }

    /// Gives a task a reservation, or another one, or takes it back. Another one begins where the deadline of
    /// the present period is: the task is throttled until then.
    ///
    /// # Errors
    /// [`AdmissionError`], but not `BoundTooLow`.
    pub fn reserve(&mut self, task: TaskId, reservation: Option<Reservation>) -> Result<(), AdmissionError> {
        let Entry { state, server: before, .. } = self.known(task)?;
        let server = match (reservation, before) {
            (Some(reservation), Some(before)) => {
                let old = before.reservation().bandwidth();
                let unfinished = before.deadline() > self.since;
                let leaving = if unfinished { old.minus(reservation.bandwidth()) } else { Bandwidth(0) };
                self.admit(task, reservation, old, leaving)?;
                self.leave(leaving, before.deadline());
                Some(if unfinished {
                    Server::starting_at(reservation, before.deadline())
                } else {
                    Server::new(reservation)
                })
            }
            (Some(reservation), None) => {
                self.admit(task, reservation, Bandwidth(0), Bandwidth(0))?;
                Some(Server::new(reservation))
            }
            (None, Some(before)) => {
                self.give_back(&before);
                None
            }
            (None, None) => return Ok(()),
        };
        // What it has run just now is not the new server's.
        self.on_core = self.on_core.filter(|on_core| *on_core != task);
        if state == State::Runnable {
            self.unlink(task);
        }
        self.entries[task.0 as usize].server = server;
        if state == State::Runnable {
            self.enqueue(task);
        }
        Ok(())
    }

    /// Counts a reservation in place of `old`, if there is room for it and for what is `leaving`.
    fn admit(
        &mut self,
        task: TaskId,
        reservation: Reservation,
        old: Bandwidth,
        leaving: Bandwidth,
    ) -> Result<(), AdmissionError> {
        if !reservation.is_valid() {
            return Err(AdmissionError::Malformed(task, reservation));
        }
        let wanted = reservation.bandwidth();
        let others = self.reserved_bandwidth().minus(old).plus(leaving);
        if others.plus(wanted) > self.bound {
            return Err(AdmissionError::NoBandwidth { task, wanted, free: self.bound.minus(others) });
        }
        self.reserved_bandwidth = self.reserved_bandwidth.minus(old).plus(wanted);
        Ok(())
    }

    /// A server goes.
    fn give_back(&mut self, server: &Server) {
        let bandwidth = server.reservation().bandwidth();
        self.reserved_bandwidth = self.reserved_bandwidth.minus(bandwidth);
        self.leave(bandwidth, server.deadline());
    }

    /// Bandwidth counts as reserved until a moment, if that is still to come. There is one such moment for
    /// all that leaves: the last.
    fn leave(&mut self, bandwidth: Bandwidth, until: Nanos) {
        if bandwidth > Bandwidth(0) && until > self.since {
            self.leaving = (self.leaving.0.plus(bandwidth), self.leaving.1.max(until));
        }
    }

    fn known(&self, task: TaskId) -> Result<Entry> {
        match self.entries.get(task.0 as usize) {
            Some(entry) if entry.state != State::Unknown => Ok(*entry),
            _ => Err(PolicyError::Unknown(task)),
        }
    }

    /// Makes a task runnable that is not.
    fn enqueue(&mut self, task: TaskId) {
        let entry = &mut self.entries[task.0 as usize];
        entry.state = State::Runnable;
        if entry.server.is_some() {
            (entry.woken, self.woken) = (true, true);
            self.reserved.push(task);
        } else {
            self.background.push(task);
        }
    }

    /// Takes a runnable task out of its queue.
    fn unlink(&mut self, task: TaskId) {
        if self.entries[task.0 as usize].server.is_some() {
            self.reserved.unlink(task);
        } else {
            if self.background.first() == Some(task) {
                self.turn_used = Nanos(0);
                self.on_core = self.on_core.filter(|on_core| *on_core != task);
            }
            self.background.unlink(task);
        }
    }

    /// Takes a task away from wherever it is.
    fn detach(&mut self, task: TaskId, then: State) -> Result {
        if self.known(task)?.state == State::Runnable {
            self.unlink(task);
        }
        self.current = self.current.filter(|current| *current != task);
        let entry = &mut self.entries[task.0 as usize];
        (entry.state, entry.woken) = (then, false);
        Ok(())
    }

    /// The next in the background has its turn.
    fn rotate(&mut self) {
        if let Some(task) = self.background.pop() {
            self.background.push(task);
        }
        self.turn_used = Nanos(0);
    }

    /// Of the servers with budget, the one with the earliest deadline; else whose turn it is in the
    /// background.
    fn choose(&self) -> Option<TaskId> {
        let funded =
            |task: TaskId| self.entries[task.0 as usize].funded().map(|server| (server.deadline(), task));
        let current = self.current.and_then(funded);
        let first = self.reserved.iter().filter_map(funded).fold(current, |best, other| match best {
            Some(best) if best.0 <= other.0 => Some(best),
            _ => Some(other),
        });
        first.map(|(_, task)| task).or_else(|| self.background.first())
    }

    /// When there is something to do, if nothing else happens. In the past: at once.
    fn event(&self) -> Option<Nanos> {
        if self.woken || self.choose() != self.current {
            return Some(Nanos(0));
        }
        let server = self.current.and_then(|task| self.entries[task.0 as usize].server);
        // A budget that comes back with a later deadline than the current task's changes nothing.
        let matters =
            |throttled: &Server| server.is_none_or(|server| throttled.resumed_deadline() < server.deadline());
        let resumes = self
            .reserved
            .iter()
            .filter_map(|task| self.entries[task.0 as usize].throttled())
            .filter(|throttled| matters(throttled))
            .map(Server::resumes)
            .min();
        let left = match (self.current, server) {
            (_, Some(server)) => Some(server.left()),
            (Some(_), None) if self.background.len() > 1 => Some(self.quantum.since(self.turn_used)),
            _ => None,
        };
        let ends = left.map(|left| self.since.saturating_add(left));
        [resumes, ends].into_iter().flatten().min()
    }
}

impl<const N: usize> Default for Edf<N> {
    fn default() -> Self {
        Self::new(DEFAULT_QUANTUM)
    }
}

impl<const N: usize> Policy for Edf<N> {
    fn add(&mut self, task: TaskId) -> Result {
        match self.entries.get(task.0 as usize) {
            None => Err(PolicyError::NoRoom(task)),
            Some(entry) if entry.state == State::Unknown => {
                self.enqueue(task);
                Ok(())
            }
            Some(_) => Err(PolicyError::AlreadyThere(task)),
        }
    }

    fn remove(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Unknown)?;
        self.on_core = self.on_core.filter(|on_core| *on_core != task);
        if let Some(server) = self.entries[task.0 as usize].server.take() {
            self.give_back(&server);
        }
        Ok(())
    }

    fn block(&mut self, task: TaskId) -> Result {
        self.detach(task, State::Blocked)
    }

    fn wake(&mut self, task: TaskId) -> Result<bool> {
        let blocked = self.known(task)?.state == State::Blocked;
        if blocked {
            self.enqueue(task);
        }
        Ok(blocked)
    }

    fn yield_current(&mut self) {
        let Some(task) = self.current.take() else { return };
        if let Some(server) = &mut self.entries[task.0 as usize].server {
            server.forfeit();
        } else {
            self.rotate();
        }
        // Its budget or turn is gone already.
        self.on_core = None;
    }

    fn advance(&mut self, now: Nanos) {
        let ran = now.since(self.since);
        self.since = self.since.max(now);
        if let Some(task) = self.on_core {
            match &mut self.entries[task.0 as usize].server {
                Some(server) => server.charge(ran),
                None if self.background.first() == Some(task) => {
                    self.turn_used = self.turn_used.saturating_add(ran);
                }
                None => {}
            }
        }
        self.on_core = self.current;
        if self.since >= self.leaving.1 {
            self.leaving.0 = Bandwidth(0);
        }
        for task in self.reserved.iter() {
            let entry = &mut self.entries[task.0 as usize];
            match &mut entry.server {
                Some(server) if entry.woken => server.wake(self.since),
                Some(server) => server.replenish(self.since),
                None => {}
            }
            entry.woken = false;
        }
        self.woken = false;
    }

    fn pick_next(&mut self, now: Nanos) -> Option<TaskId> {
        self.advance(now);
        self.current = self.choose();
        let in_background = self.current.is_some() && self.current == self.background.first();
        if in_background && self.turn_used >= self.quantum && self.background.len() > 1 {
            self.rotate();
            self.current = self.background.first();
        }
        self.on_core = self.current;
        self.current
    }

    fn on_tick(&self, now: Nanos) -> bool {
        self.event().is_some_and(|at| at <= now)
    }

    fn next_deadline(&self, now: Nanos) -> Option<Nanos> {
        self.event().map(|at| at.max(now))
    }

    fn current(&self) -> Option<TaskId> {
        self.current
    }

    fn runnable(&self) -> usize {
        let entries = self.reserved.iter().map(|task| &self.entries[task.0 as usize]);
        entries.filter(|entry| entry.woken || entry.funded().is_some()).count() + self.background.len()
    }
}
