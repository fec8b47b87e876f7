//! Discovery: FF-A's list of partitions, and the names that the device tree gives them.
#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "at boot, before there are programs"
)]

use crate::{app::App, memory};
use alloc::{format, string::String, vec::Vec};
use dtoolkit::{Node, Property, fdt::Fdt};
use hv_abi::{
    ffa::{self, PartitionInfo},
    guest,
    ids::{Ipa, VmId},
};

/// Size of a mailbox buffer: one page.
const BUFFER: u64 = 4096;

/// A secondary VM, before it has run.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its id.
    pub id: VmId,
    /// Its name for people.
    pub name: String,
    /// How many vCPUs it has.
    pub vcpus: u16,
    /// What its manifest says of how it is to be run (`margay,control`).
    pub settings: String,
}

/// Asks the hypervisor for all partitions but this one. Once: it registers this VM's mailbox.
///
/// # Errors
/// What the hypervisor refused.
pub fn discover(app: &App) -> Result<Vec<Partition>, ffa::Error> {
    let buffer = || memory::allocate(BUFFER).ok_or(ffa::Error::NoMemory);
    let (tx, rx) = (buffer()?, buffer()?);
    guest::rxtx_map(Ipa(tx.phys().0), Ipa(rx.phys().0))?;
    // The hypervisor may use them from now on.
    tx.leak();
    let rx = rx.leak();
    let (count, size) = guest::partition_info_get([0; 4])?;
    let size = size.max(ffa::PARTITION_INFO_SIZE);
    let infos = rx.chunks_exact(size).take(count).filter_map(PartitionInfo::from_bytes);
    let mut partitions: Vec<_> = infos
        .filter(|info| info.id != VmId::PRIMARY.0)
        .map(|info| {
            let id = VmId(info.id);
            let name = text_of(app, id, "margay,vm-name").unwrap_or_else(|| format!("{id}"));
            let settings = text_of(app, id, "margay,control").unwrap_or_default();
            Partition { id, name, vcpus: info.execution_contexts, settings }
        })
        .collect();
    // One that has several services is there several times.
    partitions.dedup_by_key(|partition| partition.id);
    guest::rx_release()?;
    Ok(partitions)
}

/// A text of a VM: a property of the child of `/hypervisor` whose `reg` is its id.
fn text_of(app: &App, id: VmId, property: &str) -> Option<String> {
    let tree = Fdt::new(app.machine().dtb()).ok()?;
    let node = tree.find_node("/hypervisor")?;
    let vm = node.children().find(|child| {
        let reg = child.property("reg").and_then(|reg| reg.value().first_chunk::<4>().copied());
        reg.map(u32::from_be_bytes) == Some(u32::from(id.0))
    })?;
    let text = vm.property(property)?;
    core::str::from_utf8(text.value().strip_suffix(&[0])?).ok().map(String::from)
}
