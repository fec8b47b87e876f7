//! Reading the tree: nodes with their ancestors, cells, addresses.
use crate::Region;
use devtree::Node;
pub(crate) use devtree::Tree;

/// How deep the tree is looked into. Real trees have devices at depth 5 at most.
const MAX_DEPTH: usize = 12;

/// What this crate asks of a tree.
pub(crate) trait Find<'a> {
    /// The child of the root with this name.
    fn top(&self, name: &str) -> Option<Node<'a>>;
    /// The first node, parents before children, of which `matches` is true.
    fn find(&self, matches: &mut dyn FnMut(&Place<'a>) -> bool) -> Option<Place<'a>>;
    /// The node that other nodes mean by this number (DT spec, 2.3.3).
    fn find_phandle(&self, wanted: u32) -> Option<Place<'a>>;
    /// The node at a path (DT spec, 2.2.3).
    fn find_path(&self, path: &str) -> Option<Place<'a>>;
}

impl<'a> Find<'a> for Tree<'a> {
    fn top(&self, name: &str) -> Option<Node<'a>> {
        self.root().child(name)
    }

    fn find(&self, matches: &mut dyn FnMut(&Place<'a>) -> bool) -> Option<Place<'a>> {
        let mut place = Place::root(self.root());
        descend(&mut place, matches).then_some(place)
    }

    fn find_phandle(&self, wanted: u32) -> Option<Place<'a>> {
        self.find(&mut |place| phandle(&place.node()) == Some(wanted))
    }

    fn find_path(&self, path: &str) -> Option<Place<'a>> {
        let mut place = Place::root(self.root());
        let mut rest = path.strip_prefix('/')?;
        while !rest.is_empty() {
            let name;
            (name, rest) = devtree::split(rest, b'/');
            if name.is_empty() {
                continue;
            }
            let exact = place.node().children().find(|child| child.name() == name);
            let child = exact.or_else(|| place.node().children().find(|child| child.base_name() == name))?;
            place = place.child(child)?;
        }
        Some(place)
    }
}

/// Goes down from a node in place, so that depth costs little stack; stops, with true, at the node that
/// matches.
fn descend<'a>(place: &mut Place<'a>, matches: &mut dyn FnMut(&Place<'a>) -> bool) -> bool {
    if matches(place) {
        return true;
    }
    let depth = place.depth;
    if depth + 1 < MAX_DEPTH {
        for child in place.node().children() {
            place.depth = depth + 1;
            place.chain[depth + 1] = child;
            if descend(place, matches) {
                return true;
            }
            place.depth = depth;
        }
    }
    false
}

/// A node and the nodes above it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// From the root down to the node; the rest repeats the node.
    chain: [Node<'a>; MAX_DEPTH],
    /// Index of the node itself.
    depth: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn root(node: Node<'a>) -> Self {
        Self { chain: [node; MAX_DEPTH], depth: 0 }
    }

    /// One level down; `None` where the tree is deeper than is looked into.
    pub(crate) fn child(&self, node: Node<'a>) -> Option<Self> {
        let mut place = *self;
        place.depth += 1;
        *place.chain.get_mut(place.depth)? = node;
        Some(place)
    }

    /// Returns the node.
    pub fn node(&self) -> Node<'a> {
        self.chain[self.depth]
    }

    /// Returns the number of ancestors.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Gives `visit` each range of the node's `reg`, as CPU physical addresses: `None` for one that the
    /// processor cannot address.
    pub fn for_each_region(&self, visit: &mut dyn FnMut(Option<Region>)) {
        if let Some(parent) = self.depth.checked_sub(1) {
            let (address_cells, size_cells) = cell_counts(&self.chain[parent]);
            self.for_each_range("reg", 0, address_cells, size_cells, visit);
        }
    }

    /// Gives `visit` each window of the bus that the node is: the ranges of CPU physical addresses that its
    /// `ranges` translate (DT spec, 2.3.8), as above. There is none if addresses are the same on both sides.
    pub fn for_each_window(&self, visit: &mut dyn FnMut(Option<Region>)) {
        if let Some(parent) = self.depth.checked_sub(1) {
            let (child_cells, size_cells) = cell_counts(&self.node());
            let (address_cells, _) = cell_counts(&self.chain[parent]);
            self.for_each_range("ranges", child_cells, address_cells, size_cells, visit);
        }
    }

    /// The entries of a property: `skip` cells, an address on the parent's bus, and a size.
    #[inline(never)]
    fn for_each_range(
        &self,
        property: &str,
        skip: usize,
        address_cells: usize,
        size_cells: usize,
        visit: &mut dyn FnMut(Option<Region>),
    ) {
        let mut cells = Cells::of(&self.node(), property).unwrap_or_default();
        while !cells.is_empty() {
            let mut entry = cells;
            entry.advance(skip);
            let address = entry.number(address_cells);
            let range =
                address.zip(entry.number(size_cells)).and_then(|(base, size)| self.translate(base, size));
            visit(range);
            // An entry of no cells would not end.
            cells.advance((skip + address_cells + size_cells).max(1));
        }
    }

    /// The node, its parent, its parent's parent, up to the root.
    pub(crate) fn upwards(&self) -> impl Iterator<Item = Node<'a>> + '_ {
        self.chain[..=self.depth].iter().rev().copied()
    }

    /// Returns whether neither the node nor a bus that it is on is disabled.
    pub(crate) fn is_enabled(&self) -> bool {
        self.upwards().all(|node| is_enabled(&node))
    }

    /// The `index`th range of the node's `reg`, as CPU physical addresses.
    pub(crate) fn region(&self, index: usize) -> Option<Region> {
        let parent = self.chain[self.depth.checked_sub(1)?];
        let (address_cells, size_cells) = cell_counts(&parent);
        let mut cells = Cells::of(&self.node(), "reg")?;
        cells.advance(index * (address_cells + size_cells));
        let base = cells.number(address_cells)?;
        let size = cells.number(size_cells)?;
        self.translate(base, size)
    }

    /// Carries a range through the `ranges` of all buses above the node (DT spec, 2.3.8).
    fn translate(&self, mut base: u64, size: u64) -> Option<Region> {
        for level in (1..self.depth).rev() {
            let (bus, parent) = (&self.chain[level], &self.chain[level - 1]);
            let (child_cells, size_cells) = cell_counts(bus);
            let (parent_cells, _) = cell_counts(parent);
            let mut ranges = Cells::of(bus, "ranges")?;
            if ranges.is_empty() {
                continue;
            }
            base = loop {
                let child = ranges.number(child_cells)?;
                let target = ranges.number(parent_cells)?;
                let length = ranges.number(size_cells)?;
                match base.checked_sub(child) {
                    Some(offset) if offset < length && size <= length - offset => {
                        break target.checked_add(offset)?;
                    }
                    _ => {}
                }
            };
        }
        Region::new(base, size)
    }
}

/// Returns whether a node's `status` lets it be used (DT spec, 2.3.4).
pub(crate) fn is_enabled(node: &Node<'_>) -> bool {
    bytes(node, "status").is_none_or(|status| matches!(status, b"okay\0" | b"ok\0"))
}

/// Returns whether a node's `compatible` has one of the strings.
#[inline(never)]
pub(crate) fn is_compatible(node: &Node<'_>, compatibles: &[&str]) -> bool {
    strings(node, "compatible").any(|string| compatibles.contains(&string))
}

/// The value of a property.
pub(crate) fn bytes<'a>(node: &Node<'a>, property: &str) -> Option<&'a [u8]> {
    node.value(property)
}

/// The value of a property that is one string.
pub(crate) fn string<'a>(node: &Node<'a>, property: &str) -> Option<&'a str> {
    strings(node, property).next()
}

/// The values of a property that is a list of strings; none if there is no such property.
pub(crate) fn strings<'a>(node: &Node<'a>, property: &str) -> Strings<'a> {
    Strings(bytes(node, property).unwrap_or_default())
}

/// The strings in a value; what is not text is left out.
#[derive(Clone, Debug)]
pub(crate) struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    #[inline(never)]
    fn next(&mut self) -> Option<&'a str> {
        loop {
            let end = self.0.iter().position(|&byte| byte == 0)?;
            let (string, rest) = (&self.0[..end], &self.0[end + 1..]);
            self.0 = rest;
            if let Ok(string) = core::str::from_utf8(string) {
                return Some(string);
            }
        }
    }
}

/// The value of a property that is one number of one or two cells.
pub(crate) fn number(node: &Node<'_>, property: &str) -> Option<u64> {
    let mut cells = Cells::of(node, property)?;
    let count = cells.len();
    cells.number(count)
}

/// The value of a property that is one cell.
pub(crate) fn cell(node: &Node<'_>, property: &str) -> Option<u32> {
    Cells::of(node, property)?.next()
}

/// A node's `phandle` (DT spec, 2.3.3).
pub(crate) fn phandle(node: &Node<'_>) -> Option<u32> {
    cell(node, "phandle").or_else(|| cell(node, "linux,phandle"))
}

/// A node's `#address-cells` and `#size-cells`, for its children (DT spec, 2.3.5).
pub(crate) fn cell_counts(node: &Node<'_>) -> (usize, usize) {
    let count = |property, default| cell(node, property).map_or(default, |count| count as usize);
    // Nothing has more than a few cells; a bound keeps arithmetic on counts from overflowing.
    (count("#address-cells", 2).min(16), count("#size-cells", 1).min(16))
}

/// The 32-bit big-endian words of a property, from the front.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cells<'a>(&'a [u8]);

impl<'a> Cells<'a> {
    pub(crate) fn of(node: &Node<'a>, property: &str) -> Option<Self> {
        bytes(node, property).map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many whole cells are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Leaves out `count` cells.
    pub(crate) fn advance(&mut self, count: usize) {
        self.0 = self.0.get(count.saturating_mul(4)..).unwrap_or(&[]);
    }

    /// The next number, of `count` cells; `None` at the end, and for a number that has neither one cell nor
    /// two. Zero cells are the number 0.
    pub(crate) fn number(&mut self, count: usize) -> Option<u64> {
        match count {
            0 => Some(0),
            1 => self.next().map(u64::from),
            2 => Some(u64::from(self.next()?) << 32 | u64::from(self.next()?)),
            _ => None,
        }
    }

    /// The next cell.
    pub(crate) fn next(&mut self) -> Option<u32> {
        let (cell, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*cell))
    }
}
