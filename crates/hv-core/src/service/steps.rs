//! Memory calls that are longer than a core may be held: each entry does a few steps.
//!
//! A call that is not over when its steps are used up is made again: the hypervisor moves the caller's program counter back to the `HVC` or `SMC`,
//! whose arguments are all still in the registers. Interrupts that are pending are taken in between, by the hypervisor and by the VM, which
//! sees nothing else of it. (FF-A's own time slices, `FFA_MEM_OP_PAUSE` and `FFA_MEM_OP_RESUME` of DEN0140, have to be asked for by a flag, which no
//! known driver sets.)
//!
//! What has been begun is in the transaction ([`page_ownership`]), and for calls that have read the TX buffer also in the mailbox
//! ([`Ongoing`]): the buffer is not read again, and nothing that the caller can change is relied upon. A VM makes one such call at a time. If it
//! makes another one instead, that does the steps of the first call before its own.

use super::{answer, error, memory, success};
use crate::{
    arch,
    percore::Core,
    run::Next,
    system::System,
    tables::AllTables,
    teardown,
    vcpu::Loaded,
    vm::{Mailbox, Ongoing, Rx, Vm, What},
};
use hv_abi::{
    Regs,
    ffa::{
        self, Error,
        memory::{self as m, Handle},
    },
    ids::VmId,
};
use page_ownership::{Ownership, Step, Tables as _};

/// How many steps one entry does. Each takes the ownership lock for itself.
const STEPS: u32 = if cfg!(any(test, feature = "testing")) { 1 } else { 2 };

const LOW: u64 = 0xffff_ffff;

/// Steps of `transition`, until it is done, or has no more for this entry; returns whether it is done.
pub(crate) fn drive(
    core: &Core,
    steps: u32,
    mut transition: impl FnMut(&mut AllTables<'_>) -> Result<Step, Error>,
) -> Result<bool, Error> {
    let tables = &mut AllTables { window: &core.window };
    for _ in 0..steps {
        match transition(tables)? {
            Step::Done => return Ok(true),
            Step::More => {}
            Step::Busy => break,
            Step::Zero(wipe) => {
                tables.zero(wipe.pa, wipe.pages);
                System::get().ownership.lock().wiped(&wipe);
            }
        }
    }
    Ok(false)
}

/// A call that has read the caller's TX buffer: `begin` says what it asks for, when it is made for the first time.
pub(super) fn call(
    mut current: Loaded,
    begin: impl FnOnce(&mut Loaded, &mut Mailbox) -> Result<(Handle, What), Error>,
) -> Next {
    match first_or_again(&mut current, begin) {
        Ok(Some(results)) => current.regs().set_results(&results),
        Ok(None) => arch::repeat_call(),
        Err(code) => error(&mut current, code),
    }
    current.vcpu()
}

fn first_or_again(
    current: &mut Loaded,
    begin: impl FnOnce(&mut Loaded, &mut Mailbox) -> Result<(Handle, What), Error>,
) -> Result<Option<Regs>, Error> {
    let call = current.regs().arguments();
    let (vm, core) = (current.vm(), current.core());
    let mut mailbox = vm.mailbox.lock();
    let ongoing = match mailbox.ongoing {
        Some(ongoing) if ongoing.call == call => ongoing,
        Some(other) => {
            drop(mailbox);
            let _ = go_on(vm, core, other);
            return Ok(None);
        }
        None => {
            let (handle, what) = begin(current, &mut mailbox)?;
            let ongoing = Ongoing { call, handle, what };
            mailbox.ongoing = Some(ongoing);
            ongoing
        }
    };
    drop(mailbox);
    go_on(vm, core, ongoing)
}

/// Does steps of a call of `vm`; returns its results if it is over.
fn go_on(vm: &Vm, core: &Core, mut ongoing: Ongoing) -> Result<Option<Regs>, Error> {
    let handle = ongoing.handle;
    let responded = {
        let mut mailbox = vm.mailbox.lock();
        match mailbox.ongoing.filter(|there| there.is(&ongoing)) {
            Some(there) => {
                ongoing = there;
                let responded = memory::respond_early(vm, core, &mut mailbox, &mut ongoing);
                if responded == Ok(true) {
                    mailbox.ongoing = Some(ongoing);
                }
                responded
            }
            // Another vCPU has brought it to its end, and the RX page may hold anything by now.
            None if matches!(ongoing.what, What::Retrieve { .. }) => return Ok(None),
            None => Ok(true),
        }
    };
    let done = match responded {
        Ok(true) => drive(core, STEPS, |tables| memory::ownership(vm)?.step(vm.id, handle, tables)),
        other => other,
    };
    if done == Ok(false) {
        return Ok(None);
    }
    let mut mailbox = vm.mailbox.lock();
    let ended = mailbox.ongoing.take_if(|there| there.is(&ongoing)).is_some();
    let ownership = &mut vm.lock_running(&System::get().ownership)?;
    let results = done.and_then(|_| results(&mut mailbox, ownership, &ongoing));
    match ongoing.what {
        What::Send if results.is_err() => {
            mailbox.sending = mailbox.sending.filter(|sending| sending.handle != handle);
        }
        What::Retrieve { .. } => {
            if let Rx::Promised(vcpu) = mailbox.rx
                && ended
            {
                mailbox.rx = if results.is_ok() { Rx::Held(vcpu) } else { Rx::Free };
            }
        }
        What::Send | What::Relinquish => {}
    }
    results.map(Some)
}

/// The results of a call that has succeeded.
fn results(mailbox: &mut Mailbox, ownership: &mut Ownership, ongoing: &Ongoing) -> Result<Regs, Error> {
    let (low, high) = ongoing.handle.words();
    let success = |w2, w3| Ok(Regs([u64::from(ffa::SUCCESS), 0, w2, w3, 0, 0, 0, 0]));
    match ongoing.what {
        What::Send if ownership.is_complete(ongoing.handle) => {
            mailbox.sending = None;
            success(low, high)
        }
        What::Send => {
            let sending = mailbox.sending.filter(|sending| sending.handle == ongoing.handle);
            // None: another vCPU has given it up meanwhile.
            let received = sending.ok_or(Error::Aborted)?.received;
            Ok(Regs([u64::from(ffa::MEM_FRAG_RX), low, high, u64::from(received), 0, 0, 0, 0]))
        }
        What::Retrieve { response, .. } => {
            // There is always room for a page's worth.
            let m::Written { total, fragment } = response.ok_or(Error::NoMemory)?;
            Ok(Regs([ffa::MEM_RETRIEVE_RESP.into(), total as u64, fragment as u64, 0, 0, 0, 0, 0]))
        }
        What::Relinquish => success(0, 0),
    }
}

/// Does steps of the call that `vm` is making, if there is one; returns whether there is none any more. For calls that take away what that needs.
pub(super) fn finish(vm: &Vm, core: &Core) -> bool {
    let ongoing = vm.mailbox.lock().ongoing;
    ongoing.is_none_or(|ongoing| go_on(vm, core, ongoing) != Ok(None))
}

/// `FFA_MEM_RECLAIM`, which names its transaction: what has been begun is found there.
pub(super) fn reclaim(mut current: Loaded) -> Next {
    let [_, low, high, flags, ..] = current.regs().arguments().0;
    match do_reclaim(&current, Handle::from_words(low, high), (flags & LOW) as u32) {
        Ok(true) => success(&mut current, 0, 0),
        Ok(false) => arch::repeat_call(),
        Err(code) => return answer(current, Err(code)),
    }
    current.vcpu()
}

fn do_reclaim(current: &Loaded, handle: Handle, flags: u32) -> Result<bool, Error> {
    if flags & !memory::PLAIN_FLAGS != 0 {
        return Err(Error::InvalidParameters);
    }
    let (vm, core) = (current.vm(), current.core());
    // A receiver that does not run any more does not keep what it has.
    let gone = memory::ownership(vm)?.holders(handle).find_map(stopped);
    if let Some(gone) = gone {
        // Perhaps it is not the only one.
        return teardown::return_borrowed(gone, core).map(|_| false).map_err(|_| Error::Denied);
    }
    if !memory::ownership(vm)?.start_reclaim(vm.id, handle, flags & m::FLAG_ZERO != 0)? {
        return Ok(false);
    }
    let done = drive(core, STEPS, |tables| memory::ownership(vm)?.step(vm.id, handle, tables))?;
    if done {
        let mut mailbox = vm.mailbox.lock();
        mailbox.sending = mailbox.sending.filter(|sending| sending.handle != handle);
    }
    Ok(done)
}

fn stopped(vm: VmId) -> Option<&'static Vm> {
    System::get().vm(vm).filter(|vm| !vm.is_active())
}
