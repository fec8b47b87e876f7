//! RX and TX buffers, and what the hypervisor itself puts into RX: partition information.

use super::answer;
use crate::{el2_map::Window, run::Next, system::System, tables::AllTables, vcpu::Loaded, vm::Vm};
use core::sync::atomic::Ordering;
use hv_abi::{
    ffa::{self, Error, PartitionInfo},
    ids::Ipa,
    layout::PAGE,
    smccc,
};

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
    let mut mailbox = vm.mailbox.lock();
    if mailbox.pages.is_some() {
        return Err(Error::Denied);
    }
    let mut ownership = System::get().ownership.lock();
    let [tx, rx] = ownership.open_mailbox(vm.id, [Ipa(tx), Ipa(rx)], &AllTables { window })?;
    mailbox.pages = Some((tx, rx));
    mailbox.rx_full = false;
    Ok(())
}

/// `FFA_RXTX_UNMAP` (section 13.7).
pub(super) fn rxtx_unmap(current: Loaded) -> Next {
    let vm = current.vm();
    let mut mailbox = vm.mailbox.lock();
    let result = mailbox.pages.take().ok_or(Error::InvalidParameters);
    if let Ok((tx, rx)) = result {
        System::get().ownership.lock().close_mailbox(vm.id, [tx, rx]);
        (mailbox.rx_full, mailbox.unread) = (false, false);
    }
    drop(mailbox);
    answer(current, result.map(|_| (0, 0)))
}

/// `FFA_RX_RELEASE` (section 13.4).
pub(super) fn rx_release(current: Loaded) -> Next {
    let vm = current.vm();
    let mut mailbox = vm.mailbox.lock();
    let was_full = core::mem::take(&mut mailbox.rx_full);
    mailbox.unread = false;
    vm.attention.store(vm.notifications.lock().any(), Ordering::SeqCst);
    drop(mailbox);
    answer(current, if was_full { Ok((0, 0)) } else { Err(Error::Denied) })
}

/// `FFA_PARTITION_INFO_GET` (section 13.8).
pub(super) fn partition_info_get(mut current: Loaded) -> Next {
    let [_, a, b, c, d, flags, ..] = current.regs().arguments().0;
    let uuid = [a, b, c, d].map(|word| word as u32);
    let result = partition_info(&current, uuid, flags & 0xffff_ffff);
    answer(current, result)
}

/// The properties of a VM, as far as the version that the caller speaks has words for them.
fn properties(vm: &Vm, version: ffa::Version) -> u32 {
    let direct = ffa::PROPERTY_DIRECT_RECV | ffa::PROPERTY_DIRECT_SEND;
    let known = if version == ffa::VERSION_1_0 {
        direct | ffa::PROPERTY_INDIRECT
    } else if version == ffa::VERSION_1_1 {
        direct | ffa::PROPERTY_INDIRECT | ffa::PROPERTY_NOTIFICATIONS | ffa::PROPERTY_AARCH64
    } else {
        u32::MAX
    };
    vm.messaging.properties & known
}

fn partition_info(current: &Loaded, uuid: [u32; 4], flags: u64) -> Result<(u64, u64), Error> {
    if flags & !ffa::PARTITION_INFO_COUNT_ONLY != 0 {
        return Err(Error::InvalidParameters);
    }
    let all = uuid == [0; 4];
    let vms = || System::get().vms.iter().filter(|vm| all || vm.uuid == uuid);
    let count = vms().count();
    if count == 0 {
        return Err(Error::InvalidParameters);
    }
    let version = current.vm().ffa_version();
    let old = version == ffa::VERSION_1_0;
    let size = if old { ffa::PARTITION_INFO_SIZE_1_0 } else { ffa::PARTITION_INFO_SIZE };
    let size_result = if old { 0 } else { size as u64 };
    if flags & ffa::PARTITION_INFO_COUNT_ONLY != 0 {
        return Ok((count as u64, 0));
    }
    let mut mailbox = current.vm().mailbox.lock();
    let Some((_, rx)) = mailbox.pages else { return Err(Error::Busy) };
    if mailbox.rx_full {
        return Err(Error::Busy);
    }
    if count * size > PAGE as usize {
        return Err(Error::NoMemory);
    }
    current.core().window.with_page(rx, |page| {
        for (vm, slot) in vms().zip(page.chunks_exact_mut(size)) {
            let info = PartitionInfo {
                id: vm.id.0,
                execution_contexts: vm.vcpus.len() as u16,
                properties: properties(vm, version),
                uuid: if all { vm.uuid } else { [0; 4] },
            };
            slot.copy_from_slice(&info.to_bytes()[..size]);
        }
    });
    mailbox.rx_full = true;
    Ok((count as u64, size_result))
}
