//! Direct messages (DEN0077A, chapter 8.2 and sections 15.2 to 15.5): a request hands the sender's core to the receiver, the response
//! hands it back.
//!
//! The one who asked waits for the response and nothing else. If the receiver is interrupted for the primary's sake, both are
//! vCPUs that the primary schedules: it is told to run the receiver, and, when that has answered, the one who asked.

use super::error;
use crate::{
    percore::Core,
    run::{self, Next},
    statistics::Reason,
    system::System,
    vcpu::{Claimed, Loaded, Request, Vcpu, VcpuState},
    vm::Vm,
};
use hv_abi::{
    Regs,
    exit::Exit,
    ffa::{self, Error},
    ids::VmId,
    smccc,
};

/// The two forms of messages: payload in x3 to x7, or in x4 to x17.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    First,
    Second,
}

/// w2: a message of the framework, which VMs do not send.
const FRAMEWORK: u64 = 1 << 31;

/// Copies the first `N` words, of which the compiler knows here that they do not overlap.
fn copy<const N: usize>(to: &mut [u64], from: &[u64]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk()) {
        *to = *from;
    }
}

/// Copies eight words, word by word: as one array they would be copied by `memcpy`, which takes 60 instructions to 8.
#[inline(always)]
fn copy_words(to: &mut [u64; 31], from: &[u64; 31], word: impl Fn(u64) -> u64) {
    let &[a, b, c, d, e, f, g, h, ..] = from;
    let [to_a, to_b, to_c, to_d, to_e, to_f, to_g, to_h, ..] = to;
    (*to_a, *to_b, *to_c, *to_d) = (word(a), word(b), word(c), word(d));
    (*to_e, *to_f, *to_g, *to_h) = (word(e), word(f), word(g), word(h));
}

/// Copies a message from the sender's registers to the receiver's.
#[inline(always)]
fn deliver(current: &mut Loaded, to: &mut Claimed, form: Form) {
    let (from, to) = (&current.regs().x, &mut to.regs().x);
    if form == Form::Second {
        copy::<18>(to, from);
    } else if from[0] as u32 & smccc::CONVENTION_64 != 0 {
        copy_words(to, from, |word| word);
    } else {
        copy_words(to, from, |word| word & 0xffff_ffff);
    }
}

/// `FFA_MSG_SEND_DIRECT_REQ`.
#[inline(never)]
pub(super) fn request(mut current: Loaded) -> Next {
    if current.regs().x[2] & FRAMEWORK != 0 {
        return refuse(current, Error::InvalidParameters);
    }
    send_request(current, Form::First)
}

/// `FFA_MSG_SEND_DIRECT_REQ2`: x2 and x3 are the UUID of the service, or zero.
pub(super) fn request2(mut current: Loaded) -> Next {
    let [_, ids, low, high, ..] = current.regs().arguments().0;
    let receiver = System::get().vm(VmId(ids as u16));
    if receiver.is_some_and(|vm| !vm.serves(ffa::uuid_from_words([low, high]))) {
        return refuse(current, Error::InvalidParameters);
    }
    let version = receiver.map_or(ffa::VERSION_1_2, Vm::ffa_version).min(current.vm().ffa_version());
    if version < ffa::VERSION_1_2 {
        return refuse(current, Error::NotSupported);
    }
    send_request(current, Form::Second)
}

fn refuse(mut current: Loaded, code: Error) -> Next {
    error(&mut current, code);
    current.vcpu()
}

/// A vCPU of `vm` that waits for a message, for this core: if it can be, the one with the number of the sender's.
fn take_receiver(vm: &'static Vm, preferred: usize, core: &'static Core) -> Result<Claimed, Error> {
    let waiting = VcpuState::WaitingForMessage;
    let first = vm.vcpus.get(preferred).and_then(|vcpu| vcpu.claim(waiting, core));
    let claimed = first.or_else(|| vm.vcpus.iter().find_map(|vcpu| vcpu.claim(waiting, core)));
    // Looked at after the claim, as when a vCPU is run.
    if vm.stop_reason().is_some() {
        if let Some(claimed) = claimed {
            claimed.release(VcpuState::Off);
        }
        return Err(Error::Aborted);
    }
    claimed.ok_or(Error::Busy)
}

#[inline]
fn send_request(mut current: Loaded, form: Form) -> Next {
    let (sends, receives) = match form {
        Form::First => (ffa::PROPERTY_DIRECT_SEND, ffa::PROPERTY_DIRECT_RECV),
        Form::Second => (ffa::PROPERTY_DIRECT2_SEND, ffa::PROPERTY_DIRECT2_RECV),
    };
    let vm = current.vm();
    let ids = current.regs().x[1] as u32;
    let (from, to) = (VmId((ids >> 16) as u16), VmId(ids as u16));
    let receiver = System::get().vm(to).filter(|_| from == vm.id && to != from);
    let Some(receiver) = receiver else { return refuse(current, Error::InvalidParameters) };
    if vm.messaging.properties & sends == 0 || receiver.messaging.properties & receives == 0 {
        return refuse(current, Error::Denied);
    }
    if !vm.may_call() {
        return refuse(current, Error::Aborted);
    }
    let (vcpu, core) = (current.vcpu(), current.core());
    let mut claimed = match take_receiver(receiver, usize::from(vcpu.index().0), core) {
        Ok(claimed) => claimed,
        Err(code) => return refuse(current, code),
    };
    deliver(&mut current, &mut claimed, form);
    let target = claimed.vcpu();
    if !vm.is_primary() {
        let number = vcpu.next_request();
        target.set_request(Request { sender: vcpu.id(), number });
        core.set_departing(VcpuState::WaitingForResponse(number));
        vcpu.statistics.exit(Reason::Message);
        return target;
    }
    target.set_request(Request { sender: vcpu.id(), number: 0 });
    if vcpu.irqs.line() {
        // As if the receiver had been interrupted before its first instruction.
        claimed.release(VcpuState::Ready);
        current.regs().set_results(&Exit::Interrupt.to_regs(target.id()));
        return vcpu;
    }
    core.ran.set(target);
    target
}

/// `FFA_MSG_SEND_DIRECT_RESP`.
#[inline(never)]
pub(super) fn response(mut current: Loaded) -> Next {
    if current.regs().x[2] & FRAMEWORK != 0 {
        return refuse(current, Error::InvalidParameters);
    }
    send_response(current, Form::First)
}

/// `FFA_MSG_SEND_DIRECT_RESP2`.
pub(super) fn response2(current: Loaded) -> Next {
    send_response(current, Form::Second)
}

/// What a vCPU sees that goes on after a response, or a wait for messages, without having got one.
fn nothing_received(current: &mut Loaded) {
    let id = current.vcpu().id();
    current.regs().set_results(&Exit::Interrupt.to_regs(id));
}

#[inline]
fn send_response(mut current: Loaded, form: Form) -> Next {
    let (vcpu, core) = (current.vcpu(), current.core());
    let ids = current.regs().x[1] & 0xffff_ffff;
    let Some(request) = vcpu.request() else { return refuse(current, Error::Denied) };
    if ids != u64::from(vcpu.vm().id.0) << 16 | u64::from(request.sender.vm.0) {
        return refuse(current, Error::InvalidParameters);
    }
    // What counts is what the exchange gives: teardown of the sender may have come in between.
    let Some(request) = vcpu.take_request() else { return refuse(current, Error::Denied) };
    if request.sender.vm == VmId::PRIMARY {
        // Whichever of the primary's vCPUs runs this one gets the answer.
        core.set_departing(VcpuState::WaitingForMessage);
        vcpu.statistics.exit(Reason::Message);
        let primary = core.primary();
        // SAFETY: as in `run::exit_about`: a secondary is loaded, so the primary's vCPU of this core is not, and is this core's.
        deliver(&mut current, &mut unsafe { Claimed::assume(primary) }, form);
        nothing_received(&mut current);
        return primary;
    }
    let Some(mut asked) = claim_sender(request, core) else { return refuse(current, Error::Aborted) };
    if asked.vcpu().vm().stop_reason().is_some() {
        // Whoever stopped it found it running here, and left it to this core to fail those who wait for it.
        fail_requester(asked.vcpu(), core);
        asked.release(VcpuState::Off);
        return refuse(current, Error::Aborted);
    }
    deliver(&mut current, &mut asked, form);
    nothing_received(&mut current);
    if !run::has_reason_to_run(&current) {
        core.set_departing(VcpuState::WaitingForMessage);
        vcpu.statistics.exit(Reason::Message);
        return asked.vcpu();
    }
    // This vCPU has something to do as well, so both are the primary's to schedule. It knows that the one it ran last can go on, and
    // is told of the other; in a longer chain, of the second one later.
    let (asked_vcpu, ran) = (asked.vcpu(), core.ran.get());
    asked.release(VcpuState::Ready);
    let about = if core::ptr::eq(ran, asked_vcpu) { vcpu } else { asked_vcpu };
    if !core::ptr::eq(ran, asked_vcpu) && !core::ptr::eq(ran, vcpu) {
        core.tell.set(vcpu);
    }
    run::leave(&current, about.id(), Exit::Interrupt, VcpuState::Ready)
}

/// Takes the sender of a request, if it still waits for the response to that one.
#[inline(always)]
fn claim_sender(request: Request, core: &'static Core) -> Option<Claimed> {
    let sender = System::get().vm(request.sender.vm)?.vcpus.get(usize::from(request.sender.index.0))?;
    sender.claim(VcpuState::WaitingForResponse(request.number), core)
}

/// `vcpu`, whose VM has stopped, will not answer any more: whoever waits for it goes on with `ABORTED`, when it is next run. (If that
/// is the primary, the exit tells it.)
pub(crate) fn fail_requester(vcpu: &Vcpu, core: &'static Core) {
    if let Some(mut asked) = vcpu.take_request().and_then(|request| claim_sender(request, core)) {
        let results = [u64::from(ffa::ERROR), 0, Error::Aborted.bits(), 0, 0, 0, 0, 0];
        asked.regs().set_results(&Regs(results));
        asked.release(VcpuState::Ready);
    }
}
