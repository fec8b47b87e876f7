//! Real programs, started from what this crate makes of them.
//!
//! The plan's pages, the first stack and the vDSO become the segments of another ELF file, whose first
//! instructions set the stack pointer and jump to the program's entry point. An emulator of Linux runs it:
//! the program's C library sees this crate's stack and vDSO, not the emulator's.

mod common;

use common::{Header, LIMITS, RW, RX, directory, has};
use linux_program::vdso::{Clock, IMAGE};
use linux_program::{Credentials, Hwcaps, InitialStack, MIN_SIGNAL_STACK, Placed, Program, UserAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const BASE: UserAddr = UserAddr::new(0x1_0000_0000);
const STACK_TOP: u64 = 0x2_0000_0000;
const STACK_SIZE: usize = 1 << 20;
const VDSO: u64 = 0x2_1000_1000;
const STUB: u64 = 0x2_2000_0000;
/// The year 2100.
const REALTIME: u64 = 4_102_444_800_000_000_000;

/// Instructions that load x29 with the stack pointer, x30 with the entry point, and go.
fn stub(stack_pointer: UserAddr, entry: UserAddr) -> Vec<u8> {
    let load = |register: u32, value: u64| {
        (0..4_u32).map(move |part| {
            // MOVZ, then MOVK.
            let operation = if part == 0 { 0xd280_0000 } else { 0xf280_0000 };
            let half = (value >> (16 * part)) as u16;
            operation | part << 21 | u32::from(half) << 5 | register
        })
    };
    let rest = [0x9100_03bf, 0xd280_0000, 0xd61f_03c0];
    load(29, stack_pointer.get())
        .chain(load(30, entry.get()))
        // mov sp, x29; mov x0, #0; br x30
        .chain(rest)
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// An ELF file of all that a kernel would have put into the program's memory.
fn freeze(placed: &Placed<'_>, stack_pointer: UserAddr, stack: &[u8], clock: Option<Clock>) -> Vec<u8> {
    let mut parts: Vec<(u32, u64, Vec<u8>)> = Vec::new();
    for segment in placed.segments() {
        let access = segment.access;
        let flags = u32::from(access.read) << 2 | u32::from(access.write) << 1 | u32::from(access.execute);
        let mut pages = vec![0; segment.pages.len() as usize];
        let at = (segment.range.start.get() - segment.pages.start.get()) as usize;
        pages[at..][..segment.contents.len()].copy_from_slice(segment.contents);
        parts.push((flags, segment.pages.start.get(), pages));
    }
    parts.push((RW, STACK_TOP - stack.len() as u64, stack.to_vec()));
    if let Some(clock) = clock {
        let mut page = clock.encode().to_vec();
        page.resize(4096, 0);
        parts.push((common::R, VDSO - 4096, page));
        parts.push((RX, VDSO, IMAGE.0.to_vec()));
    }
    parts.push((RX, STUB, stub(stack_pointer, placed.entry())));

    let mut elf = common::Elf { entry: STUB, headers: vec![], length: 4096, ..common::fixed() };
    for (flags, address, bytes) in parts {
        let length = bytes.len() as u64;
        elf.headers.push(Header::load(flags, elf.length as u64, address, length, length));
        elf.put.push((elf.length, bytes));
        elf.length += length.next_multiple_of(4096) as usize;
    }
    elf.build()
}

/// What a program that was started so printed, and its exit status.
fn start(name: &str, file: &Path, arguments: &[&str], clock: Option<Clock>) -> (String, i32) {
    let bytes = std::fs::read(file).unwrap();
    let program = Program::parse(&bytes).unwrap_or_else(|why| panic!("{name} {why}"));
    let placed = program.place(BASE, &LIMITS).unwrap_or_else(|why| panic!("{name} {why}"));
    let stack = InitialStack {
        arguments: arguments.iter().map(|argument| argument.as_bytes()),
        environment: [&b"HOME=/home/margay"[..], b"EMPTY=", b"LC_ALL=C"].into_iter(),
        file_name: b"/bin/frozen",
        program: &placed,
        random: *b"randomrandom1234",
        hwcaps: Hwcaps { hwcap: 3, hwcap2: 0 },
        credentials: Credentials { user: 7, group: 8 },
        vdso: clock.map(|_| UserAddr::new(VDSO)),
        min_signal_stack: MIN_SIGNAL_STACK,
        restartable: false,
    };
    let mut memory = vec![0; STACK_SIZE];
    let stack_pointer = stack.write(UserAddr::new(STACK_TOP), &mut memory).unwrap();
    let frozen = directory("programs").join(format!("{name}.frozen"));
    std::fs::write(&frozen, freeze(&placed, stack_pointer, &memory, clock)).unwrap();
    std::fs::set_permissions(&frozen, PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("qemu-aarch64-static").arg(&frozen).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code().unwrap_or_else(|| panic!("{name}: {}\n{text}{errors}", output.status));
    assert_eq!(errors, "", "{name}");
    (text, status)
}

fn compile(compiler: &str, source: &str, options: &[&str], name: &str) -> Option<PathBuf> {
    if !has(compiler) || !has("qemu-aarch64-static") {
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let program = directory("programs").join(name);
    common::run(Command::new(compiler).args(options).arg("-O1").arg(&source).arg("-o").arg(&program));
    Some(program)
}

fn facts<'t>(text: &'t str, what: &str) -> Vec<&'t str> {
    text.lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).collect()
}

fn check_startup(name: &str, program: &Path, clock: Option<Clock>) {
    let (text, status) = start(name, program, &["frozen", "two words", ""], clock);
    assert_eq!(status, 42, "{name}\n{text}");
    let one = |what: &str| facts(&text, what).join("|");
    assert_eq!(one("argument"), "frozen|two words|");
    assert_eq!(one("variable"), "HOME=/home/margay|EMPTY=|LC_ALL=C");
    assert_eq!(one("name"), "/bin/frozen");
    assert_eq!(one("platform"), "aarch64");
    assert_eq!(one("random"), "randomrandom1234");
    assert_eq!(one("page"), "4096");
    assert_eq!(one("hwcap"), "3 0");
    assert_eq!(one("users"), "7 8 0");
    assert_eq!(one("headers"), "ELF\u{2}");
    assert_eq!(one("tls"), "41 0");
    assert_eq!(one("data"), "data 1");

    let bytes = std::fs::read(program).unwrap();
    let placed = Program::parse(&bytes).unwrap().place(BASE, &LIMITS).unwrap();
    let main = UserAddr::new(u64::from_str_radix(one("main").trim_start_matches("0x"), 16).unwrap());
    let symbols = placed.symbols().unwrap();
    let place = symbols.find(UserAddr::new(main.get() + 8)).unwrap();
    assert_eq!((place.function, place.offset), ("main", 8));

    let Some(clock) = clock else { return };
    assert!(!text.contains("backwards"));
    let computed = clock.readable == 1;
    for fact in facts(&text, "clock") {
        let mut words = fact.split(' ');
        let who = words.next().unwrap();
        let numbers: Vec<i128> = words.map(|word| word.parse().unwrap()).collect();
        let [number, status, before, time, after, resolution_status, resolution] = numbers[..] else {
            panic!("{fact}")
        };
        let ours = [0, 1, 4, 5, 6, 7].contains(&number);
        if ours {
            assert_eq!((status, resolution_status), (0, 0), "{name}: {fact}");
        }
        // glibc makes a system call for the resolution of coarse clocks no less; only the function itself is
        // certain.
        if ours && who == "vdso" {
            assert_eq!(resolution, 1, "{name}: {fact}");
        }
        if ours && computed {
            let offset = if [0, 5].contains(&number) { REALTIME } else { 0 };
            let between =
                clock.nanoseconds(before as u64) + offset..=clock.nanoseconds(after as u64) + offset;
            assert!(between.contains(&(time as u64)), "{name}: {fact}: {between:?}");
        } else if who == "vdso" && number < 9 && status == 0 {
            // Asked from the emulator: neither 2100, nor what its counter says.
            assert!((time as u64) < REALTIME, "{name}: {fact}");
        }
    }
    assert_eq!(facts(&text, "clock").len(), 24);
    // A system call's error is a negative number.
    assert_eq!(one("invalid"), "-22 1 -22");
    assert_eq!(one("null"), "0");
    let day: Vec<u64> = one("day").split(' ').map(|word| word.parse().unwrap()).collect();
    assert_eq!(day[0], 0);
    if computed {
        let at = |counter| (clock.nanoseconds(counter) + REALTIME) / 1000;
        assert!((at(day[1])..=at(day[3])).contains(&day[2]), "{name}: {day:?}");
        assert_eq!(day[4..], [0, 0]);
    } else {
        assert!(day[2] < REALTIME / 1000, "{name}: {day:?}");
    }
}

/// The emulator's counter has 62.5 MHz; programs see whatever the clock's page says.
fn clocks() -> Vec<(&'static str, Option<Clock>)> {
    let asks = Clock { readable: 0, ..Clock::new(0, 62_500_000, REALTIME) };
    vec![
        ("none", None),
        ("asks", Some(asks)),
        ("62.5MHz", Some(Clock::new(0, 62_500_000, REALTIME))),
        ("19.2MHz", Some(Clock::new(12_345, 19_200_000, REALTIME))),
        ("54MHz", Some(Clock::new(0, 54_000_000, REALTIME))),
        ("1GHz", Some(Clock::new(1, 1_000_000_000, REALTIME))),
        ("24MHz", Some(Clock::new(1, 24_000_000, REALTIME))),
    ]
}

#[test]
fn c_programs_receive_auxv_and_vdso() {
    for (kind, compiler, option) in [
        ("glibc", "aarch64-linux-gnu-gcc", "-static"),
        ("glibc-pie", "aarch64-linux-gnu-gcc", "-static-pie"),
        ("musl", "aarch64-linux-musl-gcc", "-static"),
    ] {
        let Some(program) = compile(compiler, "startup.c", &[option], kind) else { continue };
        for (speed, clock) in clocks() {
            check_startup(&format!("{kind}-{speed}"), &program, clock);
        }
    }
}

#[test]
fn programs_of_other_languages() {
    for (compiler, source, expected) in [
        ("aarch64-linux-gnu-gfortran", "hello.f90", "fortran world\n"),
        ("aarch64-linux-gnu-g++", "hello.cpp", "c++ caught world\n"),
    ] {
        let Some(program) = compile(compiler, source, &["-static"], source) else { continue };
        let started = start(source, &program, &["hello", "world"], Some(Clock::new(0, 62_500_000, 0)));
        assert_eq!(started, (expected.into(), 0));
    }
}

#[test]
fn rejects_dynamically_linked_programs() {
    let Some(program) = compile("aarch64-linux-gnu-gcc", "startup.c", &[], "dynamic") else { return };
    let why = Program::parse(&std::fs::read(program).unwrap()).unwrap_err();
    assert_eq!(why.to_string(), "is dynamically linked: link it with -static");
}

#[test]
fn a_stripped_program_runs() {
    let Some(program) = compile("aarch64-linux-gnu-gcc", "startup.c", &["-static", "-s"], "stripped") else {
        return;
    };
    let bytes = std::fs::read(&program).unwrap();
    let placed = Program::parse(&bytes).unwrap().place(BASE, &LIMITS).unwrap();
    assert!(placed.symbols().is_none());
    assert_eq!(start("stripped", &program, &["a"], None).1, 42);
}
