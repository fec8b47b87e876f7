//! A primary that switches a core off and on again, and runs a VM there each time: what the core held of the
//! VM's registers went with its power. The kernel has `cores=1`: core 1 runs nothing but the loop below, with
//! its MMU off.

use core::{
    arch::{asm, global_asm},
    cell::UnsafeCell,
};
use hv_abi::{
    Regs,
    exit::Exit,
    ffa, guest,
    ids::{VcpuId, VcpuIndex, VmId},
    psci,
};
use lwk_core::{app::App, println};

const VICTIM: VcpuId = VcpuId { vm: VmId(2), index: VcpuIndex(0) };
/// The affinity of core 1 on QEMU's virt machine.
const CORE: u64 = 1;
/// How often core 1 runs the vCPU before it goes off.
const RUNS: u32 = 16;

// x0: where to write what the last FFA_RUN returned. Each run begins with other FP/SIMD registers than the
// vCPU left.
global_asm!(
    ".global hotplug_entry",
    "hotplug_entry:",
    "mov x19, x0",
    "mov w20, #{runs}",
    "1:",
    "movz w0, #({run} & 0xffff)",
    "movk w0, #({run} >> 16), lsl #16",
    "mov w1, #{vcpu}",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x5, xzr",
    "mov x6, xzr",
    "mov x7, xzr",
    "hvc #0",
    "stp x0, x1, [x19]",
    "stp x2, x3, [x19, #16]",
    "stp x4, x5, [x19, #32]",
    "stp x6, x7, [x19, #48]",
    "dsb sy",
    "subs w20, w20, #1",
    "b.ne 1b",
    "movz w0, #({off} & 0xffff)",
    "movk w0, #({off} >> 16), lsl #16",
    "hvc #0",
    "b .",
    runs = const RUNS,
    run = const ffa::RUN,
    vcpu = const (VICTIM.vm.0 as u32) << 16,
    off = const psci::CPU_OFF,
);

/// What core 1 writes with its caches off. Aligned so that it shares a cache line with nothing.
#[repr(align(128))]
struct Last(UnsafeCell<[u64; 8]>);

// SAFETY: core 1 writes it while it is on, core 0 reads it while core 1 is off.
unsafe impl Sync for Last {}

static LAST: Last = Last(UnsafeCell::new([0; 8]));

/// The physical address of what this kernel has at `address`.
fn physical(address: u64) -> u64 {
    let par: u64;
    // SAFETY: an address translation, which only changes PAR_EL1.
    unsafe {
        asm!("at s1e1r, {}", "isb", "mrs {}, par_el1", in(reg) address, out(reg) par, options(nostack));
    };
    par & 0xffff_ffff_f000 | address & 0xfff
}

fn is_off() -> bool {
    let info = guest::hvc(Regs([psci::AFFINITY_INFO_64.into(), CORE, 0, 0, 0, 0, 0, 0]));
    info.0[0] == psci::AFFINITY_OFF
}

/// Switches core 1 on; returns what it has seen last when it is off again.
fn cycle() -> Option<Exit> {
    unsafe extern "C" {
        fn hotplug_entry();
    }
    let (entry, context) = (physical(hotplug_entry as *const () as u64), physical(LAST.0.get() as u64));
    // SAFETY: core 1 is off.
    unsafe { LAST.0.get().write_volatile([0; 8]) };
    let status = guest::cpu_on(CORE, entry, context);
    if status != 0 {
        println!("CPU_ON is answered with {status}");
        return None;
    }
    // An emulator's AFFINITY_INFO may say that the core is off until it has started.
    let mut last = [0; 8];
    while last[0] == 0 || !is_off() {
        core::hint::spin_loop();
        // SAFETY: words; what counts is read when core 1 is off. Read anew each time, because another core
        // writes them.
        last = unsafe { LAST.0.get().read_volatile() };
    }
    // SAFETY: core 1 is off.
    last = unsafe { LAST.0.get().read_volatile() };
    Exit::from_regs(&Regs(last)).ok().map(|(_, exit)| exit)
}

pub(super) fn run(app: &App) -> bool {
    if app.cores() != 1 || guest::id_get() != Ok(VmId::PRIMARY) {
        println!("this attack takes a primary with cores=1");
        return false;
    }
    let (mut cycles, mut running) = (0, true);
    while running {
        match cycle() {
            Some(Exit::Off { reset: false }) => running = false,
            Some(Exit::Aborted(_) | Exit::Refused(_) | Exit::Off { reset: true }) | None => return false,
            Some(_) => cycles += 1,
        }
    }
    println!("core 1 was off {cycles} times while the VM had registers there");
    cycles >= 10
}
