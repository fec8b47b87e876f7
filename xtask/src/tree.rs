//! Device trees for machines that differ from what QEMU says of itself.

use crate::qemu::Machine;
use anyhow::{Context, Result, anyhow, bail};
use dtoolkit::{
    fdt::Fdt,
    model::{DeviceTree, DeviceTreeProperty},
};
use std::{fs, path::Path};

/// Writes QEMU's tree of `machine` to `path`, with the cores in `disabled` (by number) marked `status = "disabled"`.
pub fn write(machine: &Machine, disabled: &[u32], path: &Path) -> Result<()> {
    let output = machine
        .hardware(&format!(",dumpdtb={}", path.display()))
        .output()
        .context("cannot start QEMU for its device tree")?;
    let blob = fs::read(path).map_err(|_| {
        anyhow!("QEMU wrote no device tree: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    fs::write(path, disable(&blob, disabled)?).with_context(|| format!("cannot write {}", path.display()))
}

fn disable(blob: &[u8], cores: &[u32]) -> Result<Vec<u8>> {
    let fdt = Fdt::new(blob).map_err(|error| anyhow!("QEMU's device tree cannot be read: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    for core in cores {
        let name = format!("/cpus/cpu@{core:x}");
        let Some(node) = tree.find_node_mut(&name) else { bail!("QEMU's device tree has no {name}") };
        let status = DeviceTreeProperty::new("status", "disabled")
            .map_err(|error| anyhow!("cannot make a property: {error}"))?;
        node.add_property(status);
    }
    Ok(tree.to_dtb())
}
