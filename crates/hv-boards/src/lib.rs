//! Parts that boards are assembled from: see the README.
#![no_std]
#![cfg(target_os = "none")]

mod bcm2836;
pub mod console;
mod gicv2;
mod gicv3;
mod maintenance;
mod power;

pub use bcm2836::Bcm2836;
pub use gicv2::GicV2;
pub use gicv3::GicV3;
pub use power::{Psci, SpinTable};

use core::marker::PhantomData;
use hv_core::{
    board::{Board, BoardError, VirtualInterface},
    machine::{ConsoleInfo, Machine, allowed::Allowed},
};

/// Takes a device's registers, or memory: (base, bytes).
pub type Map<'a> = &'a mut dyn FnMut(u64, u64);

/// A console.
///
/// # Safety
/// As for [`Board`], of which this is a part.
pub unsafe trait ConsolePart {
    /// [`Board::EARLY_CONSOLE`].
    const EARLY: u64;
    /// [`Board::devices`].
    fn devices(machine: &Machine<'_>, map: Map<'_>);
    /// [`Board::init_console`].
    ///
    /// # Errors
    /// There is no console that this part can drive.
    fn init(machine: &Machine<'_>) -> Result<(), BoardError>;
    /// Writes a byte as it is.
    fn write_byte(byte: u8);
    /// Writes as many of the first bytes, as they are, as there is room for; returns how many.
    fn try_write(bytes: &[u8]) -> usize;
    /// [`Board::try_write_to`].
    fn try_write_to(_uart: &ConsoleInfo, bytes: &[u8]) -> usize {
        bytes.len()
    }
}

/// An interrupt controller. The functions are those of [`Board`].
///
/// # Safety
/// As for [`Board`], of which this is a part.
#[expect(missing_docs, reason = "the functions are those of `Board`")]
pub unsafe trait InterruptPart {
    const KICK: u32;
    fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
        None
    }
    const EMULATED: bool = false;
    fn is_asserted(_intid: u32) -> bool {
        false
    }
    fn set_active(_intid: u32, _active: bool, _index: u16, _mpidr: u64) {}
    fn devices(machine: &Machine<'_>, map: Map<'_>);
    fn init(machine: &Machine<'_>) -> Result<(), BoardError>;
    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError>;
    fn acknowledge() -> Option<u32>;
    fn end(intid: u32);
    fn enable(intid: u32, mpidr: u64);
    fn disable(intid: u32);
    fn kick(mpidr: u64);
}

/// Power functions.
///
/// # Safety
/// As for [`Board`], of which this is a part.
pub unsafe trait PowerPart {
    /// [`Board::EARLY_STOP`].
    const EARLY_STOP: bool;
    /// [`Board::devices`].
    fn devices(machine: &Machine<'_>, map: Map<'_>);
    /// [`Board::memory`].
    fn memory(machine: &Machine<'_>, keep: Map<'_>);
    /// [`Board::power`].
    fn call(function: u32, arguments: [u64; 3]) -> u64;
}

/// The behaviour of the system counter.
pub trait CounterPart {
    /// [`Board::is_valid`].
    fn is_valid(counter: u64) -> bool;
}

/// A counter as the architecture has it.
#[derive(Debug)]
pub struct Counter;

impl CounterPart for Counter {
    #[inline(always)]
    fn is_valid(_: u64) -> bool {
        true
    }
}

/// The counter of Allwinner's A64, which glitches.
#[derive(Debug)]
pub struct AllwinnerCounter;

impl CounterPart for AllwinnerCounter {
    #[inline(always)]
    fn is_valid(counter: u64) -> bool {
        vtimer::is_settled(counter)
    }
}

/// Devices of the board that VMs may have without a grant.
pub trait DevicesPart {
    /// [`Board::ALLOWED`].
    const ALLOWED: &'static [Allowed];
}

/// No devices without a grant: devices are granted one by one.
#[derive(Debug)]
pub struct NoDevices;

impl DevicesPart for NoDevices {
    const ALLOWED: &'static [Allowed] = &[];
}

/// A board made of a console, an interrupt controller, power functions, a counter, and devices for VMs.
#[derive(Debug)]
pub struct Assembly<C, I, P, T = Counter, D = NoDevices>(PhantomData<(C, I, P, T, D)>);

// SAFETY: the parts vouch for themselves.
unsafe impl<C: ConsolePart, I: InterruptPart, P: PowerPart, T: CounterPart, D: DevicesPart> Board
    for Assembly<C, I, P, T, D>
{
    const ALLOWED: &'static [Allowed] = D::ALLOWED;
    const EARLY_CONSOLE: u64 = C::EARLY;
    const EARLY_STOP: bool = P::EARLY_STOP;
    const KICK: u32 = I::KICK;
    const EMULATED: bool = I::EMULATED;

    fn devices(machine: &Machine<'_>, map: Map<'_>) {
        C::devices(machine, map);
        I::devices(machine, map);
        P::devices(machine, map);
    }

    #[inline(always)]
    fn virtual_interface() -> Option<&'static dyn VirtualInterface> {
        I::virtual_interface()
    }

    fn is_asserted(intid: u32) -> bool {
        I::is_asserted(intid)
    }
    fn set_active(intid: u32, active: bool, index: u16, mpidr: u64) {
        I::set_active(intid, active, index, mpidr);
    }

    #[inline(always)]
    fn is_valid(counter: u64) -> bool {
        T::is_valid(counter)
    }

    fn memory(machine: &Machine<'_>, keep: Map<'_>) {
        P::memory(machine, keep);
    }

    fn init_console(machine: &Machine<'_>) -> Result<(), BoardError> {
        C::init(machine)
    }

    fn write(text: &[u8]) {
        for byte in text {
            if *byte == b'\n' {
                C::write_byte(b'\r');
            }
            C::write_byte(*byte);
        }
    }

    fn try_write(bytes: &[u8]) -> usize {
        C::try_write(bytes)
    }

    fn try_write_to(uart: &ConsoleInfo, bytes: &[u8]) -> usize {
        C::try_write_to(uart, bytes)
    }

    fn init(machine: &Machine<'_>) -> Result<(), BoardError> {
        I::init(machine)
    }

    fn init_core(mpidr: u64, private: &[u32]) -> Result<(), BoardError> {
        I::init_core(mpidr, private)
    }

    #[inline]
    fn acknowledge() -> Option<u32> {
        I::acknowledge()
    }

    #[inline]
    fn end(intid: u32) {
        I::end(intid);
    }

    fn enable(intid: u32, mpidr: u64) {
        I::enable(intid, mpidr);
    }

    fn disable(intid: u32) {
        I::disable(intid);
    }

    fn kick(mpidr: u64) {
        I::kick(mpidr);
    }

    fn power(function: u32, arguments: [u64; 3]) -> u64 {
        P::call(function, arguments)
    }
}

/// The part of the first core in something: the one that runs now, when it is called at boot.
fn boot_core(machine: &Machine<'_>) -> Result<hv_core::machine::Mpidr, BoardError> {
    machine.cores().find(|core| core.enabled).map(|core| core.mpidr).ok_or("the device tree names no core")
}
