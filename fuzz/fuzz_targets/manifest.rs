#![no_main]
//! Manifests, in an archive with what they may name.

#[path = "../../crates/bundle/tests/common/mod.rs"]
mod common;

use bundle::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut entries = common::Spec::good().entries();
    for (name, content) in &mut entries {
        if name == "manifest.dtb" {
            *content = bytes.to_vec();
        }
    }
    let archive = common::newc(&entries);
    match Manifest::check(&archive, &common::LIMITS) {
        Ok(manifest) => {
            let memory: u64 = manifest.vms().iter().filter_map(|vm| vm.mem_size).sum();
            assert!(memory <= common::LIMITS.memory);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
});
