//! A virtual machine whose para-virtual interrupts come by list registers: taken and ended at the processor,
//! without the hypervisor.

use super::{Interrupt, Platform, PlatformError, Taken, hypercall};
use crate::percore::CoreIndex;
use hv_abi::{
    guest,
    ids::{VcpuIndex, VirtIntId},
    paravirt,
};
use machine::{Machine, Mpidr, Region};
use paravirt_irq::guest::{Controller, ListController};
use vtimer::{Timer, VirtualTimer};

/// A secondary VM whose manifest node says `margay,list-registers`.
#[derive(Debug)]
pub struct VmWithListRegisters;

const TIMER: u32 = paravirt::TIMER.number();
const IPI: u32 = paravirt::IPI.number();

/// Returns whether the device tree says that there are any.
fn has_list_registers(machine: &Machine<'_>) -> bool {
    let tree = devtree::Tree::new(machine.dtb()).ok();
    let hypervisor = tree.and_then(|tree| tree.root().child("hypervisor"));
    hypervisor.is_some_and(|node| node.value("margay,list-registers").is_some())
}

impl Platform for VmWithListRegisters {
    fn name(&self) -> &'static str {
        "secondary VM with list registers"
    }

    fn write(&self, text: &[u8]) -> bool {
        guest::console_log(text);
        true
    }

    fn init(
        &self,
        machine: &Machine<'_>,
        _map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError> {
        if has_list_registers(machine) {
            Ok(())
        } else {
            Err(PlatformError("the device tree does not say that interrupts come by list registers"))
        }
    }

    fn init_core(&self, _mpidr: Mpidr) -> Result<(), PlatformError> {
        self.set_timer(None);
        if !ListController.init() {
            return Err(PlatformError("the processor has no CPU interface for interrupts"));
        }
        let enable = |id: VirtIntId| Controller.enable(id);
        if [paravirt::TIMER, paravirt::IPI].into_iter().all(enable) {
            Ok(())
        } else {
            Err(PlatformError("the hypervisor refuses to enable an interrupt"))
        }
    }

    #[inline]
    fn counter(&self) -> u64 {
        VirtualTimer.counter()
    }

    #[inline]
    fn set_timer(&self, deadline: Option<u64>) {
        match deadline {
            Some(deadline) => VirtualTimer.set_deadline(deadline),
            None => VirtualTimer.cancel(),
        }
    }

    #[inline]
    fn take_interrupt(&self) -> Option<Taken> {
        let token = ListController.take()?;
        let interrupt = match token {
            TIMER => Interrupt::Timer,
            IPI => Interrupt::Ipi,
            other => Interrupt::Unknown(other),
        };
        Some(Taken { interrupt, token })
    }

    #[inline]
    fn end_interrupt(&self, taken: Taken) {
        ListController.end(taken.token);
    }

    fn send_ipi(&self, core: CoreIndex, _mpidr: Mpidr) {
        Controller.send_ipi(VcpuIndex(core.0));
    }

    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError> {
        hypercall::start_core(mpidr, entry, context)
    }

    fn stop_core(&self) -> PlatformError {
        hypercall::stop_core()
    }

    fn can_stop_cores(&self) -> bool {
        true
    }

    fn power_off(&self) -> ! {
        hypercall::power_off()
    }
}
