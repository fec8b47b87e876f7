//! Checks a bundle as the hypervisor does:
//! `cargo run -p margay-bundle --example check -- bundle.cpio [MEMORY_IN_MIB]`.

use bundle::{MachineLimits, Manifest};
use std::{env, fs, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: check BUNDLE [MEMORY_IN_MIB]");
        return ExitCode::FAILURE;
    };
    let mib: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(why) => {
            eprintln!("{path}: {why}");
            return ExitCode::FAILURE;
        }
    };
    match Manifest::check(&bytes, &MachineLimits { memory: mib << 20 }) {
        Ok(manifest) => {
            for vm in manifest.vms() {
                let size =
                    vm.mem_size.map_or("the rest of memory".into(), |bytes| format!("{} KiB", bytes >> 10));
                println!("vm{}: {}, {}, {size}", vm.index, vm.debug_name, vm.kernel_filename);
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
