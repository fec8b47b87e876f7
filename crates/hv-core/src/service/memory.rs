//! Memory transactions (DEN0140): donate, lend, share, retrieve, relinquish, reclaim. What is asked is checked here, whether it may be, and
//! what it does, is [`page_ownership`]'s.
//!
//! A descriptor is copied out of the caller's TX buffer once, and only the copy is looked at. What a call begins here goes on in [`steps`], a
//! bounded part at a time.

use super::{error, steps};
use crate::{
    percore::Core,
    run::Next,
    system::System,
    tables::AllTables,
    vcpu::Loaded,
    vm::{Mailbox, Ongoing, Rx, Sending, Vm, What},
};
use hv_abi::{
    Regs,
    ffa::{
        self, Error,
        memory::{
            self as m, Attributes, Composite, DataAccess, Descriptor, Handle, Header, InstructionAccess,
            Kind, Permissions, Range, Receiver, Relinquish,
        },
    },
    ids::{Ipa, VmId},
    layout::PAGE,
};
use page_ownership::{Given, Grant, MAX_BORROWERS, Offer, Ownership, Request, Retrieved};

/// A copy of a page that a VM can write.
type Copy = [u8; PAGE as usize];

const LOW: u64 = 0xffff_ffff;
/// Flags that senders may use, and those of relinquish and reclaim. All calls are sliced, in a way that their callers do not see, whether
/// they may be or not.
pub(super) const PLAIN_FLAGS: u32 = m::FLAG_ZERO | m::FLAG_TIME_SLICE;
const RETRIEVE_FLAGS: u32 = PLAIN_FLAGS | m::FLAG_ZERO_AFTER | 3 << 3 | m::FLAG_BYPASS_RECEIVERS;
/// Ranges of a retrieve response that fit one page in every version.
const MOST_PIECES: usize = 240;

/// For a call of `vm`.
pub(super) fn ownership(vm: &Vm) -> Result<crate::lock::Guard<'static, Ownership>, Error> {
    vm.lock_running(&System::get().ownership)
}

/// Copies the first `length` bytes of the caller's TX buffer.
fn copy_in(core: &Core, mailbox: &Mailbox, length: u64, copy: &mut Copy) -> Result<usize, Error> {
    let (tx, _) = mailbox.pages.ok_or(Error::InvalidParameters)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= copy.len());
    let length = length.ok_or(Error::InvalidParameters)?;
    core.window.with_page(tx, |page| copy[..length].copy_from_slice(&page[..length]));
    Ok(length)
}

pub(super) fn donate(current: Loaded) -> Next {
    send(current, Kind::Donate)
}

pub(super) fn lend(current: Loaded) -> Next {
    send(current, Kind::Lend)
}

pub(super) fn share(current: Loaded) -> Next {
    send(current, Kind::Share)
}

/// `FFA_MEM_DONATE`, `FFA_MEM_LEND`, `FFA_MEM_SHARE`.
fn send(current: Loaded, kind: Kind) -> Next {
    steps::call(current, |current, mailbox| {
        let [_, total, fragment, address, pages, ..] = current.regs().arguments().0;
        let (total, fragment) = (total & LOW, fragment & LOW);
        if address != 0 || pages & LOW != 0 || fragment > total {
            // A buffer other than TX: FFA_FEATURES says that there is no such thing.
            return Err(Error::InvalidParameters);
        }
        begin(current, mailbox, kind, total, fragment)
    })
}

fn begin(
    current: &Loaded,
    mailbox: &mut Mailbox,
    kind: Kind,
    total: u64,
    fragment: u64,
) -> Result<(Handle, What), Error> {
    let (vm, core) = (current.vm(), current.core());
    let mut copy = [0; PAGE as usize];
    let length = copy_in(core, mailbox, fragment, &mut copy)?;
    let descriptor = Descriptor::parse(&copy[..length], total as usize, vm.ffa_version())?;
    let composite = descriptor.composite().ok_or(Error::InvalidParameters)?;
    let header = descriptor.header();
    if header.sender != vm.id {
        return Err(Error::Denied);
    }
    if header.handle != Handle(0) || header.flags & !PLAIN_FLAGS != 0 {
        return Err(Error::InvalidParameters);
    }
    check_attributes(kind, &descriptor)?;
    let several = descriptor.receiver_count() > 1;
    let mut borrowers: heapless::Vec<(VmId, Grant), MAX_BORROWERS> = heapless::Vec::new();
    for receiver in descriptor.receivers() {
        let receiver = receiver?;
        let entry = (receiver.vm, granted(kind, several, receiver)?);
        borrowers.push(entry).map_err(|_| Error::NoMemory)?;
    }
    let offer = Offer {
        kind,
        tag: header.tag,
        zero: header.flags & m::FLAG_ZERO != 0,
        pages: composite.pages.into(),
        borrowers: &borrowers,
    };
    let mut ownership = ownership(vm)?;
    let handle = ownership.begin(vm.id, &offer)?;
    mailbox.sending = Some(Sending { handle, total: total as u32, received: 0 });
    add(vm, mailbox, &mut ownership, descriptor.ranges(), length as u32)
}

/// Takes what a fragment of `length` bytes adds to the transaction that the VM is sending.
fn add(
    vm: &Vm,
    mailbox: &mut Mailbox,
    ownership: &mut Ownership,
    ranges: impl Iterator<Item = Range>,
    length: u32,
) -> Result<(Handle, What), Error> {
    let sending = mailbox.sending.as_mut().ok_or(Error::InvalidParameters)?;
    sending.received += length;
    let (handle, last) = (sending.handle, sending.received >= sending.total);
    let ranges = ranges.map(|range| (Ipa(range.address), range.pages.into()));
    if let Err(code) = ownership.start_add(vm.id, handle, ranges, last) {
        ownership.start_undo(vm.id, handle, Some(code))?;
    }
    Ok((handle, What::Send))
}

/// `FFA_MEM_FRAG_TX`: more of a descriptor. w4 is of no use to a VM, and zero.
pub(super) fn frag_tx(current: Loaded) -> Next {
    steps::call(current, |current, mailbox| {
        let [_, low, high, length, endpoint, ..] = current.regs().arguments().0;
        if endpoint & LOW != 0 {
            return Err(Error::InvalidParameters);
        }
        next_fragment(current, mailbox, Handle::from_words(low, high), length & LOW)
    })
}

fn next_fragment(
    current: &Loaded,
    mailbox: &mut Mailbox,
    handle: Handle,
    length: u64,
) -> Result<(Handle, What), Error> {
    let (vm, core) = (current.vm(), current.core());
    let mut copy = [0; PAGE as usize];
    let sending = mailbox.sending.filter(|sending| sending.handle == handle);
    let left = sending.map(|sending| u64::from(sending.total - sending.received));
    let left = left.ok_or(Error::InvalidParameters)?;
    let mut ownership = ownership(vm)?;
    let read = if length <= left {
        copy_in(core, mailbox, length, &mut copy)
    } else {
        Err(Error::InvalidParameters)
    };
    match read.and_then(|length| m::ranges(&copy[..length])) {
        Ok(ranges) => add(vm, mailbox, &mut ownership, ranges, length as u32),
        Err(code) => {
            // What cannot be continued is given up, so that the sender can begin again.
            ownership.start_undo(vm.id, handle, Some(code))?;
            Ok((handle, What::Send))
        }
    }
}

/// A single receiver of a loan or donation says itself how it maps the memory; several, or one that shares it, must know from
/// the sender.
fn check_attributes(kind: Kind, descriptor: &Descriptor<'_>) -> Result<(), Error> {
    let attributes = descriptor.header().attributes;
    let left_open = kind == Kind::Donate || (kind == Kind::Lend && descriptor.receiver_count() == 1);
    match attributes {
        Attributes(bits) if bits & !0b11_1111 != 0 => Err(Error::InvalidParameters),
        Attributes::NOT_SPECIFIED if left_open => Ok(()),
        Attributes::NORMAL_WB_INNER if !left_open => Ok(()),
        _ if left_open => Err(Error::InvalidParameters),
        _ => Err(Error::Denied),
    }
}

/// What a sender lets a receiver do.
fn granted(kind: Kind, several: bool, receiver: Receiver) -> Result<Grant, Error> {
    let Permissions { data, instruction } = receiver.permissions;
    let said = (data != DataAccess::NotSpecified, instruction != InstructionAccess::NotSpecified);
    let valid = match kind {
        Kind::Donate => said == (false, false),
        Kind::Lend => said.0 && !(several && said.1),
        Kind::Share => said == (true, false),
    };
    if !valid || receiver.flags != 0 {
        return Err(Error::InvalidParameters);
    }
    Ok(Grant {
        write: data != DataAccess::ReadOnly,
        execute: kind != Kind::Share && instruction != InstructionAccess::NotExecutable,
    })
}

/// `FFA_MEM_RETRIEVE_REQ`.
pub(super) fn retrieve(current: Loaded) -> Next {
    steps::call(current, |current, mailbox| {
        let [_, total, fragment, address, pages, ..] = current.regs().arguments().0;
        let (total, fragment) = (total & LOW, fragment & LOW);
        if address != 0 || pages & LOW != 0 || fragment != total {
            return Err(Error::InvalidParameters);
        }
        begin_retrieve(current, mailbox, total)
    })
}

fn begin_retrieve(current: &Loaded, mailbox: &mut Mailbox, length: u64) -> Result<(Handle, What), Error> {
    let (vm, core) = (current.vm(), current.core());
    let mut copy = [0; PAGE as usize];
    let length = copy_in(core, mailbox, length, &mut copy)?;
    let descriptor = Descriptor::parse(&copy[..length], length, vm.ffa_version())?;
    if mailbox.rx != Rx::Free {
        return Err(Error::Busy);
    }
    let mut ownership = ownership(vm)?;
    let header = *descriptor.header();
    let request = check_request(vm.id, &mut ownership, &descriptor)?;
    ownership.start_retrieve(vm.id, header.handle, &request, &AllTables { window: &core.window })?;
    // For the response.
    mailbox.rx = Rx::Promised(current.vcpu().index());
    Ok((header.handle, What::Retrieve { request: header, response: None }))
}

/// Writes the response to a retrieve request as soon as it is known where the memory will be, which may take a step. `false`: not yet.
pub(super) fn respond_early(
    vm: &Vm,
    core: &Core,
    mailbox: &mut Mailbox,
    ongoing: &mut Ongoing,
) -> Result<bool, Error> {
    let What::Retrieve { request, response } = &mut ongoing.what else { return Ok(true) };
    if response.is_some() {
        return Ok(true);
    }
    let (_, rx) = mailbox.pages.ok_or(Error::InvalidParameters)?;
    let mut ownership = ownership(vm)?;
    if ownership.given(vm.id, ongoing.handle).is_none() {
        ownership.step(vm.id, ongoing.handle, &mut AllTables { window: &core.window })?;
    }
    let Some((got, ranges)) = ownership.given(vm.id, ongoing.handle) else { return Ok(false) };
    let version = vm.ffa_version();
    core.window.with_page(rx, |page| *response = respond(page, version, vm.id, request, &got, ranges));
    Ok(true)
}

/// What a receiver asks for, as [`Ownership::start_retrieve`] wants it.
fn check_request(vm: VmId, ownership: &mut Ownership, descriptor: &Descriptor<'_>) -> Result<Request, Error> {
    let header = descriptor.header();
    let invalid = Err(Error::InvalidParameters);
    if header.flags & !RETRIEVE_FLAGS != 0 || ownership.owner(header.handle)? != header.sender {
        return invalid;
    }
    if ![Attributes::NOT_SPECIFIED, Attributes::NORMAL_WB_INNER].contains(&header.attributes) {
        return Err(Error::Denied);
    }
    let bypass = header.flags & m::FLAG_BYPASS_RECEIVERS != 0;
    let mut own = None;
    for receiver in descriptor.receivers() {
        let receiver = receiver?;
        if receiver.flags & !1 != 0 || ownership.grant(header.handle, receiver.vm)?.is_none() {
            return invalid;
        }
        if receiver.vm == vm && own.replace(receiver.permissions).is_some() {
            return invalid;
        }
    }
    let wanted = own.ok_or(Error::InvalidParameters)?;
    let expected = if bypass { 1 } else { ownership.borrowers(header.handle)?.count() };
    if descriptor.receiver_count() != expected {
        return invalid;
    }
    let grant = ownership.grant(header.handle, vm)?.unwrap_or_default();
    let place = match descriptor.composite() {
        None => None,
        Some(Composite { ranges: 1, pages }) => {
            let range = descriptor.ranges().next().filter(|range| range.pages == pages);
            let range = range.ok_or(Error::InvalidParameters)?;
            if range.pages == 0
                || !range.address.is_multiple_of(PAGE)
                || u64::from(pages) != ownership.pages_of(header.handle)?
            {
                return invalid;
            }
            Some(Ipa(range.address))
        }
        // Memory is received in one piece.
        Some(_) => return invalid,
    };
    Ok(Request {
        tag: header.tag,
        kind: Kind::from_flags(header.flags),
        write: match wanted.data {
            DataAccess::NotSpecified => grant.write,
            DataAccess::ReadOnly => false,
            DataAccess::ReadWrite => true,
        },
        execute: wanted.instruction == InstructionAccess::Executable,
        zero: header.flags & m::FLAG_ZERO != 0,
        zero_after: header.flags & m::FLAG_ZERO_AFTER != 0,
        place,
        most_pieces: MOST_PIECES,
    })
}

/// Writes the retrieve response.
fn respond(
    page: &mut [u8],
    version: ffa::Version,
    vm: VmId,
    request: &Header,
    got: &Retrieved,
    ranges: &[Given],
) -> Option<m::Written> {
    let permissions = Permissions {
        data: if got.grant.write { DataAccess::ReadWrite } else { DataAccess::ReadOnly },
        instruction: if got.grant.execute {
            InstructionAccess::Executable
        } else {
            InstructionAccess::NotExecutable
        },
    };
    let receiver = Receiver { vm, permissions, flags: 0 };
    let flags = got.kind.flags() | request.flags & m::FLAG_ZERO;
    let header = Header { flags, attributes: Attributes::NORMAL_WB_INNER, ..*request };
    let composite = Composite { pages: got.pages as u32, ranges: got.pieces as u32 };
    let pieces = pieces(got.ipa, got.pages, ranges);
    m::write(page, version, &header, &[receiver], Some(composite), pieces)
}

/// The ranges as the receiver sees them.
fn pieces(ipa: Option<Ipa>, pages: u64, ranges: &[Given]) -> impl Iterator<Item = Range> {
    let one = ipa.map(|ipa| Range { address: ipa.0, pages: pages as u32 });
    let many = if ipa.is_some() { &[] } else { ranges };
    one.into_iter().chain(many.iter().map(|range| Range { address: range.pa.0, pages: range.pages as u32 }))
}

/// `FFA_MEM_FRAG_RX`: more of a retrieve response, from an offset on.
pub(super) fn frag_rx(mut current: Loaded) -> Next {
    let [_, low, high, offset, endpoint, ..] = current.regs().arguments().0;
    let handle = Handle::from_words(low, high);
    let result = if endpoint & LOW == 0 {
        response_from(&current, handle, offset & LOW)
    } else {
        Err(Error::InvalidParameters)
    };
    match result {
        Ok(length) => {
            let fragment = [ffa::MEM_FRAG_TX.into(), low & LOW, high & LOW, length as u64, 0, 0, 0, 0];
            current.regs().set_results(&Regs(fragment));
        }
        Err(code) => error(&mut current, code),
    }
    current.vcpu()
}

fn response_from(current: &Loaded, handle: Handle, offset: u64) -> Result<usize, Error> {
    let vm = current.vm();
    let start = m::ranges_offset(vm.ffa_version(), 1) as u64;
    let mut mailbox = vm.mailbox.lock();
    let (_, rx) = mailbox.pages.ok_or(Error::InvalidParameters)?;
    let mut ownership = ownership(vm)?;
    if !ownership.holds(vm.id, handle) {
        return Err(Error::InvalidParameters);
    }
    let first = offset.checked_sub(start).filter(|bytes| bytes.is_multiple_of(m::RANGE_SIZE as u64));
    let first = first.ok_or(Error::InvalidParameters)? as usize / m::RANGE_SIZE;
    let all = if vm.receives_at_physical_addresses() { ownership.pieces(handle) } else { &[] };
    let left = all.get(first..).filter(|left| !left.is_empty()).ok_or(Error::InvalidParameters)?;
    if mailbox.rx != Rx::Free {
        return Err(Error::Busy);
    }
    let mut written = 0;
    current.core().window.with_page(rx, |page| written = m::write_ranges(page, pieces(None, 0, left)));
    mailbox.rx = Rx::Held(current.vcpu().index());
    Ok(written * m::RANGE_SIZE)
}

/// `FFA_MEM_RELINQUISH`.
pub(super) fn relinquish(current: Loaded) -> Next {
    steps::call(current, |current, mailbox| {
        let (vm, core) = (current.vm(), current.core());
        let mut copy = [0; PAGE as usize];
        let length = copy_in(core, mailbox, Relinquish::SIZE as u64, &mut copy)?;
        let Relinquish { handle, flags, vm: endpoint } = Relinquish::parse(&copy[..length])?;
        if endpoint != vm.id || flags & !PLAIN_FLAGS != 0 {
            return Err(Error::InvalidParameters);
        }
        ownership(vm)?.start_relinquish(vm.id, handle, flags & m::FLAG_ZERO != 0)?;
        Ok((handle, What::Relinquish))
    })
}
