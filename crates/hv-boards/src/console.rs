//! Consoles.

use crate::{ConsolePart, Map};
use core::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};
use drivers_uart::{BcmMini, Cadence, Console, Layout, Ns16550, Pl011, Uart};
use hv_core::{
    board::BoardError,
    machine::{ConsoleInfo, ConsoleKind, Machine},
};
use spin::Once;

/// A PL011 and nothing else, which is at `EARLY` before the device tree has been read.
#[derive(Debug)]
pub struct Pl011At<const EARLY: u64>;

/// Where it is, from the device tree.
static PL011: AtomicU64 = AtomicU64::new(0);

// SAFETY: the driver touches the registers of the UART only.
unsafe impl<const EARLY: u64> ConsolePart for Pl011At<EARLY> {
    const EARLY: u64 = EARLY;

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(region) = machine.pl011_console() {
            map(region.base, region.size);
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let none = "the device tree names no PL011 as console (/chosen/stdout-path)";
        PL011.store(machine.pl011_console().ok_or(none)?.base, Ordering::Relaxed);
        Ok(())
    }

    fn write_byte(byte: u8) {
        Self::uart().write_byte(byte);
    }

    fn try_write(bytes: &[u8]) -> usize {
        Self::uart().try_write(bytes)
    }

    fn try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize {
        if uart.kind != ConsoleKind::Pl011 {
            return bytes.len();
        }
        // SAFETY: the device tree says that there is a PL011; `hv-core` has mapped it as a device at its
        // physical address. The VM that has it does not run.
        unsafe { Pl011::new(uart.region.base as usize) }.try_write(bytes)
    }
}

impl<const EARLY: u64> Pl011At<EARLY> {
    fn uart() -> Pl011 {
        let base = match PL011.load(Ordering::Relaxed) {
            0 => EARLY,
            base => base,
        };
        // SAFETY: the base is the early console or what the device tree calls a PL011; `hv-core` has mapped
        // it as a device at its physical address, and gives it to no VM.
        unsafe { Pl011::new(base as usize) }
    }
}

/// Where, and what, the console is before the device tree has been read.
///
/// # Safety
/// There is such a UART on every machine that the image is for.
pub unsafe trait Early {
    /// The register that a byte is written to.
    const DATA: u64;
    /// Its driver.
    fn uart() -> Uart;
}

/// A BCM mini UART.
#[derive(Debug)]
pub struct BcmMiniAt<const BASE: u64>;

// SAFETY: as whoever names the address says.
unsafe impl<const BASE: u64> Early for BcmMiniAt<BASE> {
    const DATA: u64 = BASE;

    fn uart() -> Uart {
        // SAFETY: as whoever names the address says.
        Uart::BcmMini(unsafe { BcmMini::new(BASE as usize) })
    }
}

/// A Cadence UART.
#[derive(Debug)]
pub struct CadenceAt<const BASE: u64>;

// SAFETY: as whoever names the address says.
unsafe impl<const BASE: u64> Early for CadenceAt<BASE> {
    const DATA: u64 = BASE + 0x30;

    fn uart() -> Uart {
        // SAFETY: as whoever names the address says.
        Uart::Cadence(unsafe { Cadence::new(BASE as usize) })
    }
}

/// A DesignWare UART with registers of words.
#[derive(Debug)]
pub struct DesignWareAt<const BASE: u64>;

/// Registers four bytes apart, accessed as words: all of DesignWare's that there is no device tree for yet.
const WORDS: Layout = Layout::new(2, 4).unwrap();

// SAFETY: as whoever names the address says.
unsafe impl<const BASE: u64> Early for DesignWareAt<BASE> {
    const DATA: u64 = BASE;

    fn uart() -> Uart {
        // SAFETY: as whoever names the address says.
        Uart::Ns16550(unsafe { Ns16550::new(BASE as usize, WORDS) })
    }
}

/// Whichever UART the device tree names; until that has been read, `E`.
#[derive(Debug)]
pub struct AnyUart<E>(PhantomData<E>);

static ANY: Once<Uart> = Once::new();

// SAFETY: the driver touches the registers of the UART only.
unsafe impl<E: Early> ConsolePart for AnyUart<E> {
    const EARLY: u64 = E::DATA;

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        if let Some(console) = machine.console() {
            map(console.region.base, console.region.size);
        }
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        let console = machine.console().ok_or("the device tree names no console (/chosen/stdout-path)")?;
        // SAFETY: the device tree says that there is such a UART; `hv-core` has mapped it as a device at its
        // physical address, and gives it to no VM.
        let uart = unsafe { driver(&console) }.ok_or("the registers of the console overlap")?;
        uart.switch_on();
        ANY.call_once(|| uart);
        Ok(())
    }

    fn write_byte(byte: u8) {
        match ANY.get() {
            Some(uart) => uart.write_byte(byte),
            None => E::uart().write_byte(byte),
        }
    }

    fn try_write(bytes: &[u8]) -> usize {
        ANY.get().map_or(0, |uart| uart.try_write(bytes))
    }

    fn try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize {
        // SAFETY: the device tree says that there is such a UART; `hv-core` has mapped it as a device at its
        // physical address. The VM that has it does not run.
        let uart = unsafe { driver(uart) };
        uart.map_or(bytes.len(), |uart| uart.try_write(bytes))
    }
}

/// The driver of a UART; `None` if its registers overlap.
///
/// # Safety
/// There is such a UART, and it is mapped as a device at its physical address.
unsafe fn driver(console: &ConsoleInfo) -> Option<Uart> {
    let base = console.region.base as usize;
    Some(match console.kind {
        // SAFETY: the caller vouches for it.
        ConsoleKind::Pl011 => Uart::Pl011(unsafe { Pl011::new(base) }),
        ConsoleKind::Uart16550 { reg_shift, io_width } => {
            let layout = Layout::new(reg_shift, io_width)?;
            // SAFETY: the caller vouches for it.
            Uart::Ns16550(unsafe { Ns16550::new(base, layout) })
        }
        // SAFETY: the caller vouches for it.
        ConsoleKind::BcmMiniUart => Uart::BcmMini(unsafe { BcmMini::new(base) }),
        // SAFETY: the caller vouches for it.
        ConsoleKind::Cadence => Uart::Cadence(unsafe { Cadence::new(base) }),
    })
}
