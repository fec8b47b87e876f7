//! What a trapped access to the virtual CPU interface does, against a plain description of what the hardware
//! does.
use drivers_gic::{
    hyp::{Control, HypervisorInterface, ListRegister, ListState},
    virtual_cpu::{self, Group1, VirtualCpu},
};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

const LRS: usize = 4;
const ENABLE_1: u64 = 1 << 1;
const COMMON_POINT: u64 = 1 << 4;
const EOI_MODE: u64 = 1 << 9;

struct Cpu {
    lrs: RefCell<[ListRegister; LRS]>,
    settings: Cell<u64>,
    active: RefCell<[[u32; 4]; 2]>,
    preemption_bits: u32,
    ends: Cell<u32>,
}

impl HypervisorInterface for Cpu {
    fn count(&self) -> usize {
        LRS
    }
    fn read(&self, n: usize) -> ListRegister {
        self.lrs.borrow()[n]
    }
    fn write(&self, n: usize, value: ListRegister) {
        self.lrs.borrow_mut()[n] = value;
    }
    fn control(&self, _: Control) {}
    fn end_count(&self) -> u32 {
        self.ends.get()
    }
}

impl VirtualCpu for Cpu {
    fn settings(&self) -> u64 {
        self.settings.get()
    }
    fn set_settings(&self, value: u64) {
        self.settings.set(value);
    }
    fn active(&self, group: u8, n: usize) -> u32 {
        self.active.borrow()[usize::from(group)][n]
    }
    fn set_active(&self, group: u8, n: usize, value: u32) {
        self.active.borrow_mut()[usize::from(group)][n] = value;
    }
    fn preemption_bits(&self) -> u32 {
        self.preemption_bits
    }
    fn count_end(&self) {
        self.ends.set(self.ends.get() + 1);
    }
}

fn cpu(preemption_bits: u32) -> Cpu {
    Cpu {
        lrs: RefCell::new([ListRegister::FREE; LRS]),
        settings: Cell::new(0xf0 << 24 | ENABLE_1),
        active: RefCell::default(),
        preemption_bits,
        ends: Cell::new(0),
    }
}

fn pending(intid: u32, priority: u8) -> ListRegister {
    ListRegister::new(intid, priority, ListState::Pending).group_1()
}

fn acknowledge(cpu: &Cpu) -> u64 {
    virtual_cpu::read(cpu, Group1::Acknowledge)
}

fn end(cpu: &Cpu, intid: u64) {
    virtual_cpu::write(cpu, Group1::End, intid);
}

#[test]
fn the_most_urgent_is_acknowledged_and_ended_in_turn() {
    for bits in [5, 7] {
        let cpu = cpu(bits);
        cpu.write(0, pending(40, 0x80));
        cpu.write(1, pending(41, 0x40));
        cpu.write(2, pending(42, 0x20).with_physical(27));
        assert_eq!(virtual_cpu::signals(&cpu), Some(42));
        assert_eq!(virtual_cpu::read(&cpu, Group1::HighestPending), 42);
        assert_eq!(acknowledge(&cpu), 42);
        assert_eq!(cpu.read(2).state(), ListState::Active);
        assert_eq!(
            (virtual_cpu::signals(&cpu), acknowledge(&cpu)),
            (None, 1023),
            "it is less urgent than what runs"
        );
        assert_eq!(virtual_cpu::read(&cpu, Group1::HighestPending), 41);
        end(&cpu, 42);
        assert_eq!(cpu.read(2).state(), ListState::Free);
        assert!(!cpu.read(2).is_physical(), "nothing has been deactivated");
        assert_eq!(acknowledge(&cpu), 41);
        end(&cpu, 41);
        assert_eq!(acknowledge(&cpu), 40);
        end(&cpu, 40);
        assert_eq!((acknowledge(&cpu), *cpu.active.borrow()), (1023, [[0; 4]; 2]));
    }
}

#[test]
fn the_guests_mask_enable_and_binary_point_count() {
    let cpu = cpu(5);
    cpu.write(0, pending(40, 0x80));
    cpu.set_settings(0x80 << 24 | ENABLE_1);
    assert_eq!(acknowledge(&cpu), 1023, "not above the mask");
    assert!(!virtual_cpu::lets_through(&cpu, 0x80) && virtual_cpu::lets_through(&cpu, 0x78));
    cpu.set_settings(0xf0 << 24);
    assert_eq!((acknowledge(&cpu), virtual_cpu::read(&cpu, Group1::HighestPending)), (1023, 1023));
    virtual_cpu::write(&cpu, Group1::Enable, 1);
    assert_eq!(virtual_cpu::read(&cpu, Group1::Enable), 1);
    // Two bits preempt: 0x80 and 0x88 are of one group, and 0x40 is of another.
    virtual_cpu::write(&cpu, Group1::BinaryPoint, 6);
    assert_eq!(virtual_cpu::read(&cpu, Group1::BinaryPoint), 6);
    cpu.write(0, pending(40, 0xb8));
    assert_eq!(acknowledge(&cpu), 40);
    cpu.write(1, pending(41, 0x88));
    assert_eq!(acknowledge(&cpu), 1023);
    cpu.write(1, pending(41, 0x78));
    assert_eq!(acknowledge(&cpu), 41);
    // The smallest value is the implementation's; with a common point the register is group 0's.
    virtual_cpu::write(&cpu, Group1::BinaryPoint, 0);
    assert_eq!(virtual_cpu::read(&cpu, Group1::BinaryPoint), 3);
    cpu.set_settings(cpu.settings() | COMMON_POINT | 4 << 21);
    virtual_cpu::write(&cpu, Group1::BinaryPoint, 7);
    assert_eq!(virtual_cpu::read(&cpu, Group1::BinaryPoint), 5);
}

#[test]
fn ends_that_are_special_split_or_of_nothing_listed() {
    let cpu = cpu(5);
    cpu.write(0, pending(40, 0x80));
    assert_eq!(acknowledge(&cpu), 40);
    end(&cpu, 1023);
    assert_ne!(virtual_cpu::read(&cpu, Group1::Active(0)), 0, "that is no interrupt");
    cpu.set_settings(cpu.settings() | EOI_MODE);
    end(&cpu, 40);
    assert_eq!(virtual_cpu::read(&cpu, Group1::Active(0)), 0);
    assert_eq!(
        (cpu.read(0).state(), cpu.ends.get()),
        (ListState::Active, 0),
        "the guest deactivates it by itself"
    );
    cpu.set_settings(cpu.settings() & !EOI_MODE);
    end(&cpu, 77);
    assert_eq!(cpu.ends.get(), 1);
    // What runs is of group 0, which is not this register's affair.
    cpu.set_active(0, 0, 1 << 3);
    virtual_cpu::write(&cpu, Group1::Active(0), 1 << 9);
    end(&cpu, 40);
    assert_eq!((cpu.active(0, 0), cpu.active(1, 0)), (1 << 3, 1 << 9));
    assert_eq!(cpu.read(0).state(), ListState::Active);
}

#[test]
fn registers_are_found_by_their_encoding() {
    let names = [(12, 12, 0), (12, 12, 1), (12, 12, 2), (12, 12, 3), (12, 12, 7), (12, 9, 0), (12, 9, 3)];
    assert!(names.iter().all(|(crn, crm, op2)| Group1::find(*crn, *crm, *op2).is_some()));
    // SGI1R, PMR, SRE, CTLR, IGRPEN0, IAR0 and others are not.
    for (crn, crm, op2) in
        [(12, 11, 5), (4, 6, 0), (12, 12, 5), (12, 12, 4), (12, 12, 6), (12, 8, 0), (12, 9, 4)]
    {
        assert_eq!(Group1::find(crn, crm, op2), None);
    }
}

proptest! {
    /// Whatever a guest does, in any order: the running priority only falls by ends, what is acknowledged
    /// preempts it, and each interrupt is acknowledged once for each time that it is pending.
    #[test]
    fn priorities_nest(bits in 5..8_u32, priorities in prop::collection::vec(0..29_u8, LRS), ops: Vec<bool>) {
        let cpu = cpu(bits);
        let mut stack: Vec<(u64, u8)> = Vec::new();
        for (n, priority) in priorities.iter().enumerate() {
            cpu.write(n, pending(32 + n as u32, priority * 8));
        }
        let mut seen = Vec::new();
        for acknowledges in ops {
            if acknowledges {
                let running = stack.last().map_or(0xff, |(_, priority)| *priority);
                let signalled = virtual_cpu::signals(&cpu);
                let intid = acknowledge(&cpu);
                prop_assert_eq!(signalled.map_or(1023, u64::from), intid);
                if intid == 1023 {
                    let waits = (0..LRS as u64).any(|n| !seen.contains(&(32 + n)) && priorities[n as usize] * 8 < running);
                    prop_assert!(!waits);
                } else {
                    let priority = priorities[intid as usize - 32] * 8;
                    prop_assert!(priority < running);
                    prop_assert!(!seen.contains(&intid));
                    seen.push(intid);
                    stack.push((intid, priority));
                }
            } else if let Some((intid, _)) = stack.pop() {
                end(&cpu, intid);
                prop_assert_eq!(cpu.read(intid as usize - 32).state(), ListState::Free);
            }
        }
        prop_assert_eq!(cpu.ends.get(), 0);
    }
}
