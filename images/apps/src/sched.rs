//! The scheduler VM: runs all other VMs, and ends when they have ended.
//!
//! | parameter | meaning |
//! |---|---|
//! | `exit-when=all-stopped` | switch the machine off when every VM has ended; status 0 if none was aborted |
//! | `expect-abort=name,…` | with it: status 0 if exactly these VMs were aborted |
//! | `stop-after-ms=N` | switch the machine off after N milliseconds, with status 0, whatever runs still |
//! | `quantum-ms=N` | how long a vCPU has its core while others wait (kernel parameter; 100) |
//! | `registers` | first run the first VM a thousand times, and see that its own registers stay its own |
//! | `statistics` | at the end, print what the hypervisor has counted for each vCPU |
//! | `bench` | measure hypercalls and world switches first, with the VM called `bench` |
//! | `bench-core=N` | with it: on core N, while the others wait |

use crate::{bench, registers};
use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;
use hv_abi::{
    Regs,
    exit::Exit,
    ffa,
    guest::{self, messages},
    ids::{VcpuId, VcpuIndex, VmId},
};
use lwk_core::{
    app::{App, Status},
    percore::CoreIndex,
    primary::{Ending, Machines, Vm, partitions},
    println, task, time,
};

/// A function number that nobody defines, in the vendor's hypervisor range.
const UNKNOWN_CALL: u32 = 0x8600_7777;
/// The interrupts that devices have (GIC architecture, 2.2.1).
const SHARED_INTERRUPTS: core::ops::Range<u32> = 32..1020;
/// How often a yielding guest is run before it is measured: it has to boot first.
const BOOT_RUNS: u32 = 1_000_000;

/// The program.
pub fn main(app: &App) -> Status {
    let line = app.command_line();
    let partitions = match partitions::discover(app) {
        Ok(partitions) => partitions,
        Err(error) => {
            println!("the hypervisor does not say which VMs there are: {error:?}");
            return Status::FAILURE;
        }
    };
    for partition in &partitions {
        println!("{} is {}, {} vCPUs", partition.id, partition.name, partition.vcpus);
    }
    let machines = Machines::new(partitions, app.cores());
    if line.has("bench") {
        let entry = app.entry_ticks();
        match line.number("bench-core").filter(|core: &u64| *core != 0) {
            None => {
                bench::report("boot-to-first-vm", entry);
                measure(machines);
            }
            Some(core) if (core as usize) < app.cores() => {
                task::spawn(CoreIndex(core as u16), "bench", move || measure(machines)).join();
            }
            Some(core) => {
                println!("there is no core {core} to measure on");
                return Status::FAILURE;
            }
        }
    }
    if line.has("registers")
        && let Some(vm) = machines.iter().next()
    {
        registers::private::primary(500, VcpuId { vm: vm.id(), index: VcpuIndex(0) });
    }
    let limit = line.number("stop-after-ms").map(|ms: u64| time::after_ns(ms.saturating_mul(1_000_000)));
    machines.start();
    wait(machines, limit, line.get("exit-when") == Some("all-stopped"));
    if machines.iter().any(|vm| !vm.is_over()) {
        println!("stopped after the time that stop-after-ms= gives");
        return Status::SUCCESS;
    }
    if line.has("statistics") {
        statistics(machines);
        interrupts(machines);
    }
    verdict(app, machines)
}

/// What the hypervisor has counted for each vCPU, and which one it is.
fn statistics(machines: &Machines) {
    if let Ok((version, revision)) = guest::build_id() {
        let [major, minor, patch] = [32, 16, 0].map(|shift| version >> shift & 0xffff);
        println!("hypervisor {major}.{minor}.{patch}, revision {revision:x}");
    }
    for vm in machines.iter() {
        for index in 0..vm.vcpus() {
            let vcpu = VcpuId { vm: vm.id(), index: VcpuIndex(index) };
            let Ok([ticks, entries, yields, waits, messages, interrupts, other]) =
                guest::vcpu_statistics(vcpu)
            else {
                continue;
            };
            let aborts = guest::vcpu_external_aborts(vcpu).unwrap_or(0);
            let us = time::frequency().ticks_to_ns(ticks) / 1000;
            println!(
                "@statistics vm={} vcpu={index} us={us} entries={entries} yields={yields} waits={waits} \
                 messages={messages} interrupts={interrupts} other={other} aborts={aborts}",
                vm.name()
            );
        }
    }
}

/// Runs of numbers, as text: `34-38,48`.
fn runs(numbers: &mut dyn Iterator<Item = u32>) -> String {
    let mut text = String::new();
    let mut run: Option<(u32, u32)> = None;
    for number in numbers.map(Some).chain([None]) {
        match (run, number) {
            (Some((first, last)), Some(number)) if number == last + 1 => run = Some((first, number)),
            (old, number) => {
                if let Some((first, last)) = old {
                    let comma = if text.is_empty() { "" } else { "," };
                    let _ = write!(text, "{comma}{first}");
                    if last > first {
                        let _ = write!(text, "-{last}");
                    }
                }
                run = number.map(|number| (number, number));
            }
        }
    }
    text
}

/// The interrupts of devices: whose they are, and those that have arrived, and how often.
fn interrupts(machines: &Machines) {
    for vm in machines.iter() {
        let own = |intid: &u32| guest::interrupt_owner(*intid).is_ok_and(|(owner, _)| owner.vm == vm.id());
        let ids = runs(&mut SHARED_INTERRUPTS.filter(own));
        if !ids.is_empty() {
            println!("@interrupts vm={} ids={ids}", vm.name());
        }
    }
    for intid in SHARED_INTERRUPTS {
        let Ok((owner, arrivals)) = guest::interrupt_owner(intid) else { return };
        let name = machines.iter().find(|vm| vm.id() == owner.vm).map_or("none", |vm| vm.name());
        if arrivals > 0 {
            println!("@interrupt id={intid} vm={name} vcpu={} arrivals={arrivals}", owner.index.0);
        }
    }
}

/// Waits until all VMs have ended, if that is to end it, or until `limit`.
fn wait(machines: &Machines, limit: Option<u64>, end_with_them: bool) {
    loop {
        if end_with_them && machines.iter().all(Vm::is_over) {
            return;
        }
        match limit {
            Some(limit) if time::ticks() >= limit => return,
            Some(limit) => task::park_until(limit),
            None => task::park(),
        }
    }
}

/// Whether a VM is meant: by its name, or as `vm2`.
fn is_called(vm: &Vm, name: &str) -> bool {
    vm.name() == name || name.strip_prefix("vm").and_then(|id| id.parse().ok()) == Some(vm.id().0)
}

/// Whether exactly the VMs were aborted that were expected to be.
fn verdict(app: &App, machines: &Machines) -> Status {
    let expected: Vec<&str> = app.command_line().list("expect-abort").collect();
    let mut ok = true;
    for vm in machines.iter() {
        let aborted = vm.ending() == Ending::Aborted;
        let wanted = expected.iter().any(|name| is_called(vm, name));
        if aborted != wanted {
            println!(
                "{} {}",
                vm.name(),
                if aborted { "was aborted" } else { "was expected to be aborted, and was not" }
            );
            ok = false;
        }
    }
    for name in expected.into_iter().filter(|name| !machines.iter().any(|vm| is_called(vm, name))) {
        println!("there is no VM {name} to be aborted");
        ok = false;
    }
    Status::of(ok)
}

/// What calls and world switches cost.
fn measure(machines: &Machines) {
    let null = || _ = guest::id_get();
    bench::report("hypercall-primary", bench::least(null));
    let unknown = || {
        guest::hvc(Regs::func(UNKNOWN_CALL));
    };
    bench::report("hypercall-unknown", bench::least(unknown));
    // Without names, the only VM there is.
    let Some(vm) = machines.by_name("bench").or_else(|| machines.iter().next()) else { return };
    let vcpu = VcpuId { vm: vm.id(), index: VcpuIndex(0) };
    let yields = |_: &u32| matches!(guest::run(vcpu), Ok((_, Exit::Yield { .. })));
    if (0..BOOT_RUNS).find(yields).is_none() {
        println!("{} does not yield: its switches are not measured", vm.name());
        return;
    }
    let mut all = true;
    let ticks = bench::least(|| all &= matches!(guest::run(vcpu), Ok((_, Exit::Yield { .. }))));
    if all {
        bench::report("run-yield", ticks);
    } else {
        println!("{} did something else than yield: its switches are not measured", vm.name());
    }
    messages(vcpu);
}

/// What a direct message to a VM and its answer cost, if it answers: it has to stop yielding first.
fn messages(vcpu: VcpuId) {
    let waits = |_: &u32| matches!(guest::run(vcpu), Ok((_, Exit::MessageWait { .. } | Exit::Off { .. })));
    if (0..BOOT_RUNS).find(waits).is_none() {
        return;
    }
    let me = VmId::PRIMARY;
    let ask = |word| messages::direct_request(me, vcpu.vm, [word, 0, 0, 0, 0]);
    let answered =
        |answer: Regs, word: u64| answer.function() == ffa::MSG_SEND_DIRECT_RESP_64 && answer.0[3] == word;
    if !answered(ask(1), 2) {
        return;
    }
    let mut all = true;
    let ticks = bench::least(|| all &= answered(ask(1), 2));
    if all && ask(bench::STOP).function() == ffa::YIELD {
        bench::report("direct-message", ticks);
    } else {
        println!("a direct message was not answered: messages are not measured");
    }
}
