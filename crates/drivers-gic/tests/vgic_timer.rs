//! A private interrupt that is a level of the core itself, as its timer's is: linked to the physical one.
mod support;

use drivers_gic::{
    hyp::{HypervisorInterface, ListState},
    vgic::{Cpu, Frame, Irq, Version, Vgic},
};
use support::{Hardware, Told};

const TIMER: u32 = 27;
const PHYSICAL: u32 = 26;

struct Guest<'a> {
    version: Version,
    vgic: Vgic<'a>,
    hardware: Hardware,
    told: Told,
}

fn with(version: Version, test: impl Fn(&mut Guest<'_>)) {
    let mut shared = [Irq::RESET; 32];
    let mut cpus = [Cpu::new(0), Cpu::new(1)];
    let mut guest = Guest {
        version,
        vgic: Vgic::new(version, &mut shared, &mut cpus),
        hardware: Hardware::default(),
        told: Told::default(),
    };
    guest.vgic.link(TIMER, PHYSICAL);
    guest.vgic.reset();
    guest.vgic.write(0, Frame::Distributor, 0, 4, 0b11, &mut guest.told);
    guest.vgic.load(0, &guest.hardware, &mut guest.told);
    guest.enable(true);
    test(&mut guest);
}

impl Guest<'_> {
    fn register(&mut self, array: u64, value: u64) {
        // The first vCPU's, wherever it is.
        self.vgic.write(0, Frame::Redistributor(0), 0x1_0000 + array, 4, value, &mut self.told);
        self.vgic.write(0, Frame::Distributor, array, 4, value, &mut self.told);
    }

    fn enable(&mut self, enable: bool) {
        self.register(if enable { 0x100 } else { 0x180 }, 1 << TIMER);
    }

    fn is_pending(&mut self) -> bool {
        let frames = [(Frame::Redistributor(0), 0x1_0200), (Frame::Distributor, 0x200)];
        frames.into_iter().any(|(frame, offset)| self.vgic.read(0, frame, offset, 4) >> TIMER & 1 != 0)
    }

    fn look(&mut self, line: bool) {
        self.vgic.set_line(0, line, &mut self.told);
        self.vgic.update(0, &self.hardware, &mut self.told);
    }

    fn acknowledge(&self) -> Option<u32> {
        self.hardware.acknowledge().map(|(intid, _)| intid)
    }

    /// The guest ends it; that deactivates the physical one, or the hypervisor is told.
    fn end(&mut self) {
        let active = (0..4).map(|n| self.hardware.read(n)).find(|lr| lr.state() == ListState::Active);
        self.hardware.end(TIMER);
        assert_eq!(active.unwrap().is_physical(), self.version == Version::V3);
        if self.version == Version::V2 {
            assert!(self.hardware.maintenance());
            return;
        }
        assert_eq!(active.unwrap().to_v3() >> 32 & 0x3ff, PHYSICAL.into());
        assert!(self.told.held.remove(&PHYSICAL), "it was active");
        assert!(!self.hardware.maintenance(), "the physical interrupt tells");
    }

    fn holds(&self) -> bool {
        self.told.held.contains(&PHYSICAL)
    }
}

#[test]
fn a_level_that_falls_before_it_is_taken_is_gone() {
    for version in [Version::V2, Version::V3] {
        with(version, |guest| {
            guest.look(true);
            assert!(guest.is_pending() && guest.holds());
            assert!(guest.vgic.awaits(0));
            guest.look(false);
            assert!(!guest.is_pending() && !guest.holds());
            assert_eq!((guest.acknowledge(), guest.vgic.awaits(0)), (None, false));
        });
    }
}

#[test]
fn a_level_comes_again_for_as_long_as_it_is_high() {
    for version in [Version::V2, Version::V3] {
        with(version, |guest| {
            guest.look(true);
            for _ in 0..3 {
                assert_eq!(guest.acknowledge(), Some(TIMER));
                assert!(guest.holds());
                guest.look(true);
                assert_eq!((guest.acknowledge(), guest.vgic.awaits(0)), (None, false), "it is active");
                guest.end();
                // The physical one comes again.
                guest.look(true);
            }
            assert_eq!(guest.acknowledge(), Some(TIMER));
            guest.end();
            guest.look(false);
            assert_eq!(guest.acknowledge(), None);
            assert!(!guest.holds());
        });
    }
}

#[test]
fn the_physical_interrupt_is_active_on_the_core_that_has_its_vcpu_only() {
    for version in [Version::V2, Version::V3] {
        for acknowledged in [false, true] {
            with(version, |guest| {
                guest.look(true);
                if acknowledged {
                    assert_eq!(guest.acknowledge(), Some(TIMER));
                }
                guest.vgic.set_line(0, true, &mut guest.told);
                guest.vgic.unload(0, &guest.hardware, &mut guest.told);
                assert!(!guest.holds());
                guest.vgic.load(0, &guest.hardware, &mut guest.told);
                assert!(guest.holds());
                if !acknowledged {
                    assert_eq!(guest.acknowledge(), Some(TIMER));
                }
                guest.end();
                guest.look(false);
                assert!(!guest.holds());
            });
        }
    }
}

#[test]
fn one_that_cannot_be_delivered_does_not_interrupt_the_hypervisor() {
    for version in [Version::V2, Version::V3] {
        with(version, |guest| {
            guest.enable(false);
            guest.look(true);
            assert!(guest.holds() && guest.is_pending());
            assert_eq!(guest.acknowledge(), None);
            guest.enable(true);
            guest.look(true);
            assert_eq!(guest.acknowledge(), Some(TIMER));
            // The guest takes it out by a register: it is not active any more, here and there.
            guest.register(0x380, 1 << TIMER);
            guest.look(false);
            assert!(!guest.holds());
        });
    }
}

#[test]
fn one_that_the_guest_makes_pending_needs_no_line() {
    for version in [Version::V2, Version::V3] {
        with(version, |guest| {
            guest.register(0x200, 1 << TIMER);
            guest.look(false);
            assert!(guest.is_pending());
            assert!(!guest.vgic.awaits(0), "no line can fall");
            assert_eq!(guest.acknowledge(), Some(TIMER));
            guest.look(false);
            // Once more, while it is active: after the end, and not before.
            guest.register(0x200, 1 << TIMER);
            guest.look(false);
            assert_eq!(guest.acknowledge(), None);
            guest.hardware.end(TIMER);
            assert!(guest.hardware.maintenance());
            guest.look(false);
            assert_eq!(guest.acknowledge(), Some(TIMER));
        });
    }
}

#[test]
fn its_trigger_is_what_it_is() {
    with(Version::V3, |guest| {
        guest.register(0xc04, 0xffff_ffff);
        let trigger = guest.vgic.read(0, Frame::Redistributor(0), 0x1_0c04, 4);
        assert_eq!(trigger, 0xaaaa_aaaa & !(0b11 << ((TIMER - 16) * 2)));
    });
}

#[test]
fn a_tick_does_what_an_update_does() {
    for version in [Version::V2, Version::V3] {
        // Whether it is enabled, another one is pending, it is active, and the list register has been used
        // before.
        for case in 0..16 {
            let [enabled, other, active, again] = [1, 2, 4, 8].map(|bit| case & bit != 0);
            let see = |ticks: bool| {
                let seen = std::cell::Cell::new(None);
                with(version, |guest| {
                    let arrive = |guest: &mut Guest<'_>| {
                        if !(ticks && guest.vgic.tick(0, &guest.hardware, &mut guest.told)) {
                            guest.look(true);
                        }
                    };
                    if again || active {
                        guest.look(true);
                        assert_eq!(guest.acknowledge(), Some(TIMER));
                    }
                    if again {
                        guest.hardware.end(TIMER);
                        if version == Version::V3 {
                            guest.told.held.clear();
                        }
                    } else if active {
                        guest.look(false);
                    }
                    if !enabled {
                        guest.enable(false);
                    }
                    if other {
                        guest.vgic.pulse(0, 3, &mut guest.told);
                        guest.register(0x100, 1 << 3);
                    }
                    arrive(guest);
                    let lists: Vec<_> = (0..4).map(|n| guest.hardware.read(n)).collect();
                    let flags = guest.vgic.read(0, Frame::Redistributor(0), 0x1_0200, 4);
                    seen.set(Some((
                        lists,
                        guest.holds(),
                        flags,
                        guest.vgic.awaits(0),
                        guest.vgic.has_ready(0),
                    )));
                });
                seen.take()
            };
            assert_eq!(see(true), see(false), "{version:?}, {case:#b}");
        }
    }
}
