//! Messages and notifications.

use super::{ffa_result, hvc};
use crate::{
    Regs,
    ffa::{self, Error, notification::Pending},
    ids::{VcpuIndex, VmId},
};
use core::arch::asm;

/// Calls the hypervisor with x0 to x17; returns x0 to x17.
pub fn hvc18(x: [u64; 18]) -> [u64; 18] {
    let mut r = x;
    // SAFETY: as for `hvc`; here x8 to x17 are results too.
    unsafe {
        asm!("hvc #0",
            inout("x0") r[0], inout("x1") r[1], inout("x2") r[2], inout("x3") r[3],
            inout("x4") r[4], inout("x5") r[5], inout("x6") r[6], inout("x7") r[7],
            inout("x8") r[8], inout("x9") r[9], inout("x10") r[10], inout("x11") r[11],
            inout("x12") r[12], inout("x13") r[13], inout("x14") r[14], inout("x15") r[15],
            inout("x16") r[16], inout("x17") r[17],
            options(nostack));
    }
    r
}

const fn pair(sender: VmId, receiver: VmId) -> u64 {
    (sender.0 as u64) << 16 | receiver.0 as u64
}

fn direct(function: u32, sender: VmId, receiver: VmId, [a, b, c, d, e]: [u64; 5]) -> Regs {
    hvc(Regs([u64::from(function), pair(sender, receiver), 0, a, b, c, d, e]))
}

/// `FFA_MSG_SEND_DIRECT_REQ` with 64-bit payload: asks, and waits for the answer. Returns what ended the
/// wait: `FFA_MSG_SEND_DIRECT_RESP`, `FFA_ERROR`, or for the primary an exit of the receiver.
#[inline]
pub fn direct_request(sender: VmId, receiver: VmId, payload: [u64; 5]) -> Regs {
    direct(ffa::MSG_SEND_DIRECT_REQ_64, sender, receiver, payload)
}

/// `FFA_MSG_SEND_DIRECT_RESP` with 64-bit payload: answers, and waits for the next message, which it returns.
#[inline]
pub fn direct_response(sender: VmId, receiver: VmId, payload: [u64; 5]) -> Regs {
    direct(ffa::MSG_SEND_DIRECT_RESP_64, sender, receiver, payload)
}

/// `FFA_MSG_SEND_DIRECT_REQ2`: as [`direct_request`], for the service `uuid` (or any, if that is zero), with
/// 14 words.
pub fn direct_request2(sender: VmId, receiver: VmId, uuid: [u32; 4], payload: [u64; 14]) -> [u64; 18] {
    let [low, high] = ffa::uuid_to_words(uuid);
    let mut x = [0; 18];
    x[..4].copy_from_slice(&[ffa::MSG_SEND_DIRECT_REQ2.into(), pair(sender, receiver), low, high]);
    x[4..].copy_from_slice(&payload);
    hvc18(x)
}

/// `FFA_MSG_SEND_DIRECT_RESP2`: as [`direct_response`], with 14 words.
pub fn direct_response2(sender: VmId, receiver: VmId, payload: [u64; 14]) -> [u64; 18] {
    let mut x = [0; 18];
    x[..2].copy_from_slice(&[ffa::MSG_SEND_DIRECT_RESP2.into(), pair(sender, receiver)]);
    x[4..].copy_from_slice(&payload);
    hvc18(x)
}

/// `FFA_MSG_SEND2`: sends the message that stands in the TX buffer (see [`ffa::message`]).
pub fn send2() -> Result<(), Error> {
    ffa_result(hvc(Regs::func(ffa::MSG_SEND2))).map(drop)
}

/// `FFA_NOTIFICATION_BITMAP_CREATE`: this VM, with so many vCPUs, receives notifications.
pub fn notification_create(vm: VmId, vcpus: u16) -> Result<(), Error> {
    let call = [u64::from(ffa::NOTIFICATION_BITMAP_CREATE), vm.0.into(), vcpus.into(), 0, 0, 0, 0, 0];
    ffa_result(hvc(Regs(call))).map(drop)
}

/// `FFA_NOTIFICATION_BITMAP_DESTROY`.
pub fn notification_destroy(vm: VmId) -> Result<(), Error> {
    let call = [u64::from(ffa::NOTIFICATION_BITMAP_DESTROY), vm.0.into(), 0, 0, 0, 0, 0, 0];
    ffa_result(hvc(Regs(call))).map(drop)
}

fn notification(function: u32, ids: u64, flags: u64, bitmap: u64) -> Result<(), Error> {
    let call = [u64::from(function), ids, flags, bitmap & 0xffff_ffff, bitmap >> 32, 0, 0, 0];
    ffa_result(hvc(Regs(call))).map(drop)
}

/// `FFA_NOTIFICATION_BIND`: lets `sender` set the notifications of `receiver` (this VM) that are in `bitmap`.
pub fn notification_bind(receiver: VmId, sender: VmId, per_vcpu: bool, bitmap: u64) -> Result<(), Error> {
    notification(ffa::NOTIFICATION_BIND, pair(sender, receiver), per_vcpu.into(), bitmap)
}

/// `FFA_NOTIFICATION_UNBIND`.
pub fn notification_unbind(receiver: VmId, sender: VmId, bitmap: u64) -> Result<(), Error> {
    notification(ffa::NOTIFICATION_UNBIND, pair(sender, receiver), 0, bitmap)
}

/// `FFA_NOTIFICATION_SET`: sets notifications of `receiver`, of one of its vCPUs or of the VM.
pub fn notification_set(
    sender: VmId,
    receiver: VmId,
    vcpu: Option<VcpuIndex>,
    bitmap: u64,
) -> Result<(), Error> {
    let flags = vcpu.map_or(0, |vcpu| 1 | u64::from(vcpu.0) << 16);
    notification(ffa::NOTIFICATION_SET, pair(sender, receiver), flags, bitmap)
}

/// `FFA_NOTIFICATION_GET`: what is pending for this VM and its vCPU: from VMs, and from the hypervisor.
pub fn notification_get(vm: VmId, vcpu: VcpuIndex) -> Result<(u64, u64), Error> {
    let ids = u64::from(vcpu.0) << 16 | u64::from(vm.0);
    let out = ffa_result(hvc(Regs([u64::from(ffa::NOTIFICATION_GET), ids, 0b1010, 0, 0, 0, 0, 0])))?;
    Ok((out.0[4] | out.0[5] << 32, out.0[6] | out.0[7] << 32))
}

/// `FFA_NOTIFICATION_INFO_GET` (primary only): whom to run, because notifications are pending.
///
/// # Errors
/// `NO_DATA`: nobody, or it has been said already.
pub fn notification_info_get() -> Result<Pending, Error> {
    let out = ffa_result(hvc(Regs::func(ffa::NOTIFICATION_INFO_GET_64)))?;
    Pending::from_regs(out).ok_or(Error::NotSupported)
}
