//! The Arm PrimeCell UART.
//!
//! Source: *PrimeCell UART (PL011) Technical Reference Manual* (DDI 0183), chapter 3, cited as "TRM".
use crate::Console;
use core::ptr::NonNull;
use safe_mmio::{
    UniqueMmioPointer,
    fields::{ReadPure, ReadWrite, WriteOnly},
};

/// `UARTDR`, data (TRM, 3.3.1).
const DR: usize = 0x00;
/// `UARTFR`, flags (3.3.3).
const FR: usize = 0x18;
/// `UARTIMSC`, interrupt mask (3.3.10).
const IMSC: usize = 0x38;
/// `UARTICR`, interrupt clear (3.3.13).
const ICR: usize = 0x44;

/// `UARTFR.BUSY`: bits are still leaving.
const FR_BUSY: u32 = 1 << 3;
/// `UARTFR.RXFE`: nothing has arrived.
const FR_RXFE: u32 = 1 << 4;
/// `UARTFR.TXFF`: no room for another byte.
const FR_TXFF: u32 = 1 << 5;
/// `UARTDR.FE`, `PE` and `BE`: the byte arrived damaged. Overrun (bit 11) spoils the bytes after it, not this one.
const DR_DAMAGED: u32 = 0b111 << 8;
/// `UARTIMSC.RXIM` and `RTIM`: a byte has arrived, or waits for a while in a FIFO that is not full enough.
const INTERRUPT_RECEIVE: u32 = 1 << 4 | 1 << 6;

/// A PL011 that firmware has set up.
///
/// `arm-pl011-uart` wants to be the only owner of the registers, which a console shared by cores and panic handlers
/// cannot promise; what is needed of the device is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pl011 {
    base: usize,
}

impl Pl011 {
    /// The UART whose registers are at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy is used, the registers of a PL011 (4 KiB) are mapped at `base` as device memory,
    /// readable and writable, and nothing but such values drives it.
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    #[inline]
    fn register<T>(self, offset: usize) -> UniqueMmioPointer<'static, T> {
        let pointer = core::ptr::with_exposed_provenance_mut::<T>(self.base + offset);
        // SAFETY: the caller of `new` vouches for the mapping, which begins above address zero. The pointer lives for one
        // access only, and one access to a device register is indivisible.
        unsafe { UniqueMmioPointer::new(NonNull::new_unchecked(pointer)) }
    }

    #[inline]
    fn flags(self) -> u32 {
        self.register::<ReadPure<u32>>(FR).read()
    }

    /// Raises an interrupt when a byte has arrived, or no longer.
    pub fn set_receive_interrupt(&self, on: bool) {
        self.register::<WriteOnly<u32>>(IMSC).write(if on { INTERRUPT_RECEIVE } else { 0 });
    }

    /// Takes the interrupt back. Reading all bytes does so too, except for a time-out that is still on its way.
    pub fn clear_interrupts(&self) {
        self.register::<WriteOnly<u32>>(ICR).write(0x7ff);
    }
}

impl Console for Pl011 {
    fn write_byte(&self, byte: u8) {
        while self.flags() & FR_TXFF != 0 {
            core::hint::spin_loop();
        }
        self.register::<WriteOnly<u32>>(DR).write(u32::from(byte));
    }

    fn read_byte(&self) -> Option<u8> {
        while self.flags() & FR_RXFE == 0 {
            let data = self.register::<ReadWrite<u32>>(DR).read();
            if data & DR_DAMAGED == 0 {
                return Some(data as u8);
            }
        }
        None
    }

    fn flush(&self) {
        while self.flags() & FR_BUSY != 0 {
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// Registers in memory: flags stay as they are put, and the data register keeps what was last written.
    #[repr(C, align(4096))]
    struct Registers([Cell<u32>; 1024]);

    impl Registers {
        fn new() -> Self {
            Self([const { Cell::new(0) }; 1024])
        }

        fn at(&self, offset: usize) -> &Cell<u32> {
            &self.0[offset / 4]
        }

        fn uart(&self) -> Pl011 {
            // SAFETY: the memory is the test's own, may change behind a shared reference, and outlives the driver.
            unsafe { Pl011::new(self.0.as_ptr().expose_provenance()) }
        }
    }

    #[test]
    fn writes_go_to_the_data_register() {
        let registers = Registers::new();
        let uart = registers.uart();
        uart.write(b"ok");
        uart.flush();
        uart.set_receive_interrupt(true);
        uart.clear_interrupts();
        assert_eq!(registers.at(DR).get(), u32::from(b'k'));
        assert_eq!(registers.at(IMSC).get(), 1 << 6 | 1 << 4);
        assert_eq!(registers.at(ICR).get(), 0x7ff);
    }

    #[test]
    fn reads_what_has_arrived() {
        let registers = Registers::new();
        registers.at(DR).set(u32::from(b'x') | 1 << 11);
        assert_eq!(registers.uart().read_byte(), Some(b'x'), "an overrun does not spoil the byte");
        registers.at(FR).set(FR_RXFE);
        assert_eq!(registers.uart().read_byte(), None);
    }
}
