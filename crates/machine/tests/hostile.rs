//! Trees that are broken, by hand and by chance: refused or read, but never a panic.
use machine::{Machine, MachineError};
use proptest::prelude::*;

const TREES: [&[u8]; 6] = [
    include_bytes!("../fixtures/virt-gicv2.dtb"),
    include_bytes!("../fixtures/virt-gicv3.dtb"),
    include_bytes!("../fixtures/virt-2-sockets.dtb"),
    include_bytes!("../fixtures/bcm2837-rpi-3-b.dtb"),
    include_bytes!("../fixtures/bcm2711-rpi-4-b.dtb"),
    include_bytes!("../fixtures/sun50i-a64-pine64-lts.dtb"),
];

/// Reads everything there is to read.
fn read(dtb: &[u8]) {
    let _ = Machine::dtb_size(dtb);
    let Ok(machine) = Machine::from_dtb(dtb) else { return };
    let _ = (machine.model(), machine.bootargs(), machine.initrd(), machine.psci());
    let _ = format!("{:?} {:?}", machine.interrupt_controller(), machine.timer());
    let _ = format!("{:?} {}", (machine.console(), machine.console_settings()), machine.enabled_core_count());
    let _ = (machine.compatible().count(), machine.memory().count(), machine.reserved().count());
    let mut places = 0;
    let _ = machine.for_each_core_place(&mut |_, _| places += 1);
    assert!(places <= 512);
    machine.for_each_interrupt(&mut |_, interrupt| assert!(interrupt.number() < 8192));
}

/// Puts `NOP`s over a whole node, as `fdt_nop_node` of libfdt does: from its begin token up to its end token.
fn remove_node(dtb: &mut [u8], name: &str) {
    let start = dtb.windows(name.len() + 1).position(|w| w == [name.as_bytes(), b"\0"].concat()).unwrap() - 4;
    let token = |dtb: &[u8], at: usize| u32::from_be_bytes(dtb[at..at + 4].try_into().unwrap());
    let mut end = start + 4 + (name.len() + 1).next_multiple_of(4);
    loop {
        match token(dtb, end) {
            3 => end += 12 + (token(dtb, end + 4) as usize).next_multiple_of(4),
            4 => end += 4,
            2 => break,
            _ => panic!("only a node without children"),
        }
    }
    for at in (start..end + 4).step_by(4) {
        dtb[at..at + 4].copy_from_slice(&4_u32.to_be_bytes());
    }
}

#[test]
fn removed_nodes_hide_nothing_else() {
    let mut dtb = TREES[1].to_vec();
    let whole = Machine::from_dtb(TREES[1]).unwrap();
    for name in ["virtio_mmio@a000000", "virtio_mmio@a000400", "pmu", "flash@0", "cpu@3"] {
        remove_node(&mut dtb, name);
    }
    let machine = Machine::from_dtb(&dtb).unwrap();
    assert_eq!(machine.cores().count(), 3);
    assert!(machine.memory().eq(whole.memory()));
    assert_eq!(machine.interrupt_controller(), whole.interrupt_controller());
    assert_eq!(machine.timer(), whole.timer());
    assert_eq!(machine.console(), whole.console());
    remove_node(&mut dtb, "memory@40000000");
    assert_eq!(Machine::from_dtb(&dtb).unwrap().memory().count(), 0);
}

#[test]
fn a_longer_slice_is_trimmed() {
    let mut dtb = TREES[0].to_vec();
    dtb.resize(dtb.len() + 4096, 0xaa);
    let machine = Machine::from_dtb(&dtb).unwrap();
    assert_eq!(machine.dtb(), TREES[0]);
    assert_eq!(Machine::dtb_size(&dtb[..40]), Some(TREES[0].len()));
}

#[test]
fn rejects_broken_headers() {
    assert_eq!(Machine::from_dtb(&[]).unwrap_err(), MachineError::Tree(devtree::Error::NotADeviceTree));
    assert_eq!(
        Machine::from_dtb(&[0; 4096]).unwrap_err(),
        MachineError::Tree(devtree::Error::NotADeviceTree)
    );
    let cut = &TREES[0][..TREES[0].len() - 1];
    assert_eq!(
        Machine::from_dtb(cut).unwrap_err(),
        MachineError::Tree(devtree::Error::Truncated { total: TREES[0].len(), given: cut.len() })
    );
    for total in 0..64_u32 {
        let mut tiny = TREES[0].to_vec();
        tiny[4..8].copy_from_slice(&total.to_be_bytes());
        assert!(
            matches!(Machine::from_dtb(&tiny), Err(MachineError::Tree(devtree::Error::Malformed { .. }))),
            "{total}"
        );
    }
}

#[test]
fn every_header_field_out_of_range() {
    for field in (8..40).step_by(4) {
        for value in [0, 1, 3, 39, 0x7fff_ffff, 0xffff_ffff] {
            let mut dtb = TREES[1].to_vec();
            dtb[field..field + 4].copy_from_slice(&u32::to_be_bytes(value));
            read(&dtb);
        }
    }
}

fn position() -> impl Strategy<Value = (usize, usize)> {
    (0..TREES.len(), any::<prop::sample::Index>())
        .prop_map(|(tree, index)| (tree, index.index(TREES[tree].len())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn changed_bytes((tree, at) in position(), bytes in prop::collection::vec(any::<u8>(), 1..9)) {
        let mut dtb = TREES[tree].to_vec();
        for (byte, new) in dtb[at..].iter_mut().zip(bytes) {
            *byte = new;
        }
        read(&dtb);
    }

    #[test]
    fn changed_words(tree in 0..TREES.len(), changes in prop::collection::vec(
        (any::<prop::sample::Index>(), prop_oneof![0_u32..10, Just(u32::MAX), Just(0x7fff_fffc), any::<u32>()]), 1..8)
    ) {
        let mut dtb = TREES[tree].to_vec();
        for (index, word) in changes {
            let at = index.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        read(&dtb);
    }

    #[test]
    fn cut_short((tree, at) in position()) {
        let mut dtb = TREES[tree][..at].to_vec();
        read(&dtb);
        if let Some(total) = dtb.get_mut(4..8) {
            total.copy_from_slice(&(at as u32).to_be_bytes());
        }
        read(&dtb);
    }

    #[test]
    fn chunks_moved((tree, from) in position(), to in any::<prop::sample::Index>(), length in 1_usize..256) {
        let mut dtb = TREES[tree].to_vec();
        let length = length.min(dtb.len() - from);
        let to = to.index(dtb.len() - length + 1);
        dtb.copy_within(from..from + length, to);
        read(&dtb);
    }

    #[test]
    fn noise(mut bytes in prop::collection::vec(any::<u8>(), 40..512)) {
        let length = bytes.len() as u32;
        bytes[..8].copy_from_slice(&[[0xd0, 0x0d, 0xfe, 0xed], length.to_be_bytes()].concat());
        read(&bytes);
    }
}
