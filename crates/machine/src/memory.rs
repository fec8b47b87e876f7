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

/// All ranges of a node's `reg`, without translation.
fn ranges<'a>(node: &Node<'a>, cells: (usize, usize)) -> impl Iterator<Item = Region> + use<'a> {
    let mut reg = Cells::of(node, "reg");
    core::iter::from_fn(move || {
        let reg = reg.as_mut()?;
        if reg.is_empty() {
            return None;
        }
        let base = reg.number(cells.0)?;
        let size = reg.number(cells.1)?;
        Region::new(base, size)
    })
}

/// Whether every entry of memory makes sense.
pub(crate) fn check(tree: &Tree<'_>) -> Result<(), MachineError> {
    const BAD: MachineError = MachineError::BadProperty { node: "a memory node", property: "reg" };
    let cells @ (address_cells, size_cells) = tree::cell_counts(&tree.root());
    for node in nodes(tree) {
        let Some(reg) = tree::bytes(&node, "reg") else { continue };
        let length = reg.len();
        let entry = (address_cells + size_cells) * 4;
        if !matches!(address_cells, 1 | 2)
            || !matches!(size_cells, 1 | 2)
            || !length.is_multiple_of(entry)
            || ranges(&node, cells).count() != length / entry
        {
            return Err(BAD);
        }
    }
    Ok(())
}

pub(crate) fn regions<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Region> + use<'a> {
    let cells = tree::cell_counts(&tree.root());
    nodes(tree).flat_map(move |node| ranges(&node, cells)).filter(|region| region.size != 0)
}

pub(crate) fn reserved<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Reserved<'a>> + use<'a> {
    let block = tree
        .reservations()
        .filter_map(|(base, size)| Region::new(base, size))
        .map(|region| Reserved { region, name: None, no_map: false });
    let root = Place::root(tree.root());
    let parent = tree.top("reserved-memory").and_then(|node| root.child(node));
    let named = parent.into_iter().flat_map(|parent| {
        parent.node().children().filter(tree::is_enabled).filter_map(move |node| parent.child(node)).flat_map(
            |place| {
                let node = place.node();
                (0..).map_while(move |index| place.region(index)).map(move |region| Reserved {
                    region,
                    name: Some(node.name()),
                    no_map: tree::bytes(&node, "no-map").is_some(),
                })
            },
        )
    });
    block.chain(named).filter(|reserved| reserved.region.size != 0)
}
