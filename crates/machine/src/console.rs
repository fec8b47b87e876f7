//! The console.
use crate::{
    Interrupt, Region, interrupt,
    survey::Survey,
    tree::{self, Find as _, Place, Tree},
};
use devtree::Node;

/// Kind of a UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleKind {
    /// Arm PL011, or the subset of it that the Arm Server Base System Architecture asks for.
    Pl011,
    /// 16550 and its relatives, DesignWare among them.
    Uart16550 {
        /// Registers are `1 << reg_shift` bytes apart.
        reg_shift: u8,
        /// Registers are accessed with this many bytes: 1, 2 or 4.
        io_width: u8,
    },
    /// The mini UART in the auxiliary block of BCM2835 and later.
    BcmMiniUart,
    /// The Cadence UART of Zynq and Zynq UltraScale+.
    Cadence,
}

/// The console: what it takes to write to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleInfo {
    /// What kind of UART.
    pub kind: ConsoleKind,
    /// Its registers.
    pub region: Region,
}

/// Further settings of the console for its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Its interrupt.
    pub interrupt: Option<Interrupt>,
    /// The frequency of its clock in hertz, if the tree has it: `clock-frequency`, or a fixed clock.
    pub clock_hz: Option<u32>,
    /// The speed from the options of `stdout-path`, as in `serial0:115200n8`.
    pub baud: Option<u32>,
}

/// The console's node, and the options that came with its path.
fn place<'a>(tree: &Tree<'a>) -> Option<(Place<'a>, &'a str)> {
    let chosen = tree.top("chosen");
    let path = chosen
        .and_then(|node| {
            tree::string(&node, "stdout-path").or_else(|| tree::string(&node, "linux,stdout-path"))
        })
        .unwrap_or("serial0");
    let (mut path, options) = devtree::split(path, b':');
    if !path.starts_with('/') {
        path = tree::string(&tree.top("aliases")?, path)?;
    }
    Some((tree.find_path(path)?, options))
}

const PL011: &[&str] = &["arm,pl011", "arm,sbsa-uart"];

pub(crate) fn pl011(tree: &Tree<'_>) -> Option<Region> {
    let (place, _) = place(tree)?;
    place.region(0).filter(|_| tree::is_compatible(&place.node(), PL011))
}

pub(crate) fn find(tree: &Tree<'_>) -> Option<ConsoleInfo> {
    of(&place(tree)?.0)
}

impl Place<'_> {
    /// The UART that the node describes, if it is one.
    pub fn uart(&self) -> Option<ConsoleInfo> {
        of(self)
    }
}

fn of(place: &Place<'_>) -> Option<ConsoleInfo> {
    let node = place.node();
    let region = place.region(0)?;
    // Bindings, `serial/8250.yaml`: where in the block the registers begin.
    let offset = u64::from(tree::cell(&node, "reg-offset").unwrap_or(0)).min(region.size);
    let region = Region { base: region.base + offset, size: region.size - offset };
    Some(ConsoleInfo { kind: kind(&node)?, region })
}

pub(crate) fn settings(tree: &Tree<'_>) -> Option<ConsoleSettings> {
    let (place, options) = place(tree)?;
    let interrupt = interrupt::of(tree, &Survey::of(tree), &place, 0);
    Some(ConsoleSettings { interrupt, clock_hz: clock(tree, &place), baud: baud(options) })
}

/// The number that options begin with.
fn baud(options: &str) -> Option<u32> {
    let mut baud = None;
    for digit in options.bytes().map_while(|byte| char::from(byte).to_digit(10)) {
        baud = Some(baud.unwrap_or(0_u32).checked_mul(10)?.checked_add(digit)?);
    }
    baud
}

fn kind(node: &Node<'_>) -> Option<ConsoleKind> {
    if tree::is_compatible(node, PL011) {
        return Some(ConsoleKind::Pl011);
    }
    if tree::is_compatible(node, &["ns8250", "ns16450", "ns16550", "ns16550a", "snps,dw-apb-uart"]) {
        let cell = |property| tree::cell(node, property).unwrap_or(0);
        let io_width = match cell("reg-io-width") {
            width @ (2 | 4) => width as u8,
            _ => 1,
        };
        return Some(ConsoleKind::Uart16550 { reg_shift: cell("reg-shift").min(3) as u8, io_width });
    }
    if tree::is_compatible(node, &["brcm,bcm2835-aux-uart"]) {
        return Some(ConsoleKind::BcmMiniUart);
    }
    let cadence = ["cdns,uart-r1p8", "cdns,uart-r1p12", "xlnx,xuartps"];
    tree::is_compatible(node, &cadence).then_some(ConsoleKind::Cadence)
}

fn clock(tree: &Tree<'_>, place: &Place<'_>) -> Option<u32> {
    let node = place.node();
    tree::cell(&node, "clock-frequency").or_else(|| {
        let clock = tree.find_phandle(tree::cell(&node, "clocks")?)?.node();
        if tree::is_compatible(&clock, &["fixed-clock"]) {
            tree::cell(&clock, "clock-frequency")
        } else {
            None
        }
    })
}
