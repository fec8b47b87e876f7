//! A guest that attacks its surroundings in one way, given by `attack=` on its command line.
//!
//! Whoever should have been stopped and goes on says so: `@check name=isolation ok=no`.

mod calls;

use core::arch::asm;
use lwk_core::{
    app::{App, Status},
    arch,
    cmdline::CommandLine,
    memory, println,
};
use machine::Region;

/// A page below the usual start of memory on QEMU's virt machine: no VM's, unless the hypervisor's. `addr=` overrides it.
const HYPERVISOR: u64 = 0x4000_0000 - 0x2000;
/// The usual console of QEMU's virt machine, which belongs to the hypervisor. `addr=` overrides it.
const DEVICE: u64 = 0x0900_0000;
/// A word that is easily recognised where it should not be.
const MARK: u64 = 0x5ca1_ab1e_0bad_cafe;

/// A page of memory that the primary has on QEMU's virt machine, and that is behind this VM's own. `addr=` overrides it.
const PRIMARY: u64 = 0x6000_0000;

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
    Execute,
    Walk,
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
    let harmless = matches!(attack, "smc" | "set-way" | "none");
    let survives = harmless || by_call(attack).is_some_and(|attack| attack(app));
    println!("@check name=isolation ok={} attack={attack}", if survives { "yes" } else { "no" });
    Status::of(survives)
}

/// Does it. Returns whether there is such an attack.
fn run(app: &App, line: CommandLine<'_>, attack: &str) -> bool {
    match attack {
        "none" | "off" => {}
        "set-way" => set_way(),
        "smc" => {
            arch::smc([0x8400_0000, 0, 0, 0]);
        }
        "never-yield" => never_yield(),
        "wild" => wild(),
        _ if by_call(attack).is_some() => {}
        _ => return on_memory(app, line, attack),
    }
    true
}

/// An attack that the guest survives, and that tells whether all was as it should be.
fn by_call(attack: &str) -> Option<fn(&App) -> bool> {
    Some(match attack {
        "share" => calls::share,
        "retrieve" => calls::retrieve,
        "descriptors" => calls::descriptors,
        "race" => calls::race,
        "mailboxes" => calls::mailboxes,
        "powers" => calls::powers,
        "random" => calls::random,
        "flood" => calls::flood,
        "exhaust" => calls::exhaust,
        _ => return None,
    })
}

/// `read-vm`, `write-hypervisor`, `exec-device` and so on.
fn on_memory(app: &App, line: CommandLine<'_>, attack: &str) -> bool {
    let Some((access, target)) = attack.split_once('-') else { return false };
    let access = match access {
        "read" => Access::Read,
        "write" => Access::Write,
        "exec" => Access::Execute,
        "walk" => Access::Walk,
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
        _ => touch(place, access),
    }
    true
}

/// Makes the processor walk translation tables that are not this VM's.
fn walk(address: u64) {
    let low = core::ptr::without_provenance_mut::<u64>(0x1000);
    // SAFETY: the attack: the lower half of the address space, which this kernel does not use, gets tables at `address`.
    unsafe {
        asm!("msr ttbr0_el1, {}", "isb", "tlbi vmalle1", "dsb nsh", "isb", in(reg) address & !0xfff, options(nostack));
        println!("read {:#x} through them", low.read_volatile());
    }
}

/// Maps an intermediate physical address that is not this VM's, and uses it.
fn touch(address: u64, access: Access) {
    let Some(region) = Region::new(address & !7, 8) else { return };
    let mapped = match access {
        // SAFETY: the attack: whatever is executed there is this guest's risk alone, and the point of it.
        Access::Execute => unsafe { memory::map_code(region) },
        Access::Read | Access::Write | Access::Walk => memory::map_device(region),
    };
    let Ok(at) = mapped else {
        println!("the address {address:#x} cannot be mapped by this guest");
        return;
    };
    let pointer = core::ptr::with_exposed_provenance_mut::<u64>(at);
    // SAFETY: the address is mapped by this guest's own tables; what is behind it belongs to nobody in this guest.
    unsafe {
        match access {
            Access::Read | Access::Walk => println!("read {:#x} at {address:#x}", pointer.read_volatile()),
            Access::Write => pointer.write_volatile(MARK),
            Access::Execute => asm!("blr {}", in(reg) at, clobber_abi("C")),
        }
    }
}

/// Cleans and invalidates a cache by set and way, which would reach other VMs' data.
fn set_way() {
    // SAFETY: the attack: cache maintenance that loses nothing (it cleans), and that the hypervisor must not let through.
    unsafe { asm!("dc cisw, {}", in(reg) 0_u64, options(nostack)) };
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
        asm!("msr vbar_el1, {nowhere}", "msr ttbr1_el1, {nowhere}", "isb", "tlbi vmalle1", "dsb nsh", "isb",
            "br {nowhere}", nowhere = in(reg) 0x0000_7fff_dead_0000_u64, options(noreturn));
    }
}
