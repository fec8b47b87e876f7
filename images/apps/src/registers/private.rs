//! Patterns in all registers that this VM may write, which must still be there after others had the core;
//! in a secondary that yields, and in the primary that runs it.

use super::{
    Name,
    machine::{Outcome, Picture, Probe},
};
use hv_abi::{
    Regs,
    exit::Exit,
    ffa, guest,
    ids::VcpuId,
    registers::{Access, Group, RULES, Seen, encoding},
};
use lwk_core::{app::Status, println};

/// Bits that can be varied without harm to this kernel, of registers where not all can.
const CAREFUL: &[(u16, u64)] = &[
    // SCTLR_EL1: EnIA, EnIB, EnDA, EnDB, which this kernel's code does not use; what EL0 may do.
    (
        encoding(3, 0, 1, 0, 0),
        1 << 31 | 1 << 30 | 1 << 27 | 1 << 13 | 1 << 9 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18,
    ),
    // CPACR_EL1: SVE and SME.
    (encoding(3, 0, 1, 0, 2), 3 << 16 | 3 << 24),
    // TTBR0_EL1: the ASID, of a half that is empty. TTBR1_EL1: nothing. TCR_EL1: TBI0.
    (encoding(3, 0, 2, 0, 0), 0xff << 48),
    (encoding(3, 0, 2, 0, 1), 0),
    (encoding(3, 0, 2, 0, 2), 1 << 37),
    // MAIR_EL1: an index that no descriptor has. VBAR_EL1: exceptions go on being noted.
    (encoding(3, 0, 10, 2, 0), 0xff << 56),
    (encoding(3, 0, 12, 0, 0), 0),
    // CSSELR_EL1: caches that exist. CNTKCTL_EL1: counters at EL0. CNTV_CTL_EL0, CNTP_CTL_EL0: the mask; the
    // timers stay off.
    (encoding(3, 2, 0, 0, 0), 1),
    (encoding(3, 0, 14, 1, 0), 0x303),
    (TIMERS[0], 1 << 1),
    (TIMERS[1], 1 << 1),
    // PAN, UAO, ALLINT; DIT, SSBS, TCO: the one bit that each of them has.
    (encoding(3, 0, 4, 2, 3), 1 << 22),
    (encoding(3, 0, 4, 2, 4), 1 << 23),
    (encoding(3, 0, 4, 3, 0), 1 << 13),
    (encoding(3, 3, 4, 2, 5), 1 << 24),
    (encoding(3, 3, 4, 2, 6), 1 << 12),
    (encoding(3, 3, 4, 2, 7), 1 << 25),
];
/// What this program runs with and cannot vary, or what changes by itself: CNTV_TVAL_EL0, CNTP_TVAL_EL0;
/// SPSel, NZCV, DAIF.
const EXCLUDED: [u16; 5] = [
    encoding(3, 3, 14, 3, 0),
    encoding(3, 3, 14, 2, 0),
    encoding(3, 0, 4, 2, 0),
    encoding(3, 3, 4, 2, 0),
    encoding(3, 3, 4, 2, 1),
];
/// CNTV_CTL_EL0, CNTP_CTL_EL0.
const TIMERS: [u16; 2] = [encoding(3, 3, 14, 3, 1), encoding(3, 3, 14, 2, 1)];
/// FPCR: rounding mode. FPSR: exception flags.
const FLOAT: [(u16, u64); 2] = [(encoding(3, 3, 4, 4, 0), 3 << 22), (encoding(3, 3, 4, 4, 1), 0x9f)];
/// There are fewer than that.
const MOST: usize = 64;

/// A register under test.
#[derive(Clone, Copy)]
struct Register {
    name: u16,
    group: Group,
    read: usize,
    write: usize,
    mask: u64,
    original: u64,
    /// What it held before the yield.
    held: u64,
}

/// What the registers are to keep through: x0 to x7, and whether the results are what they should be.
#[derive(Clone, Copy)]
struct Call {
    arguments: Regs,
    is_right: fn(&Regs) -> bool,
}

/// In a secondary: fills its registers, yields, and looks.
pub(super) fn secondary(rounds: u64) -> Status {
    let is_right = |results: &Regs| *results == Regs::func(ffa::SUCCESS);
    run(rounds, Group::secondary, Call { arguments: Regs::func(ffa::YIELD), is_right })
}

/// In the primary: fills its registers, runs `vcpu`, and looks. An exit says what it has to say, and nothing
/// more.
pub(crate) fn primary(rounds: u64, vcpu: VcpuId) -> Status {
    let is_right =
        |results: &Regs| Exit::from_regs(results).is_ok_and(|(about, exit)| exit.to_regs(about) == *results);
    let arguments = Regs([u64::from(ffa::RUN), vcpu.pack(), 0, 0, 0, 0, 0, 0]);
    run(rounds, Group::primary, Call { arguments, is_right })
}

fn run(rounds: u64, seen: fn(Group) -> Seen, call: Call) -> Status {
    let seed = guest::id_get().map_or(0, |id| u64::from(id.0)) << 48;
    let Some(mut probe) = Probe::new() else { return Status::FAILURE };
    let registers = find(&mut probe, seen);
    let keys = registers.iter().any(|register| register.group == Group::Keys);
    let pacga = probe.add_pacga();
    probe.assemble();
    let mut wrong = Wrong::default();
    for round in 0..rounds {
        one_round(&probe, call, registers.clone(), seed | round, keys.then_some(pacga), &mut wrong);
    }
    drop(probe);
    wrong.say();
    let sum = registers.len();
    let verified = if wrong.count == 0 { "yes" } else { "no" };
    println!(
        "@result workload=private-registers verified={verified} metric=wrong unit=registers wrong={} registers={sum} \
         rounds={rounds} keys={}",
        wrong.count,
        if keys { "yes" } else { "no" }
    );
    Status::of(wrong.count == 0)
}

/// The first registers that were wrong, and how.
#[derive(Default)]
struct Wrong {
    count: u64,
    first: heapless::Vec<(u16, u64, u64), 16>,
}

impl Wrong {
    /// `name` is a register's, or 0 and up for x0 and up, 32 and up for q0 and up.
    fn note(&mut self, name: u16, expected: u64, got: u64) {
        self.count += 1;
        let _ = self.first.push((name, expected, got));
    }

    fn say(&self) {
        for (name, expected, got) in &self.first {
            match name {
                0..32 => {
                    println!(
                        "@check name=private ok=no register=x{name} expected={expected:#x} got={got:#x}"
                    );
                }
                32..64 => {
                    println!(
                        "@check name=private ok=no register=q{} expected={expected:#x} got={got:#x}",
                        name - 32
                    );
                }
                _ => println!(
                    "@check name=private ok=no register={} expected={expected:#x} got={got:#x}",
                    Name(*name)
                ),
            }
        }
    }
}

/// The registers that this processor has and the policy calls the VM's own.
fn find(probe: &mut Probe, seen: fn(Group) -> Seen) -> heapless::Vec<Register, MOST> {
    let mut registers = heapless::Vec::new();
    let own = RULES.iter().filter(|rule| seen(rule.group) == Seen::Own && rule.access == Access::Both);
    for rule in own {
        for name in rule.first..=rule.last {
            let careful = CAREFUL.iter().chain(&FLOAT).find(|(register, _)| *register == name);
            let mask = careful.map_or(u64::MAX, |(_, mask)| *mask);
            let (read, write) = (probe.add_read(name), probe.add_write(name));
            probe.assemble();
            if let Outcome::Value(original) = probe.execute(read, 0)
                && !EXCLUDED.contains(&name)
            {
                let register = Register { name, group: rule.group, read, write, mask, original, held: 0 };
                assert!(registers.push(register).is_ok(), "there are more registers than {MOST}");
            }
        }
    }
    registers
}

/// A number that looks like no other (splitmix64).
fn pattern(seed: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Fills all registers, calls, looks, and puts them back.
fn one_round(
    probe: &Probe,
    call: Call,
    mut registers: heapless::Vec<Register, MOST>,
    seed: u64,
    pacga: Option<usize>,
    wrong: &mut Wrong,
) {
    let mut before = Picture::EMPTY;
    let mut after = Picture::EMPTY;
    for (n, x) in before.x.iter_mut().enumerate() {
        *x = pattern(seed ^ (n as u64) << 20);
    }
    before.x[..8].copy_from_slice(&call.arguments.0);
    for (n, q) in before.q.iter_mut().enumerate() {
        *q =
            u128::from(pattern(seed ^ (n as u64) << 28)) << 64 | u128::from(pattern(seed ^ (n as u64) << 36));
    }
    for register in &mut registers {
        let fill = pattern(seed ^ u64::from(register.name) << 24) & register.mask;
        // A timer is off while its compare value is none.
        let keep = if TIMERS.contains(&register.name) { 0 } else { register.original & !register.mask };
        probe.execute(register.write, fill | keep);
    }
    for register in &mut registers {
        register.held = value(probe, register.read);
    }
    let code = pacga.map(|at| value(probe, at));
    // Twice: what is switched at its first use is used in one round and not in the next.
    for _ in 0..2 {
        probe.call(&before, &mut after);
    }
    let code_after = pacga.map(|at| value(probe, at));
    for register in &mut registers {
        let now = value(probe, register.read);
        let cleared = register.group == Group::DeferredErrors && now == 0;
        if now != register.held && !cleared {
            wrong.note(register.name, register.held, now);
        }
    }
    for register in registers.iter().rev() {
        probe.execute(register.write, register.original);
    }
    if code != code_after {
        wrong.note(encoding(3, 0, 2, 3, 0), code.unwrap_or(0), code_after.unwrap_or(0));
    }
    let mut results = Regs::default();
    results.0.copy_from_slice(&after.x[..8]);
    if !(call.is_right)(&results) {
        for (n, result) in results.0.into_iter().enumerate() {
            wrong.note(n as u16, call.arguments.0[n], result);
        }
    }
    for n in (8..31).filter(|n| before.x[*n] != after.x[*n]) {
        wrong.note(n as u16, before.x[n], after.x[n]);
    }
    for n in (0..32).filter(|n| before.q[*n] != after.q[*n]) {
        wrong.note(32 + n as u16, before.q[n] as u64, after.q[n] as u64);
    }
}

fn value(probe: &Probe, at: usize) -> u64 {
    match probe.execute(at, 0x5eed) {
        Outcome::Value(value) => value,
        Outcome::Undefined => 0xdead,
        Outcome::Exception(syndrome) => syndrome,
    }
}
