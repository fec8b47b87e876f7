//! The local controller: QA7, chapter 4.
use crate::{Mmio, MmioBlock};

/// Bytes of its registers.
pub const SIZE: usize = 0x100;

// QA7, 4.
pub(crate) const GPU_ROUTING: usize = 0x0c;
pub(crate) const PMU_SET: usize = 0x10;
pub(crate) const PMU_CLEAR: usize = 0x14;
/// One word for each core, here and below.
pub(crate) const TIMER_CONTROL: usize = 0x40;
pub(crate) const MAILBOX_CONTROL: usize = 0x50;
pub(crate) const IRQ_SOURCE: usize = 0x60;
/// Four words for each core, one a mailbox.
pub(crate) const MAILBOX_SET: usize = 0x80;
pub(crate) const MAILBOX_CLEAR: usize = 0xc0;

/// What of a source register is an interrupt that [`LocalInterrupt`] knows.
pub(crate) const KNOWN: u32 = 0x3ff;

/// A core, 0 to 3: Aff0 of its MPIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core(u8);

impl Core {
    /// Core `number`, if there is one.
    pub const fn new(number: u64) -> Option<Self> {
        if number < 4 { Some(Self(number as u8)) } else { None }
    }

    /// Returns the number of the core.
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// An input of a core's local controller, by its bit in the source registers (QA7, 4.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LocalInterrupt {
    /// Secure EL1 physical timer.
    SecureTimer = 0,
    /// Non-secure EL1 physical timer.
    PhysicalTimer = 1,
    /// EL2 physical timer.
    HypervisorTimer = 2,
    /// EL1 virtual timer.
    VirtualTimer = 3,
    /// Mailboxes.
    Mailbox0 = 4,
    /// As above.
    Mailbox1 = 5,
    /// As above.
    Mailbox2 = 6,
    /// As above.
    Mailbox3 = 7,
    /// The legacy controller's line.
    Gpu = 8,
    /// Performance monitors.
    Pmu = 9,
}

impl LocalInterrupt {
    /// The input with a number, as in the device tree.
    pub const fn new(number: u32) -> Option<Self> {
        const ALL: [LocalInterrupt; 10] = [
            LocalInterrupt::SecureTimer,
            LocalInterrupt::PhysicalTimer,
            LocalInterrupt::HypervisorTimer,
            LocalInterrupt::VirtualTimer,
            LocalInterrupt::Mailbox0,
            LocalInterrupt::Mailbox1,
            LocalInterrupt::Mailbox2,
            LocalInterrupt::Mailbox3,
            LocalInterrupt::Gpu,
            LocalInterrupt::Pmu,
        ];
        if number < 10 { Some(ALL[number as usize]) } else { None }
    }
}

/// The local controllers of all four cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local<M: Mmio = MmioBlock>(pub(crate) M);

impl Local {
    /// The controllers at address `base`.
    ///
    /// # Safety
    /// As for [`MmioBlock::new`].
    pub const unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { MmioBlock::new(base) })
    }
}

impl<M: Mmio> Local<M> {
    /// As [`Local::new`], for registers reached in another way.
    pub const fn with_mmio(mmio: M) -> Self {
        Self(mmio)
    }

    /// Disables everything that is the calling core's, as IRQ and as FIQ, and empties its mailboxes.
    pub fn init_core(&self, this: Core) {
        self.0.write(TIMER_CONTROL + 4 * this.number(), 0);
        self.0.write(MAILBOX_CONTROL + 4 * this.number(), 0);
        self.0.write(PMU_CLEAR, 0x11 << this.number());
        for mailbox in 0..4 {
            self.0.write(MAILBOX_CLEAR + 16 * this.number() + 4 * mailbox, u32::MAX);
        }
    }

    /// Lets an interrupt come to the calling core as IRQ, or no longer. The legacy controller's line has no
    /// switch: see [`route_devices`](Self::route_devices).
    pub fn enable(&self, this: Core, interrupt: LocalInterrupt, enable: bool) {
        let bit = interrupt as u32;
        let (register, mask) = match bit {
            0..=3 => (TIMER_CONTROL, 1 << bit),
            4..=7 => (MAILBOX_CONTROL, 1 << (bit - 4)),
            9 => {
                self.0.write(if enable { PMU_SET } else { PMU_CLEAR }, 1 << this.number());
                return;
            }
            _ => return,
        };
        let register = register + 4 * this.number();
        let value = self.0.read(register);
        self.0.write(register, if enable { value | mask } else { value & !mask });
    }

    /// Sends the legacy controller's interrupts to a core, as IRQ; nothing goes anywhere as FIQ unless that
    /// controller is set up so (QA7, 4.2).
    pub fn route_devices(&self, core: Core) {
        self.0.write(GPU_ROUTING, core.number() as u32);
    }

    /// The core that they go to.
    pub fn devices_route(&self) -> usize {
        (self.0.read(GPU_ROUTING) & 3) as usize
    }

    /// Returns the pending interrupts of a core: bits as in [`LocalInterrupt`].
    #[inline]
    pub fn pending(&self, core: Core) -> u32 {
        self.0.read(IRQ_SOURCE + 4 * core.number()) & KNOWN
    }

    /// Sets bits of another core's mailbox 0, which interrupts it if it has enabled that. What was written to
    /// memory before is visible to the receiver.
    pub fn send_ipi(&self, to: Core, bits: u32) {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a barrier.
        unsafe {
            core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
        }
        self.0.write(MAILBOX_SET + 16 * to.number(), bits);
    }

    /// Empties the calling core's mailbox 0; returns what was in it.
    #[inline]
    pub fn take_ipis(&self, this: Core) -> u32 {
        let register = MAILBOX_CLEAR + 16 * this.number();
        let bits = self.0.read(register);
        // Only these: what arrives in between interrupts again.
        self.0.write(register, bits);
        bits
    }
}
