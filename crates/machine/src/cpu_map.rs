//! The topology of the cores: `/cpus/cpu-map` (bindings, `cpu/cpu-topology.txt`).
//!
//! The map is a tree of nodes `socketN`, `clusterN`, `coreN`, `threadN`; sockets and threads may be left out.
//! Its leaves name nodes of cores by phandle. A map that breaks the binding is refused as a whole, as in
//! Linux: half a topology misleads more than none.

use crate::{
    Mpidr,
    cores::{self, Core},
    tree::{self, Find as _, Tree},
};
use core::fmt;
use devtree::Node;

/// The most cores and threads that a map may name. Each is looked up among all cores, so that the time is
/// bounded by this.
const MOST_LEAVES: usize = 512;

/// Where a core is in the topology. All numbers are those of the nodes' names; a core's counts within its
/// cluster, a cluster's within its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorePlace {
    /// The socket: 0 in a map without sockets.
    pub socket: u32,
    /// The cluster.
    pub cluster: u32,
    /// The core.
    pub core: u32,
    /// The hardware thread of a core that has several.
    pub thread: Option<u32>,
}

/// Why a `cpu-map` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuMapError {
    /// A core outside of a cluster.
    NoCluster,
    /// A cluster that consists of clusters: the binding has them, no file of Linux' sysfs shows them.
    NestedClusters,
    /// A core, or a thread, without a phandle of a core.
    UnknownCpu,
    /// A core that has both threads and a `cpu` of its own.
    CoreWithThreads,
    /// More cores and threads than are looked up.
    TooMany,
}

impl fmt::Display for CpuMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCluster => "a core is outside of all clusters",
            Self::NestedClusters => "a cluster consists of clusters",
            Self::UnknownCpu => "`cpu` of a core names no core",
            Self::CoreWithThreads => "a core with threads has a `cpu`",
            Self::TooMany => "it names more than 512 cores",
        })
    }
}

impl core::error::Error for CpuMapError {}

/// The children of a node whose name is a word and a number, with the number.
fn numbered<'a>(node: &Node<'a>, word: &'static str) -> impl Iterator<Item = (u32, Node<'a>)> + use<'a> {
    node.children().filter_map(move |child| Some((child.name().strip_prefix(word)?.parse().ok()?, child)))
}

/// A walk through the map.
struct Walk<'w, 'a> {
    tree: &'w Tree<'a>,
    leaves_left: usize,
    visit: &'w mut dyn FnMut(Mpidr, CorePlace),
}

/// Gives `visit` the place of each core that the map names, in the tree's order; none if there is no map.
/// What was visited before an error is worth nothing.
pub(crate) fn for_each(tree: &Tree<'_>, visit: &mut dyn FnMut(Mpidr, CorePlace)) -> Result<(), CpuMapError> {
    let Some(map) = tree.top("cpus").and_then(|cpus| cpus.child("cpu-map")) else { return Ok(()) };
    let mut walk = Walk { tree, leaves_left: MOST_LEAVES, visit };
    let mut has_sockets = false;
    for (number, socket) in numbered(&map, "socket") {
        has_sockets = true;
        walk.socket(&socket, number)?;
    }
    if has_sockets { Ok(()) } else { walk.socket(&map, 0) }
}

impl Walk<'_, '_> {
    fn socket(&mut self, node: &Node<'_>, socket: u32) -> Result<(), CpuMapError> {
        if numbered(node, "core").next().is_some() {
            return Err(CpuMapError::NoCluster);
        }
        for (cluster, node) in numbered(node, "cluster") {
            if numbered(&node, "cluster").next().is_some() {
                return Err(CpuMapError::NestedClusters);
            }
            for (core, node) in numbered(&node, "core") {
                self.core(&node, CorePlace { socket, cluster, core, thread: None })?;
            }
        }
        Ok(())
    }

    fn core(&mut self, node: &Node<'_>, place: CorePlace) -> Result<(), CpuMapError> {
        let mut has_threads = false;
        for (thread, node) in numbered(node, "thread") {
            has_threads = true;
            self.leaf(&node, CorePlace { thread: Some(thread), ..place })?;
        }
        match (has_threads, tree::bytes(node, "cpu")) {
            (true, Some(_)) => Err(CpuMapError::CoreWithThreads),
            (true, None) => Ok(()),
            (false, _) => self.leaf(node, place),
        }
    }

    fn leaf(&mut self, node: &Node<'_>, place: CorePlace) -> Result<(), CpuMapError> {
        self.leaves_left = self.leaves_left.checked_sub(1).ok_or(CpuMapError::TooMany)?;
        let phandle = tree::cell(node, "cpu").ok_or(CpuMapError::UnknownCpu)?;
        let Core { mpidr, .. } = cores::by_phandle(self.tree, phandle).ok_or(CpuMapError::UnknownCpu)?;
        (self.visit)(mpidr, place);
        Ok(())
    }
}
