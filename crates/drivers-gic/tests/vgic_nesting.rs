//! Handlers nest as deep as there are priorities, however few list registers there are.
mod support;

use drivers_gic::{
    hyp::Control,
    vgic::{Cpu, Frame, Irq, Version, Vgic},
};
use support::{Hardware, LRS, Told};

/// A guest on one vCPU that has enabled SPIs 32 to 63; `32 + n` is the more urgent the larger `n` is.
struct Guest<'a> {
    vgic: Vgic<'a>,
    hardware: Hardware,
    told: Told,
    stack: Vec<u32>,
    maintenance: u32,
}

const FIRST: u32 = 32;

fn with(version: Version, test: impl FnOnce(&mut Guest<'_>)) {
    let mut shared = [Irq::RESET; 32];
    let mut cpus = [Cpu::new(0)];
    let mut guest = Guest {
        vgic: Vgic::new(version, &mut shared, &mut cpus),
        hardware: Hardware::default(),
        told: Told::default(),
        stack: Vec::new(),
        maintenance: 0,
    };
    guest.vgic.assign(FIRST);
    let on = if version == Version::V3 { 0b10 } else { 0b01 };
    guest.vgic.write(0, Frame::Distributor, 0, 4, on, &mut guest.told);
    guest.vgic.write(0, Frame::Distributor, 0x104, 4, 0xffff_ffff, &mut guest.told);
    for n in 0..31_u64 {
        let priority = 0xf0 - n * 8;
        guest.vgic.write(0, Frame::Distributor, 0x420 + n, 1, priority, &mut guest.told);
    }
    guest.vgic.load(0, &guest.hardware, &mut guest.told);
    test(&mut guest);
}

impl Guest<'_> {
    fn look(&mut self) {
        self.vgic.update(0, &self.hardware, &mut self.told);
        assert!(!self.hardware.maintenance(), "it would be interrupted for the same again, without end");
    }

    fn raise(&mut self, n: u32) {
        self.vgic.pulse(0, FIRST + n, &mut self.told);
        self.look();
    }

    fn acknowledge(&mut self) -> Option<u32> {
        let (intid, _) = self.hardware.acknowledge()?;
        self.stack.push(intid);
        Some(intid - FIRST)
    }

    /// Ends the innermost handler, and nothing looks unless a maintenance interrupt comes.
    fn end(&mut self) -> Option<u32> {
        let intid = self.stack.pop()?;
        self.hardware.end(intid);
        if self.hardware.maintenance() {
            self.maintenance += 1;
            self.look();
        }
        Some(intid - FIRST)
    }

    /// A write of `ICC_DIR_EL1`, with `EOImode` 1.
    fn deactivate(&mut self, n: u32) {
        if self.hardware.control.get().has(Control::TRAP_DEACTIVATE) {
            self.look();
            self.vgic.deactivate(0, FIRST + n, &self.hardware, &mut self.told);
            return self.look();
        }
        self.hardware.deactivate(FIRST + n);
        if self.hardware.maintenance() {
            self.look();
        }
    }

    fn active(&mut self) -> u32 {
        self.vgic.update(0, &self.hardware, &mut self.told);
        self.vgic.read(0, Frame::Distributor, 0x304, 4) as u32
    }
}

#[test]
fn each_more_urgent_interrupt_preempts() {
    for version in [Version::V2, Version::V3] {
        with(version, |guest| {
            for n in 0..31 {
                guest.raise(n);
                assert_eq!(guest.acknowledge(), Some(n), "it preempts {n} handlers");
            }
            assert_eq!(guest.active(), 0x7fff_ffff);
            for n in (0..31).rev() {
                assert_eq!(guest.acknowledge(), None);
                assert_eq!(guest.end(), Some(n));
            }
            assert_eq!(guest.active(), 0, "each has been ended");
        });
    }
}

#[test]
fn a_less_urgent_one_comes_between_the_handlers_that_it_is_between() {
    with(Version::V3, |guest| {
        for n in [2, 4, 6, 8, 10, 12] {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
        }
        for n in [7, 3, 0, 11] {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), None, "{n} is less urgent than what runs");
        }
        let mut seen = Vec::new();
        loop {
            while let Some(n) = guest.acknowledge() {
                seen.push((true, n));
            }
            let Some(n) = guest.end() else { break };
            seen.push((false, n));
        }
        let (begin, end) = (|n| (true, n), |n| (false, n));
        assert_eq!(
            seen,
            [
                end(12),
                begin(11),
                end(11),
                end(10),
                end(8),
                begin(7),
                end(7),
                end(6),
                end(4),
                begin(3),
                end(3),
                end(2),
                begin(0),
                end(0),
            ]
        );
    });
}

#[test]
fn what_is_nested_deep_outlives_a_switch_of_vcpus() {
    with(Version::V3, |guest| {
        for n in 0..7 {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
            guest.vgic.unload(0, &guest.hardware, &mut guest.told);
            guest.vgic.load(0, &guest.hardware, &mut guest.told);
        }
        for n in (0..7).rev() {
            assert_eq!(guest.end(), Some(n));
            guest.vgic.unload(0, &guest.hardware, &mut guest.told);
            guest.vgic.load(0, &guest.hardware, &mut guest.told);
            assert_eq!(guest.active(), (1 << n) - 1);
        }
    });
}

#[test]
fn the_end_of_a_device_that_left_its_list_register_is_told() {
    with(Version::V3, |guest| {
        guest.vgic.set_level(0, FIRST, true, &mut guest.told);
        guest.look();
        assert_eq!(guest.acknowledge(), Some(0));
        for n in 1..=LRS as u32 {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
        }
        // Nobody looks until the last one ends, which is in no list register.
        while guest.stack.len() > 1 {
            guest.end();
        }
        assert_eq!((guest.told.ended.as_slice(), guest.maintenance), (&[][..], 0));
        guest.end();
        assert_eq!((guest.told.ended.as_slice(), guest.maintenance), (&[FIRST][..], 1));
    });
}

#[test]
fn nothing_is_told_while_nothing_is_to_be_done() {
    with(Version::V3, |guest| {
        for n in 0..LRS as u32 + 2 {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
        }
        for _ in 0..LRS {
            guest.end();
        }
        assert_eq!(guest.maintenance, 0, "the list registers' own ends need nobody");
        guest.end();
        assert_eq!(guest.maintenance, 1);
    });
}

#[test]
fn what_a_guest_makes_inactive_by_a_register_is_not_ended_once_more() {
    with(Version::V3, |guest| {
        for n in 0..6 {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
        }
        // The outermost two have no list register.
        guest.vgic.write(0, Frame::Distributor, 0x384, 4, 0b10, &mut guest.told);
        guest.look();
        assert_eq!(guest.active(), 0b11_1101);
        for n in (2..6).rev() {
            assert_eq!(guest.end(), Some(n));
        }
        guest.stack.pop();
        guest.hardware.drop_priority();
        guest.end();
        assert_eq!(guest.active(), 0);
    });
}

/// With `EOImode` 1, in any order: what is in no list register is deactivated by name, not by its urgency.
#[test]
fn deactivates_the_interrupt_that_the_guest_names() {
    with(Version::V3, |guest| {
        for n in 0..7 {
            guest.raise(n);
            assert_eq!(guest.acknowledge(), Some(n));
        }
        (0..7).for_each(|_| guest.hardware.drop_priority());
        // The outermost three are in no list register; the first is not the most urgent of them.
        let mut active = 0b111_1111;
        for n in [0, 5, 2, 1, 6, 3, 4] {
            guest.deactivate(n);
            active &= !(1 << n);
            assert_eq!(guest.active(), active, "{n} has been deactivated");
        }
    });
}
