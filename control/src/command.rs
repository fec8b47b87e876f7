//! Orders, in words: what a script has line by line, and what others will say to the control task.

use crate::kernel::{Kernel, Order};
use std::{fmt, io, time::Duration};
use vm_control::{
    Policy, Scheduling, VmState,
    request::{Target, VmInfo},
    settings::scheduling_word,
};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `list`: how all VMs stand.
    List,
    /// `cores`: how all cores stand.
    Cores,
    /// `start VM`, `stop VM`, `pause VM`, `resume VM`.
    Order(Order, String),
    /// `restart VM`: stops it if it runs, and starts it.
    Restart(String),
    /// `assign VM VCPU CORE`.
    Assign(String, u16, u32),
    /// `core N off`, `core N on`: switched off, its vCPUs going to others, and on.
    Core(u32, bool),
    /// `schedule VM policy=… …`: the words of the manifest.
    Schedule(String, Scheduling),
    /// `crash VM`: why it was stopped.
    Crash(String),
    /// `statistics`: what the hypervisor has counted.
    Statistics,
    /// `sleep MS`.
    Sleep(Duration),
    /// `watch VM MS`: how much it runs meanwhile. That is known when it has left its cores.
    Watch(String, Duration),
    /// `await VM STATE`.
    Await(String, VmState),
    /// `without-memory ORDER / ORDER`: the first with each of the kernel's allocations failing in turn, the
    /// second to take it back.
    WithoutMemory(Box<Self>, Box<Self>),
    /// `say …`: prints the words.
    Say(String),
    /// `fail`: the control task crashes, as if it had a bug.
    Fail,
    /// `quit STATUS`: the machine is switched off.
    Quit(u8),
}

/// Why a line is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCommand {
    /// Nobody knows its first word.
    Unknown(String),
    /// There are too many words or too few, or one means nothing.
    Words(String),
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "unknown command: {word}"),
            Self::Words(line) => write!(f, "\"{line}\" is not how that order is given"),
        }
    }
}

impl std::error::Error for BadCommand {}

impl Command {
    /// Reads a line; `None` if there is nothing on it, or a remark (`#`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Option<Self>, BadCommand> {
        let line = line.trim();
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next().filter(|first| !first.starts_with('#')) else { return Ok(None) };
        let words: Vec<&str> = words.collect();
        let alone = |command| words.is_empty().then_some(command);
        let vm = || match words[..] {
            [vm] => Some(vm.to_owned()),
            _ => None,
        };
        let command = match first {
            "list" => alone(Self::List),
            "cores" => alone(Self::Cores),
            "statistics" => alone(Self::Statistics),
            "fail" => alone(Self::Fail),
            "start" => vm().map(|vm| Self::Order(Order::Start, vm)),
            "stop" => vm().map(|vm| Self::Order(Order::Stop, vm)),
            "pause" => vm().map(|vm| Self::Order(Order::Pause, vm)),
            "resume" => vm().map(|vm| Self::Order(Order::Resume, vm)),
            "restart" => vm().map(Self::Restart),
            "crash" => vm().map(Self::Crash),
            "assign" => Self::assign(&words),
            "core" => Self::core(&words),
            "schedule" => Self::schedule(&words),
            "sleep" => Self::sleep(&words),
            "watch" => Self::watch(&words),
            "await" => Self::awaited(&words),
            "without-memory" => Self::without_memory(line),
            "say" => Some(Self::Say(words.join(" "))),
            "quit" => Self::quit(&words),
            _ => return Err(BadCommand::Unknown(first.to_owned())),
        };
        command.map(Some).ok_or_else(|| BadCommand::Words(line.to_owned()))
    }

    fn assign(words: &[&str]) -> Option<Self> {
        let [vm, vcpu, core] = words else { return None };
        Some(Self::Assign((*vm).to_owned(), vcpu.parse().ok()?, core.parse().ok()?))
    }

    fn core(words: &[&str]) -> Option<Self> {
        let [core, word @ ("on" | "off")] = words else { return None };
        Some(Self::Core(core.parse().ok()?, *word == "on"))
    }

    fn schedule(words: &[&str]) -> Option<Self> {
        let [vm, rest @ ..] = words else { return None };
        let mut scheduling = None;
        for word in rest {
            let (key, value) = word.split_once('=')?;
            scheduling_word(&mut scheduling, key, value)?;
        }
        Some(Self::Schedule((*vm).to_owned(), scheduling?))
    }

    fn sleep(words: &[&str]) -> Option<Self> {
        let [ms] = words else { return None };
        Some(Self::Sleep(Duration::from_millis(ms.parse().ok()?)))
    }

    fn watch(words: &[&str]) -> Option<Self> {
        let [vm, ms] = words else { return None };
        Some(Self::Watch((*vm).to_owned(), Duration::from_millis(ms.parse().ok()?)))
    }

    fn without_memory(line: &str) -> Option<Self> {
        let (order, back) = line.split_once(' ')?.1.split_once(" / ")?;
        let parse = |line| Self::parse(line).ok().flatten().map(Box::new);
        Some(Self::WithoutMemory(parse(order)?, parse(back)?))
    }

    fn awaited(words: &[&str]) -> Option<Self> {
        let [vm, state] = words else { return None };
        let state = (0..).map_while(VmState::from_number).find(|known| known.word() == *state)?;
        Some(Self::Await((*vm).to_owned(), state))
    }

    fn quit(words: &[&str]) -> Option<Self> {
        match words {
            [] => Some(Self::Quit(0)),
            [status] => Some(Self::Quit(status.parse().ok()?)),
            _ => None,
        }
    }
}

/// The VM with a name, or as `vm2`.
pub fn find(vms: &[VmInfo], name: &str) -> io::Result<VmInfo> {
    let by_number = || {
        let id = name.strip_prefix("vm")?.parse().ok()?;
        vms.iter().find(|vm| vm.vm == id)
    };
    let found = vms.iter().find(|vm| vm.name() == name).or_else(by_number);
    found.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no VM {name}")))
}

/// Carries an order out again and again, with the kernel's first, second, … allocation failing, until none
/// fails any more: then it has been carried out. Says how many there were.
fn without_memory(kernel: &mut impl Kernel, order: &Command, back: &Command) -> io::Result<Vec<String>> {
    // Of one order, by far.
    const MOST: u64 = 10_000;
    for n in 1..MOST {
        kernel.fail_allocation(n);
        let outcome = carry_out(kernel, order);
        if !kernel.fail_allocation(0) {
            outcome?;
            return Ok(vec![match n - 1 {
                0 => "no allocation is needed".to_owned(),
                count => format!("each of {count} allocations has failed"),
            }]);
        }
        // It may have been carried out all the same, or in part.
        let _ = carry_out(kernel, back);
    }
    Err(io::Error::other("its allocations do not end"))
}

fn target(vm: &VmInfo) -> Target {
    Target { vm: vm.vm, ..Target::default() }
}

/// Nanoseconds that a VM's vCPUs have run, as far as that is known.
///
/// # Errors
/// The kernel cannot be asked, or there is no such VM.
pub fn ran_ns(kernel: &mut impl Kernel, name: &str) -> io::Result<u64> {
    let vm = find(&kernel.vms()?, name)?;
    (0..vm.vcpus).map(|index| Ok(kernel.vcpu(vm.vm, index)?.ran_ns)).sum()
}

/// A VM's state, in a word.
pub fn state(vm: &VmInfo) -> Option<VmState> {
    VmState::from_number(vm.state)
}

/// Carries out what can be done at once; what it has to say, line by line.
///
/// # Errors
/// What the kernel refused.
pub fn carry_out(kernel: &mut impl Kernel, command: &Command) -> io::Result<Vec<String>> {
    let vms = kernel.vms()?;
    match command {
        Command::List => list(kernel, &vms),
        Command::Cores => cores(kernel),
        Command::Statistics => statistics(kernel, &vms),
        Command::Order(order, vm) => {
            kernel.order(*order, target(&find(&vms, vm)?))?;
            Ok(Vec::new())
        }
        Command::WithoutMemory(order, back) => without_memory(kernel, order, back),
        Command::Restart(vm) => {
            let vm = find(&vms, vm)?;
            if state(&vm).is_some_and(VmState::is_alive) {
                kernel.order(Order::Stop, target(&vm))?;
            }
            kernel.order(Order::Start, target(&vm))?;
            Ok(Vec::new())
        }
        Command::Assign(vm, vcpu, core) => {
            let vm = find(&vms, vm)?.vm;
            kernel.order(Order::Assign, Target { vm, vcpu: *vcpu, core: *core })?;
            Ok(Vec::new())
        }
        Command::Core(core, on) => {
            kernel.switch(*core, *on)?;
            Ok(Vec::new())
        }
        Command::Schedule(vm, scheduling) => {
            kernel.schedule(find(&vms, vm)?.vm, *scheduling)?;
            Ok(Vec::new())
        }
        Command::Crash(vm) => {
            let crash = kernel.crash(find(&vms, vm)?.vm)?;
            Ok(vec![format!(
                "{vm}: vCPU {}, ESR_EL2 {:#x}, FAR_EL2 {:#x}, IPA {:#x}, PC {:#x}",
                crash.vcpu, crash.syndrome, crash.address, crash.ipa, crash.pc
            )])
        }
        Command::Say(words) => Ok(vec![words.clone()]),
        // For whoever has the loop.
        Command::Sleep(_) | Command::Watch(..) | Command::Await(..) | Command::Fail | Command::Quit(_) => {
            Ok(Vec::new())
        }
    }
}

fn list(kernel: &mut impl Kernel, vms: &[VmInfo]) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for vm in vms {
        let mut places = Vec::new();
        for index in 0..vm.vcpus {
            let core = kernel.vcpu(vm.vm, index)?.core;
            places.push(if core == u32::MAX { "-".to_owned() } else { core.to_string() });
        }
        let word = state(vm).map_or("unknown", VmState::word);
        let policy = Policy::from_number(vm.policy).map_or("", Policy::word);
        let policy = if policy.is_empty() { String::new() } else { format!(", {policy}") };
        lines.push(format!(
            "vm{} {}: {word}, started {} times, vCPUs on cores {}{policy}",
            vm.vm,
            vm.name(),
            vm.starts,
            places.join(" ")
        ));
    }
    Ok(lines)
}

fn cores(kernel: &mut impl Kernel) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    while let Some(core) = kernel.core(lines.len() as u32)? {
        let is = if core.online == 0 { "off" } else { "online" };
        lines.push(format!("core {}: {is}, {} vCPUs, load {}", core.core, core.vcpus, core.load));
    }
    Ok(lines)
}

/// As `docs/console-protocol.md` has it.
fn statistics(kernel: &mut impl Kernel, vms: &[VmInfo]) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for vm in vms {
        for index in 0..vm.vcpus {
            let vcpu = kernel.vcpu(vm.vm, index)?;
            lines.push(format!(
                "@statistics vm={} vcpu={index} us={} entries={} yields={} waits={} messages={} interrupts={} other={} aborts={}",
                vm.name(),
                vcpu.ran_ns / 1000,
                vcpu.entries,
                vcpu.yields,
                vcpu.waits,
                vcpu.messages,
                vcpu.interrupts,
                vcpu.others,
                vcpu.external_aborts
            ));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_commands() {
        let parse = |line| Command::parse(line).unwrap();
        assert_eq!(parse("  # a remark"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse(" start one "), Some(Command::Order(Order::Start, "one".into())));
        assert_eq!(parse("assign one 2 3"), Some(Command::Assign("one".into(), 2, 3)));
        assert_eq!(parse("await one paused"), Some(Command::Await("one".into(), VmState::Paused)));
        assert_eq!(parse("say hello  you"), Some(Command::Say("hello you".into())));
        assert_eq!(parse("core 2 off"), Some(Command::Core(2, false)));
        let pair = Command::WithoutMemory(Box::new(Command::List), Box::new(Command::Cores));
        assert_eq!(parse("without-memory list / cores"), Some(pair));
        assert_eq!(parse("quit"), Some(Command::Quit(0)));
        let fifo = Scheduling { parameter: 3, ..Scheduling::of(Policy::Fifo) };
        assert_eq!(parse("schedule one policy=fifo priority=3"), Some(Command::Schedule("one".into(), fifo)));
    }

    #[test]
    fn distinguishes_unknown_command_from_invalid_arguments() {
        assert_eq!(Command::parse("stomp one"), Err(BadCommand::Unknown("stomp".into())));
        for line in [
            "start",
            "start a b",
            "assign one x 1",
            "await one asleep",
            "core 2",
            "core 2 away",
            "quit 256",
            "schedule one",
            "list all",
            "without-memory list",
            "without-memory list / nothing",
        ] {
            assert_eq!(Command::parse(line), Err(BadCommand::Words(line.into())), "{line}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_input_causes_no_panic(line in ".*") {
            let _ = Command::parse(&line);
        }
    }
}
