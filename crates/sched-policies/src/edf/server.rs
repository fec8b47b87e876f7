//! The constant-bandwidth server of one task.
//!
//! A server has a budget for each of its periods, and an absolute deadline by which EDF ranks it. Three rules
//! keep its demand below runtime / deadline in every interval, whatever its task does:
//!
//! * Budget that is used up comes back at the start of the next period, with the next deadline. The task is
//!   throttled until then (the "hard" server, and that of Linux).
//! * A task that wakes goes on with the rest of its budget and its old deadline only if that is not more than
//!   its bandwidth until then. Otherwise a new period starts (Abeni and Buttazzo). If the deadline is shorter
//!   than the period the rest is cut down to the bandwidth instead, as a new period would come too early.
//! * A task that wakes between its deadline and its next period waits for the latter.
//!
//! A period of which nothing has been used binds nobody: a wake-up starts a new one.

use super::Reservation;
use crate::Nanos;

#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    reservation: Reservation,
    /// Absolute.
    deadline: Nanos,
    /// When the next period starts. Not before `deadline`.
    next: Nanos,
    /// Budget used in this period. More than there is if the timer was late: the excess is a debt to later
    /// periods.
    used: Nanos,
}

impl Server {
    /// The first wake-up starts a period.
    pub(super) const fn new(reservation: Reservation) -> Self {
        Self { reservation, deadline: Nanos(0), next: Nanos(0), used: Nanos(0) }
    }

    /// The first period starts at `start`, not at the first wake-up if that is earlier.
    pub(super) const fn starting_at(reservation: Reservation, start: Nanos) -> Self {
        Self { reservation, deadline: start, next: start, used: reservation.runtime }
    }

    pub(super) const fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    pub(super) const fn deadline(&self) -> Nanos {
        self.deadline
    }

    /// The task has run for this long.
    pub(super) const fn charge(&mut self, time: Nanos) {
        self.used = self.used.saturating_add(time);
    }

    /// The task wants no more in this period.
    pub(super) fn forfeit(&mut self) {
        self.used = self.used.max(self.reservation.runtime);
    }

    pub(super) const fn is_depleted(&self) -> bool {
        self.used.0 >= self.reservation.runtime.0
    }

    /// What is left of this period's budget.
    pub(super) const fn left(&self) -> Nanos {
        self.reservation.runtime.since(self.used)
    }

    /// When a depleted server has budget again: as many periods later as it has used budgets.
    pub(super) fn resumes(&self) -> Nanos {
        let budgets = self.used.0 / self.reservation.runtime.0.max(1);
        self.next.saturating_add(Nanos(self.reservation.period.0.saturating_mul(budgets.saturating_sub(1))))
    }

    /// The deadline that it has then.
    pub(super) fn resumed_deadline(&self) -> Nanos {
        self.resumes().saturating_add(self.reservation.deadline)
    }

    /// It is `now`, and the task has been ready all the time.
    pub(super) fn replenish(&mut self, now: Nanos) {
        let resumes = self.resumes();
        if self.is_depleted() && now >= resumes {
            // Not from `now`, however late it is: the task is entitled to its deadline.
            self.start_period(resumes, self.debt());
        }
    }

    /// The task wakes.
    pub(super) fn wake(&mut self, now: Nanos) {
        let Reservation { runtime, deadline, period } = self.reservation;
        if self.is_depleted() {
            let resumes = self.resumes();
            if now >= resumes {
                // A further period without work pays for what is left of a debt.
                let debt = if now.since(resumes) < period { self.debt() } else { Nanos(0) };
                self.start_period(now, debt);
            }
        } else if now >= self.next || self.used == Nanos(0) {
            self.start_period(now, Nanos(0));
        } else if now >= self.deadline {
            self.forfeit();
        } else {
            let until = u128::from(self.deadline.since(now).0);
            let bandwidth = u128::from(runtime.0) * until;
            if u128::from(self.left().0) * u128::from(deadline.0) <= bandwidth {
                // The rest is within the bandwidth.
            } else if deadline == period {
                self.start_period(now, Nanos(0));
            } else {
                // The quotient is less than the runtime.
                let rest = bandwidth / u128::from(deadline.0.max(1));
                self.used = runtime.since(Nanos(rest as u64));
            }
        }
    }

    /// What is left of an overrun when the budget is back.
    fn debt(&self) -> Nanos {
        Nanos(self.used.0 % self.reservation.runtime.0.max(1))
    }

    fn start_period(&mut self, start: Nanos, used: Nanos) {
        self.used = used;
        self.deadline = start.saturating_add(self.reservation.deadline);
        self.next = start.saturating_add(self.reservation.period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(runtime: u64, deadline: u64, period: u64) -> Server {
        Server::new(Reservation { runtime: Nanos(runtime), deadline: Nanos(deadline), period: Nanos(period) })
    }

    #[test]
    fn the_first_wake_up_starts_a_period() {
        for now in [0, 5, u64::MAX - 3] {
            let mut server = server(2, 10, 10);
            server.wake(Nanos(now));
            assert_eq!(server.deadline(), Nanos(now.saturating_add(10)));
            assert_eq!(server.left(), Nanos(2));
        }
    }

    #[test]
    fn replenishes_budget_at_next_deadline() {
        let mut server = server(2, 10, 10);
        server.wake(Nanos(100));
        server.charge(Nanos(2));
        assert!(server.is_depleted());
        assert_eq!((server.resumes(), server.resumed_deadline()), (Nanos(110), Nanos(120)));
        server.replenish(Nanos(109));
        assert!(server.is_depleted());
        server.replenish(Nanos(113));
        assert_eq!((server.left(), server.deadline()), (Nanos(2), Nanos(120)));
    }

    #[test]
    fn overrun_is_charged_to_next_period() {
        let mut server = server(2, 10, 10);
        server.wake(Nanos(100));
        server.charge(Nanos(7));
        assert_eq!(server.resumes(), Nanos(130));
        server.replenish(Nanos(130));
        assert_eq!((server.left(), server.deadline()), (Nanos(1), Nanos(140)));
    }

    #[test]
    fn the_wake_up_rule() {
        // Runtime 4 of 10, 1 used: the rest of 3 is within the bandwidth up to 2.5 after the start.
        for (now, left, deadline) in [(2, 3, 10), (3, 4, 13), (9, 4, 19), (10, 4, 20), (25, 4, 35)] {
            let mut server = server(4, 10, 10);
            server.wake(Nanos(0));
            server.charge(Nanos(1));
            server.wake(Nanos(now));
            assert_eq!((server.left(), server.deadline()), (Nanos(left), Nanos(deadline)), "at {now}");
        }
    }

    #[test]
    fn a_constrained_deadline_cuts_the_rest_or_waits() {
        for (now, left) in [(2, 3), (3, 2), (6, 1), (8, 0), (9, 0), (10, 0), (19, 0)] {
            let mut server = server(4, 10, 20);
            server.wake(Nanos(0));
            server.charge(Nanos(1));
            server.wake(Nanos(now));
            assert_eq!(server.left(), Nanos(left), "at {now}");
            assert_eq!(server.deadline(), Nanos(10));
            if left == 0 {
                assert_eq!((server.resumes(), server.resumed_deadline()), (Nanos(20), Nanos(30)));
            }
        }
    }

    #[test]
    fn blocking_does_not_cancel_overrun() {
        let mut server = server(2, 10, 10);
        server.wake(Nanos(0));
        server.charge(Nanos(5));
        server.wake(Nanos(15));
        assert!(server.is_depleted());
        assert_eq!(server.resumes(), Nanos(20));
        server.wake(Nanos(20));
        assert_eq!((server.left(), server.deadline()), (Nanos(1), Nanos(30)));
    }

    #[test]
    fn a_change_waits_for_its_start() {
        let mut server = Server::starting_at(Reservation::implicit(Nanos(2), Nanos(10)), Nanos(50));
        server.wake(Nanos(45));
        assert!(server.is_depleted());
        server.replenish(Nanos(50));
        assert_eq!((server.left(), server.deadline()), (Nanos(2), Nanos(60)));
    }
}
