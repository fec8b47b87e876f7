//! The virtual distributor against sets of what a guest must see, with a CPU interface that behaves as the
//! specification says.
mod support;

use drivers_gic::{
    hyp::{Control, ListState},
    vgic::{Cpu, Frame, Irq, Version, Vgic},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::{Hardware, Told};

const SPIS: usize = 64;

/// What a guest may expect of one interrupt.
#[derive(Clone, Copy, Default, Debug)]
struct Expected {
    enabled: bool,
    latched: bool,
    high: bool,
    edge: bool,
    active: Option<u16>,
    priority: u8,
    target: u16,
}

impl Expected {
    fn pending(&self) -> bool {
        self.latched || self.high && !self.edge
    }
}

/// A machine: vCPUs on cores of their own, and what is expected.
struct Machine<'a> {
    vgic: Vgic<'a>,
    hardware: Vec<Hardware>,
    told: Told,
    /// By (vCPU, id); shared ones are vCPU 0's.
    expected: BTreeMap<(u16, u32), Expected>,
    /// Whether the distributor is on.
    on: bool,
    /// What each guest has acknowledged and not ended.
    stacks: Vec<Vec<u32>>,
}

const IDS: [u32; 9] = [0, 1, 5, 27, 30, 32, 33, 47, 95];
const ASSIGNED: u32 = 33;

fn key(vcpu: u16, id: u32) -> (u16, u32) {
    (if id < 32 { vcpu } else { 0 }, id)
}

impl Machine<'_> {
    fn expected(&mut self, vcpu: u16, id: u32) -> &mut Expected {
        self.expected.entry(key(vcpu, id)).or_insert(Expected { edge: id < 16, ..Expected::default() })
    }

    fn write(&mut self, vcpu: u16, offset: u64, value: u32) {
        let frame = if Self::is_private(offset) {
            (Frame::Redistributor(vcpu), 0x1_0000 + offset)
        } else {
            (Frame::Distributor, offset)
        };
        for (vcpu, hardware) in (0..).zip(&self.hardware) {
            self.vgic.update(vcpu, hardware, &mut self.told);
        }
        self.vgic.write(vcpu, frame.0, frame.1, 4, value.into(), &mut self.told);
        self.told.kicked.insert(vcpu);
    }

    fn is_private(offset: u64) -> bool {
        matches!(offset, 0x100 | 0x180 | 0x200 | 0x280 | 0x400..0x420 | 0xc00..0xc08)
    }

    /// What runs on each core: whoever was kicked, or got a maintenance interrupt, looks.
    fn settle(&mut self) {
        loop {
            for vcpu in 0..self.hardware.len() as u16 {
                if self.hardware[usize::from(vcpu)].maintenance() {
                    self.told.kicked.insert(vcpu);
                }
            }
            let Some(vcpu) = self.told.kicked.pop_first() else { break };
            let hardware = &self.hardware[usize::from(vcpu)];
            self.vgic.update(vcpu, hardware, &mut self.told);
            assert!(!hardware.maintenance(), "it would be interrupted for the same again, without end");
        }
    }

    /// What could be delivered to a vCPU now.
    fn deliverable(&self, vcpu: u16) -> Vec<(u8, u32)> {
        let running = self.stacks[usize::from(vcpu)].last().map(|id| self.expected[&key(vcpu, *id)].priority);
        let mut all: Vec<_> = self
            .expected
            .iter()
            .filter(|((owner, id), e)| {
                let here = if *id < 32 { *owner == vcpu } else { e.target == vcpu };
                here && self.on
                    && e.enabled
                    && e.pending()
                    && e.active.is_none()
                    && running.is_none_or(|running| e.priority < running)
            })
            .map(|((_, id), e)| (e.priority, *id))
            .collect();
        all.sort_unstable();
        all
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Enable(vcpu, id, on) => {
                self.expected(vcpu, id).enabled = on;
                self.write(vcpu, if on { 0x100 } else { 0x180 } + u64::from(id / 32) * 4, 1 << (id % 32));
                if id == ASSIGNED {
                    assert_eq!(self.told.enabled.get(&id), Some(&on));
                }
            }
            // What is assigned arrives by its line only.
            Op::Pulse(vcpu, id) if id != ASSIGNED => {
                self.expected(vcpu, id).latched = true;
                self.vgic.pulse(vcpu, id, &mut self.told);
            }
            // The hypervisor does not lower it: its guest's end does.
            Op::Level(vcpu, id, high) if id >= 16 && (high || id != ASSIGNED) => {
                let e = self.expected(vcpu, id);
                e.latched |= e.edge && high && !e.high;
                e.high = high;
                self.vgic.set_level(vcpu, id, high, &mut self.told);
            }
            Op::Unpend(vcpu, id) if id >= 16 => {
                let e = self.expected(vcpu, id);
                e.latched = false;
                e.high &= !(id == ASSIGNED && e.edge && e.active.is_none());
                self.write(vcpu, 0x280 + u64::from(id / 32) * 4, 1 << (id % 32));
            }
            Op::Sgi(vcpu, id, target) => {
                self.expected(target, id).latched = true;
                self.vgic.send_sgi(vcpu, u64::from(id) << 24 | 1 << target, &mut self.told);
            }
            Op::Switch(on) => {
                self.on = on;
                // Whoever writes it does not look at the others: they are kicked.
                self.vgic.write(0, Frame::Distributor, 0, 4, u64::from(on) << 1, &mut self.told);
            }
            Op::Acknowledge(vcpu) => self.acknowledge(vcpu),
            Op::End(vcpu) => self.end(vcpu),
            Op::Swap(vcpu) => {
                let hardware = &self.hardware[usize::from(vcpu)];
                self.vgic.unload(vcpu, hardware, &mut self.told);
                assert!(
                    hardware.lrs.borrow().iter().all(|lr| lr.state() == ListState::Free),
                    "nothing of a VM stays"
                );
                self.vgic.load(vcpu, hardware, &mut self.told);
            }
            // While it is with a vCPU it stays there.
            Op::Target(id, target) if id >= 32 && self.expected(0, id).active.is_none() => {
                self.expected(0, id).target = target;
                let router = 0x6000 + 8 * u64::from(id);
                self.vgic.write(0, Frame::Distributor, router, 8, target.into(), &mut self.told);
                self.told.kicked.insert(0);
            }
            _ => {}
        }
        self.settle();
    }

    fn acknowledge(&mut self, vcpu: u16) {
        let expected = self.deliverable(vcpu);
        match self.hardware[usize::from(vcpu)].acknowledge() {
            Some((id, priority)) => {
                let best = expected.first().expect("nothing is to be delivered");
                assert_eq!(priority, best.0, "{id} came before {}", best.1);
                assert!(expected.contains(&(priority, id)), "{id} is not to be delivered");
                let e = self.expected(vcpu, id);
                e.latched = false;
                e.active = Some(vcpu);
                self.stacks[usize::from(vcpu)].push(id);
            }
            None => assert!(expected.is_empty(), "{expected:?} not delivered to {vcpu}"),
        }
    }

    fn end(&mut self, vcpu: u16) {
        let Some(id) = self.stacks[usize::from(vcpu)].pop() else { return };
        self.hardware[usize::from(vcpu)].end(id);
        let e = self.expected(vcpu, id);
        e.active = None;
        // Hardware makes it pending again by itself, or the next look does.
        self.told.kicked.insert(vcpu);
        let before = self.told.ended.len();
        let resampled = id == ASSIGNED && self.expected(vcpu, id).high;
        self.settle();
        if resampled {
            assert_eq!(&self.told.ended[before..], [id], "its end is told once");
            self.expected(vcpu, id).high = false;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Enable(u16, u32, bool),
    Pulse(u16, u32),
    Level(u16, u32, bool),
    Unpend(u16, u32),
    Sgi(u16, u32, u16),
    Acknowledge(u16),
    End(u16),
    Swap(u16),
    Target(u32, u16),
    Switch(bool),
}

fn op(cpus: u16) -> impl Strategy<Value = Op> {
    let vcpu = move || 0..cpus;
    let id = || prop::sample::select(&IDS[..]);
    prop_oneof![
        2 => (vcpu(), id(), any::<bool>()).prop_map(|(v, i, on)| Op::Enable(v, i, on)),
        2 => (vcpu(), id()).prop_map(|(v, i)| Op::Pulse(v, i)),
        2 => (vcpu(), id(), any::<bool>()).prop_map(|(v, i, on)| Op::Level(v, i, on)),
        1 => (vcpu(), id()).prop_map(|(v, i)| Op::Unpend(v, i)),
        2 => (vcpu(), 0..16_u32, vcpu()).prop_map(|(v, i, t)| Op::Sgi(v, i, t)),
        5 => vcpu().prop_map(Op::Acknowledge),
        4 => vcpu().prop_map(Op::End),
        1 => vcpu().prop_map(Op::Swap),
        1 => (id(), vcpu()).prop_map(|(i, t)| Op::Target(i, t)),
        1 => prop::bool::weighted(0.7).prop_map(Op::Switch),
    ]
}

fn run(cpus: u16, priorities: &[u8], edges: &[bool], ops: &[Op]) {
    let mut shared = [Irq::RESET; SPIS];
    let mut storage: Vec<Cpu> = (0..cpus).map(|n| Cpu::new(n.into())).collect();
    let vgic = Vgic::new(Version::V3, &mut shared, &mut storage);
    let hardware = (0..cpus).map(|_| Hardware::default()).collect();
    let mut machine = Machine {
        vgic,
        hardware,
        told: Told::default(),
        on: true,
        expected: BTreeMap::new(),
        stacks: vec![Vec::new(); cpus.into()],
    };
    machine.vgic.assign(ASSIGNED);
    machine.write(0, 0, 0b10);
    for vcpu in 0..cpus {
        machine.vgic.load(vcpu, &machine.hardware[usize::from(vcpu)], &mut machine.told);
        for (n, id) in IDS.into_iter().enumerate() {
            let priority = priorities[n] & 0xf0;
            machine.expected(vcpu, id).priority = priority;
            let frame = if id < 32 { Frame::Redistributor(vcpu) } else { Frame::Distributor };
            let base = if id < 32 { 0x1_0000 } else { 0 };
            machine.vgic.write(
                vcpu,
                frame,
                base + 0x400 + u64::from(id),
                1,
                priority.into(),
                &mut machine.told,
            );
            if id >= 32 && edges[n] {
                machine.expected(vcpu, id).edge = true;
                let word = 0xc00 + u64::from(id / 16) * 4;
                let old = machine.vgic.read(vcpu, Frame::Distributor, word, 4);
                machine.vgic.write(
                    vcpu,
                    Frame::Distributor,
                    word,
                    4,
                    old | 2 << (id % 16 * 2),
                    &mut machine.told,
                );
            }
        }
    }
    machine.settle();
    for op in ops {
        machine.step(op);
    }
    machine.step(&Op::Switch(true));
    // Whatever is left comes, once all is ended and while levels are high once more.
    for vcpu in 0..cpus {
        while !machine.stacks[usize::from(vcpu)].is_empty() {
            machine.step(&Op::End(vcpu));
        }
        for _ in 0..200 {
            if machine.deliverable(vcpu).is_empty() {
                break;
            }
            machine.step(&Op::Acknowledge(vcpu));
            let id = *machine.stacks[usize::from(vcpu)].last().expect("it has been acknowledged");
            machine.step(&Op::End(vcpu));
            if id >= 16 {
                machine.step(&Op::Level(vcpu, id, false));
            }
        }
        assert!(machine.deliverable(vcpu).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        cpus in 1..4_u16,
        priorities in prop::collection::vec(any::<u8>(), IDS.len()),
        edges in prop::collection::vec(any::<bool>(), IDS.len()),
        ops in prop::collection::vec(op(3), 0..150),
    ) {
        let ops: Vec<_> = ops.into_iter().filter(|op| match op {
            Op::Enable(v, ..) | Op::Pulse(v, _) | Op::Level(v, ..) | Op::Unpend(v, _) | Op::Acknowledge(v) | Op::End(v) | Op::Swap(v) => *v < cpus,
            Op::Sgi(v, _, t) => *v < cpus && *t < cpus,
            Op::Target(_, t) => *t < cpus,
            Op::Switch(_) => true,
        }).collect();
        run(cpus, &priorities, &edges, &ops);
    }

    /// Any access whatever: no panic, and reading changes nothing that reading shows.
    #[test]
    fn every_access_has_a_meaning(v2: bool, cpus in 1..9_usize, spis in (0..32_usize).prop_map(|n| n * 32),
        accesses in prop::collection::vec((any::<bool>(), any::<u16>(), 0..12_u16, prop_oneof![0..0x2_0000_u64, any::<u64>()],
            prop::sample::select(&[1_u8, 2, 4, 8, 0, 3, 255][..]), any::<u64>()), 0..300)) {
        let mut shared = vec![Irq::RESET; spis];
        let mut storage: Vec<Cpu> = (0..cpus).map(|n| Cpu::new(n as u64)).collect();
        let mut vgic = Vgic::new(if v2 { Version::V2 } else { Version::V3 }, &mut shared, &mut storage);
        let hardware: Vec<_> = (0..cpus).map(|_| Hardware::default()).collect();
        let mut told = Told::default();
        for (is_write, vcpu, owner, offset, size, value) in accesses {
            let frame = if owner < 9 { Frame::Redistributor(owner) } else { Frame::Distributor };
            if is_write {
                vgic.write(vcpu % 10, frame, offset, size, value, &mut told);
                vgic.send_sgi(vcpu % 10, value, &mut told);
            } else {
                let once = vgic.read(vcpu, frame, offset, size);
                prop_assert_eq!(once, vgic.read(vcpu, frame, offset, size));
            }
            if let Some(hardware) = hardware.get(usize::from(vcpu)) {
                vgic.update(vcpu, hardware, &mut told);
            }
        }
    }
}

/// Affinities of machines that there are: full clusters of 16; of 4; of one (Aff0 is a thread); of two kinds,
/// the big ones first; with holes; several threads, several chips, and more than a target list's 16 in a
/// cluster.
fn affinities() -> impl Strategy<Value = Vec<u64>> {
    let parts = (0..3_u64, 0..2_u64, 0..6_u64, prop_oneof![0..20_u64, 0..256_u64]);
    let any = prop::collection::btree_set(parts, 1..40).prop_map(|parts| {
        parts.into_iter().map(|(a3, a2, a1, a0)| a3 << 32 | a2 << 16 | a1 << 8 | a0).collect::<Vec<_>>()
    });
    let clusters =
        |size: u64| (1..80_u64).prop_map(move |n| (0..n).map(|i| (i / size) << 8 | (i % size)).collect());
    prop_oneof![
        clusters(16),
        clusters(4),
        clusters(1),
        Just(vec![0x100, 0x101, 0x0, 0x1, 0x2, 0x3]),
        any.clone(),
        any.prop_shuffle(),
    ]
}

/// Bits of `ICC_SGI1R_EL1` that say nothing.
const RESERVED: u64 = 0xff00_0e00_f000_0000;

/// Which CPUs `ICC_SGI1R_EL1` names, by the document, CPU by CPU (GIC spec, 12.2.20).
fn named_by(value: u64, sender: usize, cpus: &[u64]) -> BTreeSet<u16> {
    let named = |(n, mpidr): (usize, &u64)| {
        let aff = |level: u32| mpidr >> (8 * level) & 0xff;
        let listed = (mpidr >> 32, aff(2), aff(1))
            == (value >> 48 & 0xff, value >> 32 & 0xff, value >> 16 & 0xff)
            && aff(0) / 16 == value >> 44 & 0xf
            && value >> (aff(0) % 16) & 1 != 0;
        let all_others = value >> 40 & 1 != 0;
        (if all_others { n != sender } else { listed }).then_some(n as u16)
    };
    cpus.iter().enumerate().filter_map(named).collect()
}

proptest! {
    #[test]
    fn an_sgi_goes_to_those_that_its_register_names(
        cpus in affinities(),
        // The place of one that is named in any case, so that most lists are of some use.
        (near, list, noise) in (any::<prop::sample::Index>(), any::<u16>(), any::<u64>()),
        (sender, sgi, to_others, reset) in (any::<prop::sample::Index>(), 0..16_u64, 0..8, any::<bool>()),
    ) {
        let (sender, aff) = (sender.index(cpus.len()), cpus[near.index(cpus.len())]);
        let mut shared = [Irq::RESET; 32];
        let mut storage: Vec<Cpu> = cpus.iter().copied().map(Cpu::new).collect();
        let mut vgic = Vgic::new(Version::V3, &mut shared, &mut storage);
        if reset {
            vgic.reset();
        }
        let mut told = Told::default();
        vgic.write(0, Frame::Distributor, 0, 4, 2, &mut told);
        for n in 0..cpus.len() as u16 {
            vgic.write(n, Frame::Redistributor(n), 0x1_0100, 4, 1 << sgi, &mut told);
        }
        let value = noise & RESERVED
            | (aff >> 32) << 48 | (aff >> 16 & 0xff) << 32 | (aff >> 8 & 0xff) << 16 | (aff >> 4 & 0xf) << 44
            | u64::from(list) | 1 << (aff & 0xf)
            | sgi << 24 | u64::from(to_others == 0) << 40;
        vgic.send_sgi(sender as u16, value, &mut told);
        let named = named_by(value, sender, &cpus);
        let got: BTreeSet<_> = (0..cpus.len() as u16).filter(|n| vgic.has_ready(*n)).collect();
        prop_assert_eq!(&got, &named);
        prop_assert_eq!(&told.kicked, &named);
    }
}

#[test]
fn a_switch_of_the_distributor_is_told_to_those_that_it_concerns() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0), Cpu::new(1), Cpu::new(2)]);
    let mut vgic = small(Version::V3, &mut shared, &mut cpus);
    let (mut told, hardware) = (Told::default(), Hardware::default());
    let switch = |vgic: &mut Vgic<'_>, on: u64| {
        let mut told = Told::default();
        vgic.write(0, Frame::Distributor, 0, 4, on << 1, &mut told);
        told.kicked.into_iter().collect::<Vec<_>>()
    };
    for id in 0..5 {
        vgic.write(1, Frame::Redistributor(1), 0x1_0100, 4, 1 << id, &mut told);
        vgic.pulse(1, id, &mut told);
    }
    assert!(told.kicked.is_empty() && !vgic.has_ready(1) && !vgic.is_interrupted(1), "it is off");
    vgic.load(1, &hardware, &mut told);
    assert!(hardware.lrs.borrow().iter().all(|lr| lr.state() == ListState::Free), "it is off");
    assert_eq!(switch(&mut vgic, 1), [1]);
    assert!(vgic.has_ready(1) && vgic.is_interrupted(1));
    assert_eq!(switch(&mut vgic, 1), [], "it is on already");
    vgic.update(1, &hardware, &mut told);
    assert!(hardware.lrs.borrow().iter().all(|lr| lr.state() == ListState::Pending));
    assert_eq!(switch(&mut vgic, 0), [1]);
    vgic.update(1, &hardware, &mut told);
    assert!(hardware.lrs.borrow().iter().all(|lr| lr.state() == ListState::Free));
    assert!(!vgic.has_ready(1) && !vgic.is_interrupted(1));
}

#[test]
fn a_gicv2_sends_an_sgi_to_a_list_to_all_others_or_to_itself() {
    for (value, expected) in [
        (0x0ff_0003, vec![0, 1, 2]),
        (0x005_0003, vec![0, 2]),
        (0x0f8_0003, vec![]),
        (0x105_0003, vec![0, 2]),
        (0x205_0003, vec![1]),
        (0x3ff_0003, vec![]),
    ] {
        let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0), Cpu::new(1), Cpu::new(2)]);
        let mut vgic = small(Version::V2, &mut shared, &mut cpus);
        let mut told = Told::default();
        vgic.write(0, Frame::Distributor, 0, 4, 1, &mut told);
        (0..3).for_each(|n| vgic.write(n, Frame::Distributor, 0x100, 4, 1 << 3, &mut told));
        vgic.write(1, Frame::Distributor, 0xf00, 4, value, &mut told);
        let got: Vec<_> = (0..3).filter(|n| vgic.has_ready(*n)).collect();
        assert_eq!(got, expected, "{value:#x}");
        assert!(told.kicked.iter().copied().eq(expected), "{value:#x}");
    }
}

fn small<'a>(version: Version, shared: &'a mut [Irq], cpus: &'a mut [Cpu]) -> Vgic<'a> {
    Vgic::new(version, shared, cpus)
}

#[test]
fn linux_finds_a_gicv3() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0), Cpu::new(0x1_0000_0102)]);
    let mut vgic = small(Version::V3, &mut shared, &mut cpus);
    // PIDR2.ArchRev, in the distributor and in each redistributor.
    assert_eq!(vgic.read(0, Frame::Distributor, 0xffe8, 4) >> 4 & 0xf, 3);
    assert_eq!(vgic.read(0, Frame::Redistributor(1), 0xffe8, 4) >> 4 & 0xf, 3);
    assert_eq!(vgic.read(0, Frame::Distributor, 4, 4) & 0x1f, 2, "96 interrupts");
    assert_eq!(vgic.read(0, Frame::Distributor, 0, 4), 0x50, "ARE and DS");
    let typer = |vgic: &mut Vgic<'_>, n| vgic.read(0, Frame::Redistributor(n), 8, 8);
    assert_eq!(typer(&mut vgic, 0), 0);
    assert_eq!(typer(&mut vgic, 1), 0x0100_0102 << 32 | 1 << 8 | 1 << 4, "the last one");
    assert_eq!(vgic.read(0, Frame::Redistributor(0), 0x14, 4), 0, "awake");
    // IROUTER: by affinity, in 64 bits or in halves.
    let mut told = Told::default();
    vgic.write(0, Frame::Distributor, 0x6000 + 8 * 40, 8, 0x1_0000_0102, &mut told);
    assert_eq!(vgic.target(40), Some(1));
    assert_eq!(vgic.read(0, Frame::Distributor, 0x6000 + 8 * 40, 8), 0x1_0000_0102);
    vgic.write(0, Frame::Distributor, 0x6000 + 8 * 40, 4, 0x77, &mut told);
    assert_eq!(vgic.target(40), None, "nobody's");
    // Private registers are the redistributor's.
    vgic.write(0, Frame::Distributor, 0x100, 4, u64::MAX, &mut told);
    assert_eq!(vgic.read(0, Frame::Redistributor(0), 0x1_0100, 4), 0);
}

#[test]
fn a_gicv2_tells_who_sent_an_sgi() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0), Cpu::new(1), Cpu::new(2)]);
    let mut vgic = small(Version::V2, &mut shared, &mut cpus);
    let (mut told, hardware) = (Told::default(), Hardware::default());
    vgic.load(2, &hardware, &mut told);
    vgic.write(2, Frame::Distributor, 0, 4, 1, &mut told);
    vgic.write(2, Frame::Distributor, 0x100, 4, 1 << 3, &mut told);
    for sender in [0, 1] {
        vgic.write(sender, Frame::Distributor, 0xf00, 4, 1 << (16 + 2) | 3, &mut told);
    }
    assert!(told.kicked.contains(&2));
    assert_eq!(vgic.read(2, Frame::Distributor, 0xf20, 4), 0b11 << 24, "both senders");
    let mut senders = Vec::new();
    for _ in 0..2 {
        vgic.update(2, &hardware, &mut told);
        let (intid, _) = hardware.acknowledge().unwrap();
        let lr = hardware.lrs.borrow().iter().copied().find(|lr| lr.state() == ListState::Active).unwrap();
        senders.push(lr.to_v2() >> 10 & 7);
        hardware.end(intid);
    }
    senders.sort_unstable();
    assert_eq!(senders, [0, 1]);
    vgic.update(2, &hardware, &mut told);
    assert_eq!(hardware.acknowledge(), None);
    // The target list filter: all but the sender; the sender alone.
    vgic.write(1, Frame::Distributor, 0xf00, 4, 1 << 24 | 7, &mut told);
    let pending = |vgic: &mut Vgic<'_>, n| vgic.read(n, Frame::Distributor, 0x200, 4) >> 7 & 1;
    assert_eq!([pending(&mut vgic, 0), pending(&mut vgic, 1), pending(&mut vgic, 2)], [1, 0, 1]);
    vgic.write(1, Frame::Distributor, 0xf00, 4, 2 << 24 | 7, &mut told);
    assert_eq!(pending(&mut vgic, 1), 1);
    // Target bytes: read-only for private ones.
    assert_eq!(vgic.read(1, Frame::Distributor, 0x800, 4), 0x0202_0202);
    vgic.write(1, Frame::Distributor, 0x800 + 33, 1, 0b100, &mut told);
    assert_eq!((vgic.target(33), vgic.read(0, Frame::Distributor, 0x820, 4)), (Some(2), 0x0101_0401));
}

#[test]
fn more_than_the_list_registers_hold_comes_nevertheless() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0)]);
    let mut vgic = small(Version::V3, &mut shared, &mut cpus);
    let (mut told, hardware) = (Told::default(), Hardware::default());
    vgic.write(0, Frame::Distributor, 0, 4, 2, &mut told);
    vgic.write(0, Frame::Distributor, 0x104, 4, u64::from(u32::MAX), &mut told);
    for intid in 32..52 {
        vgic.pulse(0, intid, &mut told);
    }
    vgic.load(0, &hardware, &mut told);
    assert!(hardware.control.get().has(Control::UNDERFLOW), "there are more");
    let mut seen = BTreeSet::new();
    while let Some((intid, _)) = hardware.acknowledge() {
        assert!(seen.insert(intid));
        hardware.end(intid);
        if hardware.maintenance() {
            vgic.update(0, &hardware, &mut told);
        }
    }
    assert_eq!(seen, (32..52).collect());
    assert!(!hardware.control.get().has(Control::UNDERFLOW));
}

#[test]
fn a_reset_forgets_all_but_what_is_assigned() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0), Cpu::new(1)]);
    let mut vgic = small(Version::V3, &mut shared, &mut cpus);
    let mut told = Told::default();
    vgic.assign(40);
    vgic.write(0, Frame::Distributor, 0, 4, 2, &mut told);
    vgic.write(0, Frame::Distributor, 0x104, 4, 1 << 8, &mut told);
    vgic.pulse(0, 40, &mut told);
    assert!(vgic.has_ready(0));
    vgic.reset();
    assert!(!vgic.has_ready(0));
    assert_eq!(vgic.read(0, Frame::Distributor, 0x104, 4), 0);
    assert_eq!(vgic.read(0, Frame::Redistributor(1), 8, 8) >> 32, 1, "who is who stays");
    told.enabled.clear();
    vgic.write(0, Frame::Distributor, 0x104, 4, 1 << 8, &mut told);
    assert_eq!(told.enabled.get(&40), Some(&true));
}

#[test]
fn the_last_redistributor_of_each_region_says_so() {
    const TYPER: u64 = 8;
    let mut shared = vec![Irq::RESET; 32];
    let mut cpus: Vec<_> = (0..5).map(Cpu::new).collect();
    cpus[1] = cpus[1].last_of_region();
    let mut vgic = Vgic::new(Version::V3, &mut shared, &mut cpus);
    for _ in 0..2 {
        let last: Vec<_> =
            (0..5).map(|n| vgic.read(0, Frame::Redistributor(n), TYPER, 8) >> 4 & 1 != 0).collect();
        assert_eq!(last, [false, true, false, false, true]);
        // It is how the machine is, and stays so.
        vgic.reset();
    }
}

#[test]
fn what_has_not_been_acknowledged_is_told() {
    let (mut shared, mut cpus) = (vec![Irq::RESET; 32], vec![Cpu::new(0), Cpu::new(1)]);
    let mut vgic = Vgic::new(Version::V3, &mut shared, &mut cpus);
    let (hardware, mut told) = (Hardware::default(), Told::default());
    vgic.write(0, Frame::Distributor, 0, 4, 0b11, &mut told);
    vgic.load(0, &hardware, &mut told);
    vgic.pulse(0, 20, &mut told);
    vgic.update(0, &hardware, &mut told);
    assert!(!vgic.is_interrupted(0), "it has not been enabled");
    vgic.write(0, Frame::Redistributor(0), 0x1_0100, 4, 1 << 20, &mut told);
    assert!(vgic.is_interrupted(0) && !vgic.is_interrupted(1));
    vgic.update(0, &hardware, &mut told);
    assert!(vgic.is_interrupted(0), "it is in a list register");
    assert_eq!(hardware.acknowledge(), Some((20, 0)));
    vgic.update(0, &hardware, &mut told);
    assert!(!vgic.is_interrupted(0), "it is being handled");
    hardware.end(20);
    vgic.update(0, &hardware, &mut told);
    assert!(!vgic.is_interrupted(0) && !vgic.is_interrupted(9));
}

#[test]
fn a_guest_may_split_the_end_of_an_interrupt() {
    let (mut shared, mut cpus) = ([Irq::RESET; SPIS], [Cpu::new(0)]);
    let mut vgic = small(Version::V3, &mut shared, &mut cpus);
    let (mut told, hardware) = (Told::default(), Hardware::default());
    vgic.assign(40);
    vgic.write(0, Frame::Distributor, 0, 4, 2, &mut told);
    vgic.write(0, Frame::Distributor, 0x104, 4, 0b11 << 8, &mut told);
    vgic.load(0, &hardware, &mut told);
    vgic.set_level(0, 40, true, &mut told);
    vgic.update(0, &hardware, &mut told);
    assert_eq!(hardware.acknowledge().map(|(intid, _)| intid), Some(40));
    hardware.drop_priority();
    // Another one of the same priority comes in between; the first is active still, and does not come again.
    vgic.pulse(0, 41, &mut told);
    vgic.update(0, &hardware, &mut told);
    assert_eq!(hardware.acknowledge().map(|(intid, _)| intid), Some(41));
    hardware.drop_priority();
    assert_eq!(hardware.acknowledge(), None);
    // Both are kept while the vCPU is elsewhere.
    vgic.unload(0, &hardware, &mut told);
    vgic.load(0, &hardware, &mut told);
    assert_eq!(vgic.read(0, Frame::Distributor, 0x304, 4), 0b11 << 8, "both are active");
    hardware.deactivate(40);
    assert!(hardware.maintenance(), "its level is looked at again");
    assert_eq!(told.ended, []);
    vgic.update(0, &hardware, &mut told);
    assert_eq!(told.ended, [40]);
    hardware.deactivate(41);
    vgic.update(0, &hardware, &mut told);
    assert_eq!(vgic.read(0, Frame::Distributor, 0x304, 4), 0);
    assert_eq!(told.ended, [40]);
}
