//! Interrupts of devices: who they go to, and what they are called there.
use crate::{
    Intid, Trigger,
    survey::Survey,
    tree::{self, Cells, Find as _, Place, Tree},
};
use devtree::Node;

/// An input of an interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Of a GIC.
    Gic(Intid),
    /// Of the per-core local controller of BCM2836 and BCM2837: bit number in its interrupt source registers.
    Bcm2836Local(u8),
    /// Of the legacy peripheral controller of BCM2835 to BCM2837: bank (0 is the ARM's own) and bit.
    Bcm2835 {
        /// The register: 0 for basic, 1 and 2 for the GPU's.
        bank: u8,
        /// The bit in it.
        bit: u8,
    },
}

/// An interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Where it arrives.
    pub line: Line,
    /// How it is signalled.
    pub trigger: Trigger,
}

impl Interrupt {
    /// One number for it, among all inputs of the machine's controllers: a GIC's own; of BCM2836's local
    /// controller the bit, 0 to 9; of the legacy controller behind that 32 + 32 × bank + bit.
    pub const fn number(&self) -> u32 {
        match self.line {
            Line::Gic(intid) => intid.raw(),
            Line::Bcm2836Local(bit) => bit as u32,
            Line::Bcm2835 { bank, bit } => 32 + 32 * bank as u32 + bit as u32,
        }
    }

    /// The GIC's number of it, if it goes to a GIC.
    pub const fn intid(&self) -> Option<Intid> {
        match self.line {
            Line::Gic(intid) => Some(intid),
            _ => None,
        }
    }
}

/// The kinds of controllers whose specifiers are understood.
#[derive(Clone, Copy)]
enum Kind {
    Gic,
    Bcm2836Local,
    Bcm2835,
}

/// The `index`th interrupt of a node (DT spec, 2.4).
pub(crate) fn of(tree: &Tree<'_>, survey: &Survey<'_>, place: &Place<'_>, index: usize) -> Option<Interrupt> {
    let node = place.node();
    let (phandle, mut cells) = if let Some(mut cells) = Cells::of(&node, "interrupts-extended") {
        for _ in 0..index {
            let phandle = cells.next()?;
            let parent = match known(survey, phandle) {
                Some((_, parent)) => parent,
                None => tree.find_phandle(phandle)?.node(),
            };
            cells.advance(specifier_cells(&parent)?);
        }
        (cells.next()?, cells)
    } else {
        let mut cells = Cells::of(&node, "interrupts")?;
        let phandle = place.upwards().find_map(|node| tree::cell(&node, "interrupt-parent"))?;
        let (_, parent) = known(survey, phandle)?;
        cells.advance(specifier_cells(&parent)?.checked_mul(index)?);
        (phandle, cells)
    };
    let (kind, parent) = known(survey, phandle)?;
    decode(kind, specifier_cells(&parent)?, &mut cells)
}

/// Gives `visit` each interrupt that reaches a controller which is understood from a node: its own, and those
/// of devices on a bus that it is (`interrupt-map`; DT spec, 2.4.3).
pub(crate) fn of_node(
    tree: &Tree<'_>,
    survey: &Survey<'_>,
    place: &Place<'_>,
    visit: &mut dyn FnMut(Interrupt),
) {
    let node = place.node();
    // What of a list is not understood does not hide the rest.
    let mut list = |mut cells: Cells<'_>, before: usize, has_address: bool| -> Option<()> {
        loop {
            cells.advance(before);
            let phandle = cells.next()?;
            let known = known(survey, phandle);
            let parent = match known {
                Some((_, parent)) => parent,
                None => tree.find_phandle(phandle)?.node(),
            };
            if has_address {
                cells.advance(tree::cell(&parent, "#address-cells").unwrap_or(0) as usize);
            }
            let count = specifier_cells(&parent)?;
            let interrupt = known.and_then(|(kind, _)| decode(kind, count, &mut cells.clone()));
            interrupt.into_iter().for_each(&mut *visit);
            cells.advance(count);
        }
    };
    if let Some(cells) = Cells::of(&node, "interrupt-map") {
        let word = |name| tree::cell(&node, name).unwrap_or(0) as usize;
        list(cells, word("#address-cells") + word("#interrupt-cells"), true);
    }
    if let Some(cells) = Cells::of(&node, "interrupts-extended") {
        list(cells, 0, false);
        return;
    }
    let parent = place.upwards().find_map(|node| tree::cell(&node, "interrupt-parent"));
    if let Some(mut cells) = Cells::of(&node, "interrupts")
        && let Some((kind, parent)) = parent.and_then(|phandle| known(survey, phandle))
        && let Some(count) = specifier_cells(&parent)
    {
        while !cells.is_empty() {
            decode(kind, count, &mut cells.clone()).into_iter().for_each(&mut *visit);
            cells.advance(count);
        }
    }
}

/// The controller with this phandle, if it is one that is understood.
fn known<'a>(survey: &Survey<'a>, phandle: u32) -> Option<(Kind, Node<'a>)> {
    [
        (Kind::Gic, &survey.gic_v3),
        (Kind::Gic, &survey.gic_v2),
        (Kind::Bcm2836Local, &survey.bcm2836_local),
        (Kind::Bcm2835, &survey.bcm2835),
    ]
    .into_iter()
    .filter_map(|(kind, place)| Some((kind, place.as_ref()?.node())))
    .find(|(_, node)| tree::phandle(node) == Some(phandle))
}

fn specifier_cells(parent: &Node<'_>) -> Option<usize> {
    let count = tree::cell(parent, "#interrupt-cells")?;
    (1..=8).contains(&count).then_some(count as usize)
}

fn decode(kind: Kind, count: usize, cells: &mut Cells<'_>) -> Option<Interrupt> {
    let line = match kind {
        Kind::Gic if count >= 3 => gic_line(cells.next()?, cells.next()?)?,
        Kind::Bcm2836Local if count == 2 => Line::Bcm2836Local(u8::try_from(cells.next()?).ok()?),
        Kind::Bcm2835 if count == 2 => Line::Bcm2835 {
            bank: u8::try_from(cells.next()?).ok().filter(|&bank| bank < 3)?,
            bit: u8::try_from(cells.next()?).ok().filter(|&bit| bit < 32)?,
        },
        _ => return None,
    };
    let trigger = match (kind, line) {
        // All inputs of the legacy controller are levels (bindings,
        // `interrupt-controller/brcm,bcm2835-armctrl-ic.txt`).
        (Kind::Bcm2835, _) => Trigger::Level,
        // 1 and 2: rising and falling edge; 4 and 8: high and low level.
        _ if cells.next()? & 0b11 != 0 => Trigger::Edge,
        _ => Trigger::Level,
    };
    Some(Interrupt { line, trigger })
}

/// First and second cell of a GIC specifier (bindings, `interrupt-controller/arm,gic-v3.yaml`).
fn gic_line(kind: u32, number: u32) -> Option<Line> {
    let (first, count) = match kind {
        0 => (Intid::SPI_BASE, Intid::SPECIAL_BASE - Intid::SPI_BASE),
        1 => (Intid::PPI_BASE, 16),
        // Extended SPIs and PPIs (GIC spec, 2.2).
        2 => (4096, 1024),
        3 => (1056, 64),
        _ => return None,
    };
    (number < count).then(|| Line::Gic(Intid::new(first + number)))
}
