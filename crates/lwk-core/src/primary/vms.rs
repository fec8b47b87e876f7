//! The VMs of a primary, and the tasks of their vCPUs.

use super::{partitions::Partition, placement::Placement, run};
use crate::{
    percore::CoreIndex,
    sync::IrqMutex,
    task::{self, Handle},
};
use alloc::{boxed::Box, format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use hv_abi::{
    ffa,
    guest::{self, messages},
    ids::{VcpuId, VcpuIndex, VmId},
};
use spin::Once;

/// How a VM stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// It runs.
    None = 0,
    /// It has switched itself off, or asked for a reset.
    Off = 1,
    /// It was stopped for a fault, or could not be run.
    Aborted = 2,
    /// It has asked to be started again, and will be.
    Reset = 3,
}

/// A VM and its vCPUs' tasks.
#[derive(Debug)]
pub struct Vm {
    partition: Partition,
    ending: AtomicU8,
    /// vCPUs whose task has not ended.
    alive: AtomicU16,
    /// vCPUs whose task has ended because the VM is to be started again.
    ended: AtomicU16,
    tasks: IrqMutex<Vec<Handle>>,
}

impl Vm {
    fn new(partition: Partition) -> Self {
        let alive = AtomicU16::new(partition.vcpus);
        Self {
            partition,
            ending: AtomicU8::new(0),
            alive,
            ended: AtomicU16::new(0),
            tasks: IrqMutex::new(Vec::new()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.partition.name
    }

    /// Its id.
    pub fn id(&self) -> VmId {
        self.partition.id
    }

    /// How many vCPUs it has.
    pub fn vcpus(&self) -> u16 {
        self.partition.vcpus
    }

    /// How it stands.
    pub fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::None,
            1 => Ending::Off,
            3 => Ending::Reset,
            _ => Ending::Aborted,
        }
    }

    /// Whether no task of it is left.
    pub fn is_over(&self) -> bool {
        self.alive.load(Ordering::Acquire) == 0
    }

    /// Ends it, once: its tasks find out and end. Returns whether this call was the first.
    pub(super) fn end(&self, how: Ending) -> bool {
        let first = self.ending.compare_exchange(0, how as u8, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if first {
            for task in self.tasks.lock().iter() {
                task.wake();
            }
        }
        first
    }

    /// Wakes the task of one vCPU.
    fn wake(&self, index: VcpuIndex) {
        if let Some(task) = self.tasks.lock().get(index.0 as usize) {
            task.wake();
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

/// All VMs of this primary.
#[derive(Debug)]
pub struct Machines {
    vms: Vec<Vm>,
    /// Who waits for VMs to end.
    watcher: Once<Handle>,
}

impl Machines {
    /// The VMs of these partitions, not running yet.
    pub fn new(partitions: Vec<Partition>) -> &'static Self {
        let vms = partitions.into_iter().map(Vm::new).collect();
        Box::leak(Box::new(Self { vms, watcher: Once::new() }))
    }

    /// The VMs.
    pub fn iter(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter()
    }

    /// The VM with a name.
    pub fn by_name(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name() == name)
    }

    fn by_id(&self, id: VmId) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.id() == id)
    }

    /// Gives every vCPU a task, spread over `cores` cores beginning behind this one. The calling task is woken whenever
    /// a VM has ended.
    pub fn start(&'static self, cores: usize) {
        let me = task::current();
        LISTENER.call_once(|| task::spawn(me.core(), "listener", move || self.listen()));
        let mut places = Placement::new(cores, me.core().0 as usize);
        self.watcher.call_once(|| me);
        for vm in &self.vms {
            self.populate(vm, (0..vm.partition.vcpus).map(|_| CoreIndex(places.next().unwrap_or(0) as u16)));
        }
    }

    /// Gives the vCPUs of a VM tasks on these cores.
    fn populate(&'static self, vm: &'static Vm, cores: impl Iterator<Item = CoreIndex>) {
        // Tasks look each other up in this list, so it is locked until it is whole.
        let mut tasks = vm.tasks.lock();
        for (index, core) in cores.enumerate() {
            let vcpu = VcpuId { vm: vm.id(), index: VcpuIndex(index as u16) };
            let name: String = format!("{}/{index}", vm.name());
            log::info!("vCPU {index} of {} on core {core}", vm.name());
            tasks.push(task::spawn(core, name, move || self.live(vm, vcpu)));
        }
    }

    /// Makes a VM as it was at boot and runs it again, on the same cores. All its tasks but the calling one have ended. Returns
    /// whether it runs, or has run: it may be over before this returns.
    fn restart(&'static self, vm: &'static Vm) -> bool {
        loop {
            match guest::vm_restart(vm.id()) {
                Ok(0) => break,
                // One part after the other, so that nothing waits long for this core.
                Ok(_) | Err(ffa::Error::Busy) => task::yield_now(),
                Err(error) => {
                    log::error!("{} cannot be started again: {error:?}", vm.name());
                    vm.ending.store(Ending::Aborted as u8, Ordering::Release);
                    return false;
                }
            }
        }
        log::info!("{} starts again", vm.name());
        let cores: Vec<CoreIndex> = vm.tasks.lock().drain(..).map(|task| task.core()).collect();
        vm.alive.store(vm.partition.vcpus, Ordering::Release);
        vm.ending.store(Ending::None as u8, Ordering::Release);
        self.populate(vm, cores.into_iter());
        true
    }

    /// The life of a vCPU's task.
    fn live(&'static self, vm: &'static Vm, vcpu: VcpuId) {
        run::until_over(self, vm, vcpu);
        // Looked at once: when the last of these tasks has started the VM again, it is no longer so.
        if vm.ending() == Ending::Reset {
            if vm.ended.fetch_add(1, Ordering::AcqRel) + 1 != vm.partition.vcpus {
                return;
            }
            vm.ended.store(0, Ordering::Relaxed);
            if self.restart(vm) {
                return;
            }
            vm.alive.store(1, Ordering::Release);
        }
        if vm.alive.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(watcher) = self.watcher.get()
        {
            watcher.wake();
        }
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
