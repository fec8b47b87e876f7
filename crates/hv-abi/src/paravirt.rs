//! Para-virtual interrupts: function numbers, semantics and interrupt ids as Hafnium's guests know them.
//!
//! A vCPU enables ids, is interrupted through the virtual IRQ line while an enabled id is pending, and takes
//! the pending id with [`INTERRUPT_GET`], which also clears it.

use crate::ids::VirtIntId;

/// Enables (w2 = 1) or disables (w2 = 0) interrupt id w1 for the calling vCPU. w3 is the interrupt type: 0
/// IRQ (1, FIQ, is refused). Returns 0, or -1 in x0.
pub const INTERRUPT_ENABLE: u32 = 0xff03;
/// Takes the lowest pending and enabled interrupt of the calling vCPU: its id in w0, or [`NO_INTERRUPT`].
pub const INTERRUPT_GET: u32 = 0xff04;
/// Makes interrupt w3 pending on vCPU w2 of VM w1. Allowed to the primary for every VM, and to each VM for
/// itself. Returns 0, 1 if the target vCPU should now be run by the caller (the primary), or -1 in x0.
pub const INTERRUPT_INJECT: u32 = 0xff05;
/// Returned by `FFA_RUN`: the vCPU waits for an interrupt; w2 holds the nanoseconds until its timer fires, or
/// [`SLEEP_INDEFINITE`].
pub const RUN_WAIT_FOR_INTERRUPT: u32 = 0xff06;
/// Sends [`IPI`] to vCPU w1 of the caller's own VM. Returns 0, or -1 in x0.
pub const INTERRUPT_SEND_IPI: u32 = 0xff0a;

/// Ends interrupt w1 of a device, which the calling vCPU's VM has taken: it may come again. w2 is w1. Returns
/// 0, or -1 in x0 if it has not been taken.
pub const INTERRUPT_DEACTIVATE: u32 = 0xff08;

/// What [`INTERRUPT_GET`] returns when nothing is pending.
pub const NO_INTERRUPT: u32 = 0xffff_ffff;
/// A wait without a deadline, in w2 of the waiting exits.
pub const SLEEP_INDEFINITE: u64 = 0;

/// The mailbox became readable.
pub const MAILBOX_READABLE: VirtIntId = VirtIntId::constant(1);
/// The mailbox became writable.
pub const MAILBOX_WRITABLE: VirtIntId = VirtIntId::constant(2);
/// The VM's own timer: the virtual timer of a secondary, the physical EL1 timer of the primary.
pub const TIMER: VirtIntId = VirtIntId::constant(3);
/// A vCPU is asked to leave its core in order (not used: preemption needs no consent).
pub const MANAGED_EXIT: VirtIntId = VirtIntId::constant(4);
/// FF-A's notification pending interrupt: `FFA_NOTIFICATION_GET` has something for this vCPU.
pub const NOTIFICATION_PENDING: VirtIntId = VirtIntId::constant(5);
/// FF-A's schedule receiver interrupt, of the primary: `FFA_NOTIFICATION_INFO_GET` says whom to run.
pub const SCHEDULE_RECEIVER: VirtIntId = VirtIntId::constant(8);
/// To the primary: a vCPU that waits has an interrupt of a device; `FFA_NOTIFICATION_INFO_GET` says which.
/// The schedule receiver interrupt says so, too, but comes for every notification.
pub const DEVICE_WAITS: VirtIntId = VirtIntId::constant(10);
/// Stands for all interrupts of devices, within the hypervisor: a vCPU gets those by their numbers.
pub const DEVICE: VirtIntId = VirtIntId::DEVICE;
/// An inter-processor interrupt between vCPUs of one VM.
pub const IPI: VirtIntId = VirtIntId::constant(9);

/// The number of one of these in a VM with a virtual GIC: SGIs that Linux leaves to others (it has 0 to 7 for
/// itself), and finds by `FFA_FEATURES`. 16 to 31 are the private interrupts of these numbers; the timer has
/// its own number, and what means nothing has none.
pub const fn gic_intid(id: VirtIntId) -> Option<u32> {
    Some(match id {
        SCHEDULE_RECEIVER => 8,
        IPI => 9,
        DEVICE_WAITS => 10,
        MAILBOX_READABLE => 11,
        MAILBOX_WRITABLE => 12,
        MANAGED_EXIT => 13,
        NOTIFICATION_PENDING => 14,
        _ => match id.number() {
            private @ 16..=31 => private,
            _ => return None,
        },
    })
}
