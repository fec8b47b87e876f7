//! Links every guest with the kernel's linker script.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/lwk-core/lwk.ld");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
