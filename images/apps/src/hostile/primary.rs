//! Attacks of a primary: it schedules the VMs, and does it as badly as it can. They must not notice.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use hv_abi::{
    exit::Exit,
    ffa::Error,
    guest,
    ids::{VcpuId, VcpuIndex, VmId},
    paravirt,
};
use lwk_core::{app::App, percore::CoreIndex, println, task};

/// The VMs of the scenario, with a vCPU each.
const VICTIMS: [VmId; 2] = [VmId(2), VmId(3)];

const fn first(vm: VmId) -> VcpuId {
    VcpuId { vm, index: VcpuIndex(0) }
}

/// How often a core is to find that the other one has the vCPU.
const ENOUGH: u32 = 1000;

/// What the cores have seen.
struct Seen {
    runs: AtomicU32,
    busy: AtomicU32,
    /// The victim that each core runs, or was the last to run.
    runs_now: [AtomicUsize; 2],
    over: [AtomicBool; VICTIMS.len()],
    wrong: AtomicBool,
}

static SEEN: Seen = Seen {
    runs: AtomicU32::new(0),
    busy: AtomicU32::new(0),
    runs_now: [const { AtomicUsize::new(0) }; 2],
    over: [const { AtomicBool::new(false) }; VICTIMS.len()],
    wrong: AtomicBool::new(false),
};

/// The victim to run next: until there have been enough collisions, the one that the other core runs; then
/// each in turn.
fn next_victim(other: usize, turn: usize) -> usize {
    let chased = SEEN.runs_now[other].load(Ordering::Relaxed);
    let is_chase = SEEN.busy.load(Ordering::Relaxed) < ENOUGH && !SEEN.over[chased].load(Ordering::Relaxed);
    if is_chase { chased } else { turn % VICTIMS.len() }
}

/// Runs one vCPU on two cores at once, again and again: whoever finds that the other one has it, interrupts
/// that one and tries to get it first. `inject`: each time, all interrupts that there are, too.
fn fight(own: usize, other: usize, inject: bool) {
    for turn in 0.. {
        if SEEN.over.iter().all(|over| over.load(Ordering::Relaxed)) {
            break;
        }
        let victim = next_victim(other, turn);
        let (vm, over) = (VICTIMS[victim], &SEEN.over[victim]);
        SEEN.runs_now[own].store(victim, Ordering::Relaxed);
        if inject {
            for id in 0..8 {
                if let Some(id) = hv_abi::ids::VirtIntId::new(id) {
                    guest::interrupt_inject(first(vm), id);
                }
            }
        }
        SEEN.runs.fetch_add(1, Ordering::Relaxed);
        match guest::run(first(vm)) {
            Ok((_, Exit::Refused(Error::Busy))) => {
                SEEN.busy.fetch_add(1, Ordering::Relaxed);
                guest::send_ipi(VcpuIndex(other as u16));
            }
            Ok((_, Exit::Off { reset: false })) => over.store(true, Ordering::Relaxed),
            Ok((_, Exit::Aborted(_) | Exit::Refused(_) | Exit::Off { reset: true })) | Err(_) => {
                SEEN.wrong.store(true, Ordering::Relaxed);
                over.store(true, Ordering::Relaxed);
            }
            Ok(_) => {}
        }
    }
}

/// Runs what cannot be run; returns whether each is refused as specified.
fn run_nothing() -> bool {
    let vcpu = |vm, index| VcpuId { vm: VmId(vm), index: VcpuIndex(index) };
    let mut ok = true;
    for (what, vcpu, expected) in [
        ("the hypervisor", vcpu(0, 0), Exit::Refused(Error::InvalidParameters)),
        ("the primary itself", vcpu(1, 0), Exit::Refused(Error::InvalidParameters)),
        ("another core's primary", vcpu(1, 1), Exit::Refused(Error::InvalidParameters)),
        ("a vCPU that is not there", vcpu(2, 1), Exit::Refused(Error::InvalidParameters)),
        ("the last vCPU", vcpu(2, 0xffff), Exit::Refused(Error::InvalidParameters)),
        ("a VM that is not there", vcpu(4, 0), Exit::Refused(Error::InvalidParameters)),
        ("the last VM", vcpu(0xffff, 0), Exit::Refused(Error::InvalidParameters)),
        ("a VM that is off", first(VICTIMS[0]), Exit::Off { reset: false }),
    ] {
        let exit = guest::run(vcpu).map(|(_, exit)| exit);
        if exit != Ok(expected) {
            println!("running {what} was answered with {exit:?}");
            ok = false;
        }
    }
    ok
}

pub(super) fn run_twice(app: &App) -> bool {
    if app.cores() < 2 || guest::id_get() != Ok(VmId::PRIMARY) {
        println!("this attack takes a primary with two cores");
        return false;
    }
    let inject = app.command_line().has("inject");
    if inject {
        // What nobody has asked for is kept from a VM, however often it is sent.
        guest::interrupt_inject(first(VICTIMS[0]), paravirt::IPI);
    }
    let fighter = task::spawn(CoreIndex(1), "fighter", move || fight(1, 0, inject));
    fight(0, 1, inject);
    fighter.join();
    let (runs, busy) = (SEEN.runs.load(Ordering::Relaxed), SEEN.busy.load(Ordering::Relaxed));
    println!("{runs} runs, {busy} of them while the other core had the vCPU");
    run_nothing() && busy >= ENOUGH && !SEEN.wrong.load(Ordering::Relaxed)
}
