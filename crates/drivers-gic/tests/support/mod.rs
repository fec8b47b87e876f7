//! A CPU interface that behaves as the specification says, and what a virtual GIC asks for.
#![allow(dead_code, reason = "each test uses some of it")]
use drivers_gic::{
    hyp::{Control, HypervisorInterface, ListRegister, ListState},
    vgic::Effects,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

pub const LRS: usize = 4;

/// List registers of a core and the guest's virtual CPU interface.
#[derive(Default)]
pub struct Hardware {
    pub lrs: RefCell<[ListRegister; LRS]>,
    pub control: Cell<Control>,
    /// `EOIcount`.
    pub ends: Cell<u32>,
    /// Priorities that are active.
    pub running: RefCell<Vec<u8>>,
}

impl HypervisorInterface for Hardware {
    fn count(&self) -> usize {
        LRS
    }
    fn read(&self, n: usize) -> ListRegister {
        self.lrs.borrow()[n]
    }
    fn write(&self, n: usize, value: ListRegister) {
        let listed: Vec<_> = self
            .lrs
            .borrow()
            .iter()
            .enumerate()
            .filter(|(i, lr)| *i != n && lr.state() != ListState::Free)
            .map(|(_, lr)| lr.intid())
            .collect();
        assert!(
            value.state() == ListState::Free || !listed.contains(&value.intid()),
            "listed twice (GIC spec, 12.4.8)"
        );
        self.lrs.borrow_mut()[n] = value;
    }
    fn control(&self, control: Control) {
        self.control.set(control);
        self.ends.set(0);
    }
    fn end_count(&self) -> u32 {
        self.ends.get()
    }
}

impl Hardware {
    /// The guest acknowledges: the most urgent pending interrupt that may preempt what runs.
    pub fn acknowledge(&self) -> Option<(u32, u8)> {
        assert!(self.control.get().has(Control::ON));
        let mut lrs = self.lrs.borrow_mut();
        let running = self.running.borrow().last().copied().unwrap_or(0xff);
        let pending = lrs.iter_mut().filter(|lr| lr.state() == ListState::Pending && lr.priority() < running);
        let lr = pending.min_by_key(|lr| lr.priority())?;
        *lr = lr.with_state(ListState::Active);
        self.running.borrow_mut().push(lr.priority());
        Some((lr.intid(), lr.priority()))
    }

    /// The guest ends what it acknowledged last.
    pub fn end(&self, intid: u32) {
        self.running.borrow_mut().pop();
        let mut lrs = self.lrs.borrow_mut();
        let lr = lrs.iter_mut().find(|lr| {
            lr.intid() == intid && matches!(lr.state(), ListState::Active | ListState::PendingAndActive)
        });
        // GIC spec, 12.4.1 `ICH_HCR_EL2.EOIcount`.
        let Some(lr) = lr else { return self.ends.set(self.ends.get() + 1) };
        let next = if lr.state() == ListState::Active { ListState::Free } else { ListState::Pending };
        *lr = lr.with_state(next);
    }

    /// The same in two steps (`EOImode` 1): first the priority drops, and later, in any order, what is active
    /// ends.
    pub fn drop_priority(&self) {
        self.running.borrow_mut().pop();
    }

    pub fn deactivate(&self, intid: u32) {
        self.running.borrow_mut().push(0);
        self.end(intid);
    }

    /// Whether a maintenance interrupt is asserted: a level (GIC spec, 12.4.4 `ICH_EISR_EL2`, 12.4.7
    /// `ICH_MISR_EL2`).
    pub fn maintenance(&self) -> bool {
        let lrs = self.lrs.borrow();
        let used = lrs.iter().filter(|lr| lr.state() != ListState::Free).count();
        // Free, told (bit 41), and no physical interrupt is behind it (bit 61).
        let ended = lrs.iter().any(|lr| lr.state() == ListState::Free && lr.to_v3() >> 41 & 0x10_0001 == 1);
        let control = self.control.get();
        ended
            || control.has(Control::UNDERFLOW) && used <= 1
            || control.has(Control::COUNT_ENDS) && self.ends.get() > 0
    }
}

#[derive(Default)]
pub struct Told {
    pub kicked: BTreeSet<u16>,
    pub enabled: BTreeMap<u32, bool>,
    pub ended: Vec<u32>,
    /// Physical interrupts that are held active.
    pub held: BTreeSet<u32>,
}

impl Effects for Told {
    fn kick(&mut self, vcpu: u16) {
        self.kicked.insert(vcpu);
    }
    fn enable(&mut self, intid: u32, enable: bool) {
        self.enabled.insert(intid, enable);
    }
    fn ended(&mut self, intid: u32) {
        self.ended.push(intid);
    }
    fn hold(&mut self, intid: u32, active: bool) {
        let changes = if active { self.held.insert(intid) } else { self.held.remove(&intid) };
        assert!(changes, "it is so already");
    }
}
