//! All VMs of a primary, and the tasks of their vCPUs: started, stopped, paused, moved.

use super::{
    Ending, Vm,
    events::{Events, Happened},
    gangs::Matrices,
    partitions::Partition,
    placement::Placement,
    run::{self, Outcome},
};
use crate::{
    percore::{self, CoreIndex, PerCore},
    smp,
    sync::IrqMutex,
    task::{self, GANG_SLOTS, Handle, PolicyKind, TaskError},
    time,
};
use alloc::{boxed::Box, vec, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};
use fallible::{OutOfMemory, TryVec as _};
use hv_abi::{
    ffa,
    guest::{self, messages},
    ids::{VcpuId, VmId},
};
use spin::Once;
use vm_control::EventKind;

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The VM, or the core, is not in a state for that.
    State,
    /// There is no such core, or it takes no tasks.
    NoCore,
    /// The core takes no more tasks.
    Full,
    /// An argument is invalid.
    Invalid,
    /// There is no memory for it.
    NoMemory,
    /// The hypervisor does not do it.
    Hypervisor(ffa::Error),
}

impl From<OutOfMemory> for Refusal {
    fn from(_: OutOfMemory) -> Self {
        Self::NoMemory
    }
}

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Policy(_) => Self::Full,
            TaskError::NoMemory => Self::NoMemory,
        }
    }
}

/// The task that asks whom to run.
static LISTENER: Once<Handle> = Once::new();

/// The hypervisor says that a vCPU that waits has something to do.
pub(crate) fn ring() {
    if let Some(listener) = LISTENER.get() {
        listener.wake();
    }
}

/// Tasks that can wait for a change at a time, usually: orders of the control task come one after the other.
const WAITERS: usize = 4;
/// How often somebody looks who has no place in their list.
const LOOK_NS: u64 = 1_000_000;

static ALL: Once<&'static Machines> = Once::new();

/// All VMs of this primary.
#[derive(Debug)]
pub struct Machines {
    vms: Vec<Vm>,
    events: Events,
    /// A VM that asks for a reset is started again, without asking anybody.
    restarts: AtomicBool,
    places: IrqMutex<Placement>,
    /// What each core's policy has been set to.
    pub(super) policies: IrqMutex<Vec<Option<PolicyKind>>>,
    /// Who runs at the same time as whom. Locked before `policies` and the queue of any core.
    pub(super) gangs: IrqMutex<Matrices<GANG_SLOTS>>,
    /// Who is woken whenever a VM has ended.
    watcher: Once<Handle>,
    /// Who waits for something to change.
    waiters: IrqMutex<Vec<Handle>>,
}

impl Machines {
    /// The VMs of these partitions, not running yet, for a primary with so many cores. vCPUs will be spread
    /// over these, beginning behind the calling one.
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_macros,
        reason = "at boot, before there are programs"
    )]
    pub fn new(partitions: Vec<Partition>, cores: usize) -> &'static Self {
        let vms = partitions.into_iter().map(Vm::new).collect();
        let machines: &'static Self = Box::leak(Box::new(Self {
            vms,
            events: Events::new(),
            restarts: AtomicBool::new(false),
            places: IrqMutex::new(Placement::new(cores, usize::from(percore::this().index().0))),
            policies: IrqMutex::new(vec![None; percore::all().len()]),
            gangs: IrqMutex::new(Matrices::new()),
            watcher: Once::new(),
            waiters: IrqMutex::new(Vec::with_capacity(WAITERS)),
        }));
        ALL.call_once(|| machines);
        smp::on_leave(|core| {
            if let Some(machines) = ALL.get() {
                machines.leave(core);
            }
        });
        let here = task::current().core();
        LISTENER.call_once(|| task::spawn(here, "listener", move || machines.listen()));
        machines
    }

    /// Returns the VMs.
    pub fn iter(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter()
    }

    /// The VM with a name.
    pub fn by_name(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name() == name)
    }

    /// The VM with a number.
    pub fn by_id(&self, id: VmId) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.id() == id)
    }

    /// Returns the events of the VMs.
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// The cores that take vCPUs.
    pub(super) fn cores() -> impl Iterator<Item = CoreIndex> {
        percore::all().iter().filter(|core| core.takes_tasks()).map(|core| core.index())
    }

    /// Runs all VMs, and whoever asks for a reset again. The calling task is woken whenever one has ended.
    pub fn start(&'static self) {
        self.restarts.store(true, Ordering::Relaxed);
        self.watcher.call_once(task::current);
        for vm in &self.vms {
            if let Err(refusal) = self.launch(vm) {
                log::error!("{} cannot be started: {refusal:?}", vm.name());
            }
        }
    }

    /// Runs a VM that does not run, as it was at boot.
    ///
    /// # Errors
    /// [`Refusal::State`]: it runs, or it is a gang with two vCPUs on a core; [`Refusal::Full`]: a core takes
    /// no more vCPUs; [`Refusal::Hypervisor`]: it cannot be made anew.
    pub fn launch(&'static self, vm: &'static Vm) -> Result<(), Refusal> {
        if !vm.over.swap(false, Ordering::AcqRel) {
            return Err(Refusal::State);
        }
        self.begin(vm).inspect_err(|_| self.finish(vm, Ending::Aborted))
    }

    /// Runs a VM of which nothing runs.
    fn begin(&'static self, vm: &'static Vm) -> Result<(), Refusal> {
        if vm.starts() > 0 {
            renew(vm)?;
            log::info!("{} starts again", vm.name());
        }
        let mut cores = Vec::new();
        for index in 0..vm.vcpus() {
            let core = vm.place(index).filter(|core| takes_tasks(*core));
            let core = core.unwrap_or_else(|| self.next_place(&|core| cores.contains(&core)));
            cores.try_push(core)?;
        }
        self.gather(vm, vm.tuning(), &cores)?;
        for core in &cores {
            self.fit(vm, *core)?;
        }
        vm.ended.store(0, Ordering::Relaxed);
        vm.resting.store(0, Ordering::Relaxed);
        vm.paused.store(false, Ordering::Relaxed);
        vm.starts.fetch_add(1, Ordering::Relaxed);
        vm.ending.store(Ending::None as u8, Ordering::Release);
        self.notify(EventKind::Started, vm);
        // Tasks look each other up in this list, so it is locked until it is whole.
        let mut tasks = vm.tasks.lock();
        tasks.clear();
        for (index, core) in (0..).zip(cores) {
            vm.set_place(index, core);
            match self.try_carry(vm, index, core) {
                Ok(task) => {
                    log::info!("vCPU {index} of {} on core {core}", vm.name());
                    // There is room for all of them from the start.
                    let _ = tasks.try_push(task);
                }
                Err(refusal) => {
                    let missing = vm.vcpus() - index;
                    drop(tasks);
                    vm.end(Ending::Aborted);
                    let _ = guest::vm_stop(vm.id());
                    log::error!("{}: core {core} takes no more vCPUs: {refusal:?}", vm.name());
                    // Those that have started end by themselves.
                    if vm.ended.fetch_add(missing, Ordering::AcqRel) + missing == vm.vcpus() {
                        return Err(refusal);
                    }
                    return Ok(());
                }
            }
        }
        drop(tasks);
        for index in 0..vm.vcpus() {
            let _ = Self::set_parameters(vm, index);
        }
        Ok(())
    }

    /// The next core, not one that is taken if there are others.
    fn next_place(&self, taken: &dyn Fn(CoreIndex) -> bool) -> CoreIndex {
        let mut places = self.places.lock();
        let mut next = |among: &dyn Fn(CoreIndex) -> bool| {
            places
                .by_ref()
                .take(percore::all().len())
                .map(|core| CoreIndex(core as u16))
                .find(|core| among(*core))
        };
        next(&|core| takes_tasks(core) && !taken(core))
            .or_else(|| next(&takes_tasks))
            .unwrap_or_else(|| percore::this().index())
    }

    /// Starts a task for a vCPU on a core.
    fn try_carry(&'static self, vm: &'static Vm, index: u16, core: CoreIndex) -> Result<Handle, Refusal> {
        let vcpu = vm.vcpu(index).ok_or(Refusal::Invalid)?;
        let name = format_args!("{}/{index}", vm.name());
        Ok(task::try_spawn(core, name, task::STACK_SIZE, move || self.live(vm, vcpu))?)
    }

    /// The life of a vCPU's task.
    fn live(&'static self, vm: &'static Vm, vcpu: VcpuId) {
        while let Outcome::Moves(core) = run::until_over(self, vm, vcpu) {
            if self.hand_over(vm, vcpu.index.0, core) {
                return;
            }
            log::error!("{}: core {core} takes no more vCPUs; vCPU {} stays", vm.name(), vcpu.index.0);
            vm.set_place(vcpu.index.0, percore::this().index());
            self.gather_again(vm);
        }
        if vm.ended.fetch_add(1, Ordering::AcqRel) + 1 != vm.vcpus() {
            return;
        }
        let ending = vm.ending();
        if ending == Ending::Reset && self.restarts.load(Ordering::Relaxed) {
            match self.begin(vm) {
                Ok(()) => return,
                Err(refusal) => log::error!("{} cannot be started again: {refusal:?}", vm.name()),
            }
            self.finish(vm, Ending::Aborted);
        } else {
            self.finish(vm, ending);
        }
    }

    /// Lets a task on another core go on with a vCPU.
    fn hand_over(&'static self, vm: &'static Vm, index: u16, core: CoreIndex) -> bool {
        {
            let mut tasks = vm.tasks.lock();
            let (Ok(task), Some(place)) =
                (self.try_carry(vm, index, core), tasks.get_mut(usize::from(index)))
            else {
                return false;
            };
            *place = task;
        }
        let _ = Self::set_parameters(vm, index);
        log::info!("vCPU {index} of {} goes to core {core}", vm.name());
        true
    }

    /// Nothing of a VM runs any more.
    fn finish(&self, vm: &Vm, ending: Ending) {
        vm.ending.store(ending as u8, Ordering::Release);
        vm.over.store(true, Ordering::Release);
        self.gather_again(vm);
        self.notify(
            match ending {
                Ending::Off | Ending::None => EventKind::Off,
                Ending::Aborted => EventKind::Aborted,
                Ending::Reset => EventKind::Reset,
                Ending::Stopped => EventKind::Stopped,
            },
            vm,
        );
        self.changed();
        if let Some(watcher) = self.watcher.get() {
            watcher.wake();
        }
    }

    /// Stops a VM; returns when nothing of it runs any more.
    ///
    /// # Errors
    /// [`Refusal::State`]: it does not run; [`Refusal::Hypervisor`]: it goes on.
    pub fn stop(&self, vm: &Vm) -> Result<(), Refusal> {
        if vm.is_over() {
            return Err(Refusal::State);
        }
        if vm.end(Ending::Stopped) {
            log::info!("{} is stopped", vm.name());
            // Its vCPUs that run leave, wherever they are.
            if let Err(error) = guest::vm_stop(vm.id()) {
                log::error!("{}: the hypervisor does not stop it: {error:?}", vm.name());
                for index in 0..vm.vcpus() {
                    vm.call(index);
                }
            }
        }
        self.wait_until(|| vm.is_over());
        Ok(())
    }

    /// Pauses a VM; returns when none of its vCPUs runs.
    ///
    /// # Errors
    /// [`Refusal::State`]: it does not run.
    pub fn pause(&self, vm: &Vm) -> Result<(), Refusal> {
        if vm.is_over() || vm.paused.swap(true, Ordering::AcqRel) {
            return Err(Refusal::State);
        }
        for index in 0..vm.vcpus() {
            vm.call(index);
        }
        let all_rest = || vm.resting.load(Ordering::Acquire) + vm.ended.load(Ordering::Acquire) >= vm.vcpus();
        self.wait_until(|| vm.is_over() || all_rest());
        Ok(())
    }

    /// Lets a paused VM's vCPUs run again.
    ///
    /// # Errors
    /// [`Refusal::State`]: it is not paused.
    pub fn resume(&self, vm: &Vm) -> Result<(), Refusal> {
        if vm.is_over() || !vm.paused.swap(false, Ordering::AcqRel) {
            return Err(Refusal::State);
        }
        for index in 0..vm.vcpus() {
            vm.call(index);
        }
        Ok(())
    }

    /// A vCPU's task waits while its VM is paused.
    pub(super) fn rest(&self, vm: &Vm) {
        vm.resting.fetch_add(1, Ordering::AcqRel);
        self.changed();
        while vm.is_paused() && vm.ending() == Ending::None {
            task::park();
        }
        vm.resting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Assigns a vCPU to another core, whether its VM runs or not.
    ///
    /// # Errors
    /// [`Refusal::NoCore`], [`Refusal::Invalid`]: there is no such core, or vCPU; [`Refusal::State`]: other
    /// VMs there want another policy, or another vCPU of a gang is there; [`Refusal::Full`]: the core takes
    /// no more gangs.
    pub fn assign(&self, vm: &Vm, index: u16, core: CoreIndex) -> Result<(), Refusal> {
        if index >= vm.vcpus() {
            return Err(Refusal::Invalid);
        }
        if !takes_tasks(core) {
            return Err(Refusal::NoCore);
        }
        let elsewhere = (0..vm.vcpus()).filter(|other| *other != index).filter_map(|other| vm.place(other));
        let cores = Vec::try_collected(elsewhere.chain([core]))?;
        self.check_fit(vm, core)?;
        self.gather(vm, vm.tuning(), &cores)?;
        self.fit(vm, core)?;
        vm.set_place(index, core);
        vm.call(index);
        Ok(())
    }

    /// Sends all vCPUs away from a core that is to be switched off.
    fn leave(&self, core: CoreIndex) {
        for vm in self.iter().filter(|vm| vm.is_on(core)) {
            for index in (0..vm.vcpus()).filter(|index| vm.place(*index) == Some(core)) {
                let other = self.next_place(&|core| vm.is_on(core));
                if self.assign(vm, index, other).is_err() {
                    // Other VMs there want another policy: rather that than none.
                    vm.set_place(index, other);
                    vm.call(index);
                }
            }
        }
    }

    /// Waits until something holds that [`changed`](Self::changed) reports.
    fn wait_until(&self, holds: impl Fn() -> bool) {
        let me = task::current();
        loop {
            {
                let mut waiters = self.waiters.lock();
                if holds() {
                    waiters.retain(|waiter| *waiter != me);
                    return;
                }
                if !waiters.contains(&me) && waiters.try_push(me.clone()).is_err() {
                    // It looks again by itself.
                    drop(waiters);
                    task::park_until(time::after_ns(LOOK_NS));
                    continue;
                }
            }
            task::park();
        }
    }

    fn changed(&self) {
        for waiter in self.waiters.lock().drain(..) {
            waiter.wake();
        }
    }

    fn notify(&self, kind: EventKind, vm: &Vm) {
        self.events.put(Happened { kind, vm: vm.id(), start: vm.starts(), ticks: time::stopwatch() });
        #[cfg(programs)]
        crate::user::something_happened();
    }

    /// Asks the hypervisor whom to run, whenever it says that there is somebody.
    fn listen(&'static self) {
        loop {
            while let Ok(pending) = messages::notification_info_get() {
                for list in pending.lists() {
                    for index in list.vcpus() {
                        self.wake(VcpuId { vm: list.vm, index: *index });
                    }
                }
            }
            task::park();
        }
    }

    /// Wakes the task of a vCPU of any VM.
    pub(super) fn wake(&self, vcpu: VcpuId) {
        if let Some(vm) = self.by_id(vcpu.vm) {
            vm.wake(vcpu.index);
        }
    }
}

fn takes_tasks(core: CoreIndex) -> bool {
    percore::get(core).is_some_and(PerCore::takes_tasks)
}

/// Makes a VM as it was at boot.
fn renew(vm: &Vm) -> Result<(), Refusal> {
    loop {
        match guest::vm_restart(vm.id()) {
            Ok(0) => return Ok(()),
            // One part after the other, so that nothing waits long for this core.
            Ok(_) | Err(ffa::Error::Busy) => task::yield_now(),
            Err(error) => return Err(Refusal::Hypervisor(error)),
        }
    }
}
