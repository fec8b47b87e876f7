//! Serial consoles of ARM boards behind one trait.
//!
//! A [`Console`] puts bytes out and takes bytes in, by polling. It needs no initialisation and no heap, so that a kernel
//! can speak from its first instruction: firmware has set the line up already. It can be shared between cores and with a
//! panic handler, because it holds an address and no state.
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
#![no_std]

mod pl011;
mod writer;

pub use pl011::Pl011;
pub use writer::Writer;

/// A serial line.
///
/// Cores that write at the same time each get all their bytes out, but mixed; whoever wants whole lines takes a lock.
pub trait Console: Sync {
    /// Puts one byte out as it is, waiting until there is room for it.
    fn write_byte(&self, byte: u8);

    /// Takes one byte in, if one has arrived. Bytes that arrived damaged are dropped.
    fn read_byte(&self) -> Option<u8>;

    /// Waits until the last byte has left the machine.
    fn flush(&self);

    /// Puts bytes out as they are.
    fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_byte(byte);
        }
    }
}
