//! Interrupt controllers of the GIC family for kernels and hypervisors.
//!
//! * The physical side of **GICv3** and of **GICv2** ([`GicV3`], [`GicV2`]): distributor, redistributors, CPU
//!   interface, for software at EL1 or EL2, in non-secure group 1.
//! * The **hypervisor interface** of both ([`hyp`], [`gicv3::hyp`], [`GicV2Hyp`]): list registers,
//!   maintenance, what is saved with a guest.
//! * The **virtual distributor** of either version ([`vgic`]), for guests that expect a real GIC: a state
//!   machine without hardware.
//!
//! The parts of GICv3:
//!
//! * [`GicV3`] is the whole controller. It holds addresses only, so it is `Sync` and can be made in a
//!   `const`.
//! * [`GicV3::init_core`] gives the calling core a [`GicV3Core`], a small `Copy` value that belongs to that
//!   core and implements [`InterruptController`]: enable, priority, trigger, routing, SGIs, acknowledge, end.
//! * [`gicv3::cpu_interface`] are the system-register operations themselves, for paths where every
//!   instruction counts: acknowledge is one `mrs`, end and deactivate are one `msr` each.
//!
//! ```
//! use drivers_gic::{GicV3, RedistributorRegion};
//!
//! // SAFETY: these are the addresses of QEMU's `virt` machine, identity-mapped as device memory.
//! static GIC: GicV3 = unsafe {
//!     GicV3::new(0x0800_0000, &[RedistributorRegion::new(0x080a_0000, 0xf6_0000)])
//! };
//! ```
//!
//! On one core `GIC.init_distributor(..)`, then on every core, itself included,
//! `GIC.init_core(mpidr, EoiMode::DropAndDeactivate)`, and with the handle that it returns:
//!
//! ```
//! use drivers_gic::{GicError, InterruptController, Intid};
//!
//! fn enable_virtual_timer(core: &impl InterruptController) -> Result<(), GicError> {
//!     core.set_priority(Intid::ppi(11), 0x80)?;
//!     core.enable(Intid::ppi(11))
//! }
//!
//! fn interrupt_handler(core: &impl InterruptController, handle: impl Fn(Intid)) {
//!     while let Some(intid) = core.acknowledge() {
//!         handle(intid);
//!         core.end(intid);
//!     }
//! }
//! ```
//!
//! # Sharing between cores
//!
//! Enable, disable, pend, activate, priority and routing are single writes to registers that are made for it
//! (write-one-to-set, write-one-to-clear, byte-wide or one register per interrupt), so any core may do them
//! at any time. Only [`InterruptController::set_trigger`] of an SPI and [`GicV3::init_distributor`] read,
//! modify and write; the caller does not run those at the same time on two cores.
//!
//! Source throughout: *Arm Generic Interrupt Controller Architecture Specification, GIC architecture version
//! 3 and 4* (IHI 0069), cited as "GIC spec".
#![no_std]

#[cfg(test)]
extern crate std;

mod controller;
mod error;
pub mod gicv2;
mod gicv2_hyp;
pub mod gicv3;
pub mod hyp;
mod intid;
mod mmio;
mod mpidr;
pub mod vgic;
pub mod virtual_cpu;

pub use controller::{InterruptController, Trigger};
pub use error::GicError;
pub use gicv2::{GicV2, GicV2Core};
pub use gicv2_hyp::GicV2Hyp;
pub use gicv3::{EoiMode, GicV3, GicV3Core, RedistributorRegion};
pub use intid::Intid;
pub use mmio::{Mmio, MmioBlock};
pub use mpidr::Mpidr;
