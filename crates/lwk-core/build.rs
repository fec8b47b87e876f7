//! Tells which kernels run programs: those that leave FP/SIMD registers to them.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(programs)");
    let is =
        |name: &str, value: &str| env::var(name).is_ok_and(|list| list.split(',').any(|one| one == value));
    if is("CARGO_CFG_TARGET_OS", "none") && !is("CARGO_CFG_TARGET_FEATURE", "neon") {
        println!("cargo::rustc-cfg=programs");
    }
}
