//! Both controllers as a guest sees them whose accesses are trapped.
//!
//! A hypervisor on this hardware has nothing to inject interrupts with but one bit, `HCR_EL2.VI`. It keeps a
//! [`Model`] for each VM that expects the real controllers, leaves their pages out of the VM's translation,
//! gives every access that faults to [`read`](Model::read) or [`write`](Model::write), sets the state of its
//! devices and timers, and sets the bit of a vCPU that runs to [`line`](Model::line).
//!
//! Everything is an IRQ: FIQ bits read as zero and are not written, as are registers that the model does not
//! have (the core timer, the local timer, AXI counters). No access fails, whatever its offset, size and
//! value.
//!
//! ```
//! use drivers_bcm2836::{Core, LocalInterrupt, model::{Block, Model}};
//!
//! let mut model = Model::new();
//! let core = Core::new(1).unwrap();
//! model.set_line(core, LocalInterrupt::VirtualTimer, true);
//! assert!(!model.line(core)); // not enabled yet
//! let change = model.write(Block::Local, 0x44, 4, 1 << 3);
//! assert_eq!(change.lines, 0b10); // core 1's line has changed
//! assert!(model.line(core));
//! assert_eq!(model.read(Block::Local, 0x64, 4), 1 << 3);
//! ```
use crate::{
    Core, LocalInterrupt,
    armctrl::{self, MORE, OWN, SHORTCUTS},
    local::{self, IRQ_SOURCE, MAILBOX_CLEAR, MAILBOX_CONTROL, MAILBOX_SET, TIMER_CONTROL},
};

/// Which of the controllers an access is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `brcm,bcm2836-l1-intc`, [`local::SIZE`] bytes.
    Local,
    /// `brcm,bcm2836-armctrl-ic`, [`armctrl::SIZE`] bytes.
    Legacy,
}

/// Changes that an access or an event has caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The cores whose line is another now: bit n for core n.
    pub lines: u8,
    /// Devices that have been enabled since, by bank: the hypervisor lets their interrupts come.
    pub enabled: [u32; 3],
    /// Devices that have been disabled since.
    pub disabled: [u32; 3],
}

/// A guest's controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// The core that devices' interrupts go to.
    route: u32,
    /// Of each core, whether the performance monitors' interrupt is enabled.
    pmu: u32,
    timers: [u32; 4],
    mailbox_controls: [u32; 4],
    mailboxes: [[u32; 4]; 4],
    /// What timers and performance monitors assert, by the bits of source registers.
    asserted: [u32; 4],
    enabled: [u32; 3],
    devices: [u32; 3],
}

/// The local interrupts that are asserted from outside.
const OUTSIDE: u32 = 0b10_0000_1111;

impl Model {
    /// Everything disabled, nothing asserted.
    pub const fn new() -> Self {
        Self {
            route: 0,
            pmu: 0,
            timers: [0; 4],
            mailbox_controls: [0; 4],
            mailboxes: [[0; 4]; 4],
            asserted: [0; 4],
            enabled: [0; 3],
            devices: [0; 3],
        }
    }

    /// Returns the pending device interrupts of a bank, 0 to 2; 0 for other banks.
    pub fn pending(&self, bank: usize) -> u32 {
        self.enabled.get(bank).zip(self.devices.get(bank)).map_or(0, |(enabled, devices)| enabled & devices)
    }

    /// The core that devices' interrupts go to.
    pub fn devices_route(&self) -> usize {
        self.route as usize
    }

    /// Returns whether a read there depends on what is asserted: the hypervisor looks at that first.
    pub const fn is_live(block: Block, offset: u64) -> bool {
        match block {
            Block::Local => offset & !0xf == IRQ_SOURCE as u64,
            Block::Legacy => offset < armctrl::FIQ_CONTROL as u64,
        }
    }

    /// A core's source register.
    fn source(&self, core: usize) -> u32 {
        let mut enabled = self.timers[core] | (self.pmu >> core & 1) << LocalInterrupt::Pmu as u32;
        enabled &= self.asserted[core];
        for (mailbox, bits) in self.mailboxes[core].iter().enumerate() {
            if *bits != 0 && self.mailbox_controls[core] >> mailbox & 1 != 0 {
                enabled |= 1 << (LocalInterrupt::Mailbox0 as usize + mailbox);
            }
        }
        if self.route as usize == core && (0..3).any(|bank| self.pending(bank) != 0) {
            enabled |= 1 << LocalInterrupt::Gpu as u32;
        }
        enabled
    }

    fn basic(&self) -> u32 {
        let mut basic = self.pending(0) & OWN;
        let mut others = [0, self.pending(1), self.pending(2)];
        for (position, (bank, bit)) in SHORTCUTS.into_iter().enumerate() {
            if others[bank] >> bit & 1 != 0 {
                others[bank] &= !(1 << bit);
                basic |= 1 << (10 + position);
            }
        }
        for bank in [1, 2] {
            if others[bank] != 0 {
                basic |= MORE[bank - 1];
            }
        }
        basic
    }

    /// Returns whether a core has an interrupt: `HCR_EL2.VI` of the vCPU that is this core of the guest.
    pub fn line(&self, core: Core) -> bool {
        self.source(core.number()) != 0
    }

    fn lines(&self) -> u8 {
        (0..4).fold(0, |lines, core| lines | u8::from(self.source(core) != 0) << core)
    }

    /// Does something, and returns what that has changed.
    fn change(&mut self, action: impl FnOnce(&mut Self)) -> Change {
        let (lines, enabled) = (self.lines(), self.enabled);
        action(self);
        let by_bank =
            |new: fn(u32, u32) -> u32| core::array::from_fn(|bank| new(enabled[bank], self.enabled[bank]));
        Change {
            lines: lines ^ self.lines(),
            enabled: by_bank(|before, now| now & !before),
            disabled: by_bank(|before, now| before & !now),
        }
    }

    /// A timer's interrupt, or that of the performance monitors, is asserted or no longer. Others are not
    /// asserted from outside.
    pub fn set_line(&mut self, core: Core, interrupt: LocalInterrupt, level: bool) -> Change {
        let bit = 1 << interrupt as u32 & OUTSIDE;
        self.change(|this| set(&mut this.asserted[core.number()], bit, level))
    }

    /// A device's interrupt is asserted or no longer: bit `bit` of bank `bank`.
    pub fn set_device(&mut self, bank: usize, bit: u32, level: bool) -> Change {
        self.change(|this| {
            if let (Some(devices), Some(bit)) = (this.devices.get_mut(bank), 1_u32.checked_shl(bit)) {
                set(devices, bit, level);
            }
        })
    }

    /// A read of `size` bytes.
    pub fn read(&self, block: Block, offset: u64, size: u8) -> u32 {
        if size != 4 || !offset.is_multiple_of(4) {
            return 0;
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match block {
            Block::Local => self.read_local(offset),
            Block::Legacy => match offset {
                armctrl::PENDING => self.basic(),
                0x04 | 0x08 => self.pending(offset / 4),
                // Enable and disable registers read as what is enabled.
                0x10 | 0x1c => self.enabled[1],
                0x14 | 0x20 => self.enabled[2],
                0x18 | 0x24 => self.enabled[0],
                _ => 0,
            },
        }
    }

    fn read_local(&self, offset: usize) -> u32 {
        let core = offset / 4 % 4;
        match offset & !0xf {
            0 if offset == local::GPU_ROUTING => self.route,
            0x10 if offset == local::PMU_SET => self.pmu,
            TIMER_CONTROL => self.timers[core],
            MAILBOX_CONTROL => self.mailbox_controls[core],
            IRQ_SOURCE => self.source(core),
            MAILBOX_CLEAR..0x100 => self.mailboxes[(offset - MAILBOX_CLEAR) / 16][core],
            _ => 0,
        }
    }

    /// A write of `size` bytes.
    pub fn write(&mut self, block: Block, offset: u64, size: u8, value: u32) -> Change {
        if size != 4 || !offset.is_multiple_of(4) {
            return Change::default();
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.change(|this| match block {
            Block::Local => this.write_local(offset, value),
            Block::Legacy => match offset {
                0x10 | 0x14 => this.enabled[(offset - 0xc) / 4] |= value,
                0x18 => this.enabled[0] |= value & OWN,
                0x1c | 0x20 => this.enabled[(offset - 0x18) / 4] &= !value,
                0x24 => this.enabled[0] &= !value,
                _ => {}
            },
        })
    }

    fn write_local(&mut self, offset: usize, value: u32) {
        let core = offset / 4 % 4;
        match offset & !0xf {
            0 if offset == local::GPU_ROUTING => self.route = value & 3,
            0x10 if offset == local::PMU_SET => self.pmu |= value & 0xf,
            0x10 if offset == local::PMU_CLEAR => self.pmu &= !value,
            TIMER_CONTROL => self.timers[core] = value & 0xf,
            MAILBOX_CONTROL => self.mailbox_controls[core] = value & 0xf,
            MAILBOX_SET..MAILBOX_CLEAR => self.mailboxes[(offset - MAILBOX_SET) / 16][core] |= value,
            MAILBOX_CLEAR..0x100 => self.mailboxes[(offset - MAILBOX_CLEAR) / 16][core] &= !value,
            _ => {}
        }
    }
}

fn set(word: &mut u32, bit: u32, level: bool) {
    if level {
        *word |= bit;
    } else {
        *word &= !bit;
    }
}
