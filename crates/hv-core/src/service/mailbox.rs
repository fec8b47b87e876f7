//! RX and TX buffers.

use super::{answer, steps};
use crate::{
    arch,
    el2_map::Window,
    run::Next,
    system::System,
    tables::AllTables,
    vcpu::Loaded,
    vm::{Rx, Vm},
};
use core::sync::atomic::Ordering;
use hv_abi::{ffa::Error, ids::Ipa, layout::PAGE, smccc};

/// `FFA_RXTX_MAP` (section 13.6): one page each, memory of the caller's own.
pub(super) fn rxtx_map(mut current: Loaded) -> Next {
    let [function, tx, rx, pages, ..] = current.regs().arguments().0;
    let mask = if function as u32 & smccc::CONVENTION_64 == 0 { 0xffff_ffff } else { u64::MAX };
    let result = map(current.vm(), &current.core().window, tx & mask, rx & mask, pages);
    answer(current, result.map(|()| (0, 0)))
}

fn map(vm: &Vm, window: &Window, tx: u64, rx: u64, pages: u64) -> Result<(), Error> {
    if pages & 0x3f != 1 || pages & !0x3f & 0xffff_ffff != 0 || tx == rx || !(tx | rx).is_multiple_of(PAGE) {
        return Err(Error::InvalidParameters);
    }
    let mut mailbox = vm.lock_running(&vm.mailbox)?;
    if mailbox.pages.is_some() {
        return Err(Error::Denied);
    }
    let mut ownership = vm.lock_running(&System::get().ownership)?;
    let [tx, rx] = ownership.open_mailbox(vm.id, [Ipa(tx), Ipa(rx)], &AllTables { window })?;
    mailbox.pages = Some((tx, rx));
    mailbox.rx = Rx::Free;
    Ok(())
}

/// `FFA_RXTX_UNMAP` (section 13.7).
pub(super) fn rxtx_unmap(current: Loaded) -> Next {
    if !steps::finish(current.vm(), current.core()) {
        arch::repeat_call();
        return current.vcpu();
    }
    match unmap(current.vm()) {
        Ok(true) => answer(current, Ok((0, 0))),
        Ok(false) => {
            arch::repeat_call();
            current.vcpu()
        }
        Err(code) => answer(current, Err(code)),
    }
}

/// `false`: another vCPU has begun a memory call, which needs the pages.
fn unmap(vm: &Vm) -> Result<bool, Error> {
    let mut mailbox = vm.lock_running(&vm.mailbox)?;
    if mailbox.ongoing.is_some() {
        return Ok(false);
    }
    let (tx, rx) = mailbox.pages.take().ok_or(Error::InvalidParameters)?;
    System::get().ownership.lock().close_mailbox(vm.id, [tx, rx]);
    mailbox.rx = Rx::Free;
    Ok(true)
}

/// `FFA_RX_RELEASE` (section 13.4).
pub(super) fn rx_release(current: Loaded) -> Next {
    let result = release(current.vm());
    answer(current, result.map(|()| (0, 0)))
}

fn release(vm: &Vm) -> Result<(), Error> {
    let mut mailbox = vm.lock_running(&vm.mailbox)?;
    // A response that is still to be written keeps its place.
    let had = matches!(mailbox.rx, Rx::Message | Rx::Held(_));
    if had {
        mailbox.rx = Rx::Free;
    }
    let notifications = vm.notifications.lock();
    vm.attention.store(notifications.any(), Ordering::SeqCst);
    if had { Ok(()) } else { Err(Error::Denied) }
}
