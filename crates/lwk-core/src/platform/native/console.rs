//! The console: the one that the device tree names, or `console=` on the command line.

use super::Map;
use crate::{cmdline::CommandLine, platform::PlatformError};
use drivers_uart::{BcmMini, Cadence, Layout, Ns16550, Pl011, Uart};
use machine::{ConsoleInfo, ConsoleKind, Machine, Region};

/// The registers of a UART.
const REGISTERS: u64 = 0x1000;

/// `console=pl011,ADDRESS` or `console=uart8250,ADDRESS` (registers of 32 bits): for a machine whose tree
/// names none, or another one.
fn from_command_line(machine: &Machine<'_>) -> Option<ConsoleInfo> {
    let (kind, address) = CommandLine::new(machine.bootargs()?).get("console")?.split_once(',')?;
    let kind = match kind {
        "pl011" => ConsoleKind::Pl011,
        "uart8250" => ConsoleKind::Uart16550 { reg_shift: 2, io_width: 4 },
        _ => return None,
    };
    let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
    Some(ConsoleInfo { kind, region: Region::new(address, REGISTERS)? })
}

/// Finds it. Firmware has set it up.
pub(super) fn find(machine: &Machine<'_>, map: Map<'_>) -> Result<Uart, PlatformError> {
    let console = from_command_line(machine)
        .or_else(|| machine.console())
        .ok_or(PlatformError("the device tree names no console"))?;
    let base = map(console.region)?;
    // SAFETY, for each: the device tree says that there is such a UART; it has just been mapped as a device,
    // for this driver.
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
