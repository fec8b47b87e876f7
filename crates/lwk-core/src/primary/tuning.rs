//! How the cores of VMs are shared out. A policy is one of a core, so VMs with different ones cannot share a core.

use super::{Machines, Refusal, Vm};
use crate::{
    percore::CoreIndex,
    task::{self, ParameterError, Parameters, PolicyKind},
};

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

impl Machines {
    /// Gives a VM's cores a policy, and its vCPUs parameters.
    ///
    /// # Errors
    /// [`Refusal::State`]: a core is another VM's too, which has another policy; [`Refusal::Full`]: a core has more tasks than the
    /// policy takes, or not so much time left; [`Refusal::Invalid`]: the parameters make no sense. What was done before stays.
    pub fn tune(&'static self, vm: &'static Vm, tuning: Tuning) -> Result<(), Refusal> {
        for core in self.cores().filter(|core| vm.is_on(*core)) {
            self.check_policy(vm, core, tuning.kind)?;
        }
        *vm.tuning.lock() = Some(tuning);
        for core in self.cores().filter(|core| vm.is_on(*core)) {
            self.set_policy(core, tuning.kind)?;
        }
        for index in 0..vm.vcpus() {
            Self::set_parameters(vm, index)?;
        }
        Ok(())
    }

    /// Makes a core fit for a vCPU that is to go there.
    pub(super) fn fit(&self, vm: &Vm, core: CoreIndex) -> Result<(), Refusal> {
        let Some(tuning) = vm.tuning() else { return Ok(()) };
        self.check_policy(vm, core, tuning.kind)?;
        self.set_policy(core, tuning.kind)
    }

    /// Whether no other VM wants this core otherwise.
    fn check_policy(&self, vm: &Vm, core: CoreIndex, kind: PolicyKind) -> Result<(), Refusal> {
        let differs = |other: &Vm| {
            !core::ptr::eq(other, vm)
                && other.is_on(core)
                && other.tuning().is_some_and(|tuning| tuning.kind != kind)
        };
        if self.iter().any(differs) { Err(Refusal::State) } else { Ok(()) }
    }

    fn set_policy(&self, core: CoreIndex, kind: PolicyKind) -> Result<(), Refusal> {
        let known = self.policies.lock().get(usize::from(core.0)).copied().flatten();
        if known == Some(kind) {
            return Ok(());
        }
        task::set_policy(core, kind).map_err(|_| Refusal::Full)?;
        if let Some(known) = self.policies.lock().get_mut(usize::from(core.0)) {
            *known = Some(kind);
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
