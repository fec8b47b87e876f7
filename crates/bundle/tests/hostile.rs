//! No bytes whatever make the parsers panic, and what is checked is readable.
mod common;

use bundle::{Archive, Image, Manifest};
use common::{LIMITS, Spec, newc, old_binary};
use proptest::prelude::*;

/// Does all that a hypervisor does with a bundle.
fn use_it(bytes: &[u8]) {
    match Manifest::check(bytes, &LIMITS) {
        Ok(manifest) => {
            assert!(manifest.vms().first().is_some_and(|vm| vm.mem_size.is_none()));
            for vm in manifest.vms() {
                assert!((1..=31).contains(&vm.debug_name.len()));
                let image = Image::parse(vm.kernel).unwrap();
                assert!(vm.mem_size.is_none_or(|bytes| bytes % 4096 == 0 && bytes > image.memory_size));
                vm.smc_whitelist.iter().for_each(drop);
            }
        }
        Err(why) => assert!(!why.to_string().contains('\n')),
    }
}

fn mutated(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

fn changes(most: usize) -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(9), Just(0xff), any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 1500 }))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        use_it(&bytes);
        use_it(&newc(&[("manifest.dtb".into(), bytes.clone())]));
        let _ = Image::parse(&bytes);
    }

    #[test]
    fn archives_with_changed_bytes(changes in changes(5), old in any::<bool>()) {
        let mut spec = Spec::good();
        spec.files.iter_mut().for_each(|(_, data)| data.truncate(700));
        let entries = spec.entries();
        use_it(&mutated(if old { old_binary(&entries) } else { newc(&entries) }, &changes));
    }

    #[test]
    fn manifests_with_changed_bytes(changes in changes(8)) {
        let spec = Spec::good();
        let manifest = mutated(spec.manifest(), &changes);
        use_it(&spec.file("manifest.dtb", manifest).bundle());
    }

    #[test]
    fn partition_manifests_with_changed_bytes(changes in changes(8)) {
        let spec = Spec::good();
        let tree = mutated(spec.files[4].1.clone(), &changes);
        use_it(&spec.file("two.dtb", tree).bundle());
    }

    #[test]
    fn kernels_with_changed_headers(changes in changes(6)) {
        let spec = Spec::good();
        let mut kernel = spec.files[1].1.clone();
        let rest = kernel.split_off(64);
        let mut kernel = mutated(kernel, &changes);
        kernel.extend(rest);
        use_it(&spec.file("guest.img", kernel).bundle());
    }

    #[test]
    fn finds_packed_files(
        files in prop::collection::btree_map("[a-z]{1,12}(/[a-zé]{1,9})?", prop::collection::vec(any::<u8>(), 0..99), 0..9),
        padding in 0usize..600,
    ) {
        let files: Vec<(String, Vec<u8>)> = files.into_iter().collect();
        for mut bytes in [newc(&files), old_binary(&files)] {
            bytes.resize(bytes.len() + padding, 0);
            let archive = Archive::new(&bytes).unwrap();
            prop_assert_eq!(archive.entries().count(), files.len());
            for (name, data) in &files {
                prop_assert_eq!(archive.find(name), Some(&data[..]));
            }
        }
    }
}
