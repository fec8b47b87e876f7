//! The plan against its definition, page by page, and on machines that are known.

use super::{room::GIB, *};
use alloc::string::ToString;
use proptest::{collection::vec as many, prelude::*};

const MIB: u64 = 1 << 20;
const NEEDS: PrimaryNeeds =
    PrimaryNeeds { text_offset: 0x8_0000, image_size: 3 * MIB, ramdisk: 5000, tree: 9000 };

fn request(vm: u16, bytes: u64) -> Request {
    Request { vm: VmId(vm), bytes }
}

fn region(base: u64, end: u64) -> Region {
    Region::new(base, end - base)
}

#[test]
fn a_usual_machine() {
    let ram = [region(0x4000_0000, 0x1_4000_0000)];
    let image = region(0x4020_0000, 0x4040_0000);
    let loaded = [region(0x4800_0000, 0x4840_0123), region(0x4a00_0000, 0x4a10_0000)];
    let mut memory = Memory { ram: &ram, hypervisor: &[image], reserved: &[], loaded: &loaded };
    let pool = memory.carve(16 * MIB - 1, 2 * MIB).unwrap();
    assert_eq!(pool, region(0x4040_0000, 0x4140_0000));

    let hypervisor = [image, pool];
    memory.hypervisor = &hypervisor;
    let plan = memory.plan(&[request(2, 64 * MIB), request(3, GIB)], &NEEDS).unwrap();
    assert_eq!(
        plan.secondaries,
        [
            Placement { vm: VmId(2), pa: Pa(0x7c00_0000), bytes: 64 * MIB },
            Placement { vm: VmId(3), pa: Pa(0x1_0000_0000), bytes: GIB }
        ]
    );
    assert_eq!(plan.primary.kernel_pa, Pa(0x4148_0000));
    assert_eq!(plan.primary.tree_pa, Pa(0x4000_0000));
    assert_eq!(plan.primary.ramdisk_pa, Some(Pa(0x4000_3000)));
    let regions = [(0x4000_0000, 0x4020_0000), (0x4140_0000, 0x7c00_0000), (0x8000_0000, 0x1_0000_0000)];
    assert_eq!(plan.primary.regions, regions.map(|(base, end)| region(base, end)));
}

const IMAGE: Region = Region::new(0x4020_0000, 0x8_0000);
const BUNDLE: Region = Region::new(0x4800_1230, 5 * MIB + 7);

fn own(ram: &[Region], reserved: &[Region]) -> Option<Own> {
    let memory =
        Memory { ram, hypervisor: &[IMAGE, BUNDLE], reserved, loaded: &[region(0x4a00_0000, 0x4a10_0000)] };
    memory.own(IMAGE, BUNDLE, 9 * MIB).unwrap()
}

#[test]
fn the_hypervisor_goes_to_the_top_of_ram() {
    let ram = [region(0x4000_0000, 0x1_4000_0000)];
    let own = own(&ram, &[]).unwrap();
    assert_eq!(own.image, region(0x1_3ff8_0000, 0x1_4000_0000));
    // As far from a 2 MiB boundary as it was, and below the image.
    assert_eq!(own.bundle, Region::new(0x1_3fa0_1230, BUNDLE.len));
    assert_eq!(own.pool, [region(0x1_3f00_0000, 0x1_3fa0_1000), region(0x1_3ff0_2000, 0x1_3ff8_0000)]);

    let hypervisor = [own.image, own.bundle, own.pool[0], own.pool[1]];
    let memory = Memory { ram: &ram, hypervisor: &hypervisor, reserved: &[], loaded: &[] };
    let plan = memory.plan(&[request(2, 64 * MIB), request(3, GIB)], &NEEDS).unwrap();
    assert_eq!([plan.secondaries[0].pa, plan.secondaries[1].pa], [Pa(0x1_3b00_0000), Pa(0xc000_0000)]);
    assert_eq!(plan.primary.kernel_pa, Pa(0x4008_0000), "its memory begins with its kernel");
    assert_eq!(
        plan.primary.regions,
        [region(0x4000_0000, 0xc000_0000), region(0x1_0000_0000, 0x1_3b00_0000)]
    );
}

#[test]
fn the_hypervisor_goes_where_no_gigabyte_is_broken() {
    let end = |ram: &[Region], reserved: &[Region]| own(ram, reserved).unwrap().image.end();
    // Below the end of RAM, if that is no boundary; in the part before the first boundary; below what firmware keeps.
    assert_eq!(end(&[region(0x4000_0000, 0xfc00_0000)], &[]), 0xfc00_0000);
    let banks = [region(0x4000_0000, 0xfc00_0000), region(0x1_0000_0000, 0x2_0000_0000)];
    assert_eq!(end(&banks, &[]), 0xfc00_0000);
    assert_eq!(end(&[region(0x3800_0000, 0xc000_0000)], &[]), 0x4000_0000);
    let firmware = [region(0xbe00_0000, 0xbf00_0000)];
    assert_eq!(end(&[region(0x4000_0000, 0x1_4000_0000)], &firmware), 0xc000_0000);
    let firmware = [region(0xbe00_0000, 0xc000_0000)];
    assert_eq!(end(&[region(0x4000_0000, 0x1_4000_0000)], &firmware), 0xbe00_0000);
}

#[test]
fn the_hypervisor_stays_where_there_is_no_room() {
    assert_eq!(own(&[region(0x4000_0000, 0x4100_0000)], &[]), None);
    let ram = [region(0x4000_0000, 0x8000_0000)];
    assert_eq!(own(&ram, &[region(0x4000_0000, 0x7f80_0000)]), None);
    let memory = Memory { ram: &ram, hypervisor: &[], reserved: &[Region::new(u64::MAX, 2)], loaded: &[] };
    assert!(matches!(memory.own(IMAGE, BUNDLE, MIB), Err(Error::BadReservation(_))));
}

#[test]
fn what_boot_loaders_reserve_of_what_they_loaded_is_no_hole() {
    for (base, end, within) in [
        (0x4800_1230, 0x4850_1237, true),
        (0x4800_1000, 0x4850_2000, true),
        (0x4800_0000, 0x4850_2000, false),
        (0x4800_1000, 0x4850_2001, false),
    ] {
        assert_eq!(region(base, end).is_in_pages_of(BUNDLE), within, "{base:#x}");
    }
}

#[test]
fn gigabyte_alignment_only_where_there_is_room() {
    let ram = [region(0x4000_0000, 0x9000_0000)];
    let memory = Memory { ram: &ram, hypervisor: &[], reserved: &[], loaded: &[] };
    let at = |bytes| memory.plan(&[request(2, bytes)], &NEEDS).unwrap().secondaries[0].pa.0;
    // The kernel is in the only aligned gigabyte.
    assert_eq!(at(GIB), 0x5000_0000);
    let ram = [region(0x3000_0000, 0x9000_0000)];
    let memory = Memory { ram: &ram, ..memory };
    let at = |bytes| memory.plan(&[request(2, bytes)], &NEEDS).unwrap().secondaries[0].pa.0;
    assert_eq!(at(GIB), 0x4000_0000);
    assert_eq!(at(GIB - 1), 0x5000_0000);
}

#[test]
fn page_zero_is_owned_but_not_given_out() {
    let memory = Memory { ram: &[region(0, 16 * MIB)], hypervisor: &[], reserved: &[], loaded: &[] };
    assert_eq!(memory.carve(1, 1).unwrap(), Region::new(PAGE, PAGE));
    let plan = memory.plan(&[], &NEEDS).unwrap();
    assert_eq!(plan.primary.kernel_pa, Pa(0x28_0000));
    assert_eq!(plan.primary.regions, memory.ram);
}

#[test]
fn adjacent_descriptions_of_ram_are_one() {
    let ram = [region(4 * MIB, 16 * MIB), region(2 * MIB + 1, 4 * MIB), region(16 * MIB, 20 * MIB + 5)];
    let memory = Memory { ram: &ram, hypervisor: &[], reserved: &[], loaded: &[] };
    assert_eq!(memory.carve(17 * MIB, PAGE).unwrap().base, 2 * MIB + PAGE);
    assert_eq!(memory.plan(&[], &NEEDS).unwrap().primary.regions, [region(2 * MIB + PAGE, 20 * MIB)]);
}

#[test]
fn impossible_memory_is_refused() {
    let good = [region(MIB, 64 * MIB)];
    let memory = Memory { ram: &good, hypervisor: &[], reserved: &[], loaded: &[] };
    let error = |memory: Memory| {
        let error = memory.plan(&[], &NEEDS).unwrap_err();
        assert_eq!(memory.carve(PAGE, PAGE), Err(error));
        error.to_string()
    };
    assert_eq!(
        error(Memory { reserved: &[Region::new(u64::MAX, 2)], ..memory }),
        "the 2 bytes reserved at 0xffffffffffffffff end beyond the last address"
    );
    assert_eq!(
        error(Memory { hypervisor: &[region(0x1000, 0x3000)], loaded: &[region(0x2fff, 0x4000)], ..memory }),
        "the boot loader put the bundle or the device tree at 0x2fff..0x4000, over the hypervisor at 0x1000..0x3000"
    );
}

#[test]
fn requests_that_do_not_fit_are_refused() {
    let ram = [region(0, 32 * MIB)];
    let reserved = [region(16 * MIB, 16 * MIB + 1)];
    let memory = Memory { ram: &ram, hypervisor: &[], reserved: &reserved, loaded: &[] };
    let error = |requests: &[Request], needs| memory.plan(requests, &needs).unwrap_err().to_string();
    assert_eq!(
        error(&[request(2, 8 * MIB), request(3, 14 * MIB)], PrimaryNeeds { image_size: 7 * MIB, ..NEEDS }),
        "the memory of vm2 needs 8388608 contiguous bytes, but 10981376 are free, 6815744 of them in one block"
    );
    assert_eq!(error(&[request(2, 0)], NEEDS), "the memory of vm2 cannot be 0 bytes");
    let huge = "the memory of vm2 cannot be 18446744073709551615 bytes";
    assert_eq!(error(&[request(2, u64::MAX)], NEEDS), huge);
    assert!(error(&[request(2, u64::MAX - 4095)], NEEDS).starts_with("the memory of vm2 needs"));
    assert!(error(&[], PrimaryNeeds { ramdisk: 17 * MIB, ..NEEDS }).starts_with("the ramdisk of vm1 needs"));
    assert!(error(&[], PrimaryNeeds { tree: 0, ..NEEDS }).starts_with("the device tree of vm1 cannot"));
    let huge = PrimaryNeeds { image_size: u64::MAX, ..NEEDS };
    assert!(error(&[], huge).starts_with("the kernel of vm1 cannot"));
    let pool = memory.carve(33 * MIB, PAGE).unwrap_err().to_string();
    assert!(pool.starts_with("the hypervisor's pool needs 34603008 contiguous bytes"), "{pool}");
    assert!(memory.carve(PAGE, 1 << 63).is_err());
}

/// Small regions, not in order, with ends that need not be page-aligned.
fn regions(count: usize, pages: u64) -> impl Strategy<Value = Vec<Region>> {
    let piece = (0..96 * MIB / PAGE, 0..=pages, 0..PAGE, 0..PAGE);
    many(piece.prop_map(|(base, len, up, more)| Region::new(base * PAGE + up, len * PAGE + more)), 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn the_hypervisors_place_is_free_memory(
        ram in regions(3, 64 * MIB / PAGE),
        reserved in regions(4, 300),
        (image, bundle) in (0..64 * MIB / PAGE, 0..64 * MIB),
        (bytes, pool) in (1..8 * MIB, 1..8 * MIB),
    ) {
        // RAM is runs that do not touch.
        let mut runs = vec![region(96 * MIB, 160 * MIB)];
        runs.extend(ram.iter().filter(|r| r.end() < 90 * MIB).take(1).filter(|r| !r.is_empty()));
        let (image, bundle) = (Region::new(image * PAGE, MIB), Region::new(bundle, bytes));
        let taken = [image, bundle];
        let memory = Memory { ram: &runs, hypervisor: &taken, reserved: &reserved, loaded: &[] };
        let Some(own) = memory.own(image, bundle, pool).unwrap() else { return Ok(()) };
        // Tables of stage 2 are aligned in the image, by their address there.
        prop_assert!(own.image.base.is_multiple_of(0x1_0000));
        prop_assert_eq!((own.image.len, own.bundle.len), (image.len, bundle.len));
        prop_assert_eq!((own.image.base % PAGE, own.bundle.base % BLOCK), (0, bundle.base % BLOCK));
        prop_assert!(own.pool[0].len >= pool && own.pool[0].base % BLOCK == 0);
        let parts = [own.image, own.bundle, own.pool[0], own.pool[1]];
        for (index, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            prop_assert!(runs.iter().any(|run| run.intersect(*part) == Some(*part)));
            let others = parts[..index].iter().chain(&taken).chain(&reserved).chain(&[PAGE_ZERO]);
            for other in others {
                prop_assert!(part.intersect(*other).is_none(), "{} and {}", part, other);
            }
        }
    }

    #[test]
    fn every_page_has_one_owner(
        mut ram in regions(4, 64 * MIB / PAGE),
        image in 0..64 * MIB / PAGE,
        reserved in regions(4, 300),
        loaded in regions(3, 300),
        sizes in many(0..24 * MIB, 0..4),
        (pool, align) in (1..8 * MIB, 0..24u32),
        (text_offset, image_size, ramdisk, tree) in (0..MIB, 1..6 * MIB, 0..6 * MIB, 1..MIB),
    ) {
        // Enough to be solvable most of the time, and legal: no overlaps, nothing loaded over the hypervisor.
        ram.push(region(8 * MIB, 40 * MIB));
        let mut i = 0;
        while i < ram.len() {
            let clash = ram[i].is_empty() || ram[i + 1..].iter().any(|other| ram[i].intersect(*other).is_some());
            if clash { ram.remove(i); } else { i += 1; }
        }
        let image = [Region::new(image * PAGE, 2 * MIB)];
        let mut loaded = loaded;
        loaded.retain(|region| region.intersect(image[0]).is_none());

        let memory = Memory { ram: &ram, hypervisor: &image, reserved: &reserved, loaded: &loaded };
        let Ok(carved) = memory.carve(pool, 1u64 << align) else { return Ok(()) };
        prop_assert!(carved.base % (1u64 << align) == 0 && carved.base % PAGE == 0 && carved.len >= pool);
        let hypervisor = [image[0], carved];
        let memory = Memory { hypervisor: &hypervisor, ..memory };
        let requests: Vec<_> = sizes.iter().zip(2..).map(|(&bytes, vm)| request(vm, bytes)).collect();
        let needs = PrimaryNeeds { text_offset, image_size, ramdisk, tree };
        let Ok(plan) = memory.plan(&requests, &needs) else { return Ok(()) };

        for (placement, request) in plan.secondaries.iter().zip(&requests) {
            prop_assert_eq!(placement.vm, request.vm);
            prop_assert_eq!(placement.bytes, request.bytes.next_multiple_of(PAGE));
            prop_assert_eq!(placement.pa.0 % if request.bytes < BLOCK { PAGE } else { BLOCK }, 0);
        }
        prop_assert_eq!((plan.primary.kernel_pa.0 - text_offset) % BLOCK, 0);
        prop_assert_eq!(plan.primary.ramdisk_pa.is_some(), ramdisk > 0);
        prop_assert_eq!(plan.primary.tree_pa.0 % PAGE, 0);

        let secondaries: Vec<_> = plan.secondaries.iter().map(|p| Region::new(p.pa.0, p.bytes)).collect();
        let mut things = vec![
            Region::new(plan.primary.kernel_pa.0 - text_offset, text_offset + image_size),
            Region::new(plan.primary.tree_pa.0, tree),
        ];
        things.extend(plan.primary.ramdisk_pa.map(|pa| Region::new(pa.0, ramdisk)));

        // Page by page, from the definition.
        let touches = |list: &[Region], page: Region| list.iter().any(|r| r.intersect(page).is_some());
        let bytes = |list: &[Region], page: Region| {
            list.iter().filter_map(|r| r.intersect(page)).map(|r| r.len).sum::<u64>()
        };
        for page in (0..200 * MIB / PAGE).map(|n| Region::new(n * PAGE, PAGE)) {
            let is_ram = bytes(&ram, page) == PAGE;
            let never = touches(&hypervisor, page) || touches(&reserved, page);
            let secondary = bytes(&secondaries, page);
            prop_assert!(secondary == 0 || secondary == PAGE && is_ram && !never && !touches(&loaded, page));
            let primary = bytes(&plan.primary.regions, page);
            prop_assert_eq!(primary, if is_ram && !never && secondary == 0 { PAGE } else { 0 }, "{}", page);
            let thing = things.iter().filter(|r| r.intersect(page).is_some()).count();
            prop_assert!(thing == 0 || thing == 1 && primary == PAGE && !touches(&loaded, page));
            prop_assert!(!touches(&[carved], page) || is_ram && !touches(&image, page));
        }
        prop_assert!(carved.intersect(image[0]).is_none());
        for list in [&reserved, &loaded] {
            prop_assert!(!list.iter().any(|r| carved.intersect(*r).is_some()));
        }
        prop_assert!(plan.primary.regions.is_sorted_by(|a, b| a.end() < b.base));
    }
}
