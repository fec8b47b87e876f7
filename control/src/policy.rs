//! What is to be done: at the start, and when something happens.

use crate::{
    command::state,
    kernel::{Kernel, Order},
};
use std::{collections::BTreeMap, io};
use vm_control::{
    Event, EventKind, VmState,
    request::{Target, VmInfo},
    settings::{Restart, Settings},
};

/// A VM that ends so soon after its start is not started again more than so often in a row.
const SOON_NS: u64 = 1_000_000_000;
const MOST_IN_A_ROW: u32 = 8;

/// What the control task knows of a VM.
#[derive(Debug)]
struct Known {
    name: String,
    settings: Settings,
    started_ns: u64,
    in_a_row: u32,
}

/// The policy, and what it goes by.
#[derive(Debug, Default)]
pub struct Policy {
    vms: BTreeMap<u16, Known>,
}

impl Policy {
    /// Learns which VMs there are. Those that are to be started at boot, and have not been yet, are; others
    /// may run already, if an earlier control task has crashed: they are left alone, but for what has
    /// happened since.
    ///
    /// # Errors
    /// The kernel cannot be asked, or a VM's settings are none.
    pub fn begin(kernel: &mut impl Kernel, say: &mut impl FnMut(&str)) -> io::Result<Self> {
        let mut policy = Self::default();
        for vm in kernel.vms()? {
            let settings = Settings::parse(vm.settings())
                .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", vm.name())))?;
            let state = state(&vm);
            let is_new = state == Some(VmState::Created);
            let starts = settings.autostart && is_new;
            if is_new {
                prepare(kernel, &vm, &settings, say);
            }
            let again = state.is_some_and(|state| wants_restart(settings.restart, state));
            let known = Known { name: vm.name().to_owned(), settings, started_ns: 0, in_a_row: 0 };
            policy.vms.insert(vm.vm, known);
            if starts || again {
                start(kernel, vm.vm, vm.name(), say);
            }
        }
        Ok(policy)
    }

    /// Something has happened.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn happened(
        &mut self,
        kernel: &mut impl Kernel,
        event: &Event,
        say: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        let ended = match EventKind::from_number(event.kind) {
            None => return Ok(()),
            Some(EventKind::Lost) => return self.catch_up(kernel, say),
            Some(EventKind::Started) => {
                if let Some(known) = self.vms.get_mut(&event.vm) {
                    known.started_ns = event.time_ns;
                }
                return Ok(());
            }
            Some(EventKind::Reset) => VmState::Reset,
            Some(EventKind::Aborted) => VmState::Aborted,
            Some(EventKind::Off) => VmState::Off,
            Some(EventKind::Stopped) => VmState::Stopped,
        };
        let Some(known) = self.vms.get_mut(&event.vm) else { return Ok(()) };
        if !wants_restart(known.settings.restart, ended) {
            return Ok(());
        }
        let soon = event.time_ns.saturating_sub(known.started_ns) < SOON_NS;
        known.in_a_row = if soon && ended == VmState::Aborted { known.in_a_row + 1 } else { 0 };
        if known.in_a_row > MOST_IN_A_ROW {
            say(&format!("{} has crashed {} times in a row, and stays as it is", known.name, known.in_a_row));
            return Ok(());
        }
        start(kernel, event.vm, &known.name, say);
        Ok(())
    }

    /// Events were lost. How everything stands is enough: what has ended and should not have is started
    /// again.
    fn catch_up(&self, kernel: &mut impl Kernel, say: &mut impl FnMut(&str)) -> io::Result<()> {
        for vm in kernel.vms()? {
            let restart = self.vms.get(&vm.vm).map(|known| known.settings.restart);
            if let (Some(restart), Some(state)) = (restart, state(&vm))
                && wants_restart(restart, state)
            {
                start(kernel, vm.vm, vm.name(), say);
            }
        }
        Ok(())
    }
}

/// Whether a VM in this state is to be started again.
fn wants_restart(restart: Restart, state: VmState) -> bool {
    match state {
        VmState::Reset => restart != Restart::Never,
        VmState::Aborted => matches!(restart, Restart::Crash | Restart::Always),
        VmState::Off => restart == Restart::Always,
        VmState::Created | VmState::Running | VmState::Paused | VmState::Stopped => false,
    }
}

/// Does what a VM's manifest says before it runs the first time.
fn prepare(kernel: &mut impl Kernel, vm: &VmInfo, settings: &Settings, say: &mut impl FnMut(&str)) {
    for vcpu in 0..vm.vcpus {
        let Some(core) = settings.core(vcpu) else { continue };
        let target = Target { vm: vm.vm, vcpu, core: core.into() };
        if let Err(error) = kernel.order(Order::Assign, target) {
            say(&format!("{}: vCPU {vcpu} cannot go to core {core}: {error}", vm.name()));
        }
    }
    if let Some(scheduling) = settings.scheduling
        && let Err(error) = kernel.schedule(vm.vm, scheduling)
    {
        say(&format!("{}: its cores cannot be shared out like that: {error}", vm.name()));
    }
}

fn start(kernel: &mut impl Kernel, vm: u16, name: &str, say: &mut impl FnMut(&str)) {
    if let Err(error) = kernel.order(Order::Start, Target { vm, ..Target::default() }) {
        say(&format!("{name} cannot be started: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn begin(fake: &mut Fake) -> Policy {
        Policy::begin(fake, &mut |_| {}).unwrap()
    }

    fn notify(policy: &mut Policy, fake: &mut Fake, kind: EventKind, vm: u16, time_ns: u64) {
        let event = Event { kind: kind as u16, vm, start: 1, time_ns };
        policy.happened(fake, &event, &mut |_| {}).unwrap();
    }

    #[test]
    fn starts_and_places_autostart_vms() {
        let mut fake =
            Fake::new(&[("login", 2, "autostart cores=1,2 policy=fifo priority=9"), ("worker", 1, "")]);
        begin(&mut fake);
        assert_eq!(
            fake.calls,
            ["assign 2 0 1", "assign 2 1 2", "schedule 2 Fifo 9", "start 2"],
            "placed and tuned before it runs; the other one is started on demand"
        );
    }

    #[test]
    fn restarted_control_task_keeps_running_vms() {
        let mut fake =
            Fake::new(&[("one", 1, "autostart"), ("two", 1, "autostart"), ("three", 1, "restart=crash")]);
        fake.set(2, VmState::Running);
        fake.set(3, VmState::Off);
        fake.set(4, VmState::Aborted);
        begin(&mut fake);
        assert_eq!(
            fake.calls,
            ["start 4"],
            "what crashed meanwhile is started again, what runs is not touched"
        );
    }

    #[test]
    fn resets_are_restarts_unless_the_manifest_says_otherwise() {
        let mut fake =
            Fake::new(&[("one", 1, ""), ("two", 1, "restart=never"), ("three", 1, "restart=always")]);
        let mut policy = begin(&mut fake);
        for vm in 2..5 {
            for kind in [EventKind::Reset, EventKind::Off, EventKind::Aborted, EventKind::Stopped] {
                notify(&mut policy, &mut fake, kind, vm, 0);
            }
        }
        assert_eq!(fake.calls, ["start 2", "start 4", "start 4", "start 4"]);
    }

    #[test]
    fn stops_restarting_vm_that_keeps_crashing() {
        let mut fake = Fake::new(&[("one", 1, "restart=crash")]);
        let mut policy = begin(&mut fake);
        for _ in 0..20 {
            notify(&mut policy, &mut fake, EventKind::Started, 2, 5);
            notify(&mut policy, &mut fake, EventKind::Aborted, 2, 6);
        }
        assert_eq!(fake.calls.len(), MOST_IN_A_ROW as usize);
        // One that ran for a while is something else.
        let mut policy = begin(&mut fake);
        for round in 0..20 {
            notify(&mut policy, &mut fake, EventKind::Started, 2, round * 3 * SOON_NS);
            notify(&mut policy, &mut fake, EventKind::Aborted, 2, round * 3 * SOON_NS + 2 * SOON_NS);
        }
        assert_eq!(fake.calls.len(), MOST_IN_A_ROW as usize + 20);
    }

    #[test]
    fn recovers_from_lost_events() {
        let mut fake = Fake::new(&[("one", 1, ""), ("two", 1, "")]);
        let mut policy = begin(&mut fake);
        fake.set(3, VmState::Reset);
        notify(&mut policy, &mut fake, EventKind::Lost, 0, 0);
        assert_eq!(fake.calls, ["start 3"]);
    }
}
