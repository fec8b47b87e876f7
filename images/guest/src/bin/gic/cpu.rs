//! This processor, as a guest at EL1 with its MMU off has it: start, vectors, registers, calls.

use core::{
    arch::{asm, global_asm},
    ptr,
};

const FFA_CONSOLE_LOG: u64 = 0x8400_008a;
const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;
pub(crate) const PSCI_CPU_OFF: u64 = 0x8400_0002;
pub(crate) const PSCI_CPU_ON: u64 = 0xc400_0003;
pub(crate) const PSCI_AFFINITY_INFO: u64 = 0xc400_0004;

// Each vCPU has 64 KiB of stack, the first one's begins 64 KiB above the first byte.
global_asm!(
    ".section .head, \"ax\"",
    ".global _start",
    "_start:",
    "mov x19, xzr",
    "b 1f",
    ".global second_start",
    "second_start:",
    "mov x19, x0",
    "1:",
    "adr x1, _start",
    "add x2, x19, #2",
    "add x2, x1, x2, lsl #16",
    "mov sp, x2",
    "mov x3, #(3 << 20)",
    "msr cpacr_el1, x3",
    "adr x3, vectors",
    "msr vbar_el1, x3",
    "isb",
    "mov x0, x19",
    "b {main}",
    ".balign 0x800",
    "vectors:",
    ".space 0x200",
    "b bad",
    ".balign 0x80",
    "b interrupt",
    ".balign 0x800",
    "bad:",
    "mrs x0, esr_el1",
    "mrs x1, elr_el1",
    "b {fault}",
    // Handlers may be interrupted: where they return to is on the stack.
    "interrupt:",
    "sub sp, sp, #704",
    "stp x0, x1, [sp, #0]",
    "stp x2, x3, [sp, #16]",
    "stp x4, x5, [sp, #32]",
    "stp x6, x7, [sp, #48]",
    "stp x8, x9, [sp, #64]",
    "stp x10, x11, [sp, #80]",
    "stp x12, x13, [sp, #96]",
    "stp x14, x15, [sp, #112]",
    "stp x16, x17, [sp, #128]",
    "stp x18, x30, [sp, #144]",
    "mrs x0, elr_el1",
    "mrs x1, spsr_el1",
    "stp x0, x1, [sp, #160]",
    "bl {handler}",
    "ldp x0, x1, [sp, #160]",
    "msr elr_el1, x0",
    "msr spsr_el1, x1",
    "ldp x0, x1, [sp, #0]",
    "ldp x2, x3, [sp, #16]",
    "ldp x4, x5, [sp, #32]",
    "ldp x6, x7, [sp, #48]",
    "ldp x8, x9, [sp, #64]",
    "ldp x10, x11, [sp, #80]",
    "ldp x12, x13, [sp, #96]",
    "ldp x14, x15, [sp, #112]",
    "ldp x16, x17, [sp, #128]",
    "ldp x18, x30, [sp, #144]",
    "add sp, sp, #704",
    "eret",
    main = sym super::main,
    fault = sym fault,
    handler = sym super::handler,
);

unsafe extern "C" {
    safe fn second_start();
}

/// Where another vCPU starts, with its number as context.
pub(crate) fn second() -> u64 {
    second_start as *const () as u64
}

extern "C" fn fault(esr: u64, elr: u64) -> ! {
    say("@check name=no-exception ok=no", &[esr, elr]);
    off()
}

pub(crate) fn call(function: u64, arguments: &[u64]) -> u64 {
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
    x[0]
}

pub(crate) fn off() -> ! {
    loop {
        call(PSCI_SYSTEM_OFF, &[]);
    }
}

fn emit(bytes: &[u8]) {
    for part in bytes.chunks(24) {
        let mut registers = [part.len() as u64, 0, 0, 0, 0, 0, 0];
        for (index, byte) in part.iter().enumerate() {
            registers[1 + index / 4] |= u64::from(*byte) << (8 * (index % 4));
        }
        call(FFA_CONSOLE_LOG, &registers);
    }
}

/// Prints a line: text, and numbers behind it.
pub(crate) fn say(text: &str, numbers: &[u64]) {
    emit(text.as_bytes());
    for number in numbers {
        emit(b" 0x");
        for digit in (0..16).rev() {
            let digit = (number >> (4 * digit) & 15) as u8;
            emit(&[digit + if digit < 10 { b'0' } else { b'a' - 10 }]);
        }
    }
    emit(b"\n");
}

pub(crate) fn check(name: &str, ok: bool) {
    emit(b"@check name=");
    emit(name.as_bytes());
    emit(if ok { b" ok=yes\n" } else { b" ok=no\n" });
}

/// Reads and writes registers of the interrupt controller, each in the one form of instruction that a
/// hypervisor can emulate.
pub(crate) fn read(address: u64) -> u32 {
    let value: u32;
    // SAFETY: the VM's own interrupt controller.
    unsafe { asm!("ldr {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack)) };
    value
}

pub(crate) fn write(address: u64, value: u32) {
    // SAFETY: as for `read`.
    unsafe { asm!("str {v:w}, [{a}]", "dsb sy", v = in(reg) value, a = in(reg) address, options(nostack)) };
}

pub(crate) fn write_byte(address: u64, value: u32) {
    // SAFETY: as for `read`.
    unsafe { asm!("strb {v:w}, [{a}]", "dsb sy", v = in(reg) value, a = in(reg) address, options(nostack)) };
}

/// Reads a system register.
#[macro_export]
macro_rules! mrs {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading these registers touches no memory.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a system register.
#[macro_export]
macro_rules! msr {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: these registers are about this vCPU's interrupts and timer.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

/// Lets interrupts come, or not.
pub(crate) fn interrupts(on: bool) {
    // SAFETY: the vectors are set.
    unsafe {
        if on {
            asm!("msr daifclr, #2", "isb", options(nostack));
        } else {
            asm!("msr daifset, #2", "isb", options(nostack));
        }
    }
}

pub(crate) fn wait_for_interrupt() {
    // SAFETY: it waits.
    unsafe { asm!("wfi", options(nostack)) };
}

/// A word of memory that handlers change. It is where no program is: 32 KiB above the first byte.
#[derive(Clone, Copy)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    fn place(self) -> *mut u64 {
        let start: u64;
        // SAFETY: where this program was loaded.
        unsafe { asm!("adr {}, _start", out(reg) start, options(nostack)) };
        ptr::with_exposed_provenance_mut((start + 0x8000 + 8 * self.0) as usize)
    }

    pub(crate) fn get(self) -> u64 {
        // SAFETY: the VM's own memory.
        unsafe { self.place().read_volatile() }
    }

    pub(crate) fn set(self, value: u64) {
        // SAFETY: as above.
        unsafe { self.place().write_volatile(value) }
    }

    pub(crate) fn add(self, value: u64) -> u64 {
        let sum = self.get() + value;
        self.set(sum);
        sum
    }
}
