//! Where the hypervisor and its VMs go on every board: from the boards' own device trees, with memory as their firmware describes it.

use super::boards::BOARDS;
use crate::plan::{Memory, PrimaryNeeds, Region, Request};
use alloc::vec::Vec;
use hv_abi::ids::VmId;
use std::{collections::BTreeMap, println};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NEEDS: PrimaryNeeds = PrimaryNeeds { text_offset: 0, image_size: 2 * MIB, ramdisk: 0, tree: 64 * 1024 };

struct Ram {
    board: &'static str,
    /// What firmware writes into the memory node: bases and ends.
    runs: &'static [(u64, u64)],
    /// Where firmware loads image and bundle.
    loaded: [u64; 2],
    /// The end of the hypervisor, afterwards.
    end: u64,
    /// Runs of the primary without other VMs, and the whole 1 GiB blocks in them.
    primary: (usize, u64),
}

/// U-Boot's `kernel_addr_r` and `ramdisk_addr_r`, QEMU's places; of the Raspberry Pis `config.txt` and documentation of their memory.
const MACHINES: [Ram; 10] = [
    ram("qemu-virt", &[(0x4000_0000, 0x8000_0000)], [0x4020_0000, 0x4800_0000], 0x8000_0000, (1, 0)),
    ram("qemu-virt", &[(0x4000_0000, 0x1_4000_0000)], [0x4020_0000, 0x4800_0000], 0x1_4000_0000, (1, 3)),
    ram(
        "qemu-virt-gicv2",
        &[(0x4000_0000, 0x2_4000_0000)],
        [0x4020_0000, 0x4800_0000],
        0x2_4000_0000,
        (1, 7),
    ),
    // The GPU has the top, and page 0 has the spin table.
    ram("raspi3", &[(0, 0x3b40_0000)], [0x8_0000, 0x200_0000], 0x3b40_0000, (1, 0)),
    ram("raspi4", &[(0, 0x3b40_0000)], [0x20_0000, 0x200_0000], 0x3b40_0000, (1, 0)),
    ram(
        "raspi4",
        &[(0, 0x3b40_0000), (0x4000_0000, 0xfc00_0000)],
        [0x20_0000, 0x200_0000],
        0xfc00_0000,
        (2, 2),
    ),
    ram(
        "raspi4",
        &[(0, 0x3b40_0000), (0x4000_0000, 0xfc00_0000), (0x1_0000_0000, 0x2_0000_0000)],
        [0x20_0000, 0x200_0000],
        0xfc00_0000,
        (3, 6),
    ),
    ram(
        "zcu102",
        &[(0, 0x8000_0000), (0x8_0000_0000, 0x8_8000_0000)],
        [0x20_0000, 0x200_0000],
        0x8_8000_0000,
        (2, 3),
    ),
    // The monitor of the boot loader has the last 16 MiB of the low bank.
    ram(
        "zcu102",
        &[(0, 0x7ff0_0000), (0x8_0000_0000, 0x8_8000_0000)],
        [0x20_0000, 0x200_0000],
        0x7ff0_0000,
        (2, 3),
    ),
    ram("pine64", &[(0x4000_0000, 0xc000_0000)], [0x4020_0000, 0x4fe0_0000], 0xc000_0000, (1, 1)),
];

const fn ram(
    board: &'static str,
    runs: &'static [(u64, u64)],
    loaded: [u64; 2],
    end: u64,
    primary: (usize, u64),
) -> Ram {
    Ram { board, runs, loaded, end, primary }
}

/// The whole blocks of 1 GiB.
fn whole(regions: &[Region]) -> u64 {
    regions.iter().map(|r| (r.end() / GIB).saturating_sub(r.base.div_ceil(GIB))).sum()
}

#[test]
fn the_hypervisor_breaks_no_block_that_could_be_whole() {
    let mut seen = BTreeMap::new();
    for ram in &MACHINES {
        let board = BOARDS.iter().find(|board| board.name == ram.board).unwrap();
        *seen.entry(board.name).or_insert(0) += 1;
        let machine = board.machine();
        let runs: Vec<_> = ram.runs.iter().map(|&(base, end)| Region::new(base, end - base)).collect();
        let mut reserved: Vec<_> =
            machine.reserved().map(|r| Region::new(r.region.base, r.region.size)).collect();
        // The spin table, as its board keeps it.
        reserved.extend((ram.board == "raspi3").then_some(Region::new(0xd8, 32)));
        let [image, bundle] = [(ram.loaded[0], 512 << 10), (ram.loaded[1], 40 * MIB)]
            .map(|(base, bytes)| Region::new(base, bytes));
        let tree = [Region::new(bundle.end() + MIB, board.tree.len() as u64)];
        let present = [image, bundle];
        let memory = Memory { ram: &runs, hypervisor: &present, reserved: &reserved, loaded: &tree };
        let own = memory.own(image, bundle, 5 * MIB).unwrap().unwrap();
        println!("{}: image {}, bundle {}", ram.board, own.image, own.bundle);
        assert_eq!(own.image.end(), ram.end, "{}", ram.board);

        let hypervisor = [own.image, own.bundle, own.pool[0], own.pool[1]];
        let memory = Memory { hypervisor: &hypervisor, ..memory };
        let primary = memory.plan(&[], &NEEDS).unwrap().primary;
        // Page 0 apart, its memory begins where RAM does, and so does its kernel.
        assert!(primary.kernel_pa.0 - runs[0].base <= 2 * MIB);
        assert_eq!((primary.regions.len(), whole(&primary.regions)), ram.primary, "{}", ram.board);

        // A VM that is smaller than a block takes none that is whole, if there is room beside the hypervisor.
        let plan = memory.plan(&[Request { vm: VmId(2), bytes: 256 * MIB }], &NEEDS).unwrap();
        assert_eq!(whole(&plan.primary.regions), ram.primary.1, "{}", ram.board);
    }
    assert_eq!(seen.len(), BOARDS.len(), "{seen:?}");
}
