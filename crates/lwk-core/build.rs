//! Sets `cfg(programs)` for the kernels that run programs: those that leave FP/SIMD registers to them. For
//! these, it writes down the names of the system calls that are unimplemented, separated by blanks: in a
//! third of the space that a table of strings would take.
#![expect(clippy::disallowed_macros, clippy::disallowed_methods, reason = "on the development host")]

use std::{env, fs, path::PathBuf};
use syscalls::aarch64::Sysno;

/// More than the highest number.
const NUMBERS: usize = 512;

/// Which calls there are.
const TABLE: &str = "src/user/syscall/mod.rs";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(programs)");
    let is =
        |name: &str, value: &str| env::var(name).is_ok_and(|list| list.split(',').any(|one| one == value));
    if is("CARGO_CFG_TARGET_OS", "none") && !is("CARGO_CFG_TARGET_FEATURE", "neon") {
        println!("cargo::rustc-cfg=programs");
        println!("cargo::rerun-if-changed={TABLE}");
        let table = fs::read_to_string(TABLE).expect("the table of system calls can be read");
        let has = |name: &str| table.contains(&format!("\n    {name} => "));
        // Those that are there need no name: only messages about others have one.
        let unimplemented = |call: Sysno| Some(call.name()).filter(|name| !has(name));
        let names: Vec<&str> =
            (0..NUMBERS).map(|number| Sysno::new(number).and_then(unimplemented).unwrap_or("")).collect();
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
        fs::write(out.join("system-calls.txt"), names.join(" "))
            .expect("the output directory can be written to");
    }
}
