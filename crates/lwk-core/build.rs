//! Tells which kernels run programs: those that leave FP/SIMD registers to them. For these, it writes down the names of all
//! system calls, separated by blanks: in a third of the space that a table of strings would take.
#![expect(clippy::disallowed_methods, reason = "on the development host")]

use std::{env, fs, path::PathBuf};
use syscalls::aarch64::Sysno;

/// More than the highest number.
const NUMBERS: usize = 512;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(programs)");
    let is =
        |name: &str, value: &str| env::var(name).is_ok_and(|list| list.split(',').any(|one| one == value));
    if is("CARGO_CFG_TARGET_OS", "none") && !is("CARGO_CFG_TARGET_FEATURE", "neon") {
        println!("cargo::rustc-cfg=programs");
        let names: Vec<&str> =
            (0..NUMBERS).map(|number| Sysno::new(number).map_or("", |call| call.name())).collect();
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
        fs::write(out.join("system-calls.txt"), names.join(" "))
            .expect("the output directory can be written to");
    }
}
