//! Memory, and what of it is taken.
use crate::{
    MachineError, Region,
    tree::{self, Cells, Find as _, Place, Tree},
};
use devtree::Node;

/// Memory that must not be used freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved<'a> {
    /// Where.
    pub region: Region,
    /// The name of the node in `/reserved-memory`; `None` for an entry of the memory reservation block.
    pub name: Option<&'a str>,
    /// Whether it must not even be mapped (`no-map`), lest the processor reads it speculatively.
    pub no_map: bool,
}

fn is_memory(node: &Node<'_>) -> bool {
    (tree::string(node, "device_type") == Some("memory") || node.base_name() == "memory")
        && tree::is_enabled(node)
}

fn nodes<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Node<'a>> + use<'a> {
    tree.root().children().filter(is_memory)
}

/// The next range of a `reg`, without translation.
fn entry(reg: &mut Cells<'_>, cells: (usize, usize)) -> Option<Region> {
    if reg.is_empty() {
        return None;
    }
    let base = reg.number(cells.0)?;
    let size = reg.number(cells.1)?;
    Region::new(base, size)
}

/// Returns whether every entry of memory makes sense.
pub(crate) fn check(tree: &Tree<'_>) -> Result<(), MachineError> {
    const BAD: MachineError = MachineError::BadProperty { node: "a memory node", property: "reg" };
    let cells @ (address_cells, size_cells) = tree::cell_counts(&tree.root());
    for node in nodes(tree) {
        let Some(reg) = tree::bytes(&node, "reg") else { continue };
        let length = reg.len();
        let mut reg = Cells::of(&node, "reg").unwrap_or_default();
        let entry = (address_cells + size_cells) * 4;
        if !matches!(address_cells, 1 | 2)
            || !matches!(size_cells, 1 | 2)
            || !length.is_multiple_of(entry)
            || core::iter::from_fn(|| self::entry(&mut reg, cells)).count() != length / entry
        {
            return Err(BAD);
        }
    }
    Ok(())
}

// Loops, where `flat_map` and `chain` would do: they are instantiated wherever they are used, at ten times
// the size.

pub(crate) fn regions<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Region> + use<'a> {
    let cells = tree::cell_counts(&tree.root());
    let mut nodes = nodes(tree);
    let mut reg: Option<Cells<'a>> = None;
    core::iter::from_fn(move || {
        loop {
            let entry = reg.as_mut().and_then(|reg| entry(reg, cells));
            match entry {
                Some(region) if region.size != 0 => return Some(region),
                Some(_) => {}
                None => reg = Some(Cells::of(&nodes.next()?, "reg").unwrap_or_default()),
            }
        }
    })
}

pub(crate) fn reserved<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Reserved<'a>> + use<'a> {
    let mut block = tree.reservations();
    let parent = tree.top("reserved-memory").and_then(|node| Place::root(tree.root()).child(node));
    let mut nodes = parent.map(|parent| parent.node().children());
    let mut current: Option<(Place<'a>, usize)> = None;
    core::iter::from_fn(move || {
        loop {
            let (region, node) = if let Some((base, size)) = block.next() {
                (Region::new(base, size), None)
            } else if let Some((place, index)) = &mut current {
                let region = place.region(*index);
                let node = place.node();
                *index += 1;
                if region.is_none() {
                    current = None;
                }
                (region, Some(node))
            } else {
                let node = nodes.as_mut()?.next()?;
                if tree::is_enabled(&node) {
                    current = parent.and_then(|parent| parent.child(node)).map(|place| (place, 0));
                }
                continue;
            };
            if let Some(region) = region.filter(|region| region.size != 0) {
                let no_map = node.is_some_and(|node| tree::bytes(&node, "no-map").is_some());
                return Some(Reserved { region, name: node.map(|node| node.name()), no_map });
            }
        }
    })
}
