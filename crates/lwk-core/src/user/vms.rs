//! `/dev/margay`: how the control task manages VMs. The contract is the crate `vm-control`.

use super::{
    copy,
    errno::{Errno, Result},
    files::{self, Special},
    process::clock,
    processes,
    thread::UserThread,
};
use crate::{
    percore::{self, CoreIndex},
    primary::{self, Ending, Machines, Refusal, Tuning, Vm},
    task::{self, Mutex, Parameters, PolicyKind},
    time,
};
use alloc::boxed::Box;
use core::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};
use fallible::try_box;
use hv_abi::{guest, ids::VmId};
use sched_policies::{GangId, Nanos, Reservation};
use vm_control::{
    Event, Policy, VmState,
    request::{self, CoreInfo, CrashInfo, SetScheduling, Target, VcpuInfo, VmInfo},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Its file.
const PATH: &[u8] = b"/dev/margay";
/// A turn's length unless something else is said.
const QUANTUM_NS: u64 = 100_000_000;
/// Number that is reported for an unknown policy.
const NO_POLICY: u8 = u8::MAX;

/// The process that has it open; 0: none.
static HOLDER: AtomicU32 = AtomicU32::new(0);
/// The process that had it open the last.
static LAST: AtomicU32 = AtomicU32::new(0);
/// One request that changes something at a time.
static ORDERS: Mutex<()> = Mutex::new(());

/// The device, open.
#[derive(Debug)]
struct Device(&'static Machines);

impl Drop for Device {
    fn drop(&mut self) {
        HOLDER.store(0, Ordering::Release);
    }
}

/// Returns whether a process had it open the last.
pub fn had_device(process: u32) -> bool {
    LAST.load(Ordering::Acquire) == process
}

/// Gives programs the device; before the first.
pub fn provide() {
    files::provide(PATH, open);
}

/// Opens it, for the first process, once at a time.
fn open(thread: &UserThread) -> Result<Box<dyn Special>> {
    let machines = primary::machines().ok_or(Errno::ENODEV)?;
    let id = thread.process().id();
    if !processes::is_first(id) {
        return Err(Errno::EACCES);
    }
    HOLDER.compare_exchange(0, id, Ordering::AcqRel, Ordering::Relaxed).map_err(|_| Errno::EBUSY)?;
    // Without memory for it, dropping it lets it be opened again.
    let device = try_box(Device(machines))?;
    LAST.store(id, Ordering::Release);
    machines.events().clear();
    Ok(device)
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::State => Self::EBUSY,
            Refusal::NoCore => Self::ENXIO,
            Refusal::Full => Self::ENOSPC,
            Refusal::Invalid => Self::EINVAL,
            Refusal::NoMemory => Self::ENOMEM,
            Refusal::Hypervisor(_) => Self::EIO,
        }
    }
}

/// What a VM's state is called there.
fn state(vm: &Vm) -> VmState {
    if !vm.is_over() {
        return if vm.is_paused() { VmState::Paused } else { VmState::Running };
    }
    match vm.ending() {
        Ending::None => VmState::Created,
        Ending::Off => VmState::Off,
        Ending::Aborted => VmState::Aborted,
        Ending::Reset => VmState::Reset,
        Ending::Stopped => VmState::Stopped,
    }
}

fn ns(ticks: u64) -> u64 {
    time::frequency().ticks_to_ns(ticks)
}

impl Special for Device {
    fn is_ready(&self) -> bool {
        !self.0.events().is_empty()
    }

    /// Events, as many as there are and fit.
    fn read(&self, thread: &UserThread, to: u64, size: usize, now: bool) -> Result<u64> {
        const ONE: usize = size_of::<Event>();
        if size < ONE {
            return Err(Errno::EINVAL);
        }
        let first = || match self.0.events().take(time::stopwatch()) {
            None if now => Err(Errno::EAGAIN),
            event => Ok(event),
        };
        let mut next = files::wait_until(thread, None, first)?;
        let mut done = 0;
        while let Some(happened) = next {
            let event = Event {
                kind: happened.kind as u16,
                vm: happened.vm.0,
                start: happened.start,
                time_ns: clock().nanoseconds(happened.ticks),
            };
            copy::write(to.wrapping_add(done as u64), &event)?;
            done += ONE;
            next = if done + ONE <= size { self.0.events().take(time::stopwatch()) } else { None };
        }
        Ok(done as u64)
    }

    fn ioctl(&self, request: u32, argument: u64) -> Result<u64> {
        match request {
            request::VERSION => copy::write(argument, &request::VERSION_NOW)?,
            request::VM_INFO => answer(argument, |info| self.vm_info(info))?,
            request::VCPU_INFO => answer(argument, |info| self.vcpu_info(info))?,
            request::CORE_INFO => answer(argument, |info| self.core_info(info))?,
            request::CRASH_INFO => answer(argument, |info| self.crash_info(info))?,
            request::VM_SCHEDULING => self.set_scheduling(&copy::read(argument)?)?,
            _ => return self.order(request, argument),
        }
        Ok(0)
    }
}

impl Device {
    fn vm(&self, id: u16) -> Result<&'static Vm> {
        let machines: &'static Machines = self.0;
        machines.by_id(VmId(id)).ok_or(Errno::ENXIO)
    }

    fn order(&self, request: u32, argument: u64) -> Result<u64> {
        use request::{VCPU_ASSIGN, VM_PAUSE, VM_RESUME, VM_START, VM_STOP};
        if ![VM_START, VM_STOP, VM_PAUSE, VM_RESUME, VCPU_ASSIGN].contains(&request) {
            return Err(Errno::ENOTTY);
        }
        let Target { vm, vcpu, core } = copy::read(argument)?;
        let vm = self.vm(vm)?;
        let _one_at_a_time = ORDERS.lock();
        match request {
            VM_START => self.0.launch(vm)?,
            VM_STOP => self.0.stop(vm)?,
            VM_PAUSE => self.0.pause(vm)?,
            VM_RESUME => self.0.resume(vm)?,
            _ => {
                vm.vcpu(vcpu).ok_or(Errno::ENXIO)?;
                let core = u16::try_from(core).map_err(|_| Errno::ENXIO)?;
                self.0.assign(vm, vcpu, CoreIndex(core))?;
            }
        }
        Ok(0)
    }

    fn vm_info(&self, info: &mut VmInfo) -> Result<()> {
        let vm = self.0.iter().nth(info.index as usize).ok_or(Errno::ENXIO)?;
        let mut reply = VmInfo::ask(info.index);
        reply.vm = vm.id().0;
        reply.vcpus = vm.vcpus();
        reply.state = state(vm) as u8;
        reply.starts = vm.starts();
        (reply.policy, reply.parameter) = vm.tuning().map_or((NO_POLICY, 0), policy_of);
        VmInfo::put(&mut reply.name, vm.name());
        VmInfo::put(&mut reply.settings, vm.settings());
        *info = reply;
        Ok(())
    }

    fn vcpu_info(&self, info: &mut VcpuInfo) -> Result<()> {
        let vm = self.vm(info.vm)?;
        let vcpu = vm.vcpu(info.vcpu).ok_or(Errno::ENXIO)?;
        let [ticks, entries, yields, waits, messages, interrupts, others] =
            guest::vcpu_statistics(vcpu).map_err(|_| Errno::EIO)?;
        let external_aborts = guest::vcpu_external_aborts(vcpu).map_err(|_| Errno::EIO)?;
        let core = vm.place(info.vcpu).map_or(u32::MAX, |core| u32::from(core.0));
        let ran_ns = ns(ticks);
        let reply = VcpuInfo { core, ran_ns, entries, yields, waits, messages, interrupts, others, ..*info };
        *info = VcpuInfo { external_aborts, ..reply };
        Ok(())
    }

    fn core_info(&self, info: &mut CoreInfo) -> Result<()> {
        let index = CoreIndex(u16::try_from(info.core).map_err(|_| Errno::ENXIO)?);
        let core = percore::get(index).ok_or(Errno::ENXIO)?;
        let places = |vm: &Vm| (0..vm.vcpus()).filter(|vcpu| vm.place(*vcpu) == Some(index)).count();
        *info = CoreInfo {
            core: info.core,
            online: u32::from(core.takes_tasks()),
            load: task::load(index) as u32,
            vcpus: self.0.iter().map(places).sum::<usize>() as u32,
            interrupts: core.interrupts(),
        };
        Ok(())
    }

    fn crash_info(&self, info: &mut CrashInfo) -> Result<()> {
        let vm = self.vm(info.vm)?;
        let (vcpu, fault) = guest::crash_record(vm.id()).map_err(|_| Errno::EBUSY)?;
        *info = CrashInfo {
            vm: info.vm,
            vcpu: vcpu.index.0,
            reserved: 0,
            syndrome: fault.syndrome,
            address: fault.address,
            ipa: fault.ipa,
            pc: fault.pc,
        };
        Ok(())
    }

    fn set_scheduling(&self, set: &SetScheduling) -> Result<()> {
        let vm = self.vm(set.vm)?;
        let tuning = tuning(set).ok_or(Errno::EINVAL)?;
        let _one_at_a_time = ORDERS.lock();
        Ok(self.0.tune(vm, tuning)?)
    }
}

/// A structure that goes in and out.
fn answer<T: FromBytes + FromZeros + IntoBytes + Immutable>(
    argument: u64,
    fill: impl FnOnce(&mut T) -> Result<()>,
) -> Result<()> {
    let mut value: T = copy::read(argument)?;
    fill(&mut value)?;
    copy::write(argument, &value)
}

/// What a request for scheduling means here, where time is in ticks; `None`: nothing.
fn tuning(set: &SetScheduling) -> Option<Tuning> {
    let scheduling = set.scheduling()?;
    let ticks = |ns: u64| time::frequency().ns_to_ticks(ns);
    let quantum = ticks(if scheduling.quantum_ns == 0 { QUANTUM_NS } else { scheduling.quantum_ns }).max(1);
    let number = NonZeroU32::new(scheduling.parameter);
    let (kind, parameters) = match scheduling.policy {
        Policy::RoundRobin => (PolicyKind::RoundRobin { quantum }, None),
        Policy::Pinned => (PolicyKind::Pinned, None),
        Policy::Fifo => {
            let priority =
                |number: NonZeroU32| u8::try_from(number.get()).ok().filter(|priority| *priority < 100);
            let parameters = match number {
                Some(number) => Some(Parameters::Priority(priority(number)?)),
                None => None,
            };
            (PolicyKind::Fifo, parameters)
        }
        Policy::Share => (PolicyKind::Share { quantum }, number.map(Parameters::Weight)),
        Policy::Edf => {
            let (budget, period) = (ticks(scheduling.reserved_ns), ticks(scheduling.period_ns));
            let reservation = (budget > 0).then_some(Reservation {
                runtime: Nanos(budget),
                deadline: Nanos(period),
                period: Nanos(period),
            });
            (PolicyKind::Edf { quantum }, Some(Parameters::Reservation(reservation)))
        }
        Policy::Gang => (PolicyKind::Gang { quantum }, Some(Parameters::Gang(GangId(set.vm.into())))),
    };
    Some(Tuning { kind, parameters })
}

/// What a VM's policy is called there, and its parameter.
fn policy_of(tuning: Tuning) -> (u8, u32) {
    let policy = match tuning.kind {
        PolicyKind::RoundRobin { .. } => Policy::RoundRobin,
        PolicyKind::Pinned => Policy::Pinned,
        PolicyKind::Fifo => Policy::Fifo,
        PolicyKind::Share { .. } => Policy::Share,
        PolicyKind::Edf { .. } => Policy::Edf,
        PolicyKind::Gang { .. } => Policy::Gang,
    };
    let parameter = match tuning.parameters {
        Some(Parameters::Priority(priority)) => u32::from(priority),
        Some(Parameters::Weight(weight)) => weight.get(),
        Some(Parameters::Reservation(_) | Parameters::Gang(_)) | None => 0,
    };
    (policy as u8, parameter)
}
