//! Any of the UARTs, chosen at run time.
use crate::{BcmMini, Cadence, Console, InitError, Mmio, MmioBlock, Ns16550, Pl011, SerialPort, Speed};

/// Any of the UARTs that this crate drives, for boards that choose one by the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uart<M: Mmio = MmioBlock> {
    /// Arm PL011 (`arm,pl011`, `arm,sbsa-uart`).
    Pl011(Pl011<M>),
    /// 16550 and relatives (`ns16550a`, `snps,dw-apb-uart` and so on).
    Ns16550(Ns16550<M>),
    /// BCM2835 mini UART (`brcm,bcm2835-aux-uart`).
    BcmMini(BcmMini<M>),
    /// Cadence (`cdns,uart-r1p8`, `cdns,uart-r1p12`, `xlnx,xuartps`).
    Cadence(Cadence<M>),
}

macro_rules! each {
    ($self:ident, $uart:ident => $call:expr) => {
        match $self {
            Self::Pl011($uart) => $call,
            Self::Ns16550($uart) => $call,
            Self::BcmMini($uart) => $call,
            Self::Cadence($uart) => $call,
        }
    };
}

impl<M: Mmio> Console for Uart<M> {
    fn write_byte(&self, byte: u8) {
        each!(self, uart => uart.write_byte(byte));
    }

    fn try_write(&self, bytes: &[u8]) -> usize {
        each!(self, uart => uart.try_write(bytes))
    }

    fn read_byte(&self) -> Option<u8> {
        each!(self, uart => uart.read_byte())
    }

    fn flush(&self) {
        each!(self, uart => uart.flush());
    }

    fn switch_on(&self) {
        each!(self, uart => uart.switch_on());
    }
}

impl<M: Mmio> SerialPort for Uart<M> {
    fn init(&self, speed: Speed) -> Result<(), InitError> {
        each!(self, uart => uart.init(speed))
    }

    fn set_receive_interrupt(&self, on: bool) {
        each!(self, uart => uart.set_receive_interrupt(on));
    }

    fn receive_interrupt_pending(&self) -> bool {
        each!(self, uart => uart.receive_interrupt_pending())
    }

    fn clear_receive_interrupt(&self) {
        each!(self, uart => uart.clear_receive_interrupt());
    }
}
