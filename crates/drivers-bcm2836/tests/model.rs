//! The drivers against the model of the registers, and the model against the documents' rules written down in
//! another way.
use drivers_bcm2836::{
    Controller, Core, IPI, LocalInterrupt, Mmio,
    model::{Block, Model},
};
use proptest::prelude::*;
use std::{cell::RefCell, collections::BTreeSet};

/// The model as the hardware of a driver.
#[derive(Clone, Copy)]
struct View<'a>(&'a RefCell<Model>, Block);

impl Mmio for View<'_> {
    fn read(&self, offset: usize) -> u32 {
        self.0.borrow().read(self.1, offset as u64, 4)
    }

    fn write(&self, offset: usize, value: u32) {
        self.0.borrow_mut().write(self.1, offset as u64, 4, value);
    }
}

fn controller(model: &RefCell<Model>) -> Controller<View<'_>> {
    Controller::with_mmio(View(model, Block::Local), Some(View(model, Block::Legacy)))
}

fn core(number: u64) -> Core {
    Core::new(number).unwrap()
}

#[test]
fn rejects_nonexistent_cores_and_interrupts() {
    assert_eq!((Core::new(4), Core::new(u64::MAX)), (None, None));
    assert_eq!(LocalInterrupt::new(3), Some(LocalInterrupt::VirtualTimer));
    assert_eq!(LocalInterrupt::new(9), Some(LocalInterrupt::Pmu));
    assert_eq!(LocalInterrupt::new(10), None);
    for number in 0..10 {
        assert_eq!(LocalInterrupt::new(number).unwrap() as u32, number);
    }
}

#[test]
fn delivers_asserted_timer_to_core_that_enabled_it() {
    let model = RefCell::new(Model::new());
    let controller = controller(&model);
    controller.init(core(0));
    (0..4).for_each(|n| controller.init_core(core(n)));
    let timer = LocalInterrupt::VirtualTimer;
    for n in [1, 2] {
        model.borrow_mut().set_line(core(n), timer, true);
    }
    assert_eq!(controller.next(core(1)), None);
    controller.enable(core(1), timer as u32);
    assert_eq!((controller.next(core(1)), controller.next(core(2))), (Some(3), None));
    assert_eq!(controller.next(core(1)), Some(3), "it is a level");
    model.borrow_mut().set_line(core(1), timer, false);
    assert_eq!(controller.next(core(1)), None);
    model.borrow_mut().set_line(core(1), timer, true);
    controller.disable(core(1), timer as u32);
    assert_eq!(controller.next(core(1)), None);
}

#[test]
fn coalesces_repeated_ipis() {
    let model = RefCell::new(Model::new());
    let controller = controller(&model);
    controller.send_ipi(core(3));
    controller.init(core(0));
    (0..4).for_each(|n| controller.init_core(core(n)));
    assert_eq!(controller.next(core(3)), None, "what was sent before is gone");
    controller.send_ipi(core(3));
    controller.send_ipi(core(3));
    assert_eq!(controller.next(core(3)), Some(IPI));
    assert_eq!((0..3).filter_map(|n| controller.next(core(n))).count(), 0);
    assert_eq!(controller.local().take_ipis(core(3)), 1);
    assert_eq!(controller.next(core(3)), None);
}

#[test]
fn pmu_interrupt_has_one_enable_per_core() {
    let model = RefCell::new(Model::new());
    let controller = controller(&model);
    let pmu = LocalInterrupt::Pmu;
    for n in 0..4 {
        model.borrow_mut().set_line(core(n), pmu, true);
    }
    controller.enable(core(2), pmu as u32);
    let with: Vec<u64> = (0..4).filter(|n| controller.next(core(*n)) == Some(9)).collect();
    assert_eq!(with, [2]);
    controller.disable(core(2), pmu as u32);
    assert_eq!(controller.next(core(2)), None);
}

proptest! {
    /// Any set of devices: each comes, by its number, and only to the core that they are routed to.
    #[test]
    fn finds_every_device(set in prop::collection::btree_set((1..3_u32, 0..32_u32).prop_map(|(b, i)| 32 + 32 * b + i), 0..12),
                             own in prop::collection::btree_set(32..40_u32, 0..3), route in 0..4_u64) {
        let model = RefCell::new(Model::new());
        let controller = controller(&model);
        controller.init(core(route));
        (0..4).for_each(|n| controller.init_core(core(n)));
        let mut expected: BTreeSet<u32> = set.union(&own).copied().collect();
        for number in &expected {
            let index = number - 32;
            model.borrow_mut().set_device(index as usize / 32, index % 32, true);
            prop_assert!(!controller.is_device_pending(*number), "it is not enabled");
            controller.enable(core(route), *number);
            prop_assert!(controller.is_device_pending(*number));
        }
        // One that nobody enabled.
        model.borrow_mut().set_device(2, 31, true);
        expected.retain(|n| *n != 32 + 95);
        controller.disable(core(route), 32 + 95);
        for n in (0..4).filter(|n| *n != route) {
            prop_assert_eq!(controller.next(core(n)), None);
        }
        while let Some(number) = controller.next(core(route)) {
            prop_assert!(expected.remove(&number), "{} again, or never asserted", number);
            controller.disable(core(route), number);
            prop_assert!(!controller.is_device_pending(number));
        }
        prop_assert!(expected.is_empty(), "{:?} did not come", expected);
    }

    /// Whatever a guest does, it is defined, and what the model says of changes is true.
    #[test]
    fn hostile_guest_cannot_change_other_registers(accesses in prop::collection::vec(
        (any::<bool>(), any::<bool>(), prop_oneof![0..0x120_u64, any::<u64>()], prop_oneof![Just(4_u8), any::<u8>()], any::<u32>()), 0..200)) {
        let mut model = Model::new();
        for (is_write, legacy, offset, size, value) in accesses {
            let block = if legacy { Block::Legacy } else { Block::Local };
            let lines = |model: &Model| (0..4).fold(0_u8, |all, n| all | u8::from(model.line(core(n))) << n);
            let before = lines(&model);
            if is_write {
                let enabled = |model: &Model| [0x18, 0x10, 0x14].map(|at| model.read(Block::Legacy, at, 4));
                let was = enabled(&model);
                let change = model.write(block, offset, size, value);
                prop_assert_eq!(change.lines, before ^ lines(&model));
                let is = enabled(&model);
                for bank in 0..3 {
                    prop_assert_eq!(is[bank], was[bank] & !change.disabled[bank] | change.enabled[bank]);
                }
                if size != 4 || offset % 4 != 0 {
                    prop_assert_eq!(change, drivers_bcm2836::model::Change::default());
                }
            } else {
                let copy = model.clone();
                model.read(block, offset, size);
                prop_assert_eq!(&copy, &model);
            }
        }
    }

    /// FIQ cannot be had.
    #[test]
    fn routes_no_interrupt_as_fiq(value: u32) {
        let mut model = Model::new();
        for offset in [0x0c, 0x10, 0x40, 0x50] {
            model.write(Block::Local, offset, 4, value);
        }
        model.write(Block::Legacy, 0x0c, 4, value);
        for n in 0..4 {
            for number in 0..10 {
                model.set_line(core(n), LocalInterrupt::new(number).unwrap(), true);
            }
            prop_assert_eq!(model.read(Block::Local, 0x70 + 4 * n, 4), 0);
            prop_assert_eq!(model.read(Block::Local, 0x40 + 4 * n, 4) & !0xf, 0);
        }
        prop_assert_eq!(model.read(Block::Legacy, 0x0c, 4), 0);
    }
}
