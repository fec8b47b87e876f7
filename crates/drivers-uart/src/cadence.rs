//! The Cadence UART of Zynq and Zynq UltraScale+.
//!
//! Source: AMD, *Zynq-7000 SoC Technical Reference Manual* (UG585), chapter 19 and appendix B.33; *Zynq
//! UltraScale+ Devices Register Reference* (UG1087), module `UART`.
use crate::{Console, InitError, Mmio, MmioBlock, PATIENCE, SerialPort, Speed, Width};

/// `Control`.
const CR: usize = 0x00;
/// `Mode`.
const MR: usize = 0x04;
/// `Intrpt_en`: writing ones enables.
const IER: usize = 0x08;
/// `Intrpt_dis`: writing ones disables.
const IDR: usize = 0x0c;
/// `Intrpt_mask`: what is enabled.
const IMR: usize = 0x10;
/// `Chnl_int_sts`: what has happened; stays until a one is written.
const ISR: usize = 0x14;
/// `Baud_rate_gen`: the clock's first division.
const BAUDGEN: usize = 0x18;
/// `Rcvr_timeout`; 0 for none.
const RXTOUT: usize = 0x1c;
/// `Rcvr_FIFO_trigger_level`.
const RXWM: usize = 0x20;
/// `Channel_sts`.
const SR: usize = 0x2c;
/// `TX_RX_FIFO`.
const FIFO: usize = 0x30;
/// `Baud_rate_divider`: the clock's second division.
const BAUDDIV: usize = 0x34;

/// `Control`: both directions emptied; the bits clear themselves.
const CR_RESET: u32 = 0b11;
/// `Control`: receiver and transmitter on.
const CR_ON: u32 = 1 << 2 | 1 << 4;
/// `Control`: receiver and transmitter off.
const CR_OFF: u32 = 1 << 3 | 1 << 5;
/// `Mode`: eight bits, no parity (bits 5 to 3), one stop bit, the undivided clock.
const MR_8N1: u32 = 0b100 << 3;
/// `Channel_sts.REMPTY`: nothing has arrived.
const SR_RX_EMPTY: u32 = 1 << 1;
/// `Channel_sts.TEMPTY`: nothing waits to be sent.
const SR_TX_EMPTY: u32 = 1 << 3;
/// `Channel_sts.TFUL`: no room for another byte.
const SR_TX_FULL: u32 = 1 << 4;
/// `Channel_sts.TACTIVE`: a byte is leaving.
const SR_TX_ACTIVE: u32 = 1 << 11;
/// `Intrpt_*.RTRIG`: as many bytes as the trigger level have arrived.
const INTERRUPT_RECEIVE: u32 = 1 << 0;
const INTERRUPT_ALL: u32 = 0x3fff;

/// A Cadence UART (`cdns,uart-r1p8`, `cdns,uart-r1p12`, `xlnx,xuartps`).
///
/// It reports damage as something that has happened, not of which byte, so that damaged bytes come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence<M: Mmio = MmioBlock> {
    mmio: M,
}

impl Cadence {
    /// The UART whose registers are at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy is used, the registers of a Cadence UART (4 KiB) are mapped at
    /// `base` as device memory, readable and writable, and nothing but such values drives it.
    pub const unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self { mmio: unsafe { MmioBlock::new(base) } }
    }
}

impl<M: Mmio> Cadence<M> {
    /// As [`Cadence::new`], for registers reached in another way.
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

    fn is_idle(&self) -> bool {
        self.read(SR) & (SR_TX_EMPTY | SR_TX_ACTIVE) == SR_TX_EMPTY
    }
}

impl<M: Mmio> Console for Cadence<M> {
    fn write_byte(&self, byte: u8) {
        while self.read(SR) & SR_TX_FULL != 0 {
            core::hint::spin_loop();
        }
        self.write_register(FIFO, u32::from(byte));
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(byte) = bytes.get(written).filter(|_| self.read(SR) & SR_TX_FULL == 0) {
            self.write_register(FIFO, u32::from(*byte));
            written += 1;
        }
        written
    }

    fn read_byte(&self) -> Option<u8> {
        (self.read(SR) & SR_RX_EMPTY == 0).then(|| self.read(FIFO) as u8)
    }

    fn flush(&self) {
        while !self.is_idle() {
            core::hint::spin_loop();
        }
    }

    fn switch_on(&self) {
        let control = self.read(CR);
        if control & (CR_ON | CR_OFF) != CR_ON {
            self.write_register(CR, control & !(CR_OFF | CR_RESET) | CR_ON);
        }
    }
}

impl<M: Mmio> SerialPort for Cadence<M> {
    fn init(&self, speed: Speed) -> Result<(), InitError> {
        let divisor = speed.cadence()?;
        for _ in 0..PATIENCE {
            if self.is_idle() {
                break;
            }
        }
        // UG585, 19.3.1: the divisors may be changed while both directions are off, which are reset
        // afterwards.
        self.write_register(CR, CR_OFF);
        self.write_register(IDR, INTERRUPT_ALL);
        self.write_register(BAUDGEN, u32::from(divisor.generator));
        self.write_register(BAUDDIV, u32::from(divisor.divider));
        self.write_register(MR, MR_8N1);
        self.write_register(CR, CR_OFF | CR_RESET);
        for _ in 0..PATIENCE {
            if self.read(CR) & CR_RESET == 0 {
                break;
            }
        }
        self.write_register(RXTOUT, 0);
        self.write_register(RXWM, 1);
        self.write_register(ISR, INTERRUPT_ALL);
        self.write_register(CR, CR_ON);
        Ok(())
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.write_register(IDR, INTERRUPT_ALL);
        if on {
            self.write_register(RXWM, 1);
            self.write_register(IER, INTERRUPT_RECEIVE);
        }
    }

    fn receive_interrupt_pending(&self) -> bool {
        self.read(ISR) & self.read(IMR) & INTERRUPT_RECEIVE != 0
    }

    fn clear_receive_interrupt(&self) {
        self.write_register(ISR, INTERRUPT_RECEIVE);
    }
}
