//! Links each kernel with the kernels' linker script.

fn main() {
    let script = format!("{}/../../crates/lwk-core/lwk.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-T{script}");
}
