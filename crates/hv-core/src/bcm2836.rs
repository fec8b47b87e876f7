//! VMs with the interrupt controllers of BCM2836: `margay,gic` in the manifest, on a machine that has them. The registers are
//! [`drivers_bcm2836::model`]; here is what they mean for vCPUs.
//!
//! The hardware has no virtual interrupts but `HCR_EL2.VI`, and no acknowledge or end that could tell when the VM is done with an
//! interrupt: all there is are levels. So what is asserted is looked at again whenever the VM can see it.
//!
//! * **Devices.** One that interrupts is masked at the physical controller, and asserted in the model. When the VM reads what is
//!   pending, it is let through for a moment to see whether it is still asserted; if not, it stays unmasked. A device that never
//!   stops costs its VM's own reads, and nobody anything else.
//! * **The virtual timer.** The VM rearms it without a trap, and finds its own values in it: so it is masked at the physical
//!   controller while it is asserted, and looked at on every exit and when the VM reads what is pending. A VM that has rearmed it
//!   takes one more interrupt, finds nothing pending, and has its line lowered by that.
//! * **Mailboxes** are the model's alone.
//!
//! A vCPU's para-virtual controller says that there is something to look at, so that waking, kicking and telling the primary are as for
//! any VM.

use crate::{
    arch, board,
    gic::LOOK,
    interrupt::TIMERS,
    lock::ControllerLock,
    percore::Core,
    run,
    syndrome::Syndrome,
    system::System,
    vcpu::{Loaded, Vcpu},
    vm::Vm,
};
use drivers_bcm2836::{
    Core as GuestCore, LocalInterrupt, armctrl, local,
    model::{Block, Model},
};
use hv_abi::{ids::Ipa, paravirt};
use machine::Machine;
use vtimer::TimerState;

/// Most vCPUs that a VM with these controllers has.
pub(crate) const CPUS: u32 = 4;
/// Banks of the legacy controller.
const BANKS: usize = 3;
/// The legacy controller's first number among the machine's interrupts ([`machine::Interrupt::number`]).
const LEGACY: u32 = 32;
/// A translation fault of stage 2, at any level: the only one that tells where.
const TRANSLATION_FAULT: u64 = 0b00_0100;

/// Where a VM sees its controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) local: u64,
    pub(crate) legacy: u64,
}

impl Place {
    /// Unless the VM sees the machine's devices: where the local controllers really are, other VMs have memory.
    pub(crate) const USUAL: Self = Self { local: 0x0800_0000, legacy: 0x0801_0000 };

    /// Where the machine's own are.
    pub(crate) fn real(machine: &Machine<'_>) -> Option<Self> {
        let info = machine.bcm2836()?;
        Some(Self { local: info.local.base, legacy: info.legacy?.base })
    }

    /// Which registers are at an address.
    fn block(self, ipa: u64) -> Option<(Block, u64)> {
        let within = |base, size: usize| ipa.checked_sub(base).filter(|offset| *offset < size as u64);
        let local = within(self.local, local::SIZE).map(|offset| (Block::Local, offset));
        local.or_else(|| within(self.legacy, armctrl::SIZE).map(|offset| (Block::Legacy, offset)))
    }
}

/// A VM's controllers.
#[derive(Debug)]
pub(crate) struct Bcm2836 {
    place: Place,
    state: ControllerLock<State>,
}

#[derive(Debug)]
struct State {
    model: Model,
    /// vCPUs whose cores' virtual timers are masked at the physical controller.
    masked: u8,
}

const START: State = State { model: Model::new(), masked: 0 };

/// A vCPU that something happens to, on the core that has loaded it.
#[derive(Clone, Copy)]
struct Here {
    vcpu: &'static Vcpu,
    core: &'static Core,
    own: GuestCore,
}

impl Here {
    fn new(vcpu: &'static Vcpu, core: &'static Core) -> Option<Self> {
        Some(Self { vcpu, core, own: GuestCore::new(vcpu.index().0.into())? })
    }

    /// Lets the VM's other vCPUs know whose lines have risen among those that changed. One whose line has fallen finds nothing pending.
    fn tell(self, model: &Model, changed: u8) {
        let others = changed & !(1 << self.own.number());
        for (index, vcpu) in self.vcpu.vm().vcpus.iter().enumerate() {
            let Some(other) = GuestCore::new(index as u64) else { return };
            if others >> index & 1 != 0 && model.line(other) {
                run::have_look(vcpu, self.core);
            }
        }
    }
}

/// Bank and bit of an interrupt of the machine's legacy controller.
fn input(intid: u32) -> Option<(usize, u32)> {
    let index = intid.checked_sub(LEGACY)?;
    let bank = index as usize / 32;
    (bank < BANKS).then_some((bank, index % 32))
}

/// The interrupts of a bank of which bits are set.
fn each(bank: usize, mut bits: u32) -> impl Iterator<Item = (u32, u32)> {
    core::iter::from_fn(move || {
        let bit = 31_u32.checked_sub(bits.leading_zeros())?;
        bits &= !(1 << bit);
        Some((LEGACY + 32 * bank as u32 + bit, bit))
    })
}

/// Whether the loaded vCPU's timer asserts its interrupt.
fn timer_asserts() -> bool {
    use TimerState as T;
    arch::virtual_timer().0 & (T::ENABLE | T::IMASK | T::ISTATUS) == T::ENABLE | T::ISTATUS
}

impl State {
    /// What has come for the vCPU, and what its timer does. Returns the lines that have changed.
    fn sample(&mut self, here: Here) -> u8 {
        let mut changed = 0;
        while let Some(id) = here.vcpu.irqs.take() {
            if id == paravirt::DEVICE {
                System::get().routes.drain(here.vcpu.vm(), &mut |intid| {
                    if let Some((bank, bit)) = input(intid) {
                        changed |= self.model.set_device(bank, bit, true).lines;
                    }
                });
            }
        }
        let asserted = timer_asserts();
        changed |= self.model.set_line(here.own, LocalInterrupt::VirtualTimer, asserted).lines;
        self.mask_timer(here, asserted);
        changed
    }

    /// Which of the devices that interrupt still do. Returns the lines that have changed.
    fn sample_devices(&mut self, here: Here) -> u8 {
        let mut changed = 0;
        for bank in 0..BANKS {
            for (intid, bit) in each(bank, self.model.pending(bank)) {
                if !System::get().routes.is_still_asserted(intid, here.vcpu, here.core) {
                    changed |= self.model.set_device(bank, bit, false).lines;
                }
            }
        }
        changed
    }

    /// Masks the virtual timer of this core at the physical controller, or no longer.
    fn mask_timer(&mut self, here: Here, mask: bool) {
        let bit = 1 << here.own.number();
        if mask == (self.masked & bit != 0) {
            return;
        }
        self.masked ^= bit;
        let [timer, _] = TIMERS.ids();
        if mask {
            board::disable(timer);
        } else {
            board::enable(timer, here.core.mpidr);
        }
    }
}

impl Bcm2836 {
    /// As at the start.
    pub(crate) fn new(place: Place) -> Self {
        Self { place, state: ControllerLock::new(START) }
    }

    /// Brings the controllers of the loaded vCPU, or of one that is being loaded, up to date. Returns whether it has an interrupt.
    pub(crate) fn update(&self, vcpu: &'static Vcpu, core: &'static Core) -> bool {
        let Some(here) = Here::new(vcpu, core) else { return false };
        let mut state = self.state.lock();
        let changed = state.sample(here);
        here.tell(&state.model, changed);
        state.model.line(here.own)
    }

    /// The vCPU is leaving its core, with its timer.
    pub(crate) fn unload(&self, vcpu: &'static Vcpu, core: &'static Core) {
        let Some(here) = Here::new(vcpu, core) else { return };
        let mut state = self.state.lock();
        let changed = state.sample(here);
        here.tell(&state.model, changed);
        if state.model.line(here.own) {
            vcpu.irqs.set_pending(LOOK);
        }
        state.mask_timer(here, false);
    }

    fn read(&self, here: Here, block: Block, offset: u64, bytes: u8) -> u32 {
        let mut state = self.state.lock();
        if Model::is_live(block, offset) {
            let changed = state.sample(here) | state.sample_devices(here);
            here.tell(&state.model, changed);
        }
        state.model.read(block, offset, bytes)
    }

    fn write(&self, here: Here, block: Block, offset: u64, bytes: u8, value: u32) {
        let mut state = self.state.lock();
        let change = state.model.write(block, offset, bytes, value);
        for (bits, enable) in [(change.disabled, false), (change.enabled, true)] {
            for (bank, bits) in bits.into_iter().enumerate() {
                for (intid, _) in each(bank, bits) {
                    System::get().routes.enable(intid, here.vcpu, here.core, enable);
                }
            }
        }
        here.tell(&state.model, change.lines);
    }
}

/// A vCPU's controllers, if its VM has them.
#[inline(always)]
pub(crate) fn of(vcpu: &Vcpu) -> Option<&'static Bcm2836> {
    if is_possible() { vcpu.vm().bcm2836.as_deref() } else { None }
}

/// Whether a VM can have them.
#[inline(always)]
pub(crate) fn is_possible() -> bool {
    board::emulated()
}

/// The VM starts again.
pub(crate) fn reset(vm: &Vm) {
    if is_possible()
        && let Some(controllers) = &vm.bcm2836
    {
        *controllers.state.lock() = START;
    }
}

/// Who is to have a device's interrupt that is `vcpu`'s VM's: with these controllers, the one they send devices' interrupts to.
pub(crate) fn target(vcpu: &'static Vcpu) -> &'static Vcpu {
    let Some(controllers) = of(vcpu) else { return vcpu };
    let route = controllers.state.lock().model.devices_route();
    vcpu.vm().vcpus.get(route).unwrap_or(vcpu)
}

/// An access to memory that is not there: if it is to the VM's controllers, it is done, and the VM goes on behind it.
pub(crate) fn access(current: &mut Loaded, esr: u64) -> bool {
    let vcpu = current.vcpu();
    let (Some(controllers), Some(here)) = (of(vcpu), Here::new(vcpu, current.core())) else { return false };
    let Some(access) = Syndrome(esr).memory_access().filter(|_| esr & 0b11_1100 == TRANSLATION_FAULT) else {
        return false;
    };
    let ipa = Ipa(arch::fault_ipa() | arch::fault_address() & 0xfff);
    let Some((block, offset)) = controllers.place.block(ipa.0) else { return false };
    let register = usize::from(access.rt.0);
    if access.is_read {
        let value = controllers.read(here, block, offset, access.bytes);
        if let Some(register) = current.regs().x.get_mut(register) {
            *register = value.into();
        }
    } else {
        let value = current.regs().x.get(register).copied().unwrap_or_default();
        controllers.write(here, block, offset, access.bytes, value as u32);
    }
    arch::advance_pc();
    true
}
