//! The power-management block of BCM2835 to BCM2711, of which the watchdog is the only way to reset the
//! machine. There is none to switch it off: a partition number that does not exist makes the boot loader stop
//! in place of booting again.
//!
//! Broadcom has not documented the block. Source: the binding `watchdog/brcm,bcm2835-pm-wdog.yaml` (where it
//! is), and how Linux and the boot loader use it.

use mmio_block::Words;

/// Offsets of the registers: reset control, reset status, watchdog.
pub const RSTC: usize = 0x1c;
/// See [`RSTC`].
pub const RSTS: usize = 0x20;
/// See [`RSTC`].
pub const WDOG: usize = 0x24;

/// A write without this in its upper byte does nothing.
pub const PASSWORD: u32 = 0x5a00_0000;
/// `RSTC`: what happens when the watchdog runs out, and that it is to be a full reset.
const CONFIGURATION: u32 = 0x30;
const FULL_RESET: u32 = 0x20;
/// `RSTS`: the bits with the partition to boot from, every other one of the lower twelve. All of them: stop.
const PARTITION: u32 = 0x555;
/// About 150 microseconds, in ticks of 16.
const SOON: u32 = 10;

/// Power management block of the BCM2835: reset and watchdog.
#[derive(Clone, Copy, Debug)]
pub struct PowerManagement<R>(pub R);

impl<R: Words> PowerManagement<R> {
    /// Resets the machine, in a moment: the caller waits.
    pub fn reset(&self) {
        self.restart_from(0);
    }

    /// Stops the machine, in a moment: the caller waits. It stays on, and does nothing, until its power is
    /// cut.
    pub fn halt(&self) {
        self.restart_from(PARTITION);
    }

    fn restart_from(&self, partition: u32) {
        let registers = &self.0;
        let keep = |offset, mask: u32| registers.read(offset) & !mask & !0xff00_0000;
        registers.write(RSTS, PASSWORD | keep(RSTS, PARTITION) | partition);
        registers.write(WDOG, PASSWORD | SOON);
        registers.write(RSTC, PASSWORD | keep(RSTC, CONFIGURATION) | FULL_RESET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, vec, vec::Vec};

    /// Offset and value.
    type Write = (usize, u32);

    /// Writes in order, and what `RSTS` and `RSTC` hold; without the password nothing is written.
    struct Model(RefCell<(Vec<Write>, u32, u32)>);

    impl Words for &Model {
        fn read(&self, offset: usize) -> u32 {
            let model = self.0.borrow();
            match offset {
                RSTS => model.1,
                RSTC => model.2,
                _ => 0,
            }
        }

        fn write(&self, offset: usize, value: u32) {
            assert_eq!(value & 0xff00_0000, PASSWORD, "ignored by the hardware");
            self.0.borrow_mut().0.push((offset, value & !0xff00_0000));
        }
    }

    fn writes(partition: u32, control: u32, action: impl Fn(PowerManagement<&Model>)) -> Vec<Write> {
        let model = Model(RefCell::new((vec![], partition, control)));
        action(PowerManagement(&model));
        model.0.into_inner().0
    }

    #[test]
    fn partition_number_selects_halt() {
        let stop = writes(0x1000, 0x102, |pm| pm.halt());
        assert_eq!(stop, [(RSTS, 0x1555), (WDOG, SOON), (RSTC, 0x122)]);
        // What an attempt to stop has left there does not stop a reset.
        let reset = writes(0x1555, 0x112, |pm| pm.reset());
        assert_eq!(reset, [(RSTS, 0x1000), (WDOG, SOON), (RSTC, 0x122)]);
    }

    #[test]
    fn does_not_write_back_password_bits() {
        let stop = writes(0xa500_0000, 0xff00_0000, |pm| pm.halt());
        assert_eq!(stop, [(RSTS, 0x555), (WDOG, SOON), (RSTC, 0x20)]);
    }
}
