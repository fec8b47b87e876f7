//! Guest-side wrappers: what a kernel at EL1 calls. All of them execute `HVC #0`.
//!
//! ```no_run
//! let me = hv_abi::guest::id_get().unwrap();
//! hv_abi::guest::console_log(b"hello\n");
//! ```

use crate::{
    Regs,
    exit::{Exit, Fault, UnknownExit},
    ffa::{self, Error},
    ids::{Ipa, VcpuId, VcpuIndex, VirtIntId, VmId},
    paravirt, psci, vendor,
};
use core::arch::asm;

pub mod memory;
pub mod messages;

/// Calls the hypervisor with `regs` in x0 to x7; returns x0 to x7.
///
/// What a call does to the caller's memory is defined by its function; none of the wrappers below lets the
/// hypervisor write memory other than the RX buffer that the caller gave it.
#[inline]
pub fn hvc(regs: Regs) -> Regs {
    let mut r = regs.0;
    // SAFETY: an HVC preserves all registers but x0 to x7 under Margay's ABI (x8 to x17 are declared
    // clobbered, as SMCCC 1.1 allows a callee), and touches no memory that Rust knows of beyond what the
    // "memory" clobber implies.
    unsafe {
        asm!("hvc #0",
            inout("x0") r[0], inout("x1") r[1], inout("x2") r[2], inout("x3") r[3],
            inout("x4") r[4], inout("x5") r[5], inout("x6") r[6], inout("x7") r[7],
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack));
    }
    Regs(r)
}

#[inline]
fn ffa_result(out: Regs) -> Result<Regs, Error> {
    match out.function() {
        ffa::SUCCESS | ffa::SUCCESS_64 => Ok(out),
        ffa::ERROR => Err(Error::from_bits(out.0[2]).unwrap_or(Error::NotSupported)),
        _ => Err(Error::NotSupported),
    }
}

/// `FFA_VERSION`: negotiates `version`; returns the hypervisor's.
pub fn version(version: ffa::Version) -> Option<ffa::Version> {
    let out = hvc(Regs([u64::from(ffa::VERSION), u64::from(version.to_bits()), 0, 0, 0, 0, 0, 0]));
    ffa::Version::from_bits(out.0[0] as u32)
}

/// `FFA_ID_GET`: the caller's VM id.
#[inline]
pub fn id_get() -> Result<VmId, Error> {
    ffa_result(hvc(Regs::func(ffa::ID_GET))).map(|out| VmId(out.0[2] as u16))
}

/// `FFA_FEATURES`: what the hypervisor says of a function, or of a feature (`ffa::FEATURE_*`): w2 and w3.
///
/// # Errors
/// `NOT_SUPPORTED`: there is no such thing for this VM.
pub fn features(function: u32) -> Result<(u64, u64), Error> {
    ffa_result(hvc(Regs([u64::from(ffa::FEATURES), function.into(), 0, 0, 0, 0, 0, 0])))
        .map(|out| (out.0[2], out.0[3]))
}

/// `FFA_SPM_ID_GET`: who manages partitions: the hypervisor.
pub fn spm_id_get() -> Result<VmId, Error> {
    ffa_result(hvc(Regs::func(ffa::SPM_ID_GET))).map(|out| VmId(out.0[2] as u16))
}

/// `FFA_RXTX_MAP`: registers one page each for reception and transmission.
pub fn rxtx_map(tx: Ipa, rx: Ipa) -> Result<(), Error> {
    ffa_result(hvc(Regs([u64::from(ffa::RXTX_MAP_64), tx.0, rx.0, 1, 0, 0, 0, 0]))).map(drop)
}

/// `FFA_RXTX_UNMAP`: the pages are this VM's alone again.
pub fn rxtx_unmap() -> Result<(), Error> {
    ffa_result(hvc(Regs::func(ffa::RXTX_UNMAP))).map(drop)
}

/// `FFA_RX_RELEASE`: gives the RX buffer back to the hypervisor.
pub fn rx_release() -> Result<(), Error> {
    ffa_result(hvc(Regs::func(ffa::RX_RELEASE))).map(drop)
}

/// `FFA_PARTITION_INFO_GET` for `uuid` (all zero: every partition): descriptors are in the RX buffer, which
/// the caller releases with [`rx_release`]. Returns how many, and the size of each in bytes, for
/// [`ffa::PartitionInfo::list`].
pub fn partition_info_get(uuid: [u32; 4]) -> Result<(usize, usize), Error> {
    let [a, b, c, d] = uuid.map(u64::from);
    ffa_result(hvc(Regs([u64::from(ffa::PARTITION_INFO_GET), a, b, c, d, 0, 0, 0])))
        .map(|out| (out.0[2] as usize, out.0[3] as usize))
}

/// `FFA_PARTITION_INFO_GET` for `uuid`, which writes nothing: how many partitions there are.
pub fn partition_count(uuid: [u32; 4]) -> Result<usize, Error> {
    let [a, b, c, d] = uuid.map(u64::from);
    let call = [u64::from(ffa::PARTITION_INFO_GET), a, b, c, d, ffa::PARTITION_INFO_COUNT_ONLY, 0, 0];
    ffa_result(hvc(Regs(call))).map(|out| out.0[2] as usize)
}

/// `FFA_PARTITION_INFO_GET_REGS` (1.2) for `uuid`, as [`partition_info_get`], from number `first` on of the
/// list that `tag` names (0 at its start): needs no buffer, and returns up to five.
///
/// # Errors
/// `RETRY`: the list has changed.
pub fn partition_info_get_regs(
    uuid: [u32; 4],
    first: u16,
    tag: u16,
) -> Result<ffa::PartitionInfoRegs, Error> {
    let [low, high] = ffa::uuid_to_words(uuid);
    let mut x = [0; 18];
    let from = u64::from(tag) << 16 | u64::from(first);
    x[..4].copy_from_slice(&[ffa::PARTITION_INFO_GET_REGS.into(), low, high, from]);
    let regs = messages::hvc18(x);
    let mut head = Regs::default();
    head.0.copy_from_slice(&regs[..8]);
    ffa_result(head).map(|_| ffa::PartitionInfoRegs { first, regs })
}

/// `FFA_RUN` (primary only): runs a vCPU on this core until it exits. The exit names the vCPU it is about.
///
/// # Errors
/// The hypervisor returned something that is no exit.
#[inline]
pub fn run(vcpu: VcpuId) -> Result<(VcpuId, Exit), UnknownExit> {
    Exit::from_regs(&hvc(Regs([u64::from(ffa::RUN), vcpu.pack(), 0, 0, 0, 0, 0, 0])))
}

/// `FFA_RUN`, with all that it returns: for a primary that has sent a direct request, and may find the answer
/// there.
#[inline]
pub fn run_regs(vcpu: VcpuId) -> Regs {
    hvc(Regs([u64::from(ffa::RUN), vcpu.pack(), 0, 0, 0, 0, 0, 0]))
}

/// `CRASH_RECORD_GET` (primary only): the vCPU whose fault stopped a VM, and the fault.
///
/// # Errors
/// `NO_DATA`: the VM has not crashed.
pub fn crash_record(vm: VmId) -> Result<(VcpuId, Fault), Error> {
    let out = ffa_result(hvc(Regs([vendor::CRASH_RECORD_GET.into(), vm.0.into(), 0, 0, 0, 0, 0, 0])))?;
    let [_, vcpu, syndrome, address, ipa, pc, ..] = out.0;
    Ok((VcpuId::unpack(vcpu), Fault { syndrome, address, ipa, pc }))
}

/// `VM_STOP` (primary only).
pub fn vm_stop(vm: VmId) -> Result<(), Error> {
    ffa_result(hvc(Regs([u64::from(vendor::VM_STOP), vm.0.into(), 0, 0, 0, 0, 0, 0]))).map(drop)
}

/// A step of `VM_RESTART` (primary only): how many bytes are left to be done.
pub fn vm_restart(vm: VmId) -> Result<u64, Error> {
    ffa_result(hvc(Regs([u64::from(vendor::VM_RESTART), vm.0.into(), 0, 0, 0, 0, 0, 0]))).map(|out| out.0[2])
}

/// `VCPU_STATISTICS_GET` (primary only): ticks, entries, and five counts of exits, as [`vendor`] lists them.
pub fn vcpu_statistics(vcpu: VcpuId) -> Result<[u64; 7], Error> {
    let out = ffa_result(hvc(Regs([u64::from(vendor::VCPU_STATISTICS_GET), vcpu.pack(), 0, 0, 0, 0, 0, 0])))?;
    let [_, all @ ..] = out.0;
    Ok(all)
}

/// `VCPU_STATISTICS_GET` (primary only): external aborts that the hypervisor has injected.
pub fn vcpu_external_aborts(vcpu: VcpuId) -> Result<u64, Error> {
    let call = Regs([u64::from(vendor::VCPU_STATISTICS_GET), vcpu.pack(), 1, 0, 0, 0, 0, 0]);
    ffa_result(hvc(call)).map(|out| out.0[1])
}

/// `BUILD_ID_GET`: version and revision of the hypervisor.
pub fn build_id() -> Result<(u64, u64), Error> {
    ffa_result(hvc(Regs::func(vendor::BUILD_ID_GET))).map(|out| (out.0[1], out.0[2]))
}

/// `FFA_YIELD`: offers the core to others.
#[inline]
pub fn yield_now() {
    hvc(Regs::func(ffa::YIELD));
}

/// `FFA_YIELD`: offers the core to others, for `ns` nanoseconds (0: for as long as they like).
#[inline]
pub fn yield_for(ns: u64) {
    hvc(Regs([u64::from(ffa::YIELD), 0, ns & 0xffff_ffff, ns >> 32, 0, 0, 0, 0]));
}

/// `FFA_MSG_WAIT`: waits for a message; returns what ended the wait.
pub fn msg_wait() -> Regs {
    hvc(Regs::func(ffa::MSG_WAIT))
}

/// `FFA_CONSOLE_LOG`: prints `text` through the hypervisor, 48 characters to a call.
pub fn console_log(text: &[u8]) {
    for chunk in text.chunks(48) {
        let mut regs = Regs([u64::from(ffa::CONSOLE_LOG_64), chunk.len() as u64, 0, 0, 0, 0, 0, 0]);
        for (word, bytes) in regs.0[2..].iter_mut().zip(chunk.chunks(8)) {
            let mut buffer = [0; 8];
            buffer[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(buffer);
        }
        hvc(regs);
    }
}

/// Enables or disables a para-virtual interrupt of this vCPU.
pub fn interrupt_enable(id: VirtIntId, enable: bool) -> bool {
    let regs =
        [u64::from(paravirt::INTERRUPT_ENABLE), u64::from(id.number()), u64::from(enable), 0, 0, 0, 0, 0];
    hvc(Regs(regs)).0[0] == 0
}

/// Takes the next pending interrupt of this vCPU.
#[inline]
pub fn interrupt_get() -> Option<VirtIntId> {
    VirtIntId::new(hvc(Regs::func(paravirt::INTERRUPT_GET)).0[0] & 0xffff_ffff)
}

/// Takes the next pending interrupt of this vCPU, which may be a device's.
pub fn any_interrupt_get() -> Option<u32> {
    let id = hvc(Regs::func(paravirt::INTERRUPT_GET)).0[0] as u32;
    (id != paravirt::NO_INTERRUPT).then_some(id)
}

/// Enables or disables a device's interrupt, by its number at the interrupt controller, for this vCPU.
/// Returns whether it is this VM's.
pub fn device_interrupt_enable(intid: u32, enable: bool) -> bool {
    let call = [paravirt::INTERRUPT_ENABLE.into(), intid.into(), enable.into(), 0, 0, 0, 0, 0];
    hvc(Regs(call)).0[0] == 0
}

/// Ends a device's interrupt that this VM has taken, when the device does not ask for it any more.
pub fn device_interrupt_end(intid: u32) -> bool {
    hvc(Regs([paravirt::INTERRUPT_DEACTIVATE.into(), intid.into(), intid.into(), 0, 0, 0, 0, 0])).0[0] == 0
}

/// `INTERRUPT_ROUTE_SET` (primary only): gives a device's interrupt to a vCPU.
pub fn interrupt_route(intid: u32, vcpu: VcpuId) -> Result<(), Error> {
    ffa_result(hvc(Regs([u64::from(vendor::INTERRUPT_ROUTE_SET), intid.into(), vcpu.pack(), 0, 0, 0, 0, 0])))
        .map(drop)
}

/// `INTERRUPT_ROUTE_GET` (primary only): whose a device's interrupt is, and how often it has arrived, modulo
/// 2^32; VM 0 stands for nobody.
pub fn interrupt_owner(intid: u32) -> Result<(VcpuId, u32), Error> {
    ffa_result(hvc(Regs([u64::from(vendor::INTERRUPT_ROUTE_GET), intid.into(), 0, 0, 0, 0, 0, 0])))
        .map(|out| (VcpuId::unpack(out.0[2]), out.0[3] as u32))
}

/// Makes an interrupt pending on a vCPU (primary: of any VM; others: of their own).
#[inline]
pub fn interrupt_inject(vcpu: VcpuId, id: VirtIntId) -> bool {
    let (vm, index) = (u64::from(vcpu.vm.0), u64::from(vcpu.index.0));
    hvc(Regs([u64::from(paravirt::INTERRUPT_INJECT), vm, index, u64::from(id.number()), 0, 0, 0, 0])).0[0]
        as i64
        >= 0
}

/// Sends an inter-processor interrupt to another vCPU of this VM.
#[inline]
pub fn send_ipi(index: VcpuIndex) -> bool {
    hvc(Regs([u64::from(paravirt::INTERRUPT_SEND_IPI), u64::from(index.0), 0, 0, 0, 0, 0, 0])).0[0] == 0
}

/// PSCI `CPU_ON`: starts vCPU `mpidr` at `entry` (physical) with `context` in its x0. Returns the PSCI
/// status.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> i64 {
    hvc(Regs([u64::from(psci::CPU_ON_64), mpidr, entry, context, 0, 0, 0, 0])).0[0] as i64
}

/// PSCI `SYSTEM_OFF`.
pub fn system_off() -> ! {
    loop {
        hvc(Regs::func(psci::SYSTEM_OFF));
    }
}
