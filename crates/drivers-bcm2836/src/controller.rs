//! Both controllers, with one numbering.
use crate::{Armctrl, Core, Local, LocalInterrupt, Mmio, MmioBlock};

/// The number of the interrupt that [`Controller::send_ipi`] causes: mailbox 0.
pub const IPI: u32 = LocalInterrupt::Mailbox0 as u32;

/// The first number of the legacy controller.
const LEGACY: u32 = 32;

/// The local controllers, and the legacy one behind them if the machine's kernel is to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller<M: Mmio = MmioBlock> {
    local: Local<M>,
    legacy: Option<Armctrl<M>>,
}

impl Controller {
    /// The controllers at these addresses.
    ///
    /// # Safety
    /// As for [`MmioBlock::new`], for both.
    pub const unsafe fn new(local: usize, legacy: Option<usize>) -> Self {
        // SAFETY: the caller vouches for both.
        unsafe {
            Self {
                local: Local::new(local),
                legacy: match legacy {
                    Some(base) => Some(Armctrl::new(base)),
                    None => None,
                },
            }
        }
    }
}

impl<M: Mmio> Controller<M> {
    /// As [`Controller::new`], for registers reached in another way.
    pub const fn with_mmio(local: M, legacy: Option<M>) -> Self {
        Self {
            local: Local(local),
            legacy: match legacy {
                Some(mmio) => Some(Armctrl(mmio)),
                None => None,
            },
        }
    }

    /// The local controllers alone.
    #[inline]
    pub const fn local(&self) -> &Local<M> {
        &self.local
    }

    /// Disables all devices' interrupts, and sends them to `core` from now on. Once, before any
    /// [`init_core`](Self::init_core).
    pub fn init(&self, core: Core) {
        if let Some(legacy) = &self.legacy {
            legacy.init();
        }
        self.local.route_devices(core);
    }

    /// Disables everything that is the calling core's, but the IPI.
    pub fn init_core(&self, this: Core) {
        self.local.init_core(this);
        self.local.enable(this, LocalInterrupt::Mailbox0, true);
    }

    /// An interrupt that is asserted and enabled on the calling core, the lowest number first. It stays so
    /// until what asserts it is quieted, or it is disabled.
    #[inline]
    pub fn next(&self, this: Core) -> Option<u32> {
        let pending = self.local.pending(this);
        let devices = 1 << LocalInterrupt::Gpu as u32;
        match pending & !devices {
            0 if pending == 0 => None,
            0 => self.legacy.as_ref()?.next().map(|(bank, bit)| LEGACY + 32 * bank as u32 + bit),
            others => Some(others.trailing_zeros()),
        }
    }

    /// Returns whether a device's interrupt, by its number, is asserted and enabled.
    pub fn is_device_pending(&self, number: u32) -> bool {
        let index = number.checked_sub(LEGACY);
        self.legacy
            .as_ref()
            .zip(index)
            .is_some_and(|(legacy, index)| legacy.is_pending(index as usize / 32, index % 32))
    }

    fn switch(&self, this: Core, number: u32, enable: bool) {
        if let Some(interrupt) = LocalInterrupt::new(number) {
            self.local.enable(this, interrupt, enable);
        } else if let (Some(legacy), Some(index)) = (&self.legacy, number.checked_sub(LEGACY)) {
            legacy.enable(index as usize / 32, index % 32, enable);
        }
    }

    /// Lets an interrupt come: a private one to the calling core.
    pub fn enable(&self, this: Core, number: u32) {
        self.switch(this, number, true);
    }

    /// Masks an interrupt.
    pub fn disable(&self, this: Core, number: u32) {
        self.switch(this, number, false);
    }

    /// Interrupts another core, or this one, with [`IPI`].
    pub fn send_ipi(&self, to: Core) {
        self.local.send_ipi(to, 1);
    }
}
