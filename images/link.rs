//! The build script of every board's package: links the hypervisors, and the firmware for tests, with their
//! linker scripts.

use std::{env, fs, path::Path};

fn main() {
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let script = |path: &str| {
        let script = format!("{package}/../../{path}");
        println!("cargo::rerun-if-changed={script}");
        script
    };
    let hypervisor = script("crates/hv-core/src/arch/aarch64/hv.ld");
    let flat = script("images/guest/flat.ld");
    let programs = format!("{package}/src/bin");
    println!("cargo::rerun-if-changed={programs}");
    for file in fs::read_dir(&programs).expect("a board has programs").flatten() {
        let path = file.path();
        let Some(program) = path.file_stem().and_then(|stem| Path::to_str(stem.as_ref())) else { continue };
        if program == "firmware" {
            println!("cargo::rustc-link-arg-bin={program}=-T{flat}");
        } else {
            // Functions that are the same are there once.
            println!("cargo::rustc-link-arg-bin={program}=-T{hypervisor}");
            println!("cargo::rustc-link-arg-bin={program}=--icf=all");
        }
    }
}
