//! The console that the device tree names.

use super::Map;
use crate::platform::PlatformError;
use drivers_uart::{BcmMini, Cadence, Layout, Ns16550, Pl011, Uart};
use machine::{ConsoleKind, Machine};

/// Finds it. Firmware has set it up.
pub(super) fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Uart, PlatformError> {
    let console = machine.console().ok_or(PlatformError("the device tree names no console"))?;
    let base = map(console.region)?;
    // SAFETY, for each: the device tree says that there is such a UART; it has just been mapped as a device, for this driver.
    Ok(match console.kind {
        // SAFETY: as above.
        ConsoleKind::Pl011 => Uart::Pl011(unsafe { Pl011::new(base) }),
        ConsoleKind::Uart16550 { reg_shift, io_width } => {
            let layout = Layout::new(reg_shift, io_width)
                .ok_or(PlatformError("the registers of the console overlap, by the device tree"))?;
            // SAFETY: as above.
            Uart::Ns16550(unsafe { Ns16550::new(base, layout) })
        }
        // SAFETY: as above.
        ConsoleKind::BcmMiniUart => Uart::BcmMini(unsafe { BcmMini::new(base) }),
        // SAFETY: as above.
        ConsoleKind::Cadence => Uart::Cadence(unsafe { Cadence::new(base) }),
    })
}
