//! What has happened to VMs, for whoever manages them.

use crate::sync::IrqMutex;
use alloc::collections::VecDeque;
use hv_abi::ids::VmId;
use vm_control::EventKind;

/// How many are kept for somebody who does not read.
const MOST: usize = 256;

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What.
    pub kind: EventKind,
    /// To which VM; 0: none.
    pub vm: VmId,
    /// How often that has been started.
    pub start: u32,
    /// The counter then.
    pub ticks: u64,
}

#[derive(Debug)]
struct Queue {
    events: VecDeque<Happened>,
    lost: bool,
}

/// Events that nobody has taken yet.
#[derive(Debug)]
pub struct Events(IrqMutex<Queue>);

impl Events {
    #[expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]
    pub(super) fn new() -> Self {
        // Nothing is allocated later.
        Self(IrqMutex::new(Queue { events: VecDeque::with_capacity(MOST), lost: false }))
    }

    #[expect(clippy::disallowed_methods, reason = "there is room from the start")]
    pub(super) fn put(&self, event: Happened) {
        let mut queue = self.0.lock();
        if queue.events.len() < MOST {
            queue.events.push_back(event);
        } else {
            queue.lost = true;
        }
    }

    /// Takes the oldest; when some were lost, that is reported after those before them.
    pub fn take(&self, now: u64) -> Option<Happened> {
        let mut queue = self.0.lock();
        let next = queue.events.pop_front();
        if next.is_none() && core::mem::take(&mut queue.lost) {
            return Some(Happened { kind: EventKind::Lost, vm: VmId(0), start: 0, ticks: now });
        }
        next
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        let queue = self.0.lock();
        queue.events.is_empty() && !queue.lost
    }

    /// Forgets all: somebody begins who asks how everything stands.
    pub fn clear(&self) {
        let mut queue = self.0.lock();
        queue.events.clear();
        queue.lost = false;
    }
}
