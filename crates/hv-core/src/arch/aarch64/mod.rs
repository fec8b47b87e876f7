//! The real processor: EL2 of an `ARMv8-A` core, without VHE.

mod bulk;
mod el2;
pub(crate) mod fp;
pub(crate) mod keys;
mod relocate;
mod traps;

pub(crate) use bulk::{copy_bytes, zero};
pub(crate) use el2::*;
pub(crate) use relocate::{copy, move_image, scrub};
pub(crate) use traps::{
    KEYS, TWI, Traps, VSE, has_deferred_virtual_serror, has_keys, has_virtual_serror,
    hide_interrupt_controller, load_traps, raise_virtual_serror, set_virtual_irq, set_virtual_serror,
    take_serror, trap_fp,
};

core::arch::global_asm!(include_str!("boot.S"));
core::arch::global_asm!(include_str!("relocate.S"));
core::arch::global_asm!(include_str!("vectors.S"));
