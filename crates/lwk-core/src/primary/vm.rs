//! A VM of a primary: how it stands, and where its vCPUs are to run.

use super::{partitions::Partition, tuning::Tuning};
use crate::{
    percore::{self, CoreIndex},
    sync::IrqMutex,
    task::Handle,
};
use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};
use fallible::{OutOfMemory, TryVec as _};
use hv_abi::ids::{VcpuId, VcpuIndex, VmId};

/// Reason why a VM has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ending {
    /// It runs, or has never run.
    None = 0,
    /// It has switched itself off.
    Off = 1,
    /// It was stopped for a fault, or could not be run.
    Aborted = 2,
    /// It has asked to be started again.
    Reset = 3,
    /// Somebody here has stopped it.
    Stopped = 4,
}

/// A vCPU that has not been given a core.
const NOWHERE: u16 = u16::MAX;

/// A VM and its vCPUs' tasks.
#[derive(Debug)]
pub struct Vm {
    partition: Partition,
    pub(super) ending: AtomicU8,
    /// vCPUs whose task has ended, since the VM was started.
    pub(super) ended: AtomicU16,
    /// No task of it is left, or none has been there yet.
    pub(super) over: AtomicBool,
    pub(super) paused: AtomicBool,
    /// vCPUs whose task waits for the end of a pause.
    pub(super) resting: AtomicU16,
    pub(super) starts: AtomicU32,
    pub(super) tasks: IrqMutex<Vec<Handle>>,
    pub(super) tuning: IrqMutex<Option<Tuning>>,
    places: Box<[AtomicU16]>,
}

impl Vm {
    #[expect(clippy::disallowed_methods, reason = "at boot, before there are programs")]
    pub(super) fn new(partition: Partition) -> Self {
        let places: Box<[_]> = (0..partition.vcpus).map(|_| AtomicU16::new(NOWHERE)).collect();
        Self {
            partition,
            ending: AtomicU8::new(0),
            ended: AtomicU16::new(0),
            over: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            resting: AtomicU16::new(0),
            starts: AtomicU32::new(0),
            tasks: IrqMutex::new(Vec::with_capacity(places.len())),
            tuning: IrqMutex::new(None),
            places,
        }
    }

    /// Returns the VM's name.
    pub fn name(&self) -> &str {
        &self.partition.name
    }

    /// Returns the VM's id.
    pub fn id(&self) -> VmId {
        self.partition.id
    }

    /// Returns the number of vCPUs.
    pub fn vcpus(&self) -> u16 {
        self.partition.vcpus
    }

    /// Returns the VM's settings for the control task (`margay,control` of the manifest).
    pub fn settings(&self) -> &str {
        &self.partition.settings
    }

    /// Returns a vCPU of the VM; `None` if there is none of this index.
    pub fn vcpu(&self, index: u16) -> Option<VcpuId> {
        (index < self.vcpus()).then_some(VcpuId { vm: self.id(), index: VcpuIndex(index) })
    }

    /// Returns the reason why the VM has ended.
    pub fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::None,
            1 => Ending::Off,
            3 => Ending::Reset,
            4 => Ending::Stopped,
            _ => Ending::Aborted,
        }
    }

    /// Returns whether no task of it is left, or it has never run.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Returns whether its vCPUs are not run for now.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Returns the number of times that the VM has been started.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Returns the scheduling parameters, if they have been set.
    pub fn tuning(&self) -> Option<Tuning> {
        *self.tuning.lock()
    }

    /// The core that a vCPU is to run on, if it has one.
    pub fn place(&self, index: u16) -> Option<CoreIndex> {
        let place = self.places.get(usize::from(index))?.load(Ordering::Acquire);
        (place != NOWHERE).then_some(CoreIndex(place))
    }

    /// The cores of those of its vCPUs that have one.
    pub(super) fn cores(&self) -> Result<Vec<CoreIndex>, OutOfMemory> {
        Vec::try_collected((0..self.vcpus()).filter_map(|index| self.place(index)))
    }

    pub(super) fn set_place(&self, index: u16, core: CoreIndex) {
        if let Some(place) = self.places.get(usize::from(index)) {
            place.store(core.0, Ordering::Release);
        }
    }

    /// Returns whether a vCPU of it is, or is to be, on a core.
    pub(super) fn is_on(&self, core: CoreIndex) -> bool {
        self.places.iter().any(|place| place.load(Ordering::Acquire) == core.0)
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
    pub(super) fn wake(&self, index: VcpuIndex) {
        if let Some(task) = self.tasks.lock().get(index.0 as usize) {
            task.wake();
        }
    }

    /// Has the task of a vCPU look at what it is to do, even if its core runs the vCPU.
    pub(super) fn call(&self, index: u16) {
        let Some(task) = self.tasks.lock().get(usize::from(index)).cloned() else { return };
        task.wake();
        if task.core() != percore::this().index()
            && let Some(core) = percore::get(task.core())
        {
            core.interrupt();
        }
    }
}
