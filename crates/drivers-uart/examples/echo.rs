//! A UART chosen by what a device tree calls it, and an interrupt handler that sends everything back:
//! `cargo run -p drivers-uart --example echo`. The registers are a few lines of model here; on a board they
//! are `Ns16550::new(base, layout)` and so on.

use core::fmt::Write;
use drivers_uart::{
    BcmMini, Cadence, Console, Layout, Mmio, Ns16550, Pl011, SerialPort, Speed, Uart, Width, Writer,
};
use std::{collections::VecDeque, error::Error, sync::Mutex};

/// A 16550 on a 32-bit bus that prints, and has a few bytes to read.
#[derive(Clone, Copy)]
struct Model<'a>(&'a Mutex<State>);

struct State {
    registers: [u32; 8],
    typed: VecDeque<u8>,
}

impl Mmio for Model<'_> {
    fn read(&self, offset: usize, _: Width) -> u32 {
        let mut state = self.0.lock().expect("one thread");
        let typed = !state.typed.is_empty();
        let is_divisor = state.registers[3] & 1 << 7 != 0;
        match offset / 4 {
            0 if !is_divisor => state.typed.pop_front().map_or(0, u32::from),
            2 => {
                if typed {
                    0b0100
                } else {
                    0b0001
                }
            }
            5 => 0b110_0000 | u32::from(typed),
            register => state.registers[register],
        }
    }

    fn write(&self, offset: usize, _: Width, value: u32) {
        let mut state = self.0.lock().expect("one thread");
        if offset == 0 && state.registers[3] & 1 << 7 == 0 {
            print!("{}", char::from(value as u8));
        } else {
            state.registers[offset / 4] = value;
        }
    }
}

/// What a board does with `compatible`, `reg-shift` and `reg-io-width` of the node that `stdout-path` names.
fn choose<M: Mmio>(compatible: &str, mmio: M, reg_shift: u8, io_width: u8) -> Option<Uart<M>> {
    Some(match compatible {
        "arm,pl011" | "arm,sbsa-uart" => Uart::Pl011(Pl011::with_mmio(mmio)),
        "ns16550a" | "snps,dw-apb-uart" => {
            Uart::Ns16550(Ns16550::with_mmio(mmio, Layout::new(reg_shift, io_width)?))
        }
        "brcm,bcm2835-aux-uart" => Uart::BcmMini(BcmMini::with_mmio(mmio)),
        "cdns,uart-r1p8" | "xlnx,xuartps" => Uart::Cadence(Cadence::with_mmio(mmio)),
        _ => return None,
    })
}

fn handle_interrupt(uart: &impl SerialPort) {
    uart.clear_receive_interrupt();
    while let Some(byte) = uart.read_byte() {
        uart.write_byte(byte);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let state = Mutex::new(State { registers: [0; 8], typed: VecDeque::new() });
    let uart = choose("snps,dw-apb-uart", Model(&state), 2, 4).ok_or("no driver for this UART")?;
    uart.init(Speed { clock_hz: 24_000_000, baud: 115_200 })?;
    uart.set_receive_interrupt(true);
    writeln!(Writer(&uart), "Say something.")?;
    state.lock().expect("one thread").typed.extend(b"Something.\r\n");
    if uart.receive_interrupt_pending() {
        handle_interrupt(&uart);
    }
    uart.flush();
    Ok(())
}
