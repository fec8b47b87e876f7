//! Capabilities of processors that people have.

mod common;

use linux_program::Hwcaps;
use linux_program::hwcap::{Allowed, IdRegisters};
use std::process::Command;

const NOTHING: Allowed = Allowed { sve: false, pointer_authentication: false, bti: false };
const EVERYTHING: Allowed = Allowed { sve: true, pointer_authentication: true, bti: true };

fn names(registers: &IdRegisters, allowed: Allowed) -> String {
    Hwcaps::of(registers, allowed).names().collect::<Vec<_>>().join(" ")
}

/// Values from the technical reference manuals.
#[test]
fn cortex_a53() {
    let registers = IdRegisters { isar0: 0x1_1120, pfr0: 0x2222, mmfr0: 0x1122, ..IdRegisters::default() };
    assert_eq!(names(&registers, EVERYTHING), "FP ASIMD AES PMULL SHA1 SHA2 CRC32");
    assert_eq!(Hwcaps::of(&registers, NOTHING), Hwcaps { hwcap: 0xfb, hwcap2: 0 });
}

#[test]
fn neoverse_n1() {
    let registers = IdRegisters {
        isar0: 0x0000_1000_1021_1120,
        isar1: 0x0000_0000_0010_0001,
        pfr0: 0x1100_0000_1111_1112,
        pfr1: 0x20,
        mmfr0: 0x0010_1122,
        mmfr1: 0x1021_2122,
        mmfr2: 0x1011,
        ..IdRegisters::default()
    };
    // `/proc/cpuinfo` of Linux 6.1, without evtstrm and cpuid.
    assert_eq!(
        names(&registers, NOTHING),
        "FP ASIMD AES PMULL SHA1 SHA2 CRC32 ATOMICS FPHP ASIMDHP ASIMDRDM LRCPC DCPOP ASIMDDP SSBS"
    );
}

#[test]
fn without_floating_point() {
    let registers = IdRegisters { pfr0: 0xff_0000, ..IdRegisters::default() };
    assert_eq!(names(&registers, EVERYTHING), "");
}

#[test]
fn hides_features_that_need_kernel_support() {
    let registers = IdRegisters {
        isar1: 0x1100_0110,
        pfr0: 1 << 32 | 0xff_0000,
        pfr1: 1,
        zfr0: 0x0110_0101_0011_0021,
        ..IdRegisters::default()
    };
    assert_eq!(names(&registers, NOTHING), "");
    let only = |allowed| names(&registers, allowed);
    assert_eq!(only(Allowed { pointer_authentication: true, ..NOTHING }), "PACA PACG");
    assert_eq!(only(Allowed { bti: true, ..NOTHING }), "BTI");
    assert_eq!(
        only(Allowed { sve: true, ..NOTHING }),
        "SVE SVE2 SVEAES SVEPMULL SVEBITPERM SVESHA3 SVESM4 SVEF32MM SVEF64MM SVEBF16"
    );
    // What is said about SVE means nothing without it.
    let without = IdRegisters { pfr0: 0xff_0000, ..registers };
    assert_eq!(names(&without, Allowed { sve: true, ..NOTHING }), "");
}

#[test]
fn different_processors() {
    let big = Hwcaps { hwcap: 0x1fb, hwcap2: 3 };
    let little = Hwcaps { hwcap: 0xfb, hwcap2: 1 };
    assert_eq!(big & little, little);
}

/// Compares each bit with the C library's header, if there is a compiler that has it.
#[test]
fn bits_match_linux() {
    if !common::has("aarch64-linux-gnu-gcc") {
        return;
    }
    let program = common::directory("hwcap").join("hwcap.h");
    std::fs::write(&program, "#include <asm/hwcap.h>\n").unwrap();
    let header =
        common::run(Command::new("aarch64-linux-gnu-gcc").args(["-x", "c", "-E", "-dM"]).arg(&program));
    let mut compared = 0;
    for line in header.lines() {
        let Some((name, value)) = line.trim_start_matches("#define ").split_once(' ') else { continue };
        let Some((vector, name)) = name.split_once('_') else { continue };
        let Some(bit) = value.split_once("<< ").map(|(_, bit)| bit.trim_end_matches(')')) else { continue };
        let bit = 1_u64 << bit.parse::<u32>().unwrap();
        let caps = match vector {
            "HWCAP" => Hwcaps { hwcap: bit, hwcap2: 0 },
            "HWCAP2" => Hwcaps { hwcap: 0, hwcap2: bit },
            _ => continue,
        };
        let ours: Vec<_> = caps.names().collect();
        let none = ["EVTSTRM", "CPUID", "MTE", "MTE3"].contains(&name) || name.starts_with("SME");
        assert_eq!(ours, if none { vec![] } else { vec![name] }, "{line}");
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}
