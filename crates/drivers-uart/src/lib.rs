//! Serial consoles of ARM boards behind one trait.
//!
//! A [`Console`] puts bytes out and takes bytes in, by polling. It needs no initialisation (at most
//! [`Console::switch_on`]) and no heap, so that a kernel can speak from its first instruction: firmware has
//! set the line up already. It can be shared between cores and with a panic handler, because it holds an
//! address and no state.
//!
//! ```no_run
//! use core::fmt::Write;
//! use drivers_uart::{Console, Pl011, Writer};
//!
//! // SAFETY: the first UART of QEMU's `virt` machine, identity-mapped.
//! static UART: Pl011 = unsafe { Pl011::new(0x0900_0000) };
//!
//! writeln!(Writer(&UART), "Hello from core {}", 0);
//! ```
//!
//! | driver | device tree | where |
//! |---|---|---|
//! | [`Pl011`] | `arm,pl011`, `arm,sbsa-uart` | QEMU `virt`, Raspberry Pi (first UART), servers |
//! | [`Ns16550`] | `ns16550a`, `snps,dw-apb-uart` and others | Allwinner, Rockchip, Tegra, many more |
//! | [`BcmMini`] | `brcm,bcm2835-aux-uart` | Raspberry Pi (second UART) |
//! | [`Cadence`] | `cdns,uart-r1p8`, `cdns,uart-r1p12`, `xlnx,xuartps` | Zynq, ZCU102 |
//!
//! [`Uart`] is any of them, for a board that learns from its device tree which it has:
//!
//! ```
//! use drivers_uart::{Layout, Ns16550, Pl011, Uart};
//!
//! /// # Safety
//! /// As for `Pl011::new` and `Ns16550::new`.
//! unsafe fn uart(compatible: &str, base: usize, reg_shift: u8, io_width: u8) -> Option<Uart> {
//!     match compatible {
//!         // SAFETY: the caller vouches for it.
//!         "arm,pl011" => Some(Uart::Pl011(unsafe { Pl011::new(base) })),
//!         "snps,dw-apb-uart" => {
//!             let layout = Layout::new(reg_shift, io_width)?;
//!             // SAFETY: the caller vouches for it.
//!             Some(Uart::Ns16550(unsafe { Ns16550::new(base, layout) }))
//!         }
//!         _ => None,
//!     }
//! }
//! ```
//!
//! # Interrupts and speed
//!
//! [`SerialPort`] is for whoever owns the device: setting it up for a clock and a baud rate ([`Speed`]), and
//! an interrupt for bytes that have arrived. Output is polled; there is no interrupt for it.
//!
//! ```
//! use drivers_uart::SerialPort;
//!
//! fn handle_interrupt(uart: &impl SerialPort, mut take: impl FnMut(u8)) {
//!     // First this, then all the bytes: what arrives in between interrupts again.
//!     uart.clear_receive_interrupt();
//!     while let Some(byte) = uart.read_byte() {
//!         take(byte);
//!     }
//! }
//! ```
//!
//! # Why not the crates that there are
//!
//! `arm-pl011-uart` and `uart_16550` are good drivers for one owner: their methods take `&mut self`, which a
//! console that cores and panic handlers share cannot promise without a lock, and a panic must not wait for
//! one. `uart_16550` accesses registers as bytes only, where a DesignWare UART wants words
//! (`reg-io-width = <4>`). What is needed of the devices is small, so that it is written down here; the
//! access itself is by `safe-mmio`.
#![no_std]

mod bcm_mini;
mod cadence;
mod mmio;
mod ns16550;
mod pl011;
mod speed;
mod uart;
mod writer;

pub use bcm_mini::BcmMini;
pub use cadence::Cadence;
pub use mmio::{Mmio, MmioBlock, Width};
pub use ns16550::{Layout, Ns16550};
pub use pl011::Pl011;
pub use speed::{CadenceDivisor, InitError, Pl011Divisor, Speed};
pub use uart::Uart;
pub use writer::Writer;

/// How often `init` reads a status before it goes on without the last bytes having left. Far longer than a
/// FIFO takes.
const PATIENCE: u32 = 10_000_000;

/// A serial line.
///
/// Cores that write at the same time are not kept apart: their bytes mix, and where two find the last place
/// of a FIFO free, one byte is lost. Whoever wants whole lines takes a lock.
pub trait Console: Sync {
    /// Puts one byte out as it is, waiting until there is room for it.
    fn write_byte(&self, byte: u8);

    /// Puts out as many of the first bytes as there is room for, without waiting; returns how many.
    fn try_write(&self, bytes: &[u8]) -> usize;

    /// Takes one byte in, if one has arrived. Bytes that arrived damaged are dropped, if the hardware reports
    /// which.
    fn read_byte(&self) -> Option<u8>;

    /// Waits until the last byte has left the machine.
    fn flush(&self);

    /// Switches both directions on, if firmware has left them off; all else stays as firmware has it. An
    /// emulator without firmware may start a UART so.
    fn switch_on(&self) {}

    /// Puts bytes out as they are.
    fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_byte(byte);
        }
    }
}

/// A serial line whose owner sets it up, and is interrupted when bytes arrive.
///
/// One core at a time calls these methods; others may write meanwhile, except during [`init`](Self::init).
pub trait SerialPort: Console {
    /// Sets the line up: this speed, eight bits, no parity, one stop bit, no flow control by hardware,
    /// interrupts off. Bytes that have arrived are dropped.
    ///
    /// Not needed after firmware that prints.
    fn init(&self, speed: Speed) -> Result<(), InitError>;

    /// Raises an interrupt when bytes have arrived, or no longer. All other interrupts of the device stay or
    /// become off. Bytes that arrived before may not interrupt: read them once after switching it on.
    fn set_receive_interrupt(&self, on: bool);

    /// Returns whether that interrupt is raised; false if it is off.
    fn receive_interrupt_pending(&self) -> bool;

    /// Takes the interrupt back, where it does not go by itself when all bytes have been read. A handler
    /// calls this first, and then reads all bytes.
    fn clear_receive_interrupt(&self);
}
