//! How the cores of VMs are shared out. A policy is one of a core, so VMs with different ones cannot share a
//! core.

use super::{
    Machines, Refusal, Vm,
    gangs::{Places, Refused},
};
use crate::{
    percore::CoreIndex,
    task::{self, ParameterError, Parameters, PolicyKind, TaskError},
    time,
};
use alloc::vec::Vec;
use fallible::TryVec as _;
use sched_policies::{CoreId, GangError, GangId, Nanos};

/// How far ahead a new matrix of gangs begins: all cores have heard of it until then.
const NOTICE_NS: u64 = 1_000_000;

/// A policy, and what it goes by for each vCPU of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The policy of its cores.
    pub kind: PolicyKind,
    /// For each of its vCPUs; or those of any new task.
    pub parameters: Option<Parameters>,
}

impl From<ParameterError> for Refusal {
    fn from(error: ParameterError) -> Self {
        match error {
            ParameterError::OtherPolicy => Self::State,
            ParameterError::Invalid => Self::Invalid,
            ParameterError::Full => Self::Full,
        }
    }
}

impl From<Refused> for Refusal {
    fn from(error: Refused) -> Self {
        match error {
            Refused::Gang(GangError::SameCore(..)) => Self::State,
            Refused::Gang(GangError::NoRoom(_)) => Self::Full,
            Refused::Gang(GangError::NoCore(..)) => Self::NoCore,
            Refused::Gang(_) => Self::Invalid,
            Refused::NoMemory => Self::NoMemory,
        }
    }
}

/// Returns whether all vCPUs of a VM that is tuned so can be on these cores: those of a gang run at the same
/// time.
fn check_cores(tuning: Option<Tuning>, cores: &[CoreIndex]) -> Result<(), Refusal> {
    let is_gang = tuning.is_some_and(|tuning| matches!(tuning.kind, PolicyKind::Gang { .. }));
    let twice = || cores.iter().enumerate().any(|(index, core)| cores[..index].contains(core));
    if is_gang && twice() { Err(Refusal::State) } else { Ok(()) }
}

impl Machines {
    /// Gives a VM's cores a policy, and its vCPUs parameters.
    ///
    /// # Errors
    /// [`Refusal::State`]: a core is another VM's too, which has another policy, or it has two vCPUs of a
    /// gang; [`Refusal::Full`]: a core has more tasks than the policy takes, or not so much time left;
    /// [`Refusal::Invalid`]: the parameters make no sense. What was done before stays.
    pub fn tune(&'static self, vm: &'static Vm, tuning: Tuning) -> Result<(), Refusal> {
        for core in Self::cores().filter(|core| vm.is_on(*core)) {
            self.check_policy(vm, core, tuning.kind)?;
        }
        self.gather(vm, Some(tuning), &vm.cores()?)?;
        *vm.tuning.lock() = Some(tuning);
        for core in Self::cores().filter(|core| vm.is_on(*core)) {
            self.set_policy(core, tuning.kind)?;
        }
        for index in 0..vm.vcpus() {
            Self::set_parameters(vm, index)?;
        }
        Ok(())
    }

    /// Gives a VM that is a gang and runs its places in the matrix, and takes them from any other. All cores
    /// change at the same moment; those that hear of it too late are apart from the others for a turn.
    pub(super) fn gather(&self, vm: &Vm, tuning: Option<Tuning>, cores: &[CoreIndex]) -> Result<(), Refusal> {
        check_cores(tuning, cores)?;
        let cores = Vec::try_collected(cores.iter().copied().map(column_of))?;
        let mut gangs = self.gangs.lock();
        let places = match tuning.map(|tuning| tuning.kind) {
            // Who ends a VM says so first, and takes its places then.
            Some(PolicyKind::Gang { quantum }) if !vm.is_over() => {
                Some(Places { quantum: Nanos(quantum), cores: &cores })
            }
            _ => None,
        };
        let changed = gangs.set(GangId(vm.id().0.into()), places, Nanos(time::after_ns(NOTICE_NS)))?;
        for quantum in changed.into_iter().flatten() {
            let kind = PolicyKind::Gang { quantum: quantum.0 };
            for core in Self::cores().filter(|core| self.policy_of(*core) == Some(kind)) {
                let _ = task::set_column(core, &gangs.column(quantum, column_of(core)));
            }
        }
        Ok(())
    }

    /// [`gather`](Self::gather) as the VM stands.
    pub(super) fn gather_again(&self, vm: &Vm) {
        // Who ends gives its places back, which needs no memory.
        let ends = vm.is_over();
        let cores = if ends { Ok(Vec::new()) } else { vm.cores() };
        let _ = cores.map(|cores| self.gather(vm, vm.tuning(), &cores));
    }

    /// Makes a core fit for a vCPU that is to go there.
    pub(super) fn fit(&self, vm: &Vm, core: CoreIndex) -> Result<(), Refusal> {
        let Some(tuning) = vm.tuning() else { return Ok(()) };
        self.check_policy(vm, core, tuning.kind)?;
        self.set_policy(core, tuning.kind)
    }

    /// Returns whether no other VM there wants a core otherwise than a VM that is to go there.
    pub(super) fn check_fit(&self, vm: &Vm, core: CoreIndex) -> Result<(), Refusal> {
        vm.tuning().map_or(Ok(()), |tuning| self.check_policy(vm, core, tuning.kind))
    }

    /// Returns whether no other VM wants this core otherwise.
    fn check_policy(&self, vm: &Vm, core: CoreIndex, kind: PolicyKind) -> Result<(), Refusal> {
        let differs = |other: &Vm| {
            !core::ptr::eq(other, vm)
                && other.is_on(core)
                && other.tuning().is_some_and(|tuning| tuning.kind != kind)
        };
        if self.iter().any(differs) { Err(Refusal::State) } else { Ok(()) }
    }

    /// What a core's policy has been set to.
    fn policy_of(&self, core: CoreIndex) -> Option<PolicyKind> {
        self.policies.lock().get(usize::from(core.0)).copied().flatten()
    }

    fn set_policy(&self, core: CoreIndex, kind: PolicyKind) -> Result<(), Refusal> {
        if self.policy_of(core) == Some(kind) {
            return Ok(());
        }
        task::set_policy(core, kind).map_err(|error| match error {
            TaskError::Policy(_) => Refusal::Full,
            TaskError::NoMemory => Refusal::NoMemory,
        })?;
        if let Some(known) = self.policies.lock().get_mut(usize::from(core.0)) {
            *known = Some(kind);
        }
        if let PolicyKind::Gang { quantum } = kind {
            let gangs = self.gangs.lock();
            let _ = task::set_column(core, &gangs.column(Nanos(quantum), column_of(core)));
        }
        // The new policy knows nothing of the parameters that its tasks had.
        for vm in self.iter().filter(|vm| vm.is_on(core)) {
            for index in (0..vm.vcpus()).filter(|index| vm.place(*index) == Some(core)) {
                let _ = Self::set_parameters(vm, index);
            }
        }
        Ok(())
    }

    /// Gives the task of a vCPU, if there is one, its VM's parameters.
    pub(super) fn set_parameters(vm: &Vm, index: u16) -> Result<(), Refusal> {
        let Some(parameters) = vm.tuning().and_then(|tuning| tuning.parameters) else { return Ok(()) };
        let task = vm.tasks.lock().get(usize::from(index)).cloned();
        match task {
            Some(task) if vm.place(index) == Some(task.core()) => Ok(task.set_parameters(parameters)?),
            // It gets them where it is going.
            _ => Ok(()),
        }
    }
}

/// A core in the matrix of gangs.
fn column_of(core: CoreIndex) -> CoreId {
    CoreId(core.0.into())
}
