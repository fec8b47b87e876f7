//! A guest that attacks its surroundings in one way, given by `attack=` on its command line.
//!
//! Whoever should have been stopped and goes on says so: `@check name=isolation ok=no`.

mod calls;
pub(crate) mod clock;
mod hotplug;
mod longest;
mod primary;

use core::arch::asm;
use hv_abi::ffa;
use lwk_core::{
    app::{App, Status},
    arch,
    cmdline::CommandLine,
    memory, println,
};
use machine::Region;

/// A page below the usual start of memory on QEMU's virt machine: no VM's, unless the hypervisor's. `addr=`
/// overrides it.
const HYPERVISOR: u64 = 0x4000_0000 - 0x2000;
/// The usual console of QEMU's virt machine, which belongs to the hypervisor. `addr=` overrides it.
const DEVICE: u64 = 0x0900_0000;
/// A word that is easily recognised where it should not be.
const MARK: u64 = 0x5ca1_ab1e_0bad_cafe;

/// A page of memory that the primary has on QEMU's virt machine, and that is behind this VM's own. `addr=`
/// overrides it.
const PRIMARY: u64 = 0x6000_0000;

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    Execute,
    Walk,
    /// Executes it at EL0.
    User,
}

/// The program.
pub fn main(app: &App) -> Status {
    let line = app.command_line();
    let attack = line.get("attack").unwrap_or("none");
    println!("attack={attack}");
    println!("@check name=attack-started ok=yes attack={attack}");
    if !run(app, line, attack) {
        println!("@check name=attack-known ok=no attack={attack}");
        return Status::FAILURE;
    }
    if attack == "off" {
        return Status::SUCCESS;
    }
    let harmless = matches!(attack, "calls" | "set-way" | "none");
    let survives = harmless || by_call(attack).is_some_and(|attack| attack(app));
    println!("@check name=isolation ok={} attack={attack}", if survives { "yes" } else { "no" });
    Status::of(survives)
}

/// Does it. Returns whether there is such an attack.
fn run(app: &App, line: CommandLine<'_>, attack: &str) -> bool {
    match attack {
        "none" | "off" => {}
        "set-way" => set_way(),
        "calls" => return calls(),
        "never-yield" => never_yield(),
        "wild" => wild(),
        _ if by_call(attack).is_some() => {}
        _ => return on_memory(app, line, attack),
    }
    true
}

/// An attack that the guest survives, and that returns whether all was as it should be.
fn by_call(attack: &str) -> Option<fn(&App) -> bool> {
    Some(match attack {
        "share" => calls::share,
        "alarm" => clock::alarm,
        "storm" => clock::storm,
        "steal" => clock::steal,
        "keep" => calls::keep,
        "lent" => calls::lent,
        "relinquished" => calls::relinquished,
        "retrieve" => calls::retrieve,
        "descriptors" => calls::descriptors,
        "race" => calls::race,
        "mailboxes" => calls::mailboxes,
        "powers" => calls::powers,
        "firmware" => calls::firmware,
        "random" => calls::random,
        "flood" => calls::flood,
        "exhaust" => calls::exhaust,
        "timers" => calls::timers,
        "longest" => longest::longest,
        "accept" => longest::accept,
        "hotplug" => hotplug::run,
        "run-twice" => primary::run_twice,
        _ => return None,
    })
}

/// `read-vm`, `write-hypervisor`, `exec-device`, `user-device` and so on.
fn on_memory(app: &App, line: CommandLine<'_>, attack: &str) -> bool {
    let Some((access, target)) = attack.split_once('-') else { return false };
    let access = match access {
        "read" => Access::Read,
        "write" => Access::Write,
        "exec" => Access::Execute,
        "walk" => Access::Walk,
        "user" => Access::User,
        _ => return false,
    };
    // Physical memory of another VM is likely where a bare machine's memory goes on behind this VM's own.
    let own_end = app.machine().memory().map(|memory| memory.end()).max().unwrap_or(0);
    let place = match target {
        "vm" => own_end,
        "primary" => PRIMARY,
        "hypervisor" => HYPERVISOR,
        "device" => DEVICE,
        _ => return false,
    };
    let place = line.address("addr").unwrap_or(place);
    match access {
        Access::Walk => walk(place),
        Access::User => user(place),
        _ => touch(place, access),
    }
    true
}

/// Makes the processor walk translation tables that are not this VM's.
fn walk(address: u64) {
    let low = core::ptr::without_provenance_mut::<u64>(0x1000);
    // SAFETY: the attack: the lower half of the address space, which this kernel does not use, gets tables at
    // `address`.
    unsafe {
        asm!("msr ttbr0_el1, {}", "isb", "tlbi vmalle1", "dsb nsh", "isb", in(reg) address & !0xfff, options(nostack));
        println!("read {:#x} through them", low.read_volatile());
    }
}

/// Drops to EL0, at an address that is mapped there executable and is not this VM's.
fn user(address: u64) {
    // Valid, normal memory, accessible to EL0, read-only (what is writable is execute-never: SCTLR_EL1.WXN),
    // inner shareable, accessed, not global, PXN (Arm ARM, D8.3).
    const BLOCK: u64 = 1 | 1 << 6 | 1 << 7 | 3 << 8 | 1 << 10 | 1 << 11 | 1 << 53;
    let (Some(mut root), Some(mut table)) = (memory::allocate(4096), memory::allocate(4096)) else { return };
    root.as_slice::<u64>()[0] = table.phys().0 | 0b11;
    table.as_slice::<u64>()[(address >> 30) as usize & 511] = address & !((1 << 30) - 1) | BLOCK;
    let tables = root.phys().0;
    // They are in use from here on.
    root.leak();
    table.leak();
    // SAFETY: the attack: the lower half of the address space, which this kernel does not use, gets tables of
    // its own, and what runs there, with all interrupts masked, comes back by an exception that ends this
    // guest.
    unsafe {
        asm!("dsb ishst", "msr ttbr0_el1, {tables}", "isb", "tlbi vmalle1", "dsb nsh",
            "msr elr_el1, {address}", "msr spsr_el1, {masked}", "isb", "eret",
            tables = in(reg) tables, address = in(reg) address, masked = in(reg) 0x3c0_u64, options(noreturn));
    }
}

/// Maps an intermediate physical address that is not this VM's, and uses it.
fn touch(address: u64, access: Access) {
    let Some(region) = Region::new(address & !7, 8) else { return };
    let mapped = match access {
        // SAFETY: the attack: whatever is executed there is this guest's risk alone, and the point of it.
        Access::Execute => unsafe { memory::map_code(region) },
        _ => memory::map_device(region),
    };
    let Ok(at) = mapped else {
        println!("the address {address:#x} cannot be mapped by this guest");
        return;
    };
    let pointer = core::ptr::with_exposed_provenance_mut::<u64>(at);
    // SAFETY: the address is mapped by this guest's own tables; what is behind it belongs to nobody in this
    // guest.
    unsafe {
        match access {
            Access::Read | Access::Walk | Access::User => {
                println!("read {:#x} at {address:#x}", pointer.read_volatile());
            }
            Access::Write => pointer.write_volatile(MARK),
            Access::Execute => asm!("blr {}", in(reg) at, clobber_abi("C")),
        }
    }
}

/// Cleans and invalidates a cache by set and way, which would reach other VMs' data.
fn set_way() {
    // SAFETY: the attack: cache maintenance that loses nothing (it cleans), and that the hypervisor must not
    // let through.
    unsafe { asm!("dc cisw, {}", in(reg) 0_u64, options(nostack)) };
}

/// x0 to x18, and x29.
type Registers = [u64; 20];

/// Makes a call with all these registers, and notes what is in them afterwards.
fn call(x: &mut Registers) {
    // SAFETY: the asm keeps x19 and x29 itself, and declares the others; the calls made here touch no memory.
    unsafe {
        asm!(
            "stp x29, x19, [sp, #-32]!", "str x0, [sp, #16]",
            "ldp x2, x3, [x0, #16]", "ldp x4, x5, [x0, #32]", "ldp x6, x7, [x0, #48]", "ldp x8, x9, [x0, #64]",
            "ldp x10, x11, [x0, #80]", "ldp x12, x13, [x0, #96]", "ldp x14, x15, [x0, #112]",
            "ldp x16, x17, [x0, #128]", "ldp x18, x29, [x0, #144]", "ldp x0, x1, [x0]",
            "hvc #0",
            "str x0, [sp, #24]", "ldr x0, [sp, #16]", "str x1, [x0, #8]",
            "stp x2, x3, [x0, #16]", "stp x4, x5, [x0, #32]", "stp x6, x7, [x0, #48]", "stp x8, x9, [x0, #64]",
            "stp x10, x11, [x0, #80]", "stp x12, x13, [x0, #96]", "stp x14, x15, [x0, #112]",
            "stp x16, x17, [x0, #128]", "stp x18, x29, [x0, #144]", "ldr x1, [sp, #24]", "str x1, [x0]",
            "ldp x29, x19, [sp], #32",
            in("x0") x.as_mut_ptr(), clobber_abi("C"));
    }
}

/// Calls, known and unknown, answer in x0 to x7 and leave everything else as it was: nothing of the
/// hypervisor's or of another VM's comes out. Returns `true` (there is such an attack).
fn calls() -> bool {
    const SUCCESS: u64 = ffa::SUCCESS as u64;
    const NOT_SUPPORTED: [u64; 8] = [ffa::ERROR as u64, 0, ffa::Error::NotSupported.bits(), 0, 0, 0, 0, 0];
    let id = hv_abi::guest::id_get().map_or(0, |id| u64::from(id.0));
    let mut unchanged = [MARK; 8];
    unchanged[0] = hv_abi::SMCCC_NOT_SUPPORTED;
    for (name, function, results) in [
        ("id-get", ffa::ID_GET, [SUCCESS, 0, id, 0, 0, 0, 0, 0]),
        ("spm-id-get", ffa::SPM_ID_GET, [SUCCESS, 0, 0, 0, 0, 0, 0, 0]),
        ("yield", ffa::YIELD, [SUCCESS, 0, 0, 0, 0, 0, 0, 0]),
        ("run", ffa::RUN, NOT_SUPPORTED),
        ("unknown-ffa", 0x8400_00ef, NOT_SUPPORTED),
        ("unknown-ffa-64", 0xc400_0061, NOT_SUPPORTED),
        ("above-ffa", 0x8400_00f0, unchanged),
        ("below-ffa", 0x8400_005f, unchanged),
        ("unknown-vendor", 0x8600_0bad, unchanged),
        ("unknown-crash-record", 0x8600_0010, unchanged),
        ("zero", 0, unchanged),
        ("all-ones", u32::MAX, unchanged),
    ] {
        let mut x = [MARK; 20];
        // Bits 63:32 are no part of the function's number.
        x[0] = u64::from(function) | 0xdead << 32;
        // For how long FFA_YIELD may take. To the others no argument matters.
        if function == ffa::YIELD {
            x[2..4].fill(0);
        }
        call(&mut x);
        let expected: Registers = core::array::from_fn(|i| results.get(i).copied().unwrap_or(MARK));
        let ok = if x == expected { "yes" } else { "no" };
        println!("@check name=registers ok={ok} call={name}");
        if x != expected {
            println!("{name}: {x:x?}");
        }
    }
    true
}

/// Keeps its core with interrupts masked.
fn never_yield() -> ! {
    arch::mask_interrupts();
    loop {
        core::hint::spin_loop();
    }
}

/// Runs wild: switches its own translation and vectors to nowhere, and goes on executing.
fn wild() {
    // SAFETY: the attack: nothing of this guest works afterwards, and nothing else is touched.
    unsafe {
        // Both halves of the address space: a core that still knows where this code is leaves for the lower
        // one.
        asm!("msr vbar_el1, {nowhere}", "msr ttbr0_el1, {nowhere}", "msr ttbr1_el1, {nowhere}", "mrs {tcr}, tcr_el1",
            "and {tcr}, {tcr}, #~(1 << 7)", "msr tcr_el1, {tcr}", "isb", "tlbi vmalle1", "dsb nsh", "isb",
            "br {nowhere}", nowhere = in(reg) 0x7f_dead_0000_u64, tcr = in(reg) 0_u64, options(noreturn));
    }
}
