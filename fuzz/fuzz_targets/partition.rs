#![no_main]
//! FF-A partition manifests, of a VM in a good manifest.

#[path = "../../crates/bundle/tests/common/mod.rs"]
mod common;

use bundle::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let spec = common::Spec::good()
        .set(2, "is_ffa_partition", common::Value::None)
        .set(2, "fdt_filename", "partition.dtb")
        .file("partition.dtb", bytes.to_vec());
    let archive = spec.bundle();
    if let Err(why) = Manifest::check(&archive, &common::LIMITS) {
        assert!(!why.to_string().is_empty());
    }
});
