//! The body of a vCPU's task: run it, act on why it stopped running, again.

use super::{Ending, Machines, Vm};
use crate::{
    arch,
    fault::vm_report,
    percore::{self, CoreIndex},
    task, time,
};
use hv_abi::{exit::Exit, ffa, guest, ids::VcpuId};

/// How long to leave a vCPU alone that another core is just putting down.
const BUSY_NS: u64 = 20_000;

/// Why a vCPU's task has nothing more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The VM is over.
    Over,
    /// The vCPU is to run on another core.
    Moves(CoreIndex),
}

/// Runs a vCPU until its VM is over, or it is to run elsewhere.
///
/// Interrupts for the primary end `FFA_RUN`, and have been handled when they are unmasked behind it. If the
/// vCPU's quantum was over, another task ran then too.
pub(super) fn until_over(machines: &Machines, vm: &Vm, vcpu: VcpuId) -> Outcome {
    let here = percore::this().index();
    while vm.ending() == Ending::None {
        // What says otherwise from here on comes with an interrupt, which ends the run, because it has not
        // been handled before.
        let masked = arch::mask_interrupts();
        let place = vm.place(vcpu.index.0);
        if vm.is_paused() || place != Some(here) {
            arch::restore_interrupts(masked);
            match place {
                Some(core) if core != here => return Outcome::Moves(core),
                _ => machines.rest(vm),
            }
            continue;
        }
        let ran = guest::run(vcpu);
        arch::restore_interrupts(masked);
        let Ok((about, exit)) = ran else {
            log::error!("{}: FFA_RUN returned an unknown exit", vm.name());
            vm.end(Ending::Aborted);
            break;
        };
        if about != vcpu && !matches!(exit, Exit::DirectResponse { .. }) {
            // Another vCPU took this core over by a direct message, or has got an interrupt: its own task
            // sees to it. This one is run again to learn what it does.
            machines.wake(about);
            continue;
        }
        match exit {
            Exit::Yield { timeout_ns: None } => task::yield_now(),
            Exit::Yield { timeout_ns: Some(ns) } => task::park_until(time::after_ns(ns)),
            Exit::WaitForInterrupt { timeout_ns } | Exit::MessageWait { timeout_ns } => match timeout_ns {
                Some(ns) => task::park_until(time::after_ns(ns)),
                None => task::park(),
            },
            // Or an answer that came after the one who asked was interrupted: nobody waits for it here.
            Exit::Interrupt | Exit::DirectResponse { .. } => {}
            Exit::Refused(ffa::Error::Busy | ffa::Error::Retry) => task::park_until(time::after_ns(BUSY_NS)),
            Exit::Refused(error) => {
                if vm.end(Ending::Aborted) {
                    log::error!("{}: vCPU {} cannot be run: {error:?}", vm.name(), vcpu.index.0);
                }
            }
            Exit::Aborted(fault) => {
                if vm.end(Ending::Aborted) {
                    // The task that gets the report first says nothing about whose fault it was.
                    let (vcpu, fault) = guest::crash_record(vm.id()).unwrap_or((vcpu, fault));
                    vm_report(vm.name(), vcpu, &fault);
                }
            }
            Exit::Off { reset: false } => {
                if vm.end(Ending::Off) {
                    log::info!("{} is off", vm.name());
                }
            }
            Exit::Off { reset: true } => {
                if vm.end(Ending::Reset) {
                    log::info!("{} asks for a reset", vm.name());
                }
            }
        }
    }
    Outcome::Over
}
