//! Indirect messages: `FFA_MSG_SEND2` copies from the sender's TX buffer to the receiver's RX buffer (DEN0077A, section 15.1).

use super::{answer, notify, paravirt, success};
use crate::{
    notifications::RX_BUFFER_FULL,
    run::Next,
    system::System,
    vcpu::{Loaded, Vcpu},
    vm::{Rx, Vm},
};
use core::sync::atomic::Ordering;
use hv_abi::{
    ffa::{self, Error, message::Message},
    ids::VmId,
    layout::PAGE,
    paravirt as ids,
};

/// w2: do not send the schedule receiver interrupt now.
const DELAY: u64 = 1 << 1;

/// `FFA_MSG_SEND2`.
pub(super) fn send(mut current: Loaded) -> Next {
    let [_, _, flags, ..] = current.regs().arguments().0;
    let flags = flags & 0xffff_ffff;
    let result = if flags & !DELAY == 0 { copy(&current) } else { Err(Error::InvalidParameters) };
    match result {
        Ok((target, notified)) => {
            success(&mut current, 0, 0);
            if notified {
                notify::announce(&current);
                target.irqs.set_pending(ids::NOTIFICATION_PENDING);
            }
            paravirt::notify(current, target, ids::MAILBOX_READABLE, flags & DELAY != 0)
        }
        Err(code) => answer(current, Err(code)),
    }
}

/// Copies the message; returns the vCPU that may want to read it, and whether its VM gets a notification of it.
fn copy(current: &Loaded) -> Result<(&'static Vcpu, bool), Error> {
    let (sender, window) = (current.vm(), &current.core().window);
    let mut bytes = [0; PAGE as usize];
    {
        let mailbox = sender.lock_running(&sender.mailbox)?;
        let (tx, _) = mailbox.pages.ok_or(Error::InvalidParameters)?;
        window.with_page(tx, |page| bytes.copy_from_slice(page));
    }
    let message = Message::parse(&bytes, sender.ffa_version())?;
    let payload = &bytes[message.offset..message.offset + message.size];
    let receiver = receiver(sender.id, &message)?;
    if sender.messaging.properties & receiver.messaging.properties & ffa::PROPERTY_INDIRECT == 0 {
        return Err(Error::Denied);
    }
    let version = receiver.ffa_version();
    let mut mailbox = receiver.lock_running(&receiver.mailbox)?;
    let (_, rx) = mailbox.pages.filter(|_| version != ffa::VERSION_1_0).ok_or(Error::Denied)?;
    if mailbox.rx != Rx::Free {
        return Err(Error::Busy);
    }
    let offset = Message::header_size(version);
    let delivered = Message { offset, ..message };
    if offset + payload.len() > bytes.len() {
        return Err(Error::NoMemory);
    }
    window.with_page(rx, |page| {
        if delivered.write(page, version).is_some() {
            page[offset..offset + payload.len()].copy_from_slice(payload);
        }
    });
    mailbox.rx = Rx::Message;
    let notified = receiver.notifications.lock().set_framework(RX_BUFFER_FULL);
    receiver.attention.store(true, Ordering::SeqCst);
    drop(mailbox);
    Ok((notify::reader(receiver), notified))
}

fn receiver(sender: VmId, message: &Message) -> Result<&'static Vm, Error> {
    let other = message.sender == sender && message.receiver != sender;
    let receiver = System::get().vm(message.receiver).filter(|vm| other && vm.serves(message.uuid));
    receiver.ok_or(Error::InvalidParameters)
}
