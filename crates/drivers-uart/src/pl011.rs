//! The Arm PrimeCell UART.
//!
//! Source: *PrimeCell UART (PL011) Technical Reference Manual* (DDI 0183), chapter 3, cited as "TRM".
use crate::{Console, InitError, Mmio, MmioBlock, PATIENCE, SerialPort, Speed, Width};

/// `UARTDR`, data (TRM, 3.3.1).
const DR: usize = 0x00;
/// `UARTFR`, flags (3.3.3).
const FR: usize = 0x18;
/// `UARTIBRD`, integer part of the divisor (3.3.5).
const IBRD: usize = 0x24;
/// `UARTFBRD`, its fraction (3.3.6).
const FBRD: usize = 0x28;
/// `UARTLCR_H`, line control (3.3.7).
const LCR_H: usize = 0x2c;
/// `UARTCR`, control (3.3.8).
const CR: usize = 0x30;
/// `UARTIMSC`, interrupt mask (3.3.10).
const IMSC: usize = 0x38;
/// `UARTMIS`, interrupts that are raised and not masked (3.3.12).
const MIS: usize = 0x40;
/// `UARTICR`, interrupt clear (3.3.13).
const ICR: usize = 0x44;

/// `UARTFR.BUSY`: bits are still leaving.
const FR_BUSY: u32 = 1 << 3;
/// `UARTFR.RXFE`: nothing has arrived.
const FR_RXFE: u32 = 1 << 4;
/// `UARTFR.TXFF`: no room for another byte.
const FR_TXFF: u32 = 1 << 5;
/// `UARTDR.FE`, `PE` and `BE`: the byte arrived damaged. Overrun (bit 11) spoils the bytes after it, not this
/// one.
const DR_DAMAGED: u32 = 0b111 << 8;
/// `UARTIMSC.RXIM` and `RTIM`: a byte has arrived, or waits for a while in a FIFO that is not full enough.
const INTERRUPT_RECEIVE: u32 = 1 << 4 | 1 << 6;
const INTERRUPT_ALL: u32 = 0x7ff;
/// `UARTLCR_H`: words of eight bits, FIFOs on; no parity, one stop bit.
const LCR_H_8N1: u32 = 0b11 << 5 | 1 << 4;
/// `UARTCR`: on, both directions, `DTR` and `RTS` asserted; no flow control by hardware.
const CR_ON: u32 = 1 | 0b1111 << 8;

/// A PL011, or the part of it that the Arm Server Base System Architecture asks for ("generic UART").
///
/// The generic UART has neither speed nor control registers: [`init`](SerialPort::init) is for a whole PL011.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pl011<M: Mmio = MmioBlock> {
    mmio: M,
}

impl Pl011 {
    /// The UART whose registers are at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy is used, the registers of a PL011 (4 KiB) are mapped at `base` as
    /// device memory, readable and writable, and nothing but such values drives it.
    pub const unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self { mmio: unsafe { MmioBlock::new(base) } }
    }
}

impl<M: Mmio> Pl011<M> {
    /// As [`Pl011::new`], for registers reached in another way.
    pub const fn with_mmio(mmio: M) -> Self {
        Self { mmio }
    }

    #[inline]
    fn read(&self, offset: usize) -> u32 {
        self.mmio.read(offset, Width::Word)
    }

    #[inline]
    fn write_register(&self, offset: usize, value: u32) {
        self.mmio.write(offset, Width::Word, value);
    }
}

impl<M: Mmio> Console for Pl011<M> {
    fn write_byte(&self, byte: u8) {
        while self.read(FR) & FR_TXFF != 0 {
            core::hint::spin_loop();
        }
        self.write_register(DR, u32::from(byte));
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(byte) = bytes.get(written).filter(|_| self.read(FR) & FR_TXFF == 0) {
            self.write_register(DR, u32::from(*byte));
            written += 1;
        }
        written
    }

    fn read_byte(&self) -> Option<u8> {
        while self.read(FR) & FR_RXFE == 0 {
            let data = self.read(DR);
            if data & DR_DAMAGED == 0 {
                return Some(data as u8);
            }
        }
        None
    }

    fn flush(&self) {
        while self.read(FR) & FR_BUSY != 0 {
            core::hint::spin_loop();
        }
    }
}

impl<M: Mmio> SerialPort for Pl011<M> {
    fn init(&self, speed: Speed) -> Result<(), InitError> {
        let divisor = speed.pl011()?;
        for _ in 0..PATIENCE {
            if self.read(FR) & FR_BUSY == 0 {
                break;
            }
        }
        // TRM, 3.3.8: off, FIFOs flushed, changed, on. The divisor takes effect with the write of `UARTLCR_H`
        // (3.3.6).
        self.write_register(CR, 0);
        self.write_register(LCR_H, 0);
        self.write_register(IBRD, u32::from(divisor.integer));
        self.write_register(FBRD, u32::from(divisor.fraction));
        self.write_register(LCR_H, LCR_H_8N1);
        self.write_register(IMSC, 0);
        self.write_register(ICR, INTERRUPT_ALL);
        self.write_register(CR, CR_ON);
        Ok(())
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.write_register(IMSC, if on { INTERRUPT_RECEIVE } else { 0 });
    }

    fn receive_interrupt_pending(&self) -> bool {
        self.read(MIS) & INTERRUPT_RECEIVE != 0
    }

    /// Reading all bytes takes the interrupt back too, except for a time-out that is still on its way.
    fn clear_receive_interrupt(&self) {
        self.write_register(ICR, INTERRUPT_RECEIVE);
    }
}
