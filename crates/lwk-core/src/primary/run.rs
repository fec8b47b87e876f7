//! The body of a vCPU's task: run it, act on why it stopped running, again.

use super::{Ending, Machines, Vm};
use crate::{fault::vm_report, task, time};
use hv_abi::{exit::Exit, ffa, guest, ids::VcpuId};

/// How long to leave a vCPU alone that another core is just putting down.
const BUSY_NS: u64 = 20_000;

/// Runs a vCPU until its VM is over.
///
/// Interrupts for the primary end `FFA_RUN`, and have been handled when it has returned, because interrupts are not
/// masked here. If the vCPU's quantum was over, another task ran then too.
pub(super) fn until_over(machines: &Machines, vm: &Vm, vcpu: VcpuId) {
    while vm.ending() == Ending::None {
        let Ok((about, exit)) = guest::run(vcpu) else {
            log::error!("the hypervisor answered FFA_RUN of {} with something that is no exit", vm.name());
            vm.end(Ending::Aborted);
            break;
        };
        if about != vcpu && !matches!(exit, Exit::DirectResponse { .. }) {
            // Another vCPU took this core over by a direct message, or has got an interrupt: its own task sees to it. This
            // one is run again to learn what it does.
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
                    // Whose task is told first says nothing about whose fault it was.
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
}
