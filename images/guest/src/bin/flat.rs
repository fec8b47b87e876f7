//! A guest as Hafnium's are, written from the public interface alone: FF-A calls, para-virtual interrupts,
//! and in x0 either the size of its memory or the address of a device tree. It has no header and uses no
//! kernel; it finds itself by its program counter, and runs with its MMU off.
//!
//! It says what it was given, tries the regions that its partition manifest asks for, yields, waits for its
//! timer, and switches itself off.
#![no_std]
#![no_main]

use core::{arch::asm, arch::global_asm, ptr};

const FFA_SUCCESS: u64 = 0x8400_0061;
const FFA_VERSION: u64 = 0x8400_0063;
const FFA_RX_RELEASE: u64 = 0x8400_0065;
const FFA_PARTITION_INFO_GET: u64 = 0x8400_0068;
const FFA_ID_GET: u64 = 0x8400_0069;
const FFA_MSG_WAIT: u64 = 0x8400_006b;
const FFA_YIELD: u64 = 0x8400_006c;
const FFA_CONSOLE_LOG: u64 = 0x8400_008a;
const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;
const HF_INTERRUPT_ENABLE: u64 = 0xff03;
const HF_INTERRUPT_GET: u64 = 0xff04;
const HF_VIRTUAL_TIMER: u64 = 3;

/// Where a PrimeCell has the low byte of its part number.
const PERIPHERAL_ID: u64 = 0xfe0;

// The stack is in memory that nobody else uses: 64 KiB above the first byte, and far below a device tree at
// the end.
global_asm!(
    ".section .head, \"ax\"",
    ".global _start",
    "_start:",
    "adr x1, _start",
    "add x2, x1, #16, lsl #12",
    "mov sp, x2",
    "mov x3, #(3 << 20)",
    "msr cpacr_el1, x3",
    "isb",
    "b {main}",
    main = sym main,
);

// `wfi_in_aarch32`: enters EL0 in AArch32 (T32) with an expired timer, so that each trapped WFI returns at
// once, and returns r0 and r2 as they are at the SVC: 1 and 0. Stepping 4 bytes over the first WFI, which has
// 2, skips `adds r0, #1`; an IT block that does not advance over the second one executes `movne r2, #1` under
// the condition EQ.
global_asm!(
    ".balign 0x800",
    "vectors:",
    ".space 0x600",
    "b back_in_el1",
    ".balign 0x80",
    "thumb:",
    ".short 0x2000, 0x2200", // movs r0, #0; movs r2, #0
    ".short 0xbf30, 0x3001", // wfi; adds r0, #1
    ".short 0x2200, 0xbf0c", // movs r2, #0 (Z is set); ite eq
    ".short 0xbf30, 0x2201", // wfieq; movne r2, #1
    ".short 0xdf00, 0xdf00", // svc #0
    ".balign 4",
    ".global wfi_in_aarch32",
    "wfi_in_aarch32:",
    "adr x1, vectors",
    "msr vbar_el1, x1",
    "mrs x1, sctlr_el1",
    "orr x1, x1, #(1 << 16)", // nTWI: WFI is not trapped to EL1
    "msr sctlr_el1, x1",
    "msr cntv_tval_el0, xzr",
    "mov x1, #1",
    "msr cntv_ctl_el0, x1",
    "adr x1, thumb",
    "msr elr_el1, x1",
    "mov x1, #0x1f0", // User mode, T32, A, I and F masked
    "msr spsr_el1, x1",
    "isb",
    "eret",
    "back_in_el1:",
    "msr cntv_ctl_el0, xzr",
    "orr x0, x0, x2, lsl #8",
    "ret",
);

unsafe extern "C" {
    safe fn wfi_in_aarch32() -> u64;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    say(b"panic: ", &[]);
    off()
}

fn call(function: u64, arguments: &[u64]) -> [u64; 4] {
    let mut x = [function, 0, 0, 0, 0, 0, 0, 0];
    for (register, argument) in x[1..].iter_mut().zip(arguments) {
        *register = *argument;
    }
    // SAFETY: a call to the hypervisor as FF-A and SMCCC define it; it writes no memory of this program's.
    unsafe {
        asm!("hvc #0", inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3],
            inout("x4") x[4] => _, inout("x5") x[5] => _, inout("x6") x[6] => _, inout("x7") x[7] => _,
            clobber_abi("C"));
    }
    [x[0], x[1], x[2], x[3]]
}

fn off() -> ! {
    loop {
        call(PSCI_SYSTEM_OFF, &[]);
    }
}

/// Prints a line of words and numbers in turn: `text` with a `#` for each of `numbers`.
fn say(text: &[u8], numbers: &[u64]) {
    let mut line = Line([0; 24], 0);
    let mut numbers = numbers.iter();
    for byte in text {
        match (byte, numbers.len()) {
            (b'#', 1..) => line.hex(numbers.next().copied().unwrap_or(0)),
            _ => line.put(*byte),
        }
    }
    line.put(b'\n');
    line.flush();
}

/// What fits into one call.
struct Line([u8; 24], usize);

impl Line {
    fn put(&mut self, byte: u8) {
        self.0[self.1] = byte;
        self.1 += 1;
        if self.1 == self.0.len() {
            self.flush();
        }
    }

    fn hex(&mut self, number: u64) {
        self.put(b'0');
        self.put(b'x');
        let digits = (64 - (number | 1).leading_zeros()).div_ceil(4);
        for digit in (0..digits).rev() {
            let digit = (number >> (4 * digit) & 15) as u8;
            self.put(digit + if digit < 10 { b'0' } else { b'a' - 10 });
        }
    }

    fn flush(&mut self) {
        let mut registers = [self.1 as u64, 0, 0, 0, 0, 0, 0];
        for (index, byte) in self.0[..self.1].iter().enumerate() {
            registers[1 + index / 4] |= u64::from(*byte) << (8 * (index % 4));
        }
        if self.1 > 0 {
            call(FFA_CONSOLE_LOG, &registers);
        }
        self.1 = 0;
    }
}

/// Reads a word of this VM's memory, or of a device that it was given.
fn read(address: u64) -> u32 {
    // SAFETY: a read of the VM's own memory or device harms nobody; of anything else, it ends the VM.
    unsafe { ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() }
}

/// Writes a word far from everything that this program uses.
fn write(address: u64, word: u32) {
    // SAFETY: the caller names memory that holds nothing of this program's.
    unsafe { ptr::with_exposed_provenance_mut::<u32>(address as usize).write_volatile(word) }
}

/// The word of a device tree at `address`, or a byte of it.
fn word(address: u64) -> u64 {
    u64::from(u32::from_be(read(address)))
}

fn byte(address: u64) -> u8 {
    (word(address & !3) >> (24 - 8 * (address & 3))) as u8
}

fn text_is(mut address: u64, text: &[u8]) -> bool {
    text.iter().all(|wanted| {
        let here = byte(address);
        address += 1;
        here == *wanted
    })
}

/// One or two cells.
fn number(address: u64, bytes: u64) -> u64 {
    if bytes == 8 { word(address) << 32 | word(address + 4) } else { word(address) }
}

/// Goes through the tree, and does what it asks for.
fn walk(tree: u64, load_address: u64) {
    let (mut at, strings) = (tree + word(tree + 8), tree + word(tree + 12));
    let (mut depth, mut cores, mut cells, mut in_memory, mut devices) = (0, 0, 2, false, false);
    let (mut base, mut pages, mut attributes) = (0, 0, 0);
    let mut write_all = false;
    loop {
        let token = word(at);
        at += 4;
        match token {
            1 => {
                depth += 1;
                in_memory = depth == 2 && text_is(at, b"memory\0");
                cores += u64::from(depth == 3 && text_is(at, b"cpu@"));
                if depth == 2 {
                    devices = text_is(at, b"device-regions\0");
                }
                (base, pages, attributes) = (0, 0, 0);
                while byte(at) != 0 {
                    at += 1;
                }
                at = (at + 4) & !3;
            }
            2 => {
                depth -= 1;
                if pages > 0 && base > 0 {
                    try_region(base, pages * 4096, attributes, devices, write_all);
                }
                pages = 0;
            }
            3 => {
                let (length, name, value) = (word(at), strings + word(at + 4), at + 8);
                at = (value + length + 3) & !3;
                if depth == 1 && text_is(name, b"#address-cells\0") {
                    cells = word(value);
                } else if in_memory && text_is(name, b"reg\0") {
                    let start = number(value, cells * 4);
                    let size = number(value + cells * 4, length - cells * 4);
                    say(b"the tree says memory # with # bytes", &[start, size]);
                } else if text_is(name, b"linux,initrd-start\0") {
                    let start = number(value, length);
                    say(b"the ramdisk at # begins with #", &[start, word(start)]);
                } else if text_is(name, b"bootargs\0") {
                    write_all = text_is(value, b"write-all\0");
                    if text_is(value, b"aarch32\0") {
                        call(HF_INTERRUPT_ENABLE, &[HF_VIRTUAL_TIMER, 1, 0]);
                        let results = wfi_in_aarch32();
                        call(HF_INTERRUPT_GET, &[]);
                        say(b"after two WFI in AArch32: r0 #, r2 #", &[results & 0xff, results >> 8]);
                    }
                } else if text_is(name, b"base-address\0") {
                    base = number(value, length);
                } else if text_is(name, b"load-address-relative-offset\0") {
                    base = load_address + number(value, length);
                } else if text_is(name, b"pages-count\0") {
                    pages = word(value);
                } else if text_is(name, b"attributes\0") {
                    attributes = word(value);
                }
            }
            9 => break,
            _ => {}
        }
    }
    say(b"the tree says # cores", &[cores]);
}

fn try_region(base: u64, bytes: u64, attributes: u64, device: bool, write_all: bool) {
    if device {
        say(b"the device at # is a part #", &[base, u64::from(read(base + PERIPHERAL_ID))]);
        return;
    }
    let last = base + bytes - 4;
    let before = read(last);
    if attributes & 2 != 0 || write_all {
        write(last, !before);
    }
    let changed = u64::from(read(last) != before);
    say(b"the region at # with # bytes, attributes #, changed #", &[base, bytes, attributes, changed]);
}

extern "C" fn main(argument: u64, base: u64) -> ! {
    let version = call(FFA_VERSION, &[0x1_0001])[0];
    let id = call(FFA_ID_GET, &[])[2];
    say(b"flat guest # at #, FF-A #", &[id, base, version]);
    if argument < base {
        say(b"x0 is the size of memory, #", &[argument]);
        let last = base + argument - 4;
        write(last, 0x1234_5678);
        say(b"the last word is #", &[u64::from(read(last))]);
    } else if word(argument) == 0xd00d_feed {
        say(b"x0 is a device tree, #", &[argument]);
        walk(argument, base);
    } else {
        say(b"x0 is invalid: #", &[argument]);
    }
    let partitions = call(FFA_PARTITION_INFO_GET, &[]);
    if partitions[0] == FFA_SUCCESS {
        say(b"the RX buffer holds # partitions", &[partitions[2]]);
        call(FFA_RX_RELEASE, &[]);
    }
    call(FFA_YIELD, &[]);
    call(HF_INTERRUPT_ENABLE, &[HF_VIRTUAL_TIMER, 1, 0]);
    let frequency: u64;
    // SAFETY: reads the counter's frequency, and sets this vCPU's own virtual timer, whose interrupt is
    // masked.
    unsafe {
        asm!("mrs {f}, cntfrq_el0", "lsr {t}, {f}, #6", "msr cntv_tval_el0, {t}", "mov {t}, #1",
            "msr cntv_ctl_el0, {t}", "isb", f = out(reg) frequency, t = out(reg) _);
    }
    call(FFA_MSG_WAIT, &[]);
    let interrupt = call(HF_INTERRUPT_GET, &[])[0] & 0xffff_ffff;
    say(b"waited a # of a second, interrupt #", &[u64::from(frequency > 0) << 6, interrupt]);
    off()
}
