//! The GICv2 driver against a model of its registers, as two cores see them.
use drivers_gic::{EoiMode, GicError, GicV2, InterruptController, Intid, Mmio, Mpidr, Trigger};
use std::cell::{Cell, RefCell};

/// Distributor and CPU interface, in one block each.
struct Model {
    registers: RefCell<Vec<u32>>,
    /// Whose private registers and interface are seen.
    core: Cell<usize>,
    /// What the interface acknowledges next.
    next: Cell<u32>,
    written: RefCell<Vec<(usize, u32)>>,
}

const GICC: usize = 0x1_0000;

#[derive(Clone, Copy)]
struct View<'a>(&'a Model, usize);

impl Model {
    fn new() -> Self {
        let registers = RefCell::new(vec![0; 0x1000 / 4]);
        // 96 interrupts.
        registers.borrow_mut()[1] = 2;
        Self { registers, core: Cell::new(0), next: Cell::new(1023), written: RefCell::default() }
    }

    fn gic(&self) -> GicV2<View<'_>> {
        GicV2::with_mmio(View(self, 0), View(self, GICC))
    }

    fn word(&self, offset: usize) -> u32 {
        self.registers.borrow()[offset / 4]
    }

    fn last(&self, offset: usize) -> Option<u32> {
        self.written.borrow().iter().rev().find(|(at, _)| *at == offset).map(|(_, value)| *value)
    }
}

impl Mmio for View<'_> {
    fn read32(&self, offset: usize) -> u32 {
        match self.1 + offset {
            0x800..0x820 => u32::from_ne_bytes([1 << self.0.core.get(); 4]),
            at if at == GICC + 0x00c => self.0.next.get(),
            at if at >= GICC => 0,
            // A clear register reads as its set register.
            at @ (0x180..0x200 | 0x280..0x300 | 0x380..0x400) => self.0.word(at - 0x80),
            at => self.0.word(at),
        }
    }
    fn read64(&self, _: usize) -> u64 {
        panic!("GICv2 has no 64-bit registers")
    }
    fn write8(&self, offset: usize, value: u8) {
        assert!(matches!(offset, 0x400..0xc00), "no byte access to {offset:#x}");
        let mut registers = self.0.registers.borrow_mut();
        let mut bytes = registers[offset / 4].to_ne_bytes();
        bytes[offset % 4] = value;
        registers[offset / 4] = u32::from_ne_bytes(bytes);
    }
    fn write32(&self, offset: usize, value: u32) {
        let at = self.1 + offset;
        self.0.written.borrow_mut().push((at, value));
        if at >= GICC {
            return;
        }
        let mut registers = self.0.registers.borrow_mut();
        match at {
            0x100..0x180 | 0x200..0x280 | 0x300..0x380 => registers[at / 4] |= value,
            0x180..0x200 | 0x280..0x300 | 0x380..0x400 => registers[(at - 0x80) / 4] &= !value,
            _ => registers[at / 4] = value,
        }
    }
    fn write64(&self, _: usize, _: u64) {
        panic!("GICv2 has no 64-bit registers")
    }
    fn at(&self, offset: usize) -> Self {
        Self(self.0, self.1 + offset)
    }
}

const CORES: [u64; 2] = [0x0, 0x101];

#[test]
fn everything_is_off_at_first() {
    let model = Model::new();
    model.registers.borrow_mut()[0x100 / 4..0x10c / 4].fill(u32::MAX);
    model.registers.borrow_mut()[0xc08 / 4..0xc18 / 4].fill(u32::MAX);
    let gic = model.gic();
    assert_eq!(gic.intid_limit(), 96);
    gic.init_distributor();
    let core = gic.init_core(Mpidr::new(CORES[0]), EoiMode::DropAndDeactivate).ok().unwrap();
    for n in 0..96 {
        assert!(!core.is_enabled(Intid::new(n)).unwrap(), "{n}");
    }
    assert_eq!((model.word(0xc08), model.word(0x400), model.word(0x820)), (0, 0xa0a0_a0a0, 0x0101_0101));
    assert_eq!((model.word(0), model.last(GICC), model.last(GICC + 4)), (1, Some(1), Some(0xff)));
    gic.init_core(Mpidr::new(CORES[0]), EoiMode::DropOnly).ok().unwrap();
    assert_eq!(model.last(GICC), Some(1 | 1 << 9));
    assert_eq!(core.enable(Intid::new(96)), Err(GicError::NoSuchInterrupt(Intid::new(96))));
}

#[test]
fn cores_are_found_by_their_affinity() {
    let model = Model::new();
    let gic = model.gic();
    gic.init_distributor();
    let first = gic.init_core(Mpidr::new(CORES[0]), EoiMode::DropOnly).ok().unwrap();
    let second = Mpidr::new(CORES[1]);
    let (spi, sgi) = (Intid::spi(5), Intid::sgi(3));
    assert_eq!(first.route(spi, second), Err(GicError::NoCpuInterface(second)));
    assert_eq!(first.send_sgi(second, sgi), Err(GicError::NoCpuInterface(second)));
    model.core.set(1);
    gic.init_core(second, EoiMode::DropOnly).ok().unwrap();
    // Two cores cannot have one interface.
    let third = Mpidr::new(2);
    assert_eq!(gic.init_core(third, EoiMode::DropOnly).err(), Some(GicError::NoCpuInterface(third)));
    first.route(spi, second).unwrap();
    assert_eq!(model.word(0x824), 0x0101_0201);
    first.send_sgi(second, sgi).unwrap();
    assert_eq!(model.last(0xf00), Some(2 << 16 | 3));
    assert_eq!(first.send_sgi(second, spi), Err(GicError::NotApplicable(spi)));
    assert_eq!(first.route(sgi, second), Err(GicError::NotApplicable(sgi)));
}

#[test]
fn an_interrupt_is_configured_taken_and_ended() {
    let model = Model::new();
    let gic = model.gic();
    gic.init_distributor();
    let core = gic.init_core(Mpidr::new(CORES[0]), EoiMode::DropOnly).ok().unwrap();
    let spi = Intid::spi(33);
    core.set_priority(spi, 0x50).unwrap();
    core.set_trigger(spi, Trigger::Edge).unwrap();
    core.enable(spi).unwrap();
    core.set_pending(spi, true).unwrap();
    assert!(core.is_enabled(spi).unwrap() && core.is_pending(spi).unwrap());
    assert_eq!((model.word(0x440), model.word(0xc10)), (0xa0a0_50a0, 0b1000));
    core.set_pending(spi, false).unwrap();
    core.disable(spi).unwrap();
    assert!(!core.is_enabled(spi).unwrap() && !core.is_pending(spi).unwrap());
    assert_eq!(core.set_pending(Intid::sgi(1), true), Err(GicError::NotApplicable(Intid::sgi(1))));
    assert_eq!(core.set_trigger(Intid::sgi(1), Trigger::Edge), Err(GicError::NotApplicable(Intid::sgi(1))));
    for spurious in 1020..1024 {
        model.next.set(spurious);
        assert_eq!(core.acknowledge(), None);
    }
    // SGI 2 from interface 1: the end has to say so.
    model.next.set(1 << 10 | 2);
    assert_eq!(core.acknowledge(), Some(Intid::sgi(2)));
    let iar = core.acknowledge_raw().unwrap();
    core.end_raw(iar);
    assert_eq!(model.last(GICC + 0x10), Some(1 << 10 | 2));
    core.deactivate(spi);
    assert_eq!(model.last(GICC + 0x1000), Some(65));
}
