//! The 16550 and its relatives, DesignWare's among them.
//!
//! Sources: Texas Instruments, *TL16C550C* data sheet (SLLS177), section "Principles of Operation";
//! *DesignWare DW_apb_uart Databook*, chapter "Registers", cited as "DW".
use crate::{Console, InitError, Mmio, MmioBlock, PATIENCE, SerialPort, Speed, Width};

/// `RBR`, a byte that has arrived; `THR`, a byte to send; `DLL`, low byte of the divisor where `LCR.DLAB` is
/// set.
const DATA: usize = 0;
/// `IER`, interrupt enable; `DLM`, high byte of the divisor where `LCR.DLAB` is set.
const IER: usize = 1;
/// `IIR`, interrupt identification, for reads.
const IIR: usize = 2;
/// `FCR`, FIFO control, for writes.
const FCR: usize = 2;
/// `LCR`, line control.
const LCR: usize = 3;
/// `MCR`, modem control.
const MCR: usize = 4;
/// `LSR`, line status.
const LSR: usize = 5;
/// `USR`, UART status (DW only).
const USR: usize = 31;

/// `LSR.DR`: a byte has arrived.
const LSR_DATA: u32 = 1 << 0;
/// `LSR.PE`, `FE` and `BI`, of the byte that is next. Overrun (bit 1) spoils the bytes after it, not this
/// one.
const LSR_DAMAGED: u32 = 0b111 << 2;
/// `LSR.BI`: a break.
const LSR_BREAK: u32 = 1 << 4;
/// `LSR.THRE`: room for a byte. With FIFOs, the FIFO is empty.
const LSR_ROOM: u32 = 1 << 5;
/// `LSR.TEMT`: FIFO and shift register are empty.
const LSR_IDLE: u32 = 1 << 6;

/// `IER.ERBI`: an interrupt when a byte has arrived. The bits left zero also turn DW's programmable THRE mode
/// off, in which `LSR.THRE` means the opposite.
const IER_RECEIVE: u32 = 1 << 0;

/// `IIR`: FIFOs are on, of at least 16 bytes.
const IIR_FIFO: u32 = 0b11 << 6;
const FIFO: usize = 16;
/// `IIR`, lower four bits: a byte arrived damaged.
const IIR_LINE: u32 = 0b0110;
/// `IIR`: as many bytes have arrived as were asked for.
const IIR_DATA: u32 = 0b0100;
/// `IIR`: fewer have arrived, a while ago.
const IIR_TIMEOUT: u32 = 0b1100;
/// `IIR`: `LCR` was written while the UART was busy, and is as before (DW). Taken back by reading `USR`.
const IIR_BUSY: u32 = 0b0111;

/// `FCR`: FIFOs on and emptied; an interrupt with the first byte.
const FCR_RESET: u32 = 0b111;
/// `LCR`: eight bits, no parity, one stop bit.
const LCR_8N1: u32 = 0b11;
/// `LCR.DLAB`: the first two registers are the divisor's.
const LCR_DLAB: u32 = 1 << 7;
/// `LCR`, bits that every relative has: without "stick parity", which DW may not.
const LCR_COMMON: u32 = !(1 << 5) & 0xff;
/// `MCR`: `DTR` and `RTS` asserted, and `OUT2`, which lets interrupts through on PC boards.
const MCR_ON: u32 = 0b1011;

/// How often a busy UART is asked to change its speed.
const ATTEMPTS: u32 = 1000;

/// Register layout of a 16550: offset shift and access width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    shift: u8,
    width: Width,
}

impl Layout {
    /// Registers `1 << reg_shift` bytes apart, accessed with `io_width` bytes: the properties `reg-shift` (0
    /// to 3) and `reg-io-width` (1, 2 or 4) of a device tree (bindings, `serial/8250.yaml`). `None` if there
    /// are no such registers, or if they would overlap.
    pub const fn new(reg_shift: u8, io_width: u8) -> Option<Self> {
        match Width::from_bytes(io_width) {
            Some(width) if reg_shift <= 3 && width.bytes() <= 1 << reg_shift => {
                Some(Self { shift: reg_shift, width })
            }
            _ => None,
        }
    }

    /// Returns the size in bytes of the register block.
    pub const fn size(self) -> usize {
        (USR + 1) << self.shift
    }
}

/// A 16450, 16550, 16550A or DesignWare `DW_apb_uart`.
///
/// What is particular to DesignWare is recognised by what only that UART does, so that a device tree's
/// `ns16550a` may be either: it ignores changes of the line while a byte is on its way (`init` tries again),
/// raises an interrupt about that, and now and then one about bytes that waited for long when there are none
/// (both are taken back by [`receive_interrupt_pending`](SerialPort::receive_interrupt_pending) and
/// [`clear_receive_interrupt`](SerialPort::clear_receive_interrupt)).
///
/// Reading the line status forgets whether the next byte is damaged: with one core writing and another
/// reading, a damaged byte may come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ns16550<M: Mmio = MmioBlock> {
    mmio: M,
    layout: Layout,
}

impl Ns16550 {
    /// The UART whose registers are at `base`.
    ///
    /// # Safety
    /// For as long as the value or a copy is used, the registers of a 16550 or a relative are mapped at
    /// `base` in this layout as device memory, readable and writable ([`Layout::size`] bytes, of which a UART
    /// that is not DesignWare's needs the first quarter), and nothing but such values drives it.
    pub const unsafe fn new(base: usize, layout: Layout) -> Self {
        // SAFETY: the caller vouches for it.
        Self { mmio: unsafe { MmioBlock::new(base) }, layout }
    }
}

impl<M: Mmio> Ns16550<M> {
    /// As [`Ns16550::new`], for registers reached in another way.
    pub const fn with_mmio(mmio: M, layout: Layout) -> Self {
        Self { mmio, layout }
    }

    #[inline]
    fn read(&self, register: usize) -> u32 {
        self.mmio.read(register << self.layout.shift, self.layout.width) & 0xff
    }

    #[inline]
    fn write_register(&self, register: usize, value: u32) {
        self.mmio.write(register << self.layout.shift, self.layout.width, value);
    }

    /// Sets the divisor; whether the UART took it. A busy DesignWare ignores writes of `LCR` and the divisor
    /// (DW, `LCR`).
    fn try_divisor(&self, divisor: u16) -> bool {
        let [low, high] = divisor.to_le_bytes().map(u32::from);
        self.write_register(LCR, LCR_DLAB | LCR_8N1);
        let mut taken = self.read(LCR) & LCR_COMMON == LCR_DLAB | LCR_8N1;
        if taken {
            self.write_register(DATA, low);
            self.write_register(IER, high);
            taken = self.read(DATA) == low && self.read(IER) == high;
        }
        self.write_register(LCR, LCR_8N1);
        taken && self.read(LCR) & LCR_COMMON == LCR_8N1
    }
}

impl<M: Mmio> Console for Ns16550<M> {
    fn write_byte(&self, byte: u8) {
        while self.read(LSR) & LSR_ROOM == 0 {
            core::hint::spin_loop();
        }
        self.write_register(DATA, u32::from(byte));
    }

    /// The status says no more than that the FIFO is empty, and then all of it is free.
    fn try_write(&self, bytes: &[u8]) -> usize {
        if self.read(LSR) & LSR_ROOM == 0 {
            return 0;
        }
        let room = if self.read(IIR) & IIR_FIFO == IIR_FIFO { FIFO } else { 1 };
        let bytes = bytes.get(..room).unwrap_or(bytes);
        for byte in bytes {
            self.write_register(DATA, u32::from(*byte));
        }
        bytes.len()
    }

    fn read_byte(&self) -> Option<u8> {
        loop {
            let status = self.read(LSR);
            if status & LSR_DATA == 0 {
                return None;
            }
            let data = self.read(DATA);
            if status & LSR_DAMAGED == 0 {
                return Some(data as u8);
            }
        }
    }

    fn flush(&self) {
        while self.read(LSR) & LSR_IDLE == 0 {
            core::hint::spin_loop();
        }
    }
}

impl<M: Mmio> SerialPort for Ns16550<M> {
    fn init(&self, speed: Speed) -> Result<(), InitError> {
        let divisor = speed.ns16550()?;
        for _ in 0..PATIENCE {
            if self.read(LSR) & LSR_IDLE != 0 {
                break;
            }
        }
        for _ in 0..ATTEMPTS {
            if self.try_divisor(divisor) {
                self.write_register(IER, 0);
                self.write_register(FCR, FCR_RESET);
                self.write_register(MCR, MCR_ON);
                return Ok(());
            }
            // Only DesignWare gets here: empty FIFOs make it idle sooner; then the interrupt about it is
            // taken back.
            self.write_register(FCR, FCR_RESET);
            self.read(DATA);
            self.read(USR);
        }
        Err(InitError::Busy)
    }

    fn set_receive_interrupt(&self, on: bool) {
        self.write_register(IER, if on { IER_RECEIVE } else { 0 });
    }

    fn receive_interrupt_pending(&self) -> bool {
        match self.read(IIR) & 0xf {
            // DesignWare may report a time-out without a byte, for ever; reading one ends that.
            IIR_TIMEOUT if self.read(LSR) & (LSR_DATA | LSR_BREAK) == 0 => {
                self.read(DATA);
                false
            }
            IIR_DATA | IIR_LINE | IIR_TIMEOUT => true,
            IIR_BUSY => {
                self.read(USR);
                false
            }
            _ => false,
        }
    }

    /// The interrupt goes when the bytes have been read; here go those that are about no byte.
    fn clear_receive_interrupt(&self) {
        self.receive_interrupt_pending();
    }
}
