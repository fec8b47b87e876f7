//! Two VMs that use everything FF-A gives them on each other: `role=server` serves direct requests,
//! `role=client` sends them, and checks what comes of it. Each check is a line `@check name=… ok=…`.

use alloc::vec::Vec;
use core::ptr::with_exposed_provenance_mut;
use hv_abi::{
    Regs,
    ffa::{
        self, Error,
        memory::{
            Attributes, DataAccess, Handle, Header, InstructionAccess, Kind, Permissions, Range, Receiver,
        },
        message::Message,
    },
    guest::{
        self,
        memory::{self, Buffers},
        messages,
    },
    ids::{Ipa, VcpuIndex, VmId},
    paravirt,
};
use lwk_core::{
    app::{App, Status},
    memory::{Block, allocate, map_shared},
    println,
};
use machine::Region;
use vtimer::{PhysicalTimer, Timer};

const PAGE: u64 = 4096;
const RW: Permissions =
    Permissions { data: DataAccess::ReadWrite, instruction: InstructionAccess::NotSpecified };
const OPEN: Permissions =
    Permissions { data: DataAccess::NotSpecified, instruction: InstructionAccess::NotSpecified };
/// The notification that the server gives, and the name of all memory transactions.
const BELL: u64 = 1 << 40;
const TAG: u64 = 0x7a67;

/// Operation of the server: the first word of a request. It answers with 0 or an error code, and a value.
mod op {
    /// Answers with the sum of the words.
    pub(super) const ADD: u64 = 0;
    /// Retrieves a transaction (handle, permissions); answers with the first word it finds there.
    pub(super) const RETRIEVE: u64 = 1;
    /// Writes a word to the start of each page that it has retrieved.
    pub(super) const FILL: u64 = 2;
    /// Relinquishes a transaction (handle, zero).
    pub(super) const RELINQUISH: u64 = 3;
    /// Sends the client a message with the word, and rings its bell.
    pub(super) const SEND: u64 = 4;
    /// Counts the pages that it has retrieved.
    pub(super) const COUNT: u64 = 5;
    /// Ends.
    pub(super) const END: u64 = 6;
    /// Counts how often it has been asked this.
    pub(super) const TIMES: u64 = 7;
}

/// The program.
pub fn main(app: &App) -> Status {
    let line = app.command_line();
    let peer = VmId(line.number("peer").unwrap_or(3));
    let version = match line.get("ffa") {
        Some("1.0") => ffa::VERSION_1_0,
        Some("1.1") => ffa::VERSION_1_1,
        _ => ffa::VERSION_1_2,
    };
    let agreed = guest::version(version).is_some();
    let me = guest::id_get().unwrap_or(VmId::HYPERVISOR);
    let (Some(tx), Some(rx)) = (allocate(PAGE), allocate(PAGE)) else { return Status::FAILURE };
    let mapped = guest::rxtx_map(Ipa(tx.phys().0), Ipa(rx.phys().0));
    check("mailbox", agreed && mapped.is_ok());
    let buffers = Buffers { tx: tx.leak(), rx: rx.leak(), version };
    let has_gic = app.machine().interrupt_controller().is_some();
    let mut party = Party { me, peer, buffers, got: Vec::new(), times: 0, has_gic };
    match line.get("role") {
        Some("server") => party.serve(),
        Some("phoenix") => party.rise(app),
        Some("super") => party.look(app),
        _ => party.ask(line.number("services")),
    }
}

fn check(name: &str, ok: bool) -> bool {
    println!("@check name={name} ok={}", if ok { "yes" } else { "no" });
    ok
}

struct Party {
    me: VmId,
    peer: VmId,
    buffers: Buffers<'static>,
    /// Where the memory of the last transaction is, page by page.
    got: Vec<usize>,
    times: u64,
    /// Its interrupts come from a GIC.
    has_gic: bool,
}

fn code(result: Result<u64, Error>) -> [u64; 5] {
    match result {
        Ok(value) => [0, value, 0, 0, 0],
        Err(error) => [error.bits(), 0, 0, 0, 0],
    }
}

/// The words at the start of pages, through addresses that the other VM writes too.
fn peek(at: usize) -> u64 {
    // SAFETY: only mapped pages are passed; what is there may change at any time, hence volatile.
    unsafe { with_exposed_provenance_mut::<u64>(at).read_volatile() }
}

/// A device's register.
fn peek32(at: usize) -> u32 {
    // SAFETY: as `peek`; reading this register has no side effect.
    unsafe { with_exposed_provenance_mut::<u32>(at).read_volatile() }
}

fn poke(at: usize, value: u64) {
    // SAFETY: as `peek`, and nothing else of this kernel is there.
    unsafe { with_exposed_provenance_mut::<u64>(at).write_volatile(value) };
}

impl Party {
    fn header(sender: VmId, handle: Handle, attributes: Attributes, flags: u32) -> Header {
        Header { sender, attributes, flags, handle, tag: TAG }
    }

    fn serve(&mut self) -> Status {
        let mut regs = guest::msg_wait();
        loop {
            let [function, ids, _, what, a, b, ..] = regs.0;
            let from = VmId((ids >> 16) as u16);
            regs = match function as u32 {
                ffa::MSG_SEND_DIRECT_REQ_64 => {
                    let answer = code(self.act(what, a, b));
                    if what == op::END {
                        return Status::SUCCESS;
                    }
                    messages::direct_response(self.me, from, answer)
                }
                ffa::MSG_SEND_DIRECT_REQ2 => {
                    // The wrapper for eight registers has lost the others: this server answers with what it
                    // has.
                    let mut payload = [0; 14];
                    payload[..4].copy_from_slice(&regs.0[4..]);
                    let next = messages::direct_response2(self.me, from, payload);
                    let mut first = Regs::default();
                    first.0.copy_from_slice(&next[..8]);
                    first
                }
                ffa::ERROR => {
                    println!("an answer was refused: {:?}", Error::from_bits(regs.0[2]));
                    guest::msg_wait()
                }
                _ => guest::msg_wait(),
            };
        }
    }

    fn act(&mut self, what: u64, a: u64, b: u64) -> Result<u64, Error> {
        let handle = Handle(a);
        match what {
            op::ADD => Ok(a.wrapping_add(b)),
            op::RETRIEVE => {
                let permissions = Permissions::from_bits(b as u8).ok_or(Error::InvalidParameters)?;
                let receiver = Receiver { vm: self.me, permissions, flags: 0 };
                let flags = (b >> 32) as u32;
                let header = Self::header(self.peer, handle, Attributes::NOT_SPECIFIED, flags);
                let mut pages = Vec::new();
                self.buffers.retrieve(&header, &[receiver], None, |range| {
                    let bytes = u64::from(range.pages) * PAGE;
                    let at = Region::new(range.address, bytes).and_then(|region| map_shared(region).ok());
                    pages.extend(
                        at.into_iter().flat_map(|at| (at..at + bytes as usize).step_by(PAGE as usize)),
                    );
                })?;
                self.got = pages;
                self.got.first().map(|at| peek(*at)).ok_or(Error::NoData)
            }
            op::FILL => {
                self.got.iter().for_each(|at| poke(*at, a));
                Ok(0)
            }
            op::TIMES => {
                self.times += 1;
                Ok(self.times)
            }
            op::COUNT => Ok(self.got.len() as u64),
            op::RELINQUISH => self.buffers.relinquish(self.me, handle, b != 0).map(|()| 0),
            op::SEND => {
                let offset = Message::header_size(self.buffers.version);
                let message = Message { sender: self.me, receiver: self.peer, offset, size: 8, uuid: [0; 4] };
                message.write(self.buffers.tx, self.buffers.version).ok_or(Error::NoMemory)?;
                self.buffers.tx[offset..offset + 8].copy_from_slice(&a.to_le_bytes());
                core::hint::black_box(&mut *self.buffers.tx);
                messages::send2()?;
                messages::notification_set(self.me, self.peer, None, BELL)?;
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    /// Sends a direct request to the server, until it is ready; returns the code and value of the response.
    fn request(&self, what: u64, a: u64, b: u64) -> Result<u64, Error> {
        loop {
            let answer = messages::direct_request(self.me, self.peer, [what, a, b, 0, 0]);
            match answer.function() {
                ffa::MSG_SEND_DIRECT_RESP_64 if answer.0[3] == 0 => return Ok(answer.0[4]),
                ffa::MSG_SEND_DIRECT_RESP_64 => {
                    return Err(Error::from_bits(answer.0[3]).unwrap_or(Error::NotSupported));
                }
                _ => match Error::from_bits(answer.0[2]) {
                    // It is still starting, or runs elsewhere.
                    Some(Error::Busy) => guest::yield_now(),
                    error => return Err(error.unwrap_or(Error::NotSupported)),
                },
            }
        }
    }

    /// A super-secondary: sees physical addresses and devices, has messages, and no power over other VMs.
    fn look(&self, app: &App) -> Status {
        let id = check("id", self.me == VmId::SUPER_SECONDARY);
        // Other VMs have theirs at this address, whatever memory is behind it.
        let memory = app.machine().memory().map(|memory| memory.base).min();
        let physical =
            check("memory-at-its-place", memory.is_some_and(|base| base > hv_abi::layout::RAM_BASE));
        let mut devices = 0;
        app.machine().for_each_device(&mut |_, _| devices += 1);
        // QEMU's virt machine: the real-time clock's identification registers (PL031, section 3.3.9).
        let clock =
            Region::new(0x0901_0000, PAGE).and_then(|region| lwk_core::memory::map_device(region).ok());
        let clock = clock.map(|at| peek32(at + 0xfe0));
        println!("{devices} register ranges of devices, the clock says {clock:x?}");
        let device = check("device", devices > 2 && clock == Some(0x31));
        let run = [ffa::RUN, hv_abi::vendor::VM_STOP, hv_abi::vendor::VM_RESTART].map(|function| {
            let out = guest::hvc(Regs([function.into(), 3 << 16, 0, 0, 0, 0, 0, 0]));
            out.0[0] == u64::MAX || Error::from_bits(out.0[2]) == Some(Error::NotSupported)
        });
        let power = check("no-power", run == [true; 3]);
        let message =
            check("message", self.request(op::ADD, 1, 2) == Ok(3) && self.request(op::END, 0, 0).is_err());
        Status::of(id & physical & device & power & message)
    }

    /// Resets itself twice: each time it finds its memory as new, and its peer as it was.
    fn rise(&self, app: &App) -> Status {
        let end = app.machine().memory().map(|memory| memory.end()).max().unwrap_or(0);
        // The last page, which the kernel does not come to so soon.
        let last = lwk_core::memory::LINEAR + end as usize - PAGE as usize;
        let clean = check("memory-is-new", peek(last) == 0);
        poke(last, 0xdead);
        let times = self.request(op::TIMES, 0, 0);
        if matches!(times, Ok(1 | 2)) {
            println!("life {times:?}");
            guest::hvc(Regs::func(hv_abi::psci::SYSTEM_RESET));
        }
        let lives = check("lives", times == Ok(3));
        let late = app.entry_ticks() > PhysicalTimer.counter() / 2;
        let time = check("time", late != app.command_line().has("time-from-start"));
        Status::of(clean & lives & time & check("end", self.request(op::END, 0, 0) == Err(Error::Aborted)))
    }

    fn give(
        &mut self,
        kind: Kind,
        permissions: Permissions,
        zero: bool,
        ranges: &[Range],
    ) -> Result<Handle, Error> {
        let attributes =
            if kind == Kind::Share { Attributes::NORMAL_WB_INNER } else { Attributes::NOT_SPECIFIED };
        let header = Self::header(self.me, Handle(0), attributes, zero.into());
        self.buffers.send(kind, &header, &[Receiver { vm: self.peer, permissions, flags: 0 }], ranges)
    }

    fn ask(&mut self, services: Option<usize>) -> Status {
        let mut ok = check("direct-message", self.request(op::ADD, 40, 2) == Ok(42));
        if let Some(count) = services {
            ok &= check("services", self.find_services() == Ok(count));
        }
        if self.buffers.version == ffa::VERSION_1_2 {
            let answer = messages::direct_request2(self.me, self.peer, [0; 4], [7; 14]);
            ok &= check(
                "direct-message-2",
                answer[0] == ffa::MSG_SEND_DIRECT_RESP2.into() && answer[4..8] == [7; 4],
            );
        }
        let Some(block) = allocate(4 * PAGE) else { return Status::FAILURE };
        ok &= self.share(&block);
        ok &= self.lend(&block);
        ok &= self.fragments();
        if self.buffers.version != ffa::VERSION_1_0 {
            ok &= self.bell();
        }
        // Last, because the memory is gone then.
        ok &= self.donate(block);
        ok &= check("end", self.request(op::END, 0, 0) == Err(Error::Aborted));
        Status::of(ok)
    }

    /// Looks for the peer's services, and asks each; returns how many there are.
    fn find_services(&self) -> Result<usize, Error> {
        let all = guest::partition_info_get_regs([0; 4], 0, 0)?;
        if guest::partition_count([0; 4])? != usize::from(all.last()) + 1 {
            return Err(Error::InvalidParameters);
        }
        let mut count = 0;
        for service in all.infos().filter(|info| info.id == self.peer.0) {
            println!("service {:x?} has properties {:#x}", service.uuid, service.properties);
            let found = guest::partition_info_get_regs(service.uuid, 0, 0)?;
            let same = ffa::PartitionInfo { uuid: [0; 4], ..service };
            let answer = messages::direct_request2(self.me, self.peer, service.uuid, [9; 14]);
            let answered = answer[0] == ffa::MSG_SEND_DIRECT_RESP2.into();
            count += usize::from(found.infos().eq([same]) && answered);
        }
        Ok(count)
    }

    fn share(&mut self, block: &Block) -> bool {
        let at = lwk_core::memory::LINEAR + block.phys().0 as usize;
        poke(at, 0x1111);
        let ranges = [Range { address: block.phys().0, pages: 4 }];
        let Ok(handle) = self.give(Kind::Share, RW, false, &ranges) else { return check("share", false) };
        let bits = u64::from(RW.to_bits());
        let read = self.request(op::RETRIEVE, handle.0, bits) == Ok(0x1111);
        let filled = self.request(op::FILL, 0x2222, 0).is_ok();
        let seen = (0..4).all(|n| peek(at + n * PAGE as usize) == 0x2222);
        let kept = memory::reclaim(handle, false) == Err(Error::Denied);
        let back =
            self.request(op::RELINQUISH, handle.0, 0).is_ok() && memory::reclaim(handle, false).is_ok();
        let gone = self.request(op::RETRIEVE, handle.0, bits) == Err(Error::InvalidParameters);
        check("share", read && filled && seen && kept && back && gone)
    }

    fn lend(&mut self, block: &Block) -> bool {
        let at = lwk_core::memory::LINEAR + block.phys().0 as usize;
        poke(at, 0x3333);
        let ranges = [Range { address: block.phys().0, pages: 2 }];
        let Ok(handle) = self.give(Kind::Lend, RW, false, &ranges) else { return check("lend", false) };
        let bits = u64::from(RW.to_bits());
        let read = self.request(op::RETRIEVE, handle.0, bits) == Ok(0x3333);
        let filled = self.request(op::FILL, 0x4444, 0).is_ok();
        let back =
            self.request(op::RELINQUISH, handle.0, 0).is_ok() && memory::reclaim(handle, false).is_ok();
        let seen = peek(at) == 0x4444 && peek(at + PAGE as usize) == 0x4444;
        // What is zeroed on the way does not show what was there.
        let Ok(handle) = self.give(Kind::Lend, RW, true, &ranges) else { return check("lend", false) };
        let zero = self.request(op::RETRIEVE, handle.0, bits) == Ok(0);
        let secret = self.request(op::FILL, 0x5555, 0).is_ok();
        let back = back
            && self.request(op::RELINQUISH, handle.0, 1).is_ok()
            && memory::reclaim(handle, false).is_ok();
        check("lend", read && filled && back && seen && zero && secret && peek(at) == 0)
    }

    /// More pieces than one page can list.
    fn fragments(&mut self) -> bool {
        let Some(block) = allocate(600 * PAGE) else { return check("fragments", false) };
        let ranges: Vec<Range> =
            (0..300).map(|n| Range { address: block.phys().0 + 2 * n * PAGE, pages: 1 }).collect();
        let Ok(handle) = self.give(Kind::Share, RW, false, &ranges) else { return check("fragments", false) };
        let bits = u64::from(RW.to_bits());
        let got =
            self.request(op::RETRIEVE, handle.0, bits).is_ok() && self.request(op::COUNT, 0, 0) == Ok(300);
        let filled = self.request(op::FILL, 0x6666, 0).is_ok();
        let at = lwk_core::memory::LINEAR + block.phys().0 as usize;
        let seen = (0..600).all(|n| peek(at + n * PAGE as usize) == if n % 2 == 0 { 0x6666 } else { 0 });
        let back =
            self.request(op::RELINQUISH, handle.0, 0).is_ok() && memory::reclaim(handle, false).is_ok();
        check("fragments", got && filled && seen && back)
    }

    /// A message through the mailbox, and a notification.
    fn bell(&mut self) -> bool {
        let created = messages::notification_create(self.me, 1).is_ok();
        let bound = messages::notification_bind(self.me, self.peer, false, BELL).is_ok();
        let sent = self.request(op::SEND, 0x7777, 0).is_ok();
        let busy = self.request(op::SEND, 0x8888, 0) == Err(Error::Busy);
        let pending = messages::notification_get(self.me, VcpuIndex(0));
        let rung = pending == Ok((BELL, 1 << 32));
        let rx = core::hint::black_box(&mut *self.buffers.rx);
        let message = Message::parse(rx, self.buffers.version);
        let read = message.is_ok_and(|message| {
            message.sender == self.peer && rx[message.offset..][..8] == 0x7777_u64.to_le_bytes()
        });
        let released = guest::rx_release().is_ok();
        let none = messages::notification_get(self.me, VcpuIndex(0)) == Ok((0, 0));
        let id = paravirt::NOTIFICATION_PENDING;
        let number = if self.has_gic { paravirt::gic_intid(id) } else { Some(id.number()) };
        let interrupt = ffa_feature(ffa::FEATURE_NOTIFICATION_PENDING) == number.map(u64::from);
        check("message", sent && busy && read && released)
            & check("notification", created && bound && rung && none && interrupt)
    }

    fn donate(&mut self, block: Block) -> bool {
        let at = lwk_core::memory::LINEAR + block.phys().0 as usize;
        poke(at, 0x9999);
        let ranges = [Range { address: block.phys().0, pages: 4 }];
        // Never to be allocated again.
        block.leak();
        let Ok(handle) = self.give(Kind::Donate, OPEN, false, &ranges) else { return check("donate", false) };
        let read = self.request(op::RETRIEVE, handle.0, OPEN.to_bits().into()) == Ok(0x9999);
        let mine = memory::reclaim(handle, false) == Err(Error::InvalidParameters);
        let again = self.give(Kind::Share, RW, false, &ranges) == Err(Error::Denied);
        check("donate", read && mine && again && self.request(op::FILL, 1, 0).is_ok())
    }
}

fn ffa_feature(id: u32) -> Option<u64> {
    let out = guest::hvc(Regs([ffa::FEATURES.into(), id.into(), 0, 0, 0, 0, 0, 0]));
    (out.function() == ffa::SUCCESS).then_some(out.0[2])
}
