//! Every encoding of MRS, MSR and SYS, against the policy.

use super::{
    Name,
    machine::{Outcome, Probe},
};
use core::arch::asm;
use hv_abi::{
    features,
    registers::{Group, Seen, encoding, rule},
};
use lwk_core::{app::Status, println};

/// `ICC_SRE_EL1`: QEMU has it as a constant and asks no trap.
const ICC_SRE: u16 = encoding(3, 0, 12, 12, 5);
/// What QEMU lets a guest read there.
const ICC_SRE_VALUE: u64 = 7;

/// More lines than that say no more.
const MOST_LINES: usize = 40;

#[derive(Clone, Copy, Default)]
struct Tally {
    registers: u32,
    absent: u32,
    wrong: u32,
}

struct Sweep {
    probe: Probe,
    groups: [Tally; Group::ALL.len()],
    nameless: Tally,
    said: usize,
}

pub(super) fn run() -> Status {
    let Some(probe) = Probe::new() else { return Status::FAILURE };
    // What this kernel's own CPACR_EL1 forbids would not get as far as the hypervisor.
    // SAFETY: allows trace, SVE and SME as far as EL1 is concerned; nothing of this kernel uses them.
    unsafe {
        asm!("mrs {0}, cpacr_el1", "orr {0}, {0}, {1}", "bic {0}, {0}, {2}", "msr cpacr_el1, {0}", "isb",
            out(reg) _, in(reg) 3_u64 << 16 | 3 << 20 | 3 << 24, in(reg) 1_u64 << 28, options(nostack));
    }
    let mut sweep = Sweep { probe, groups: Default::default(), nameless: Tally::default(), said: 0 };
    for op0 in 1..=3 {
        for high in 0..128 {
            // Of system instructions, 7 to 9 maintain caches and TLBs; any VM may, but by set and way.
            sweep.line(op0, high >> 4, high & 0xf);
        }
    }
    sweep.sve();
    sweep.report()
}

impl Sweep {
    /// All registers with the same op0, op1 and CRn.
    fn line(&mut self, op0: u16, op1: u16, crn: u16) {
        let first = encoding(op0, op1, crn, 0, 0);
        self.probe.clear();
        for register in first..first + 128 {
            self.probe.add_read(register);
            self.probe.add_write(register);
        }
        self.probe.assemble();
        for n in 0..128 {
            let register = first + n;
            let at = usize::from(n) * 2;
            if op0 == 1 && (7..=9).contains(&crn) && rule(register).is_none() {
                continue;
            }
            self.register(register, at);
        }
    }

    fn register(&mut self, register: u16, at: usize) {
        if register == ICC_SRE && self.probe.execute(at, 0) == Outcome::Value(ICC_SRE_VALUE) {
            return;
        }
        let rule = rule(register);
        let (seen, optional) = rule.map_or((Seen::Undefined, false), |r| (r.group.secondary(), r.optional));
        let may = |read| rule.is_some_and(|rule| rule.allows(read));
        let mut tally = Tally { registers: 1, ..Tally::default() };

        let read = self.probe.execute(at, 0);
        let right = match (may(true), seen, read) {
            (true, Seen::Zero | Seen::Ignored, Outcome::Value(value)) => value == 0,
            (true, Seen::Value, Outcome::Value(value)) => is_shown(register, value),
            (true, Seen::Constant | Seen::Own, Outcome::Value(_)) => true,
            (may, seen, Outcome::Undefined) => !may || optional || seen == Seen::Undefined,
            _ => false,
        };
        if !right {
            self.wrong(register, "read", seen, read);
        }
        tally.absent += u32::from(read == Outcome::Undefined && may(true));

        // What it may write is written by the other mode, with care.
        let mut written = true;
        if !(may(false) && seen == Seen::Own) {
            let write = self.probe.execute(at + 1, u64::MAX);
            written = match (may(false), seen, write) {
                (true, Seen::Zero | Seen::Ignored, Outcome::Value(_)) => {
                    !may(true)
                        || matches!(self.probe.execute(at, u64::MAX), Outcome::Value(0) | Outcome::Undefined)
                }
                (may, seen, Outcome::Undefined) => !may || optional || seen == Seen::Undefined,
                _ => false,
            };
            if !written {
                self.wrong(register, "write", seen, write);
            }
        }
        tally.wrong += u32::from(!right || !written);
        self.count(rule.map(|rule| rule.group), tally);
    }

    /// An instruction of SVE traps in another way than its registers do.
    fn sve(&mut self) {
        self.probe.clear();
        let at = self.probe.add_sve();
        self.probe.assemble();
        let outcome = self.probe.execute(at, 0);
        if outcome != Outcome::Undefined {
            println!("@check name=instruction ok=no what=cntb got={outcome:?}");
            self.count(Some(Group::ScalableVectors), Tally { wrong: 1, ..Tally::default() });
        }
    }

    fn count(&mut self, group: Option<Group>, tally: Tally) {
        let place = group.and_then(|group| Group::ALL.iter().position(|other| *other == group));
        let sum = place.map_or(&mut self.nameless, |place| &mut self.groups[place]);
        sum.registers += tally.registers;
        sum.absent += tally.absent;
        sum.wrong += tally.wrong;
    }

    fn wrong(&mut self, register: u16, access: &str, seen: Seen, got: Outcome) {
        self.said += 1;
        if self.said > MOST_LINES {
            return;
        }
        let name = Name(register);
        match got {
            Outcome::Value(value) => {
                println!(
                    "@check name=register ok=no register={name} access={access} seen={seen:?} got={value:#x}"
                );
            }
            other => println!(
                "@check name=register ok=no register={name} access={access} seen={seen:?} got={other:x?}"
            ),
        }
    }

    fn report(self) -> Status {
        let Self { probe, groups, nameless, .. } = self;
        drop(probe);
        let mut sum = nameless;
        for (group, tally) in Group::ALL.iter().zip(&groups) {
            let Tally { registers, absent, wrong } = tally;
            let (seen, ok) = (group.secondary(), if *wrong == 0 { "yes" } else { "no" });
            println!(
                "@check name=group ok={ok} group={group:?} seen={seen:?} registers={registers} absent={absent}"
            );
            sum.registers += registers;
            sum.wrong += wrong;
        }
        let verified = if sum.wrong == 0 { "yes" } else { "no" };
        println!(
            "@result workload=registers verified={verified} metric=wrong unit=registers wrong={} tried={} nameless={}",
            sum.wrong, sum.registers, nameless.registers
        );
        Status::of(sum.wrong == 0)
    }
}

/// Whether an identification register may say that: it shows no feature that is to be hidden.
fn is_shown(register: u16, value: u64) -> bool {
    let (crm, op2) = ((register >> 3 & 0xf) as u8, (register & 7) as u8);
    rule(register).is_some_and(|rule| rule.group != Group::Features)
        || features::visible(crm, op2, value) == value
}
