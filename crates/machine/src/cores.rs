//! The cores.
use crate::{
    MachineError, Mpidr,
    tree::{self, Cells, Find as _, Tree},
};
use devtree::Node;

/// Method by which a core is started (bindings, `arm/cpus.yaml`, `enable-method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableMethod {
    /// By PSCI `CPU_ON`.
    Psci,
    /// By writing an entry address to `release_addr` and an event; the core waits there in a loop of `wfe`.
    SpinTable {
        /// Physical address of the 64-bit word to write (`cpu-release-addr`).
        release_addr: u64,
    },
    /// The tree does not say, or says something else.
    Unknown,
}

/// A core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its affinity.
    pub mpidr: Mpidr,
    /// Whether it may be used: `status` is absent or `okay`.
    pub enabled: bool,
    /// How it is started. Of no use for the core that runs already.
    pub enable_method: EnableMethod,
}

fn is_core(node: &Node<'_>) -> bool {
    tree::string(node, "device_type") == Some("cpu") || node.base_name() == "cpu"
}

fn nodes<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Node<'a>> + use<'a> {
    let mut nodes = tree.top("cpus").map(|cpus| cpus.children());
    core::iter::from_fn(move || nodes.as_mut()?.find(is_core))
}

/// Returns whether every core has an identity that makes sense.
pub(crate) fn check(tree: &Tree<'_>) -> Result<(), MachineError> {
    if cores(tree).count() != nodes(tree).count() {
        return Err(MachineError::BadProperty { node: "a core", property: "reg" });
    }
    Ok(())
}

pub(crate) fn cores<'a>(tree: &Tree<'a>) -> impl Iterator<Item = Core> + use<'a> {
    let address_cells = address_cells(tree);
    nodes(tree).filter_map(move |node| core(&node, address_cells))
}

/// The core whose node other nodes mean by this number.
pub(crate) fn by_phandle(tree: &Tree<'_>, wanted: u32) -> Option<Core> {
    let node = nodes(tree).find(|node| tree::phandle(node) == Some(wanted))?;
    core(&node, address_cells(tree))
}

fn address_cells(tree: &Tree<'_>) -> usize {
    tree.top("cpus").map_or(1, |cpus| tree::cell_counts(&cpus).0).max(1)
}

fn core(node: &Node<'_>, address_cells: usize) -> Option<Core> {
    // `reg` is the affinity bits of MPIDR_EL1; with one cell it has no Aff3 (bindings, `arm/cpus.yaml`).
    let reg = Cells::of(node, "reg")?.number(address_cells)?;
    Some(Core { mpidr: Mpidr::new(reg), enabled: tree::is_enabled(node), enable_method: enable_method(node) })
}

fn enable_method(node: &Node<'_>) -> EnableMethod {
    for method in tree::strings(node, "enable-method") {
        match method {
            "psci" => return EnableMethod::Psci,
            "spin-table" => {
                if let Some(release_addr) = tree::number(node, "cpu-release-addr") {
                    return EnableMethod::SpinTable { release_addr };
                }
            }
            _ => {}
        }
    }
    EnableMethod::Unknown
}
