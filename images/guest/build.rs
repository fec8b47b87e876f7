//! Links the guests without a kernel with a script of their own, and every other with the kernel's.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    println!("cargo::rerun-if-changed=src/bin");
    for entry in std::fs::read_dir(format!("{root}/src/bin")).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        let script = if ["flat", "gic"].contains(&name) { "flat.ld" } else { "../../crates/lwk-core/lwk.ld" };
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bin={name}=-T{root}/{script}");
    }
}
