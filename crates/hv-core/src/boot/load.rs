//! Copying images to where the plan wants them.

use super::{Bundle, fail};
use crate::{arch, plan::Plan, report, vmtree};
use alloc::vec::Vec;
use hv_abi::layout;
use machine::Machine;

/// Where a VM's first vCPU starts, and what it finds in x0.
pub(super) type Start = (u64, u64);

/// Copies `bytes` to physical memory at `pa`, for a VM that will read it with its caches off.
fn copy(pa: u64, bytes: &[u8]) {
    // SAFETY: the plan gave this memory to one VM, which does not run yet; it is mapped writable, and large enough: the
    // bundle's check compared the sizes, and the plan placed them.
    unsafe { core::slice::from_raw_parts_mut(pa as *mut u8, bytes.len()) }.copy_from_slice(bytes);
    arch::clean_to_memory(pa as usize, bytes.len());
}

/// Loads every secondary; returns where each starts, in the plan's order.
pub(super) fn secondaries(bundle: &Bundle<'_>, plan: &Plan) -> Vec<Start> {
    let mut starts = Vec::new();
    for (vm, placement) in bundle.secondaries().iter().zip(&plan.secondaries) {
        let kernel = bundle.kernel(vm);
        let kernel_offset = layout::KERNEL_OFFSET + kernel.text_offset;
        copy(placement.pa.0 + kernel_offset, kernel.bytes);
        let ramdisk = bundle.ramdisk(vm).map(|bytes| {
            let offset = (kernel_offset + kernel.memory_size).next_multiple_of(layout::BLOCK);
            copy(placement.pa.0 + offset, bytes);
            let start = layout::RAM_BASE + offset;
            (start, start + bytes.len() as u64)
        });
        let made;
        let tree = if let Some(tree) = bundle.tree(vm) {
            tree
        } else {
            made = vmtree::secondary(&vmtree::SecondaryTree {
                memory_base: layout::RAM_BASE,
                memory_len: placement.bytes,
                vcpus: vm.vcpu_count as u16,
                bootargs: vm.bootargs.unwrap_or_default(),
                ramdisk,
                name: vm.debug_name,
            });
            match &made {
                Ok(tree) => tree,
                Err(why) => fail!("no device tree for {}: {why}", vm.debug_name),
            }
        };
        copy(placement.pa.0, tree);
        starts.push((layout::RAM_BASE + kernel_offset, layout::RAM_BASE));
    }
    starts
}

/// Loads the primary.
pub(super) fn primary(bundle: &Bundle<'_>, plan: &Plan, machine: &Machine<'_>) -> Start {
    let vm = bundle.primary();
    let place = &plan.primary;
    copy(place.kernel_pa.0, bundle.kernel(vm).bytes);
    let ramdisk = bundle.ramdisk(vm).zip(place.ramdisk_pa).map(|(bytes, pa)| {
        copy(pa.0, bytes);
        (pa.0, pa.0 + bytes.len() as u64)
    });
    let bootargs = vm.bootargs.or(machine.bootargs()).unwrap_or_default();
    let others: Vec<(u16, &str)> = bundle.secondaries().iter().map(|vm| (vm.index, vm.debug_name)).collect();
    let tree = vmtree::PrimaryTree { others: &others, regions: &place.regions, bootargs, ramdisk };
    match vmtree::primary(machine.dtb(), &tree) {
        Ok(tree) if tree.len() as u64 <= bundle.primary_needs(machine.dtb().len()).tree => {
            copy(place.tree_pa.0, &tree);
        }
        Ok(tree) => fail!("the primary VM's device tree has {} bytes, more than was planned for", tree.len()),
        Err(why) => fail!("no device tree for the primary VM: {why}"),
    }
    (place.kernel_pa.0, place.tree_pa.0)
}
