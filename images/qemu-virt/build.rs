//! Links each binary with the script of its kind of kernel.

fn main() {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates");
    let hypervisor = format!("{crates}/hv-core/src/arch/aarch64/hv.ld");
    println!("cargo::rerun-if-changed={hypervisor}");
    let kernel = format!("{crates}/lwk-core/lwk.ld");
    println!("cargo::rerun-if-changed={kernel}");
    if std::env::var_os("CARGO_FEATURE_LWK").is_some() {
        for bin in ["native", "sched"] {
            println!("cargo::rustc-link-arg-bin={bin}=-T{kernel}");
        }
    }
    if std::env::var_os("CARGO_FEATURE_HV").is_some() {
        let flat = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/flat.ld");
        println!("cargo::rerun-if-changed={flat}");
        println!("cargo::rustc-link-arg-bin=firmware=-T{flat}");
        println!("cargo::rustc-link-arg-bin=hv=-T{hypervisor}");
        // Functions that are the same are there once.
        println!("cargo::rustc-link-arg-bin=hv=--icf=all");
    }
}
