//! The driver against a model of the registers: what is write-one-to-set, what is write-one-to-clear, what
//! takes a while.
use drivers_gic::{
    GicError, GicV3, Intid, Mmio, Mpidr, RedistributorRegion, Trigger,
    gicv3::{DEFAULT_PRIORITY, sgi_register},
};
use proptest::prelude::*;
use std::cell::RefCell;

const FRAME: usize = 0x1_0000;
const CTLR: usize = 0x0000;
const GROUP: usize = 0x0080;
const SET_ENABLE: usize = 0x0100;
const CLEAR_ENABLE: usize = 0x0180;
const PRIORITY: usize = 0x0400;
const CONFIGURATION: usize = 0x0c00;
const ROUTER: usize = 0x6000;
const WAKER: usize = 0x0014;

/// A distributor, then redistributors of two frames each.
struct Model {
    memory: Vec<u8>,
    /// How many more reads of a control register show a write in progress.
    in_progress: u32,
    /// Writes that the architecture leaves unpredictable.
    violations: Vec<String>,
}

#[derive(Clone, Copy)]
struct View<'a> {
    model: &'a RefCell<Model>,
    base: usize,
}

impl Model {
    /// Redistributors for `cores`; those of `v4` cores take four frames.
    fn new(cores: &[Mpidr], v4: bool) -> RefCell<Self> {
        let frames = if v4 { 4 } else { 2 };
        let mut model = Self {
            memory: vec![0; FRAME * (1 + frames * cores.len())],
            in_progress: 0,
            violations: Vec::new(),
        };
        // 96 interrupts: ITLinesNumber 2. Architecture revision 3.
        model.store(0x0004, &2_u32.to_ne_bytes());
        model.store(0xffe8, &0x3b_u32.to_ne_bytes());
        for (index, core) in cores.iter().enumerate() {
            let base = FRAME * (1 + frames * index);
            let last = u64::from(index + 1 == cores.len()) << 4;
            let typer = u64::from(core.packed()) << 32 | last | u64::from(v4) << 1;
            model.store(base + 0x0008, &typer.to_ne_bytes());
            model.store(base + 0xffe8, &0x3b_u32.to_ne_bytes());
            model.store(base + WAKER, &0b110_u32.to_ne_bytes());
            // Rubbish that initialisation has to clear.
            model.store(base + FRAME + SET_ENABLE, &u32::MAX.to_ne_bytes());
        }
        model.store(SET_ENABLE + 4, &u32::MAX.to_ne_bytes());
        RefCell::new(model)
    }

    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn load32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.memory[at..at + 4].try_into().unwrap())
    }

    /// Which of the set/clear register pairs an offset belongs to: the set register's place, and whether it
    /// clears.
    fn pair(frame: usize, offset: usize) -> Option<(usize, bool)> {
        let is_interrupts = frame.is_multiple_of(2);
        let pair = [0x100, 0x200, 0x300].into_iter().find(|&set| (set..set + 0x100).contains(&offset))?;
        let clears = offset - pair >= 0x80;
        is_interrupts.then_some((frame * FRAME + offset - if clears { 0x80 } else { 0 }, clears))
    }
}

impl View<'_> {
    fn split(self, offset: usize) -> (usize, usize) {
        ((self.base + offset) / FRAME, (self.base + offset) % FRAME)
    }
}

impl Mmio for View<'_> {
    fn read32(&self, offset: usize) -> u32 {
        assert_eq!(offset % 4, 0);
        let mut model = self.model.borrow_mut();
        let (frame, at) = self.split(offset);
        if at == CTLR && (frame == 0 || frame % 2 == 1) {
            let busy = model.in_progress > 0;
            model.in_progress = model.in_progress.saturating_sub(1);
            let bit = if frame == 0 { 31 } else { 3 };
            return model.load32(frame * FRAME) | u32::from(busy) << bit;
        }
        match Model::pair(frame, at) {
            Some((set, _)) => model.load32(set),
            None => model.load32(frame * FRAME + at),
        }
    }

    fn read64(&self, offset: usize) -> u64 {
        assert_eq!(offset % 8, 0);
        u64::from(self.read32(offset)) | u64::from(self.read32(offset + 4)) << 32
    }

    fn write8(&self, offset: usize, value: u8) {
        let (frame, at) = self.split(offset);
        assert!((PRIORITY..PRIORITY + 1024).contains(&at), "byte access is for priorities only: {at:#x}");
        self.model.borrow_mut().store(frame * FRAME + at, &[value]);
    }

    fn write32(&self, offset: usize, value: u32) {
        assert_eq!(offset % 4, 0);
        let mut model = self.model.borrow_mut();
        let (frame, at) = self.split(offset);
        let place = frame * FRAME + at;
        if frame == 0 && at == CTLR {
            let old = model.load32(CTLR);
            if (old ^ value) & 1 << 4 != 0 && old & 0b11 != 0 {
                model.violations.push("ARE changed while a group is enabled".into());
            }
            model.in_progress = 3;
        }
        if frame % 2 == 1 && at == WAKER {
            // The redistributor follows at once.
            let asleep = if value & 0b10 == 0 { 0 } else { 0b100 };
            model.store(place, &(value & 0b10 | asleep).to_ne_bytes());
            return;
        }
        if let Some((set, clears)) = Model::pair(frame, at) {
            let old = model.load32(set);
            let new = if clears { old & !value } else { old | value };
            model.store(set, &new.to_ne_bytes());
            if at & !0x7f == CLEAR_ENABLE {
                model.in_progress = 3;
            }
        } else {
            model.store(place, &value.to_ne_bytes());
        }
    }

    fn write64(&self, offset: usize, value: u64) {
        assert_eq!(offset % 8, 0);
        let (frame, at) = self.split(offset);
        assert!(frame == 0 && at >= ROUTER, "64-bit writes are for routing only");
        self.model.borrow_mut().store(at, &value.to_ne_bytes());
    }

    fn at(&self, offset: usize) -> Self {
        Self { model: self.model, base: self.base + offset }
    }
}

/// A controller whose redistributors are in one region, `frames` frames each.
fn controller(model: &RefCell<Model>, cores: usize, frames: usize) -> GicV3<View<'_>> {
    let view = View { model, base: 0 };
    let region = RedistributorRegion::new(0, (cores * frames * FRAME) as u64);
    GicV3::with_mmio(view, &[(view.at(FRAME), region)])
}

const CORES: [Mpidr; 3] = [Mpidr::new(0), Mpidr::new(0x101), Mpidr::new(0x1_0000_0002)];

#[test]
fn the_distributor_comes_up_quiet() {
    let model = Model::new(&CORES, false);
    let gic = controller(&model, 3, 2);
    gic.init_distributor(CORES[2]).unwrap();
    let model = model.borrow();
    assert!(model.violations.is_empty(), "{:?}", model.violations);
    assert_eq!(model.load32(CTLR), 0b1_0010, "affinity routing and group 1, nothing else");
    assert_eq!(model.in_progress, 0, "waited for the last write");
    for word in [4, 8] {
        assert_eq!(model.load32(SET_ENABLE + word), 0);
        assert_eq!(model.load32(GROUP + word), u32::MAX);
    }
    for n in 32..96 {
        assert_eq!(model.memory[PRIORITY + n], DEFAULT_PRIORITY);
        assert_eq!(model.load32(ROUTER + 8 * n), 2);
        assert_eq!(model.load32(ROUTER + 8 * n + 4), 1);
    }
    // Nothing outside of what the distributor has.
    assert_eq!((model.load32(GROUP), model.load32(GROUP + 12), model.memory[PRIORITY + 96]), (0, 0, 0));
    assert_eq!((model.load32(ROUTER + 8 * 31), model.load32(ROUTER + 8 * 96)), (0, 0));
}

#[test]
fn every_core_finds_and_wakes_its_own_redistributor() {
    for (v4, frames) in [(false, 2), (true, 4)] {
        let model = Model::new(&CORES, v4);
        let gic = controller(&model, 3, frames);
        for (index, &mpidr) in CORES.iter().enumerate().rev() {
            let base = FRAME * (1 + frames * index);
            assert_ne!(model.borrow().load32(base + WAKER), 0);
            let core = gic.init_redistributor(mpidr).unwrap();
            assert_eq!(model.borrow().load32(base + WAKER), 0);
            assert_eq!(model.borrow().load32(base + FRAME + SET_ENABLE), 0);
            assert_eq!(model.borrow().load32(base + FRAME + GROUP), u32::MAX);
            core.enable(Intid::ppi(11)).unwrap();
            assert_eq!(model.borrow().load32(base + FRAME + SET_ENABLE), 1 << 27);
        }
        let stranger = Mpidr::new(7);
        assert_eq!(gic.redistributor(stranger).err().unwrap(), GicError::NoRedistributor(stranger));
    }
}

#[test]
fn redistributors_in_several_regions() {
    let model = Model::new(&CORES, false);
    let view = View { model: &model, base: 0 };
    let regions: Vec<_> = (0..3)
        .map(|i| (view.at(FRAME * (1 + 2 * i)), RedistributorRegion::new(0, 2 * FRAME as u64)))
        .collect();
    let gic = GicV3::with_mmio(view, &regions);
    for mpidr in CORES {
        gic.init_redistributor(mpidr).unwrap();
    }
    let missing = GicV3::with_mmio(view, &regions[..2]);
    assert!(missing.init_redistributor(CORES[2]).is_err());
}

#[test]
fn a_stride_from_the_device_tree_counts() {
    // Cores 0 and 2 of three, as if each redistributor were twice as far from the next as it says.
    let model = Model::new(&CORES, false);
    let view = View { model: &model, base: 0 };
    let region = RedistributorRegion { base: 0, size: 6 * FRAME as u64, stride: Some(4 * FRAME as u64) };
    let gic = GicV3::with_mmio(view, &[(view.at(FRAME), region)]);
    assert!(gic.redistributor(CORES[0]).is_ok());
    assert!(gic.redistributor(CORES[1]).is_err());
    assert!(gic.redistributor(CORES[2]).is_ok());
}

#[test]
fn not_a_gicv3() {
    let model = Model::new(&CORES, false);
    model.borrow_mut().store(0xffe8, &0x2b_u32.to_ne_bytes());
    assert_eq!(controller(&model, 3, 2).init_distributor(CORES[0]), Err(GicError::NotGicV3(2)));
}

#[test]
fn interrupts_that_are_not_there() {
    let model = Model::new(&CORES, false);
    let gic = controller(&model, 3, 2);
    let core = gic.init_redistributor(CORES[0]).unwrap();
    for intid in [Intid::new(96), Intid::new(1019), Intid::new(1023), Intid::new(8192)] {
        assert_eq!(core.enable(intid), Err(GicError::NoSuchInterrupt(intid)));
        assert_eq!(core.set_priority(intid, 0), Err(GicError::NoSuchInterrupt(intid)));
        assert_eq!(core.distributor().route(intid, CORES[1]), Err(GicError::NoSuchInterrupt(intid)));
    }
    assert_eq!(
        core.distributor().route(Intid::ppi(3), CORES[1]),
        Err(GicError::NoSuchInterrupt(Intid::ppi(3)))
    );
    assert_eq!(core.set_trigger(Intid::sgi(1), Trigger::Level), Err(GicError::NotApplicable(Intid::sgi(1))));
}

#[test]
fn triggers_leave_their_neighbours_alone() {
    let model = Model::new(&CORES, false);
    let core = controller(&model, 3, 2).init_redistributor(CORES[0]).unwrap();
    core.set_trigger(Intid::ppi(1), Trigger::Edge).unwrap();
    core.set_trigger(Intid::ppi(15), Trigger::Edge).unwrap();
    assert_eq!(model.borrow().load32(2 * FRAME + CONFIGURATION + 4), 1 << 31 | 1 << 3);
    core.set_trigger(Intid::ppi(15), Trigger::Level).unwrap();
    assert_eq!(model.borrow().load32(2 * FRAME + CONFIGURATION + 4), 1 << 3);
    core.set_trigger(Intid::spi(17), Trigger::Edge).unwrap();
    assert_eq!(model.borrow().load32(CONFIGURATION + 12), 1 << 3);
}

#[test]
fn going_to_sleep() {
    let model = Model::new(&CORES, false);
    let core = controller(&model, 3, 2).init_redistributor(CORES[0]).unwrap();
    core.redistributor().sleep().unwrap();
    assert_eq!(model.borrow().load32(FRAME + WAKER), 0b110);
}

proptest! {
    /// What one interrupt is told, that one interrupt does, and no other.
    #[test]
    fn state_is_per_interrupt(script in prop::collection::vec((0_u32..96, 0_u8..5, any::<bool>(), any::<u8>()), 1..60)) {
        let model = Model::new(&CORES, false);
        let gic = controller(&model, 3, 2);
        gic.init_distributor(CORES[0]).unwrap();
        let core = gic.init_redistributor(CORES[1]).unwrap();
        let mut expected = [(false, false, false, DEFAULT_PRIORITY, CORES[0]); 96];
        for (n, what, on, byte) in script {
            let intid = Intid::new(n);
            let state = &mut expected[n as usize];
            match what {
                0 if on => { core.enable(intid).unwrap(); state.0 = true; }
                0 => { core.disable(intid).unwrap(); state.0 = false; }
                1 => { core.set_pending(intid, on).unwrap(); state.1 = on; }
                2 => { core.set_active(intid, on).unwrap(); state.2 = on; }
                3 => { core.set_priority(intid, byte).unwrap(); state.3 = byte; }
                _ if intid.is_spi() => {
                    state.4 = CORES[usize::from(byte) % 3];
                    core.distributor().route(intid, state.4).unwrap();
                }
                _ => {}
            }
        }
        for n in 0..96 {
            let intid = Intid::new(n);
            let frame = if n < 32 { 4 * FRAME } else { 0 };
            let priority = model.borrow().memory[frame + PRIORITY + n as usize];
            let got = (
                core.is_enabled(intid).unwrap(),
                core.is_pending(intid).unwrap(),
                core.is_active(intid).unwrap(),
                priority,
                core.distributor().route_of(intid).unwrap_or(CORES[0]),
            );
            prop_assert_eq!(got, expected[n as usize], "{}", intid);
        }
    }

    /// `ICC_SGI1R_EL1`: exactly the one target, whatever its affinity.
    #[test]
    fn an_sgi_names_one_core(mpidr: u64, n in 0_u32..16) {
        let target = Mpidr::new(mpidr);
        let value = sgi_register(target, Intid::sgi(n));
        prop_assert_eq!((value as u16).count_ones(), 1);
        prop_assert_eq!(value >> 40 & 1, 0, "not to all");
        let aff0 = (value >> 44 & 0xf) * 16 + u64::from((value as u16).trailing_zeros());
        let affinity = (value >> 48 & 0xff) << 32 | (value >> 32 & 0xff) << 16 | (value >> 16 & 0xff) << 8 | aff0;
        prop_assert_eq!(Mpidr::new(affinity), target);
        prop_assert_eq!(value >> 24 & 0xf, u64::from(n));
        prop_assert_eq!(value >> 56, 0);
    }
}

#[test]
fn acknowledge_knows_the_special_numbers() {
    use drivers_gic::gicv3::cpu_interface::acknowledged;
    assert_eq!(acknowledged(0), Some(Intid::sgi(0)));
    assert_eq!(acknowledged(27), Some(Intid::ppi(11)));
    assert_eq!(acknowledged(1019), Some(Intid::new(1019)));
    for none in 1020..=1023 {
        assert_eq!(acknowledged(none), None);
    }
}

#[test]
fn names_for_people() {
    assert_eq!(Intid::ppi(11).to_string(), "PPI 11");
    assert_eq!(Intid::spi(1).to_string(), "SPI 1");
    assert_eq!(Mpidr::new(0x8000_0001_0203_0405).to_string(), "1.3.4.5");
    assert_eq!(GicError::NoSuchInterrupt(Intid::spi(9)).to_string(), "the interrupt controller has no SPI 9");
}
