//! What the kernel runs on: a bare machine, or a virtual one. The personality is the choice of the image.

mod hypercall;
mod native;
mod vm;
mod vm_gic;
mod vm_lists;

pub use native::Native;
pub use vm::{Vm, VmRole};
pub use vm_gic::VmWithGic;
pub use vm_lists::VmWithListRegisters;

use crate::percore::CoreIndex;
use core::fmt;
use machine::{Machine, Mpidr, Region};

/// An interrupt, by who it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The core's timer has reached its deadline.
    Timer,
    /// Another core wants this one to look at its queue.
    Ipi,
    /// A vCPU that waits has something to do (primary only).
    Schedule,
    /// Nobody here knows it; the number is the controller's.
    Unknown(u32),
}

/// Why the machine cannot be used: a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformError(pub &'static str);

impl fmt::Display for PlatformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Interrupt controller, timer, console and power of a machine.
///
/// One value serves all cores; methods act on the calling core where hardware is per core.
pub trait Platform: Sync {
    /// For people: what the kernel runs on.
    fn name(&self) -> &'static str;

    /// Puts text on the console. Called with whole lines where possible, under the console's lock; before
    /// [`init`](Self::init) too, when there may be no console: false then.
    fn write(&self, text: &[u8]) -> bool;

    /// Finds the devices, `map` giving the address of a device's registers. Once, on the boot core.
    fn init(
        &self,
        machine: &Machine<'_>,
        map: &mut dyn FnMut(Region) -> Result<usize, PlatformError>,
    ) -> Result<(), PlatformError>;

    /// Sets the calling core's interrupts and timer up. Interrupts are masked.
    fn init_core(&self, mpidr: Mpidr) -> Result<(), PlatformError>;

    /// The counter that deadlines are in.
    fn counter(&self) -> u64;

    /// Raises [`Interrupt::Timer`] at `deadline`, or never.
    fn set_timer(&self, deadline: Option<u64>);

    /// Takes the next pending interrupt.
    fn take_interrupt(&self) -> Option<Taken>;

    /// Ends the handling of an interrupt.
    fn end_interrupt(&self, taken: Taken);

    /// Raises [`Interrupt::Ipi`] on another core. What was written before is visible to it.
    fn send_ipi(&self, core: CoreIndex, mpidr: Mpidr);

    /// Starts another core at the physical address `entry` with `context` in its x0.
    fn start_core(&self, mpidr: Mpidr, entry: u64, context: u64) -> Result<(), PlatformError>;

    /// Switches the calling core off, whose interrupts are masked. Returns if that is not possible.
    fn stop_core(&self) -> PlatformError;

    /// Returns whether [`stop_core`](Self::stop_core) can work.
    fn can_stop_cores(&self) -> bool;

    /// Switches the machine off.
    fn power_off(&self) -> !;
}

/// An interrupt that was taken, with what the controller needs to end it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Who it is for.
    pub interrupt: Interrupt,
    pub(crate) token: u32,
}

/// Platform and program of a kernel image, made by [`image!`](crate::image).
#[derive(Clone, Copy)]
pub struct Image {
    /// What it runs on.
    pub platform: &'static dyn Platform,
    /// What it does.
    pub main: crate::app::Main,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({})", self.platform.name())
    }
}

unsafe extern "Rust" {
    #[link_name = "LWK_IMAGE"]
    safe static IMAGE: Image;
}

/// The image that this kernel was linked into.
#[inline]
pub(crate) fn image() -> &'static Image {
    &IMAGE
}

/// The platform of this image.
#[inline]
pub fn platform() -> &'static dyn Platform {
    IMAGE.platform
}
