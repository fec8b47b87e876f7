//! The legacy controller: BCM2835 ARM Peripherals, chapter 7.
use crate::{Mmio, MmioBlock};

/// Bytes of its registers.
pub const SIZE: usize = 0x200;

/// Basic pending; pending 1 and 2 follow.
pub(crate) const PENDING: usize = 0x00;
pub(crate) const FIQ_CONTROL: usize = 0x0c;
/// Enable 1, enable 2, enable basic.
pub(crate) const ENABLE: usize = 0x10;
/// In the same order.
pub(crate) const DISABLE: usize = 0x1c;

/// Basic pending: the bits of bank 0.
pub(crate) const OWN: u32 = 0xff;
/// Basic pending: something in pending 1, or in pending 2, that has no bit of its own there.
pub(crate) const MORE: [u32; 2] = [1 << 8, 1 << 9];
/// Basic pending: bits 10 to 20 are these, by bank and bit; they are in pending 1 and 2 as well (7.5, "IRQ
/// basic pending").
pub(crate) const SHORTCUTS: [(usize, u32); 11] =
    [(1, 7), (1, 9), (1, 10), (1, 18), (1, 19), (2, 21), (2, 22), (2, 23), (2, 24), (2, 25), (2, 30)];

/// Where the enable or disable bit of a bank is, from the first of its three registers.
const fn place(bank: usize) -> usize {
    match bank {
        0 => 8,
        bank => 4 * (bank - 1),
    }
}

/// The controller of BCM2835's peripherals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armctrl<M: Mmio = MmioBlock>(pub(crate) M);

impl Armctrl {
    /// The controller at address `base`.
    ///
    /// # Safety
    /// As for [`MmioBlock::new`].
    pub const unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { MmioBlock::new(base) })
    }
}

impl<M: Mmio> Armctrl<M> {
    /// As [`Armctrl::new`], for registers reached in another way.
    pub const fn with_mmio(mmio: M) -> Self {
        Self(mmio)
    }

    /// Disables everything, FIQ too.
    pub fn init(&self) {
        self.0.write(FIQ_CONTROL, 0);
        for bank in 0..3 {
            self.0.write(DISABLE + place(bank), u32::MAX);
        }
    }

    /// Enables or disables bit `bit` of bank `bank`; what there is not, is left alone.
    pub fn enable(&self, bank: usize, bit: u32, enable: bool) {
        if bank < 3 && bit < 32 {
            self.0.write(if enable { ENABLE } else { DISABLE } + place(bank), 1 << bit);
        }
    }

    /// Returns whether an interrupt, bit `bit` of bank `bank`, is asserted and enabled.
    pub fn is_pending(&self, bank: usize, bit: u32) -> bool {
        let known = if bank == 0 { OWN } else { u32::MAX };
        bank < 3 && bit < 32 && self.0.read(PENDING + 4 * bank) & known & 1 << bit != 0
    }

    /// An interrupt that is asserted and enabled: bank and bit.
    pub fn next(&self) -> Option<(usize, u32)> {
        let basic = self.0.read(PENDING);
        if basic & OWN != 0 {
            return Some((0, (basic & OWN).trailing_zeros()));
        }
        let shortcut = (basic >> 10).trailing_zeros() as usize;
        if let Some(found) = SHORTCUTS.get(shortcut) {
            return Some(*found);
        }
        (1..3).filter(|bank| basic & MORE[bank - 1] != 0).find_map(|bank| {
            let pending = self.0.read(PENDING + 4 * bank);
            (pending != 0).then(|| (bank, pending.trailing_zeros()))
        })
    }
}
