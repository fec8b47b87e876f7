//! Tearing down a VM that has been stopped, and starting it again.
//!
//! Both are done in parts, each of bounded length, by whoever wants the result: the primary with `VM_RESTART`, or a lender that wants its
//! memory back. Only the holder of the VM's teardown token does a part; nobody waits for the token. See [`vm_lifecycle`].

use crate::{
    arch,
    lock::Guard,
    percore::Core,
    reload::{Progress, Reload},
    service, stop_notice,
    system::System,
    tables::AllTables,
    vcpu::{Claimed, Vcpu, VcpuState},
    vm::{Mailbox, Vm},
};
use core::sync::atomic::Ordering;
use hv_abi::{
    ffa::Error,
    ids::{Ipa, Pa, VmId},
    layout::PAGE,
};
use page_ownership::Tables as _;
use vm_lifecycle::{Event, Status};

/// How many pages one call scrubs, at most.
pub(crate) const STEP_PAGES: u64 = 64;
/// How many entries of stage-2 tables one call looks at.
const STEP_ENTRIES: u32 = 256;

/// How many vCPUs one call resets.
const STEP_VCPUS: usize = 32;

type Token<'a> = Guard<'a, Option<Reload>>;

/// Does a part of the restart of `vm`; returns how many bytes are left to scrub, and 0 when the VM runs.
pub(crate) fn restart(vm: &'static Vm, core: &'static Core) -> Result<u64, Error> {
    if vm.is_active() {
        return Err(Error::Denied);
    }
    let mut token = vm.reload.try_lock().ok_or(Error::Busy)?;
    if token.is_none() {
        return Err(Error::NotSupported);
    }
    if quiesce(vm, &token, core)? {
        // That was a part of it.
        return Ok(token.as_ref().map_or(PAGE, Reload::bytes_in_all));
    }
    if let Status::Reclaiming(_) = vm.status() {
        let left = token.as_mut().map_or(Ok(0), |reload| reclaim(vm, core, reload))?;
        if left > 0 {
            return Ok(left);
        }
        vm.proceed(&token, Event::Reclaimed);
    }
    start(vm, &token);
    Ok(0)
}

/// Does a part of taking back what `vm`, which does not run, has borrowed, so that the lender can reclaim it; returns whether that was all.
pub(crate) fn return_borrowed(vm: &'static Vm, core: &'static Core) -> Result<bool, Error> {
    let token = vm.reload.try_lock().ok_or(Error::Busy)?;
    Ok(!quiesce(vm, &token, core)? && abandon(vm, core)?)
}

fn abandon(vm: &Vm, core: &Core) -> Result<bool, Error> {
    // One at a time: it looks at all transactions that there are.
    service::drive(core, 1, |tables| Ok(System::get().ownership.lock().abandon(vm.id, tables)))
}

/// Ends *stopping*: parks every vCPU, and lets nobody wait for it. `BUSY`: one has not left its core, or the core that stopped the VM has
/// not looked at all of them yet. Returns whether it has done anything.
fn quiesce(vm: &'static Vm, token: &Token<'_>, core: &'static Core) -> Result<bool, Error> {
    match vm.status() {
        Status::Running => return Err(Error::Denied),
        Status::Halting(_) => return Err(Error::Busy),
        Status::Stopping(_) => {}
        Status::Reclaiming(_) | Status::Off(_) => return Ok(false),
    }
    for vcpu in &vm.vcpus {
        if !vcpu.park() {
            return Err(Error::Busy);
        }
        // At once: the next one may not be parked today, and a parked vCPU is not run, which would fail who waits for it.
        service::fail_requester(vcpu, core);
    }
    // Nor does it wait for anybody.
    System::get().vms.iter().flat_map(|other| &other.vcpus).for_each(|vcpu| vcpu.orphan_request(vm.id));
    vm.proceed(token, Event::Quiesced);
    Ok(true)
}

/// Does a part of *reclaiming*; returns how many bytes are left to scrub, at least a page while anything is left to do.
fn reclaim(vm: &'static Vm, core: &'static Core, reload: &mut Reload) -> Result<u64, Error> {
    let done = match reload.progress {
        Progress::Transactions => {
            if settle(vm, core)? {
                Progress::Received(Ipa(0))
            } else {
                Progress::Transactions
            }
        }
        Progress::Received(from) => {
            if let Some(next) = give_up(vm, core, reload, from)? {
                Progress::Received(next)
            } else {
                if let Some((_, reason)) = &mut reload.last_stop {
                    *reason = stop_notice::reason(vm);
                }
                Progress::Memory(0)
            }
        }
        Progress::Memory(offset) => {
            let next = scrub(vm, core, reload, offset)?;
            let left = reload.bytes_in_all() - next;
            reload.progress = if left == 0 { Progress::Vcpus(0) } else { Progress::Memory(next) };
            return Ok(left.max(PAGE));
        }
        Progress::Vcpus(done) => {
            let some = vm.vcpus.iter().skip(done).take(STEP_VCPUS);
            some.for_each(|vcpu| reset(vcpu, reload));
            let done = done + STEP_VCPUS;
            if done < vm.vcpus.len() {
                reload.progress = Progress::Vcpus(done);
                return Ok(PAGE);
            }
            reload.progress = Progress::Transactions;
            return Ok(0);
        }
    };
    reload.progress = done;
    Ok(reload.bytes_in_all())
}

/// Does a part of ending all memory transactions, and then closes the mailbox; returns whether that was all. `DENIED`: another VM holds
/// memory that this one has lent. No vCPU of the VM runs, so the VM begins no transactions, and nobody retrieves what was ended.
fn settle(vm: &'static Vm, core: &'static Core) -> Result<bool, Error> {
    let withdraw = |tables: &mut AllTables<'_>| System::get().ownership.lock().withdraw(vm.id, tables);
    if !abandon(vm, core)? || !service::drive(core, 1, withdraw)? {
        return Ok(false);
    }
    let mut mailbox = vm.mailbox.lock();
    if let Some((tx, rx)) = mailbox.pages.take() {
        System::get().ownership.lock().close_mailbox(vm.id, [tx, rx]);
    }
    *mailbox = Mailbox::default();
    Ok(true)
}

/// Scrubs a part of the memory that the VM has been given beyond what it had at boot, and gives it to the primary, which owns what is
/// nobody's. Returns the address from where on there is more to look at.
fn give_up(vm: &'static Vm, core: &'static Core, reload: &Reload, from: Ipa) -> Result<Option<Ipa>, Error> {
    let tables = &mut AllTables { window: &core.window };
    let (mut at, mut pages) = (from, STEP_PAGES / 4);
    for _ in 0..STEP_ENTRIES {
        let Some((mapping, next)) = vm.stage2.lock().look_up(at) else { return Ok(None) };
        if let Some(pa) = mapping.filter(|pa| !reload.has(at, *pa)) {
            let part = pages.min((next.0 - at.0) / PAGE);
            // No lock is held: every vCPU is parked, and a transaction would need one.
            tables.zero(pa, part);
            (at, pages) = (Ipa(at.0 + part * PAGE), pages - part);
            if at == next {
                let mut ownership = System::get().ownership.lock();
                let last = vm.stage2.lock().walk(Ipa(at.0 - PAGE)).ok_or(Error::Denied)?;
                let start = last.block - PAGE;
                let (ipa, pa) = (Ipa(at.0 - last.block), Pa(last.pa.0 - start));
                ownership.transfer(vm.id, ipa, pa, last.block / PAGE, VmId::PRIMARY, tables)?;
            }
            if pages == 0 {
                break;
            }
        } else {
            at = next;
        }
    }
    Ok(Some(at))
}

/// Makes a part of the VM's memory what it was at boot, from `offset` on. `DENIED`: it has given some of it away for good.
fn scrub(vm: &'static Vm, core: &'static Core, reload: &Reload, offset: u64) -> Result<u64, Error> {
    let Some((pa, contiguous)) = reload.find(offset) else { return Ok(offset) };
    let pages = STEP_PAGES.min(contiguous / PAGE);
    if !System::get().ownership.lock().owns(vm.id, pa, pages) {
        return Err(Error::Denied);
    }
    // A page that holds something takes as long as three others.
    let (mut done, mut left) = (0, STEP_PAGES);
    while done < pages && left > 0 {
        let (at, mut held) = (done * PAGE, false);
        core.window.with_page(Pa(pa.0 + at), |bytes| held = reload.page(offset + at, bytes));
        left = left.saturating_sub(if held { 3 } else { 1 });
        done += 1;
    }
    Ok(offset + done * PAGE)
}

/// Puts the VM, which is off and scrubbed, where it was at boot, and lets it run.
fn start(vm: &'static Vm, token: &Token<'_>) {
    let Some(reload) = token.as_ref() else { return };
    stop_notice::cancel(vm);
    arch::forget_vm(vm.vttbr);
    vm.renew();
    let link = |(tx, rx): &_| System::get().ownership.lock().link_mailbox(vm.id, [*tx, *rx]);
    vm.mailbox.lock().pages = reload.mailbox.filter(|pages| link(pages));
    System::get().routes.forget(vm);
    for vcpu in &vm.vcpus {
        // What has been sent to it since it was reset is forgotten, too.
        vcpu.irqs.forget();
        vcpu.notifications.store(0, Ordering::Relaxed);
    }
    // First the VM, then its vCPUs: one that can be claimed before its VM runs would be found stopped, and be switched off.
    vm.proceed(token, Event::Start);
    // The first vCPU last: once it can be run, it can switch the others on, which are parked until they are published.
    for vcpu in vm.vcpus.iter().rev() {
        // SAFETY: as in `reset`.
        let claimed = unsafe { Claimed::assume(vcpu) };
        claimed.release(if vcpu.index().0 == 0 { VcpuState::Ready } else { VcpuState::Off });
    }
}

fn reset(vcpu: &'static Vcpu, reload: &Reload) {
    // SAFETY: the caller holds the VM's teardown token, and the vCPU has been parked by it.
    let mut claimed = unsafe { Claimed::assume(vcpu) };
    vcpu.notifications.store(0, Ordering::Relaxed);
    reload.start(&mut claimed);
}
