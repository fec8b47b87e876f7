//! The life of a task, as a state machine.
//!
//! ```text
//!           dispatch              park, no permit
//!   Ready ------------> Running ------------------> Parked
//!     ^  <------------     |  ^ park, permit: stays    |
//!     |     preempt        |  |                        |
//!     |                    | finish                    |
//!     +--------------------|---------------------------+
//!           wake           v                      (the wake is kept as a permit
//!                       Finished                   if the task is not parked)
//! ```
//!
//! A wake-up is never lost: one that comes before its task parks is kept, and the task then does not park.

/// State of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In its core's queue.
    Ready,
    /// Executing.
    Running,
    /// Waiting to be woken.
    Parked,
    /// Over.
    Finished,
}

/// State and permit of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    state: State,
    permit: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

impl Life {
    /// A new task: ready.
    pub const fn new() -> Self {
        Self { state: State::Ready, permit: false }
    }

    /// Returns the state of the task.
    pub const fn state(self) -> State {
        self.state
    }

    /// Moves the task from the queue to its core.
    pub fn dispatch(&mut self) {
        debug_assert_eq!(self.state, State::Ready);
        self.state = State::Running;
    }

    /// Preempts the task: it goes back into the queue.
    pub fn preempt(&mut self) {
        debug_assert_eq!(self.state, State::Running);
        self.state = State::Ready;
    }

    /// Blocks the task. Returns whether it must wait: not if it has been woken already.
    #[must_use]
    pub fn park(&mut self) -> bool {
        debug_assert_eq!(self.state, State::Running);
        if core::mem::take(&mut self.permit) {
            return false;
        }
        self.state = State::Parked;
        true
    }

    /// Wakes the task. Returns whether it must go into the queue now.
    #[must_use]
    pub fn wake(&mut self) -> bool {
        match self.state {
            State::Parked => {
                self.state = State::Ready;
                true
            }
            State::Ready | State::Running => {
                self.permit = true;
                false
            }
            State::Finished => false,
        }
    }

    /// Ends the task.
    pub fn finish(&mut self) {
        debug_assert_eq!(self.state, State::Running);
        self.state = State::Finished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn running() -> Life {
        let mut life = Life::new();
        life.dispatch();
        life
    }

    #[test]
    fn keeps_wake_up_before_wait() {
        let mut life = running();
        assert!(!life.wake());
        assert!(!life.park());
        assert_eq!(life.state(), State::Running);
        assert!(life.park(), "one permit is good for one wait");
        assert!(life.wake());
        assert_eq!(life.state(), State::Ready);
    }

    #[test]
    fn permits_do_not_add_up() {
        let mut life = running();
        assert!(!life.wake() && !life.wake());
        assert!(!life.park());
        assert!(life.park());
    }

    #[test]
    fn finished_task_is_not_woken() {
        let mut life = running();
        life.finish();
        assert!(!life.wake());
        assert_eq!(life.state(), State::Finished);
    }

    proptest! {
        /// Whatever happens: after a wake-up, a task that has parked since is in the queue exactly once.
        #[test]
        fn in_the_queue_once(steps in prop::collection::vec(0..4_u8, 0..64)) {
            let mut life = Life::new();
            let mut queued = 1;
            for step in steps {
                match (step, life.state()) {
                    (0, State::Ready) => { life.dispatch(); queued -= 1; }
                    (1, State::Running) => { life.preempt(); queued += 1; }
                    (2, State::Running) => { let _ = life.park(); }
                    (3, _) if life.wake() => {
                        queued += 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(queued, u8::from(life.state() == State::Ready));
            }
        }
    }
}
