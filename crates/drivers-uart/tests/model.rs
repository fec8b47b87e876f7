//! The drivers against models of the UARTs' registers: FIFOs that fill, bytes that arrive damaged, what reads
//! take away.
use drivers_uart::{
    BcmMini, Cadence, Console, InitError, Layout, Mmio, Ns16550, Pl011, SerialPort, Speed, Uart, Width,
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

/// What is the same for all: two ends of a line, and time that passes with each look at the status.
#[derive(Default)]
struct Line {
    sent: Vec<u8>,
    /// Bytes, and whether they are damaged.
    arrived: VecDeque<(u8, bool)>,
    /// For how many more looks there is no room for a byte.
    full: u32,
    /// For how many more looks bits are leaving.
    busy: u32,
}

impl Line {
    fn send(&mut self, byte: u32) {
        assert_eq!(self.full, 0, "a byte was written to a full FIFO");
        self.sent.push(u8::try_from(byte).unwrap());
        (self.full, self.busy) = (2, 5);
    }

    fn tick(&mut self) {
        self.full = self.full.saturating_sub(1);
        self.busy = self.busy.saturating_sub(1);
    }
}

trait Device: Send {
    fn line(&mut self) -> &mut Line;
    fn read(&mut self, offset: usize, width: Width) -> u32;
    fn write(&mut self, offset: usize, width: Width, value: u32);
    /// Clock divided by baud rate, as set up; eight bits, no parity, one stop bit, and both directions on.
    fn divisor(&self) -> f64;
    fn uart(view: View<'_>) -> Uart<View<'_>>
    where
        Self: Sized;
}

#[derive(Clone, Copy)]
struct View<'a>(&'a Mutex<dyn Device + 'a>);

impl Mmio for View<'_> {
    fn read(&self, offset: usize, width: Width) -> u32 {
        self.0.lock().unwrap().read(offset, width)
    }
    fn write(&self, offset: usize, width: Width, value: u32) {
        self.0.lock().unwrap().write(offset, width, value);
    }
}

fn is_word(offset: usize, width: Width) {
    assert_eq!((offset % 4, width), (0, Width::Word));
}

#[derive(Default)]
struct Pl011Model {
    line: Line,
    control: u32,
    line_control: u32,
    divisor: [u32; 2],
    latched: [u32; 2],
    raised: u32,
    mask: u32,
}

impl Device for Pl011Model {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        is_word(offset, width);
        match offset {
            0x00 => {
                let (byte, damaged) = self.line.arrived.pop_front().expect("reads only what there is");
                if self.line.arrived.is_empty() {
                    self.raised = 0;
                }
                // Overrun, which does not concern this byte; a framing error does.
                u32::from(byte) | 1 << 11 | u32::from(damaged) << 8
            }
            0x18 => {
                self.line.tick();
                u32::from(self.line.arrived.is_empty()) << 4
                    | u32::from(self.line.full > 0) << 5
                    | u32::from(self.line.busy > 0) << 3
            }
            // Bytes in a FIFO that is not half full: the time-out.
            0x40 => (self.raised | u32::from(!self.line.arrived.is_empty()) << 6) & self.mask,
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        is_word(offset, width);
        match offset {
            0x00 => self.line.send(value),
            0x24 | 0x28 | 0x2c => {
                assert_eq!(self.control & 1, 0, "changed while it is on");
                match offset {
                    0x24 => self.divisor[0] = value,
                    0x28 => self.divisor[1] = value,
                    _ => (self.line_control, self.latched) = (value, self.divisor),
                }
                if offset == 0x2c && value & 1 << 4 == 0 {
                    self.line.arrived.clear();
                }
            }
            0x30 => self.control = value,
            0x38 => self.mask = value,
            0x44 => self.raised &= !value,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn divisor(&self) -> f64 {
        assert_eq!((self.line_control, self.control & 0x301), (0b111_0000, 0x301));
        16.0 * (f64::from(self.latched[0]) + f64::from(self.latched[1]) / 64.0)
    }

    fn uart(view: View<'_>) -> Uart<View<'_>> {
        Uart::Pl011(Pl011::with_mmio(view))
    }
}

/// A DesignWare UART on a 32-bit bus, or a 16550 with other layouts.
#[derive(Default)]
struct Ns16550Model {
    line: Line,
    /// Bytes in the FIFO, all of which leave at once.
    fifo: u32,
    layout: Option<(u8, Width)>,
    enable: u32,
    line_control: u32,
    modem_control: u32,
    divisor: [u32; 2],
    /// For how many more writes the line control is not taken (DesignWare, while bytes arrive).
    deaf: u32,
    /// The interrupt about that.
    busy_detected: bool,
    /// A time-out about no byte.
    phantom: bool,
}

impl Ns16550Model {
    fn register(&self, offset: usize, width: Width) -> usize {
        let (shift, expected) = self.layout.unwrap_or((2, Width::Word));
        assert_eq!(width, expected);
        assert_eq!(offset % (1 << shift), 0);
        offset >> shift
    }
    fn has_divisor(&self) -> bool {
        self.line_control & 0x80 != 0
    }
}

impl Device for Ns16550Model {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        let value = match self.register(offset, width) {
            at @ (0 | 1) if self.has_divisor() => self.divisor[at],
            0 => {
                self.phantom = false;
                self.line.arrived.pop_front().map_or(0, |(byte, _)| u32::from(byte))
            }
            1 => self.enable,
            2 => {
                0xc0 | if self.enable & 1 != 0 && !self.line.arrived.is_empty() {
                    0b0100
                } else if self.phantom {
                    0b1100
                } else if self.busy_detected {
                    0b0111
                } else {
                    0b0001
                }
            }
            3 => self.line_control,
            5 => {
                self.line.tick();
                let next = self.line.arrived.front();
                let damaged = next.is_some_and(|(_, damaged)| *damaged);
                u32::from(next.is_some())
                    | u32::from(damaged) << 3
                    | u32::from(self.line.full == 0) << 5
                    | u32::from(self.line.busy == 0) << 6
            }
            31 => {
                self.busy_detected = false;
                u32::from(self.deaf > 0)
            }
            at => panic!("read of register {at}"),
        };
        // What the bus has beyond the register is nobody's business.
        if width == Width::Byte { value } else { value | 0xab00 }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        match self.register(offset, width) {
            at @ (0 | 1) if self.has_divisor() => self.divisor[at] = value,
            0 => {
                self.fifo = if self.line.full == 0 { 0 } else { self.fifo };
                assert!(self.fifo < 16, "a byte was written to a full FIFO");
                self.fifo += 1;
                self.line.full = 0;
                self.line.send(value);
            }
            1 => self.enable = value,
            2 => {
                if value & 0b10 != 0 {
                    self.line.arrived.clear();
                }
            }
            3 if self.deaf > 0 => {
                self.deaf -= 1;
                self.busy_detected = true;
            }
            3 => self.line_control = value,
            4 => self.modem_control = value,
            at => panic!("write of register {at}"),
        }
    }

    fn divisor(&self) -> f64 {
        assert_eq!((self.line_control, self.modem_control & 0b11), (0b11, 0b11));
        16.0 * f64::from(self.divisor[0] | self.divisor[1] << 8)
    }

    fn uart(view: View<'_>) -> Uart<View<'_>> {
        Uart::Ns16550(Ns16550::with_mmio(view, Layout::new(2, 4).unwrap()))
    }
}

#[derive(Default)]
struct BcmMiniModel {
    line: Line,
    enable: u32,
    line_control: u32,
    control: u32,
    baud: u32,
}

impl Device for BcmMiniModel {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        is_word(offset, width);
        let waits = !self.line.arrived.is_empty();
        match offset {
            0x00 => self.line.arrived.pop_front().map_or(0, |(byte, _)| u32::from(byte)),
            0x08 if self.enable == 0b1101 && waits => 0xc4,
            0x08 => 0xc1,
            0x14 => {
                self.line.tick();
                u32::from(waits) | u32::from(self.line.full == 0) << 5 | u32::from(self.line.busy == 0) << 6
            }
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        is_word(offset, width);
        match offset {
            0x00 => self.line.send(value),
            0x04 => self.enable = value,
            0x08 if value & 0b10 != 0 => self.line.arrived.clear(),
            0x0c => self.line_control = value,
            0x10 => assert_eq!(value, 0),
            0x20 => self.control = value,
            0x28 => self.baud = value,
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn divisor(&self) -> f64 {
        assert_eq!((self.line_control, self.control), (0b11, 0b11));
        8.0 * f64::from(self.baud + 1)
    }

    fn uart(view: View<'_>) -> Uart<View<'_>> {
        Uart::BcmMini(BcmMini::with_mmio(view))
    }
}

struct CadenceModel {
    line: Line,
    control: u32,
    mode: u32,
    trigger: u32,
    mask: u32,
    generator: u32,
    divider: u32,
    /// How many bytes had arrived when the interrupt was last taken back: it is raised by a transition.
    seen: usize,
    raised: bool,
    resetting: u32,
}

impl Default for CadenceModel {
    fn default() -> Self {
        Self {
            line: Line::default(),
            // After a reset both directions are off (UG1087).
            control: 0x128,
            mode: 0,
            trigger: 0,
            mask: 0,
            generator: 0,
            divider: 0,
            seen: 0,
            raised: false,
            resetting: 0,
        }
    }
}

impl CadenceModel {
    fn look(&mut self) {
        let waiting = self.line.arrived.len();
        self.raised |= waiting > self.seen && waiting >= self.trigger as usize;
        self.seen = waiting;
    }
}

impl Device for CadenceModel {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn read(&mut self, offset: usize, width: Width) -> u32 {
        is_word(offset, width);
        self.look();
        match offset {
            0x00 => {
                self.resetting = self.resetting.saturating_sub(1);
                self.control | if self.resetting > 0 { 0b11 } else { 0 }
            }
            0x10 => self.mask,
            0x14 => u32::from(self.raised) | 1 << 3,
            0x2c => {
                self.line.tick();
                u32::from(self.line.arrived.is_empty()) << 1
                    | u32::from(self.line.busy < 3) << 3
                    | u32::from(self.line.full > 0) << 4
                    | u32::from(self.line.busy > 0) << 11
            }
            0x30 => {
                let byte = self.line.arrived.pop_front().map_or(0, |(byte, _)| u32::from(byte));
                self.look();
                byte
            }
            _ => panic!("read of {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, width: Width, value: u32) {
        is_word(offset, width);
        self.look();
        let is_off = self.control & 0b101_0100 != 0b1_0100;
        match offset {
            0x00 => {
                if value & 0b11 != 0 {
                    self.resetting = 3;
                    self.line.arrived.clear();
                }
                self.control = value & !0b11;
            }
            0x04 => self.mode = value,
            0x08 => self.mask |= value,
            0x0c => self.mask &= !value,
            0x14 => self.raised &= value & 1 == 0,
            0x18 | 0x34 => {
                assert!(is_off, "changed while it is on");
                *(if offset == 0x18 { &mut self.generator } else { &mut self.divider }) = value;
            }
            0x1c => {}
            0x20 => self.trigger = value,
            0x30 if is_off => {}
            0x30 => self.line.send(value),
            _ => panic!("write of {offset:#x}"),
        }
    }

    fn divisor(&self) -> f64 {
        assert_eq!((self.mode, self.control), (0b10_0000, 0b1_0100));
        f64::from(self.generator * (self.divider + 1))
    }

    fn uart(view: View<'_>) -> Uart<View<'_>> {
        Uart::Cadence(Cadence::with_mmio(view))
    }
}

fn lock<D>(model: &Mutex<D>) -> MutexGuard<'_, D> {
    model.lock().unwrap()
}

/// What every UART does.
fn behaves<D: Device + Default>() {
    let model = Mutex::new(D::default());
    let uart = D::uart(View(&model));
    let arrive = |bytes: &[u8]| {
        lock(&model).line().arrived.extend(bytes.iter().map(|&byte| (byte, false)));
    };

    uart.switch_on();
    uart.write(b"hello");
    uart.flush();
    assert_eq!(lock(&model).line().sent, b"hello");
    assert_eq!(lock(&model).line().busy, 0, "flush waits until the last bit has left");

    assert_eq!(uart.read_byte(), None);
    arrive(b"ab");
    assert!(!uart.receive_interrupt_pending(), "interrupts are off");
    assert_eq!([uart.read_byte(), uart.read_byte(), uart.read_byte()], [Some(b'a'), Some(b'b'), None]);

    arrive(b"rubbish");
    let speed = Speed { clock_hz: 24_000_000, baud: 115_200 };
    uart.init(speed).unwrap();
    let ratio = f64::from(speed.clock_hz) / f64::from(speed.baud) / lock(&model).divisor();
    assert!((ratio - 1.0).abs() < 0.002, "{ratio}");
    assert_eq!(uart.read_byte(), None, "what came at another speed is dropped");
    assert!(!uart.receive_interrupt_pending());

    uart.set_receive_interrupt(true);
    assert!(!uart.receive_interrupt_pending());
    for bytes in [&b"x"[..], b"yz"] {
        arrive(bytes);
        assert!(uart.receive_interrupt_pending());
        uart.clear_receive_interrupt();
        let read: Vec<u8> = std::iter::from_fn(|| uart.read_byte()).collect();
        assert_eq!(read, bytes);
        assert!(!uart.receive_interrupt_pending());
    }
    uart.set_receive_interrupt(false);
    arrive(b"!");
    assert!(!uart.receive_interrupt_pending());

    let unreachable = Speed { clock_hz: 1000, baud: 115_200 };
    assert_eq!(uart.init(unreachable), Err(InitError::Unreachable(unreachable)));
    assert_eq!(uart.read_byte(), Some(b'!'), "what cannot be set up is left alone");
}

/// Output that does not wait takes what there is room for, no more, and leaves nothing out.
fn does_not_wait<D: Device + Default>(room: usize) {
    let model = Mutex::new(D::default());
    let uart = D::uart(View(&model));
    let text: Vec<u8> = (0..100).collect();
    let mut rest = &text[..];
    uart.switch_on();
    assert_eq!(uart.try_write(&[]), 0);
    assert_eq!(uart.try_write(rest), room);
    rest = &rest[room..];
    while !rest.is_empty() {
        let taken = uart.try_write(rest);
        assert!(taken <= room);
        rest = &rest[taken..];
    }
    assert_eq!(lock(&model).line().sent, text);
}

#[test]
fn nonblocking_output() {
    does_not_wait::<Pl011Model>(1);
    does_not_wait::<Ns16550Model>(16);
    does_not_wait::<BcmMiniModel>(1);
    does_not_wait::<CadenceModel>(1);
}

#[test]
fn pl011() {
    behaves::<Pl011Model>();
}

#[test]
fn ns16550() {
    behaves::<Ns16550Model>();
}

#[test]
fn bcm_mini() {
    behaves::<BcmMiniModel>();
}

#[test]
fn cadence() {
    behaves::<CadenceModel>();
}

#[test]
fn drops_bytes_with_reported_line_errors() {
    fn reads<D: Device + Default>() -> Vec<u8> {
        let model = Mutex::new(D::default());
        let uart = D::uart(View(&model));
        lock(&model).line().arrived.extend([(b'a', false), (b'#', true), (b'b', false), (b'#', true)]);
        std::iter::from_fn(|| uart.read_byte()).collect()
    }
    assert_eq!(reads::<Pl011Model>(), b"ab");
    assert_eq!(reads::<Ns16550Model>(), b"ab");
}

#[test]
fn layouts_of_a_16550() {
    for (shift, bytes) in [(0, 1), (1, 1), (1, 2), (2, 1), (2, 2), (2, 4), (3, 4)] {
        let layout = Layout::new(shift, bytes).unwrap();
        assert_eq!(layout.size(), 32 << shift);
        let width = Width::from_bytes(bytes).unwrap();
        let model = Mutex::new(Ns16550Model { layout: Some((shift, width)), ..Default::default() });
        let uart = Ns16550::with_mmio(View(&model), layout);
        uart.init(Speed { clock_hz: 1_843_200, baud: 115_200 }).unwrap();
        uart.write(b"ok");
        uart.flush();
        assert_eq!(lock(&model).line.sent, b"ok");
        assert_eq!(lock(&model).divisor, [1, 0]);
    }
    for (shift, bytes) in [(0, 2), (0, 4), (1, 4), (2, 8), (2, 3), (2, 0), (4, 4), (255, 1)] {
        assert_eq!(Layout::new(shift, bytes), None, "{shift} {bytes}");
    }
}

#[test]
fn retries_busy_designware() {
    let model = Mutex::new(Ns16550Model { deaf: 5, ..Default::default() });
    let uart = Ns16550Model::uart(View(&model));
    uart.init(Speed { clock_hz: 24_000_000, baud: 115_200 }).unwrap();
    assert_eq!(lock(&model).divisor, [13, 0]);
    assert_eq!(lock(&model).line_control, 0b11);
    assert!(!lock(&model).busy_detected, "its interrupt has been taken back");

    lock(&model).deaf = u32::MAX;
    assert_eq!(uart.init(Speed { clock_hz: 24_000_000, baud: 9600 }), Err(InitError::Busy));
}

#[test]
fn clears_spurious_designware_interrupts() {
    let model = Mutex::new(Ns16550Model::default());
    let uart = Ns16550Model::uart(View(&model));
    uart.set_receive_interrupt(true);
    lock(&model).phantom = true;
    assert!(!uart.receive_interrupt_pending());
    assert!(!lock(&model).phantom);
    lock(&model).busy_detected = true;
    uart.clear_receive_interrupt();
    assert!(!lock(&model).busy_detected);
    // With a byte, neither path takes it away.
    lock(&model).line.arrived.push_back((b'x', false));
    assert!(uart.receive_interrupt_pending());
    uart.clear_receive_interrupt();
    assert_eq!(uart.read_byte(), Some(b'x'));
}
