//! The build script of every board's package: links each program with the script of its kind of kernel.

use std::{env, fs, path::Path};

fn main() {
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let script = |path: &str| {
        let script = format!("{package}/../../{path}");
        println!("cargo::rerun-if-changed={script}");
        script
    };
    let hypervisor = script("crates/hv-core/src/arch/aarch64/hv.ld");
    let kernel = script("crates/lwk-core/lwk.ld");
    let flat = script("images/guest/flat.ld");
    let programs = format!("{package}/src/bin");
    println!("cargo::rerun-if-changed={programs}");
    for file in fs::read_dir(&programs).expect("a board has programs").flatten() {
        let path = file.path();
        let Some(program) = path.file_stem().and_then(|stem| Path::to_str(stem.as_ref())) else { continue };
        let (feature, script) = match program {
            "native" | "sched" => ("LWK", &kernel),
            "lwk" | "primary" => ("PROGRAMS", &kernel),
            "firmware" => ("HV", &flat),
            _ => ("HV", &hypervisor),
        };
        if env::var_os(format!("CARGO_FEATURE_{feature}")).is_none() {
            continue;
        }
        println!("cargo::rustc-link-arg-bin={program}=-T{script}");
        if script == &hypervisor {
            // Functions that are the same are there once.
            println!("cargo::rustc-link-arg-bin={program}=--icf=all");
        }
    }
}
