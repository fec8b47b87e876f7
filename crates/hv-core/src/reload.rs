//! Making a VM as it was at boot.
//!
//! The bundle stays in memory for this, where no VM reaches it. A restart goes over the VM's memory page by page, a part with each
//! call; the VM is stopped meanwhile, and becomes able to run with the last step.

use crate::{
    arch,
    percore::Core,
    system::System,
    tables::AllTables,
    vcpu::{Claimed, Vcpu, VcpuState},
    vm::Vm,
};
use alloc::boxed::Box;
use hv_abi::{ffa::Error, ids::Pa, layout::PAGE};

/// How much memory one call makes new: 1 MiB.
const STEP: u64 = 256 * PAGE;

/// What a VM's memory held at boot, and where it started.
#[derive(Debug)]
pub(crate) struct Reload {
    pub(crate) pa: Pa,
    pub(crate) bytes: u64,
    /// More memory of the VM: where, and bytes. It held nothing.
    pub(crate) regions: Box<[(Pa, u64)]>,
    /// The (TX, RX) pages that it has from the start.
    pub(crate) mailbox: Option<(Pa, Pa)>,
    /// Offsets in the VM's memory, and what is there.
    pub(crate) segments: Box<[(u64, &'static [u8])]>,
    pub(crate) entry: u64,
    pub(crate) argument: u64,
    /// The register besides x0 that holds it.
    pub(crate) register: u8,
    /// How much of it a restart has made new.
    pub(crate) done: u64,
}

impl Reload {
    /// All memory of the VM, from the first byte on.
    fn memory(&self) -> impl Iterator<Item = (Pa, u64)> {
        core::iter::once((self.pa, self.bytes)).chain(self.regions.iter().copied())
    }

    /// The page at `offset`, and how many bytes there are from there on.
    fn find(&self, offset: u64) -> Option<(Pa, u64)> {
        let (mut found, mut end) = (None, 0);
        for (pa, bytes) in self.memory() {
            if found.is_none() && offset < end + bytes {
                found = Some(Pa(pa.0 + offset - end));
            }
            end += bytes;
        }
        Some((found?, end - offset))
    }

    /// Puts a vCPU, which has been claimed, where it was at boot.
    pub(crate) fn start(&self, claimed: &mut Claimed) {
        claimed.reset(self.entry, self.argument);
        claimed.regs().x[usize::from(self.register & 3)] = self.argument;
    }

    /// Makes the page at `offset` what it was.
    fn page(&self, offset: u64, page: &mut [u8]) {
        page.fill(0);
        for (start, bytes) in &self.segments {
            let end = start + bytes.len() as u64;
            let (from, to) = ((*start).max(offset), end.min(offset + PAGE));
            if from < to {
                let source = &bytes[(from - start) as usize..(to - start) as usize];
                page[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        arch::clean_data(page.as_ptr() as usize, page.len());
    }
}

/// Does a part of the restart of `vm`; returns how many bytes are left.
pub(crate) fn step(vm: &'static Vm, core: &'static Core) -> Result<u64, Error> {
    if vm.is_active() {
        return Err(Error::Denied);
    }
    let mut reload = vm.reload.try_lock().ok_or(Error::Busy)?;
    let reload = reload.as_mut().ok_or(Error::NotSupported)?;
    if vm.vcpus.iter().any(|vcpu| matches!(vcpu.state(), VcpuState::Running(_))) {
        return Err(Error::Busy);
    }
    if reload.done == 0 {
        gather(vm, core, reload)?;
    }
    let mut left = STEP;
    while let Some((pa, all)) = reload.find(reload.done) {
        if left == 0 {
            return Ok(all);
        }
        let offset = reload.done;
        core.window.with_page(pa, |page| reload.page(offset, page));
        (reload.done, left) = (offset + PAGE, left - PAGE);
    }
    reload.done = 0;
    arch::forget_vm(vm.vttbr);
    vm.renew();
    System::get().routes.forget(vm);
    vm.vcpus.iter().for_each(|vcpu| reset(vcpu, core, reload));
    vm.activate();
    Ok(0)
}

/// Sees to it that all of the VM's memory is its own again.
fn gather(vm: &'static Vm, core: &'static Core, reload: &Reload) -> Result<(), Error> {
    let mut mailbox = vm.mailbox.lock();
    let mut ownership = System::get().ownership.lock();
    let tables = &mut AllTables { window: &core.window };
    ownership.forsake(vm.id, tables);
    loop {
        let given = ownership.given_by(vm.id).next().map(|(handle, _)| handle);
        let Some(handle) = given else { break };
        ownership.reclaim(vm.id, handle, false, tables)?;
    }
    if let Some((tx, rx)) = mailbox.pages.take() {
        ownership.close_mailbox(vm.id, [tx, rx]);
    }
    *mailbox = crate::vm::Mailbox::default();
    if !reload.memory().all(|(pa, bytes)| ownership.owns(vm.id, pa, bytes / PAGE)) {
        return Err(Error::Denied);
    }
    mailbox.pages = reload.mailbox.filter(|(tx, rx)| ownership.link_mailbox(vm.id, [*tx, *rx]));
    Ok(())
}

/// Puts a vCPU, which does not run, where it was at boot.
fn reset(vcpu: &'static Vcpu, core: &'static Core, reload: &Reload) {
    // Nobody else claims it: the VM is stopped.
    let Some(mut claimed) = vcpu.claim(vcpu.state(), core) else { return };
    vcpu.notifications.store(0, core::sync::atomic::Ordering::Relaxed);
    reload.start(&mut claimed);
    claimed.release(if vcpu.index().0 == 0 { VcpuState::Ready } else { VcpuState::Off });
}
