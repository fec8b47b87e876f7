//! The mini UART of BCM2835 and later.
//!
//! Source: *BCM2835 ARM Peripherals*, 2.2 "Mini UART", with the corrections that its readers have collected
//! (BCM2835 datasheet errata, elinux.org), cited as "errata".
use crate::{Console, InitError, Mmio, MmioBlock, PATIENCE, SerialPort, Speed, Width};

/// `AUX_MU_IO`: data.
const IO: usize = 0x00;
/// `AUX_MU_IER`: interrupt enable.
const IER: usize = 0x04;
/// `AUX_MU_IIR`: interrupt identification for reads, FIFOs' emptying for writes.
const IIR: usize = 0x08;
/// `AUX_MU_LCR`: line control.
const LCR: usize = 0x0c;
/// `AUX_MU_MCR`: modem control.
const MCR: usize = 0x10;
/// `AUX_MU_LSR`: line status.
const LSR: usize = 0x14;
/// `AUX_MU_CNTL`: receiver, transmitter and flow control.
const CNTL: usize = 0x20;
/// `AUX_MU_BAUD`: the divisor.
const BAUD: usize = 0x28;

/// `LSR`: a byte has arrived.
const LSR_DATA: u32 = 1 << 0;
/// `LSR`: room for a byte.
const LSR_ROOM: u32 = 1 << 5;
/// `LSR`: FIFO and shift register are empty.
const LSR_IDLE: u32 = 1 << 6;
/// `IER`: an interrupt when a byte has arrived. The document has bits 0 and 1 the wrong way round, and calls
/// bits 2 and 3 unimportant, without which no receive interrupt comes (errata, page 12).
const IER_RECEIVE: u32 = 0b1101;
/// `IIR`, lower three bits: an interrupt (bit 0 clear) because a byte has arrived.
const IIR_RECEIVE: u32 = 0b100;
/// `IIR`: both FIFOs are emptied.
const IIR_RESET: u32 = 0b110;
/// `LCR`: eight bits. The document has bit 1 as reserved; without it there are seven (errata, page 14).
const LCR_8_BITS: u32 = 0b11;
/// `CNTL`: receiver and transmitter on, no flow control.
const CNTL_ON: u32 = 0b11;

/// A BCM2835 mini UART ("UART1", "AUX UART").
///
/// It always has eight bits, no parity, one stop bit, and does not say that a byte arrived damaged, so that
/// such bytes come through. It is fed with the core clock, which firmware may change under it unless
/// `config.txt` says otherwise (`enable_uart=1` or `core_freq`). The auxiliary block has to have it on (bit 0
/// of `AUX_ENABLES`, 0x3c bytes before these registers), which is done by firmware too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BcmMini<M: Mmio = MmioBlock> {
    mmio: M,
}

impl BcmMini {
    /// The UART whose registers, from `AUX_MU_IO` on, are at `base`: what a device tree's node
    /// `brcm,bcm2835-aux-uart` gives.
    ///
    /// # Safety
    /// For as long as the value or a copy is used, the registers of a mini UART (64 bytes) are mapped at
    /// `base` as device memory, readable and writable, and nothing but such values drives it.
    pub const unsafe fn new(base: usize) -> Self {
        // SAFETY: the caller vouches for it.
        Self { mmio: unsafe { MmioBlock::new(base) } }
    }
}

impl<M: Mmio> BcmMini<M> {
    /// As [`BcmMini::new`], for registers reached in another way.
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

impl<M: Mmio> Console for BcmMini<M> {
    fn write_byte(&self, byte: u8) {
        while self.read(LSR) & LSR_ROOM == 0 {
            core::hint::spin_loop();
        }
        self.write_register(IO, u32::from(byte));
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while let Some(byte) = bytes.get(written).filter(|_| self.read(LSR) & LSR_ROOM != 0) {
            self.write_register(IO, u32::from(*byte));
            written += 1;
        }
        written
    }

    fn read_byte(&self) -> Option<u8> {
        (self.read(LSR) & LSR_DATA != 0).then(|| self.read(IO) as u8)
    }

    fn flush(&self) {
        while self.read(LSR) & LSR_IDLE == 0 {
            core::hint::spin_loop();
        }
    }
}

impl<M: Mmio> SerialPort for BcmMini<M> {
    fn init(&self, speed: Speed) -> Result<(), InitError> {
        let divisor = speed.bcm_mini()?;
        for _ in 0..PATIENCE {
            if self.read(LSR) & LSR_IDLE != 0 {
                break;
            }
        }
        self.write_register(CNTL, 0);
        self.write_register(IER, 0);
        self.write_register(LCR, LCR_8_BITS);
        self.write_register(MCR, 0);
        self.write_register(IIR, IIR_RESET);
        self.write_register(BAUD, u32::from(divisor));
        self.write_register(CNTL, CNTL_ON);
        Ok(())
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.write_register(IER, if on { IER_RECEIVE } else { 0 });
    }

    fn receive_interrupt_pending(&self) -> bool {
        self.read(IIR) & 0b111 == IIR_RECEIVE
    }

    /// The interrupt goes when the bytes have been read.
    fn clear_receive_interrupt(&self) {}
}
