//! Device trees for machines that differ from what QEMU says of itself.

use crate::{
    paths,
    qemu::{INITRD, Machine},
};
use anyhow::{Context, Result, anyhow, bail};
use dtoolkit::{
    ToPropertyValue,
    fdt::Fdt,
    model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty},
};
use std::{fs, path::Path};

/// Writes `from`, a board's tree, to `path` without the nodes in `without`, by their paths.
pub fn write_without(from: &Path, without: &[String], path: &Path) -> Result<()> {
    let without: Vec<&str> = without.iter().map(String::as_str).collect();
    paths::write(path, &self::without(&paths::read(from)?, &without)?)
}

/// A tree without the nodes with these paths.
pub fn without(blob: &[u8], without: &[&str]) -> Result<Vec<u8>> {
    let mut tree = parse(blob)?;
    for node in without {
        let (parent, name) = node.rsplit_once('/').unwrap_or_default();
        let parent = if parent.is_empty() { Some(&mut tree.root) } else { tree.find_node_mut(parent) };
        if parent.and_then(|parent| parent.remove_child(name)).is_none() {
            bail!("the device tree has no {node}");
        }
    }
    Ok(tree.to_dtb())
}

/// Writes QEMU's tree of `machine` to `path`, with the cores in `disabled` (by number) marked
/// `status = "disabled"`; if the machine has firmware of its own, with what QEMU leaves to that.
pub fn write(machine: &Machine, disabled: &[u32], path: &Path) -> Result<()> {
    let output = machine
        .hardware(&format!(",dumpdtb={}", path.display()))
        .output()
        .context("cannot start QEMU for its device tree")?;
    let blob = fs::read(path).map_err(|_| {
        anyhow!("QEMU wrote no device tree: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let mut tree = parse(&blob)?;
    disable(&mut tree, disabled)?;
    if let Some(property) = machine.board.timer {
        set(&mut tree, "/timer", property, "")?;
    }
    if machine.firmware.is_some() {
        let size =
            machine.initrd.as_ref().map_or(Ok(0), |file| fs::metadata(file).map(|about| about.len()))?;
        add_firmware(&mut tree, size)?;
    }
    fs::write(path, tree.to_dtb()).with_context(|| format!("cannot write {}", path.display()))
}

fn parse(blob: &[u8]) -> Result<DeviceTree> {
    let fdt = Fdt::new(blob).map_err(|error| anyhow!("QEMU's device tree cannot be read: {error}"))?;
    Ok(DeviceTree::from_fdt(&fdt))
}

fn disable(tree: &mut DeviceTree, cores: &[u32]) -> Result<()> {
    for core in cores {
        set(tree, &format!("/cpus/cpu@{core:x}"), "status", "disabled")?;
    }
    Ok(())
}

/// PSCI by SMC, and an initrd of `size` bytes.
fn add_firmware(tree: &mut DeviceTree, size: u64) -> Result<()> {
    let psci = DeviceTreeNode::new("psci").map_err(|error| anyhow!("cannot make a node: {error}"))?;
    tree.root.add_child(psci);
    set(tree, "/psci", "compatible", "arm,psci-1.0")?;
    set(tree, "/psci", "method", "smc")?;
    set(tree, "/chosen", "linux,initrd-start", INITRD)?;
    set(tree, "/chosen", "linux,initrd-end", INITRD + size)
}

fn set(tree: &mut DeviceTree, node: &str, name: &str, value: impl ToPropertyValue) -> Result<()> {
    let Some(node) = tree.find_node_mut(node) else { bail!("QEMU's device tree has no {node}") };
    let property = DeviceTreeProperty::new(name, value);
    node.add_property(property.map_err(|error| anyhow!("cannot make a property: {error}"))?);
    Ok(())
}
