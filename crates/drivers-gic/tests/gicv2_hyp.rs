//! The driver of GICv2's hypervisor interface against a model of its registers, and of the guest's CPU
//! interface that works on them.
use drivers_gic::{
    GicV2Hyp, Mmio,
    hyp::{Control, HypervisorInterface, ListRegister, ListState, SavedInterface},
};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeSet};

const HCR: usize = 0x000;
const VTR: usize = 0x004;
const VMCR: usize = 0x008;
const MISR: usize = 0x010;
const EISR: usize = 0x020;
const ELRSR: usize = 0x030;
const APR: usize = 0x0f0;
const LR: usize = 0x100;

/// `GICH_*` of one core (GICv2 spec, 5.3).
struct Model {
    hcr: u32,
    vmcr: u32,
    apr: u32,
    lrs: Vec<u32>,
}

#[derive(Clone, Copy)]
struct View<'a>(&'a RefCell<Model>, usize);

/// A list register's fields (5.3.9).
fn state(lr: u32) -> u32 {
    lr >> 28 & 3
}

impl Model {
    fn new(lrs: usize) -> RefCell<Self> {
        // What a core has after power-on is unknown.
        RefCell::new(Self { hcr: 0, vmcr: 0xdead_0000, apr: 0x55, lrs: vec![0xffff_ffff; lrs] })
    }

    fn bits(&self, is: impl Fn(u32) -> bool) -> u32 {
        self.lrs.iter().enumerate().fold(0, |bits, (n, lr)| bits | u32::from(is(*lr)) << n)
    }

    /// Those that are free, software's, and to be told (5.3.5).
    fn eisr(&self) -> u32 {
        self.bits(|lr| state(lr) == 0 && lr >> 31 == 0 && lr >> 19 & 1 != 0)
    }

    /// Those that are free, and whose end is not to be told (5.3.6): what may be used.
    fn elrsr(&self) -> u32 {
        self.bits(|lr| state(lr) == 0) & !self.eisr()
    }

    /// What is told, whatever is asserted (5.3.4).
    fn misr(&self) -> u32 {
        let used = self.bits(|lr| state(lr) != 0).count_ones();
        let underflow = self.hcr & 1 << 1 != 0 && used <= 1;
        let nothing_pending = self.hcr & 1 << 3 != 0 && self.bits(|lr| state(lr) & 1 != 0) == 0;
        let entry_missing = self.hcr & 1 << 2 != 0 && self.hcr >> 27 != 0;
        u32::from(self.eisr() != 0)
            | u32::from(underflow) << 1
            | u32::from(entry_missing) << 2
            | u32::from(nothing_pending) << 3
    }

    /// The guest acknowledges the most urgent pending interrupt, as `GICV_IAR` does; `None` is a spurious
    /// one.
    fn acknowledge(&mut self) -> Option<u32> {
        let on = self.hcr & 1 != 0;
        let pending = self.lrs.iter_mut().filter(|lr| on && state(**lr) == 1);
        let lr = pending.min_by_key(|lr| **lr >> 23 & 0x1f)?;
        *lr = *lr & !(3 << 28) | 2 << 28;
        self.apr |= 1 << (*lr >> 23 & 0x1f);
        // An SGI is told with who has sent it.
        Some(*lr & if *lr & 0x3ff < 16 { 0x1fff } else { 0x3ff })
    }

    /// The guest ends it, as `GICV_EOIR` does.
    fn end(&mut self, iar: u32) {
        let is = |lr: &&mut u32| **lr & 0x3ff == iar & 0x3ff && state(**lr) & 2 != 0;
        match self.lrs.iter_mut().find(is) {
            Some(lr) => {
                self.apr &= !(1 << (*lr >> 23 & 0x1f));
                *lr &= !(2 << 28);
            }
            // EOICount, in five bits.
            None => self.hcr = self.hcr.wrapping_add(1 << 27),
        }
    }
}

impl Mmio for View<'_> {
    fn read32(&self, offset: usize) -> u32 {
        let model = self.0.borrow();
        match self.1 + offset {
            HCR => model.hcr,
            // 5 bits of priority and of preemption.
            VTR => 4 << 29 | 4 << 26 | (model.lrs.len() as u32 - 1),
            VMCR => model.vmcr,
            MISR => model.misr(),
            EISR => model.eisr(),
            ELRSR => model.elrsr(),
            APR => model.apr,
            at => model.lrs[(at - LR) / 4],
        }
    }
    fn read64(&self, _: usize) -> u64 {
        panic!("GICv2 has no 64-bit registers")
    }
    fn write8(&self, offset: usize, _: u8) {
        panic!("no byte access to {offset:#x} (GICv2 spec, 5.3)")
    }
    fn write32(&self, offset: usize, value: u32) {
        let mut model = self.0.borrow_mut();
        match self.1 + offset {
            HCR => model.hcr = value,
            // Bits 8 to 5, 17 to 10 and 26 to 24 are reserved (5.3.3).
            VMCR => model.vmcr = value & 0xf8fc_021f,
            APR => model.apr = value,
            at @ (VTR | MISR | EISR | ELRSR) => panic!("{at:#x} is read-only"),
            at => model.lrs[(at - LR) / 4] = value,
        }
    }
    fn write64(&self, _: usize, _: u64) {
        panic!("GICv2 has no 64-bit registers")
    }
    fn at(&self, offset: usize) -> Self {
        Self(self.0, self.1 + offset)
    }
}

/// The driver, as a hypervisor finds it when it has freed everything.
fn freed(model: &RefCell<Model>) -> GicV2Hyp<View<'_>> {
    let gic = GicV2Hyp::with_mmio(View(model, 0));
    gic.restore(&SavedInterface::default());
    (0..gic.count()).for_each(|n| gic.write(n, ListRegister::FREE));
    gic
}

fn pending(intid: u32, priority: u8) -> ListRegister {
    ListRegister::new(intid, priority, ListState::Pending)
}

#[test]
fn the_number_of_list_registers_is_the_hardwares() {
    for lrs in [1, 4, 16] {
        assert_eq!(freed(&Model::new(lrs)).count(), lrs);
    }
    // The register could say 64, and other GICs than Arm's have as many; more than 16 are never used.
    assert_eq!(GicV2Hyp::with_mmio(View(&Model::new(32), 0)).count(), 16);
}

#[test]
fn fields_of_list_registers_are_where_the_document_has_them() {
    let model = Model::new(4);
    let gic = freed(&model);
    gic.write(0, pending(42, 0xa0));
    gic.write(1, ListRegister::new(2, 0x10, ListState::Active).with_source(5).with_end_told());
    gic.write(2, ListRegister::new(77, 0xf8, ListState::PendingAndActive).group_1());
    gic.write(3, pending(33, 0).with_physical(96));
    assert_eq!(
        model.borrow().lrs,
        [
            1 << 28 | 0x14 << 23 | 0x2a,
            2 << 28 | 0x02 << 23 | 1 << 19 | 0b101 << 10 | 0x2,
            1 << 30 | 3 << 28 | 0x1f << 23 | 0x4d,
            1 << 31 | 1 << 28 | 0x60 << 10 | 0x21,
        ]
    );
}

#[test]
fn a_guest_gets_what_is_listed_and_its_end_is_told() {
    let model = Model::new(4);
    let gic = freed(&model);
    gic.write(2, pending(40, 0xa0));
    gic.write(3, pending(3, 0x50).with_source(6).with_end_told());
    assert_eq!(model.borrow_mut().acknowledge(), None, "the interface is off");
    gic.control(Control::ON);
    assert_eq!(model.borrow_mut().acknowledge(), Some(6 << 10 | 3), "the most urgent, and its sender");
    assert_eq!((gic.read(3).state(), gic.read(2).state()), (ListState::Active, ListState::Pending));
    assert!(!gic.has_maintenance());
    model.borrow_mut().end(6 << 10 | 3);
    assert_eq!(gic.read(3).state(), ListState::Free);
    assert!(gic.read(3).tells_end() && gic.has_maintenance());
    assert_eq!((gic.ended(), gic.free()), (0b1000, 0b0011), "what is told is not free yet");
    gic.write(3, ListRegister::FREE);
    assert_eq!((gic.has_maintenance(), gic.ended(), gic.free()), (false, 0, 0b1011));
    // One that need not be told is free at once.
    assert_eq!(model.borrow_mut().acknowledge(), Some(40));
    model.borrow_mut().end(40);
    assert_eq!((gic.has_maintenance(), gic.free()), (false, 0b1111));
}

#[test]
fn underflow_is_told_when_at_most_one_is_left() {
    let model = Model::new(4);
    let gic = freed(&model);
    for n in 0..3 {
        gic.write(n, pending(40 + n as u32, 0xa0));
    }
    gic.control(Control::ON.with(Control::UNDERFLOW, true));
    assert_eq!(model.borrow().hcr, 0b11);
    for (left, told) in [(3, false), (2, false), (1, true)] {
        assert_eq!((model.borrow().misr() & 0b10 != 0, gic.has_maintenance()), (told, told), "{left} left");
        let iar = model.borrow_mut().acknowledge().unwrap();
        model.borrow_mut().end(iar);
    }
    gic.control(Control::ON);
    assert!(!gic.has_maintenance());
    assert_eq!(model.borrow().hcr, 0b01);
    gic.control(Control::OFF);
    assert_eq!(model.borrow().hcr, 0);
}

#[test]
fn nothing_of_a_guest_stays_and_all_of_it_comes_back() {
    let model = Model::new(4);
    let gic = freed(&model);
    gic.control(Control::ON.with(Control::UNDERFLOW, true));
    // The guest lets through what is more urgent than 0xf0, has both groups on, and two interrupts active.
    let vmcr = 0x1e << 27 | 3 << 21 | 4 << 18 | 1 << 9 | 0b11;
    model.borrow_mut().vmcr = vmcr;
    gic.write(0, pending(40, 0xa0));
    gic.write(1, pending(41, 0x80));
    for expected in [41, 40] {
        // The second does not wait for the first's end: which of them may preempt is not the model's concern.
        assert_eq!(model.borrow_mut().acknowledge(), Some(expected));
    }
    let apr = 1 << 0x14 | 1 << 0x10;
    assert_eq!(model.borrow().apr, apr);

    let saved = gic.save();
    assert_eq!((saved.control, saved.active_1, saved.active_0), (vmcr.into(), [apr, 0, 0, 0], [0; 4]));
    assert_eq!((model.borrow().hcr, model.borrow().vmcr, model.borrow().apr), (0, 0, 0));
    // Another guest, which has done nothing yet.
    gic.restore(&SavedInterface::default());
    assert_eq!((model.borrow().vmcr, model.borrow().apr), (0, 0));
    gic.save();
    gic.restore(&saved);
    assert_eq!((model.borrow().hcr, model.borrow().vmcr, model.borrow().apr), (0, vmcr, apr));
    assert_eq!(gic.save(), saved);
}

proptest! {
    #[test]
    fn list_registers_hold_what_is_written_each_its_own(
        lrs in 1..=16_usize,
        written in prop::collection::vec((any::<prop::sample::Index>(), 0..1020_u32, 0..32_u8, 0..4_u64, 0..8_u8, any::<(bool, bool)>()), 1..40),
    ) {
        let model = Model::new(lrs);
        let gic = freed(&model);
        let mut expected = vec![ListRegister::FREE; lrs];
        for (n, intid, priority, state, source, (group_1, told)) in written {
            let mut value = ListRegister::new(intid, priority << 3, ListRegister::from_v3(state << 62).state()).with_source(source);
            if group_1 { value = value.group_1() }
            if told { value = value.with_end_told() }
            gic.write(n.index(lrs), value);
            expected[n.index(lrs)] = value;
        }
        let read: Vec<_> = (0..lrs).map(|n| gic.read(n)).collect();
        prop_assert_eq!(&read, &expected);
        // The two summaries say of each what its own value says.
        let set = |word: u16| (0..16).filter(|n| word & 1 << n != 0).collect::<BTreeSet<usize>>();
        let those = |is: &dyn Fn(&ListRegister) -> bool| (0..lrs).filter(|n| is(&expected[*n])).collect::<BTreeSet<_>>();
        let free = |lr: &ListRegister| lr.state() == ListState::Free;
        prop_assert_eq!(set(gic.ended()), those(&|lr| free(lr) && lr.tells_end()));
        prop_assert_eq!(set(gic.free()), those(&|lr| free(lr) && !lr.tells_end()));
        prop_assert_eq!(gic.has_maintenance(), gic.ended() != 0);
    }
}
