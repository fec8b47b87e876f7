//! Notifications (DEN0077A, chapters 10 and 16). The bitmaps are in [`crate::notifications`]; here are the calls, and who is
//! woken: the receiver by its notification pending interrupt, the primary, which must run it, by the schedule receiver interrupt.

use super::{answer, error, paravirt, success};
use crate::{
    notifications::PerVcpu,
    run::Next,
    system::System,
    vcpu::{Loaded, Vcpu, VcpuState},
    vm::{Rx, Vm},
};
use core::sync::atomic::Ordering;
use hv_abi::{
    Regs,
    ffa::{self, Error},
    ids::VmId,
    paravirt as ids, smccc,
};

/// w2 of `BIND` and `SET`: for a vCPU each, not for the VM.
const PER_VCPU: u64 = 1 << 0;
/// w2 of `SET`: do not send the schedule receiver interrupt now.
const DELAY: u64 = 1 << 1;
/// w2 of `GET`: from secure partitions, from VMs, from the secure partition manager, from the hypervisor.
const FROM_VMS: u64 = 1 << 1;
const FROM_HYPERVISOR: u64 = 1 << 3;
const FROM_ANY: u64 = 0b1111;

impl PerVcpu for Vcpu {
    fn pend(&self, bits: u64) {
        self.notifications.fetch_or(bits, Ordering::SeqCst);
        self.reported.store(false, Ordering::Relaxed);
    }

    fn take(&self) -> u64 {
        self.notifications.swap(0, Ordering::SeqCst)
    }

    fn pending(&self) -> u64 {
        self.notifications.load(Ordering::SeqCst)
    }
}

/// What is pending for single vCPUs of `vm`.
fn pending_for_vcpus(vm: &Vm) -> u64 {
    vm.vcpus.iter().fold(0, |bits, vcpu| bits | vcpu.pending())
}

/// Two 32-bit halves.
fn bitmap(low: u64, high: u64) -> u64 {
    low & 0xffff_ffff | high << 32
}

/// `FFA_NOTIFICATION_BITMAP_CREATE`, by a VM for itself: w1 is its id, w2 how many vCPUs it has.
pub(super) fn create(mut current: Loaded) -> Next {
    let [_, id, vcpus, ..] = current.regs().arguments().0;
    let vm = current.vm();
    let mine = id & 0xffff_ffff == u64::from(vm.id.0) && vcpus & 0xffff_ffff == vm.vcpus.len() as u64;
    let result = if !mine {
        Err(Error::InvalidParameters)
    } else if vm.messaging.properties & ffa::PROPERTY_NOTIFICATIONS == 0 {
        Err(Error::Denied)
    } else {
        vm.lock_running(&vm.notifications).and_then(|mut notifications| notifications.create())
    };
    answer(current, result.map(|()| (0, 0)))
}

/// `FFA_NOTIFICATION_BITMAP_DESTROY`, by a VM for itself.
pub(super) fn destroy(mut current: Loaded) -> Next {
    let id = current.regs().x[1] & 0xffff_ffff;
    let vm = current.vm();
    let result = if id == u64::from(vm.id.0) {
        let notifications = vm.lock_running(&vm.notifications);
        notifications.and_then(|mut notifications| notifications.destroy(pending_for_vcpus(vm)))
    } else {
        Err(Error::InvalidParameters)
    };
    answer(current, result.map(|()| (0, 0)))
}

/// The other VM of a call: w1 holds its id in bits 31:16 and the caller's in bits 15:0.
fn other_first(current: &Loaded, w1: u64) -> Result<&'static Vm, Error> {
    pair(current, VmId((w1 >> 16) as u16), VmId(w1 as u16))
}

fn pair(current: &Loaded, other: VmId, own: VmId) -> Result<&'static Vm, Error> {
    let known = System::get().vm(other).filter(|_| own == current.vm().id && other != own);
    known.ok_or(Error::InvalidParameters)
}

/// `FFA_NOTIFICATION_BIND`: the caller lets a sender set some of its notifications.
pub(super) fn bind(mut current: Loaded) -> Next {
    let [_, ids, flags, low, high, ..] = current.regs().arguments().0;
    let result = other_first(&current, ids).and_then(|sender| {
        if flags & 0xffff_ffff & !PER_VCPU != 0 {
            return Err(Error::InvalidParameters);
        }
        let mut notifications = current.vm().lock_running(&current.vm().notifications)?;
        notifications.bind(sender.id, flags & PER_VCPU != 0, bitmap(low, high))
    });
    answer(current, result.map(|()| (0, 0)))
}

/// `FFA_NOTIFICATION_UNBIND`.
pub(super) fn unbind(mut current: Loaded) -> Next {
    let [_, ids, _, low, high, ..] = current.regs().arguments().0;
    let result = other_first(&current, ids).and_then(|sender| {
        let vm = current.vm();
        let mut notifications = vm.lock_running(&vm.notifications)?;
        notifications.unbind(sender.id, bitmap(low, high), pending_for_vcpus(vm))
    });
    answer(current, result.map(|()| (0, 0)))
}

/// `FFA_NOTIFICATION_SET`: w1 holds sender and receiver, bits 31:16 of w2 the vCPU.
pub(super) fn set(mut current: Loaded) -> Next {
    let [_, ids, flags, low, high, ..] = current.regs().arguments().0;
    let (sender, receiver) = (VmId((ids >> 16) as u16), VmId(ids as u16));
    let per_vcpu = flags & PER_VCPU != 0;
    let index = usize::from((flags >> 16) as u16);
    let unknown = flags & 0xffff & !(PER_VCPU | DELAY) != 0 || (!per_vcpu && index != 0);
    let result = pair(&current, receiver, sender).and_then(|receiver| {
        let vcpu = receiver.vcpus.get(index).filter(|_| !unknown).ok_or(Error::InvalidParameters)?;
        if !current.vm().may_call() {
            return Err(Error::Aborted);
        }
        let mut notifications = receiver.lock_running(&receiver.notifications)?;
        notifications.set(sender, per_vcpu.then_some(vcpu), bitmap(low, high))?;
        if !per_vcpu {
            receiver.attention.store(true, Ordering::SeqCst);
        }
        Ok(if per_vcpu { vcpu } else { reader(receiver) })
    });
    match result {
        Ok(target) => {
            success(&mut current, 0, 0);
            announce(&current);
            paravirt::notify(current, target, ids::NOTIFICATION_PENDING, flags & DELAY != 0)
        }
        Err(code) => answer(current, Err(code)),
    }
}

/// The vCPU of a VM that is to read what is there for any of them: one that waits for a message, or else the first that is on.
pub(super) fn reader(vm: &'static Vm) -> &'static Vcpu {
    let with = |wanted: fn(VcpuState) -> bool| vm.vcpus.iter().find(|vcpu| wanted(vcpu.state()));
    let waits = with(|state| state == VcpuState::WaitingForMessage);
    waits.or_else(|| with(|state| state != VcpuState::Off)).unwrap_or(&vm.vcpus[0])
}

/// Makes the schedule receiver interrupt pending: the primary finds out whom to run with `FFA_NOTIFICATION_INFO_GET`.
pub(super) fn announce(current: &Loaded) {
    let primary = current.core().primary();
    primary.irqs.set_pending(ids::SCHEDULE_RECEIVER);
    if current.vm().is_primary() {
        current.update_line();
    }
}

/// `FFA_NOTIFICATION_GET`: bits 31:16 of w1 are a vCPU of the caller, bits 15:0 the caller.
pub(super) fn get(mut current: Loaded) -> Next {
    let [_, ids, flags, ..] = current.regs().arguments().0;
    let vm = current.vm();
    let flags = flags & 0xffff_ffff;
    let vcpu = vm.vcpus.get(usize::from((ids >> 16) as u16)).filter(|_| ids as u16 == vm.id.0);
    let Some(vcpu) = vcpu.filter(|_| flags & FROM_ANY != 0 && flags & !FROM_ANY == 0) else {
        return answer(current, Err(Error::InvalidParameters));
    };
    let mut mailbox = match vm.lock_running(&vm.mailbox) {
        Ok(mailbox) => mailbox,
        Err(code) => return answer(current, Err(code)),
    };
    let mut notifications = vm.notifications.lock();
    let from_vms = if flags & FROM_VMS != 0 { notifications.take() | vcpu.take() } else { 0 };
    let framework = if flags & FROM_HYPERVISOR != 0 {
        if mailbox.rx == Rx::Message {
            mailbox.rx = Rx::Held(current.vcpu().index());
        }
        notifications.take_framework()
    } else {
        0
    };
    vm.attention.store(mailbox.rx == Rx::Message || notifications.any(), Ordering::SeqCst);
    drop((mailbox, notifications));
    let half = |bits: u64, shift: u32| bits >> shift & 0xffff_ffff;
    current.regs().set_results(&Regs([
        u64::from(ffa::SUCCESS),
        0,
        0,
        0,
        half(from_vms, 0),
        half(from_vms, 32),
        half(framework, 0),
        half(framework, 32),
    ]));
    current.vcpu()
}

/// The most lists that `FFA_NOTIFICATION_INFO_GET` returns: their sizes have two bits each from bit 12 of w2.
const MAX_LISTS: usize = 31;
/// The most vCPUs in a list.
const LIST_VCPUS: usize = 3;

/// `FFA_NOTIFICATION_INFO_GET` by the primary: lists of 16-bit ids, each a VM and up to three of its vCPUs, or none for the VM as
/// a whole. What has been told is not told again until something new is pending.
pub(super) fn info_get(mut current: Loaded) -> Next {
    let wide = current.regs().x[0] as u32 & smccc::CONVENTION_64 != 0;
    let capacity = if wide { 20 } else { 10 };
    let mut out: heapless::Vec<u16, 20> = heapless::Vec::new();
    let (mut lists, mut sizes, mut more) = (0, 0u64, false);
    let mut tell = |ids: &[u16]| {
        let fits = lists < MAX_LISTS && out.len() + ids.len() <= capacity;
        if fits {
            let _ = out.extend_from_slice(ids);
            sizes |= (ids.len() as u64 - 1) << (2 * lists);
            lists += 1;
        }
        fits
    };
    'vms: for vm in &System::get().vms {
        let mut notifications = vm.notifications.lock();
        if notifications.any() && !notifications.reported {
            if !tell(&[vm.id.0]) {
                more = true;
                break;
            }
            notifications.reported = true;
        }
        let waiting = |vcpu: &&Vcpu| {
            let pending = vcpu.pending() != 0 || vcpu.irqs.is_pending(ids::DEVICE);
            pending && !vcpu.reported.load(Ordering::Relaxed)
        };
        loop {
            let mut list: heapless::Vec<u16, { LIST_VCPUS + 1 }> = heapless::Vec::new();
            let _ = list.push(vm.id.0);
            for vcpu in vm.vcpus.iter().filter(waiting).take(LIST_VCPUS) {
                let _ = list.push(vcpu.index().0);
            }
            if list.len() == 1 {
                break;
            }
            if !tell(&list) {
                more = true;
                break 'vms;
            }
            for index in &list[1..] {
                vm.vcpus[usize::from(*index)].reported.store(true, Ordering::Relaxed);
            }
        }
    }
    if lists == 0 {
        error(&mut current, Error::NoData);
        return current.vcpu();
    }
    let function = if wide { ffa::SUCCESS_64 } else { ffa::SUCCESS };
    let mut results = [0; 8];
    results[0] = u64::from(function);
    results[2] = u64::from(more) | (lists as u64) << 7 | sizes << 12;
    let per_register = if wide { 4 } else { 2 };
    for (i, id) in out.iter().enumerate() {
        results[3 + i / per_register] |= u64::from(*id) << (16 * (i % per_register));
    }
    current.regs().set_results(&Regs(results));
    current.vcpu()
}
