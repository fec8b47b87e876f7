//! Attacks by hypercall. The guest survives all of them, and finds that every one was refused.

use alloc::vec::Vec;
use core::{
    arch::asm,
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};
use hv_abi::{
    Regs,
    ffa::{
        self, Error,
        memory::{
            self as m, Attributes, Composite, DataAccess, Handle, Header, InstructionAccess, Kind,
            Permissions, Range, Receiver,
        },
    },
    guest::{self, memory::Buffers, messages},
    ids::{Ipa, VcpuId, VcpuIndex, VmId},
    paravirt,
    psci::{self, Status},
    smccc, vendor,
};
use lwk_core::{
    app::App,
    arch,
    memory::{Block, allocate, map_shared},
    percore::CoreIndex,
    println, task,
};
use machine::Region;

const PAGE: u64 = 4096;
const RW: Permissions =
    Permissions { data: DataAccess::ReadWrite, instruction: InstructionAccess::NotSpecified };
/// The VMs of the scenarios: this one, and the honest one.
pub(super) const ME: VmId = VmId(2);
const HONEST: VmId = VmId(3);
/// Addresses that are nobody's, or not this VM's: below and behind its memory, a device, the end of the
/// address space.
const FOREIGN: [u64; 8] =
    [0, 0x0900_0000, 0x3fff_f000, 0x4400_0000, 0x6000_0000, 1 << 38, 1 << 47, 0xffff_ffff_ffff_f000];

/// Says so if something was not refused; returns whether it was.
fn refused(what: &str, result: Result<impl Sized, Error>, allowed: &[Error]) -> bool {
    let ok = matches!(&result, Err(error) if allowed.contains(error));
    if !ok {
        println!("{what} was answered with {:?}", result.err());
    }
    ok
}

fn call(regs: [u64; 8]) -> Result<Regs, Error> {
    let out = guest::hvc(Regs(regs));
    match out.function() {
        ffa::ERROR => Err(Error::from_bits(out.0[2]).unwrap_or(Error::NotSupported)),
        _ if out.0[0] == u64::MAX => Err(Error::NotSupported),
        _ => Ok(out),
    }
}

fn page() -> Block {
    allocate(PAGE).expect("a guest has a free page")
}

pub(super) fn mailbox() -> Buffers<'static> {
    let (tx, rx) = (page(), page());
    let mapped = guest::rxtx_map(Ipa(tx.phys().0), Ipa(rx.phys().0));
    assert!(mapped.is_ok(), "the mailbox was refused: {mapped:?}");
    Buffers { tx: tx.leak(), rx: rx.leak(), version: ffa::VERSION_1_2 }
}

fn header(sender: VmId) -> Header {
    Header { sender, attributes: Attributes::NORMAL_WB_INNER, flags: 0, handle: Handle(0), tag: 0 }
}

const fn to(vm: VmId) -> Receiver {
    Receiver { vm, permissions: RW, flags: 0 }
}

/// Shares, lends and donates memory that it does not own; sends on what it has sent already; names receivers
/// that cannot be.
pub(super) fn share(_: &App) -> bool {
    let mut buffers = mailbox();
    let mut ok = true;
    for address in FOREIGN {
        for (kind, attributes) in [
            (Kind::Share, Attributes::NORMAL_WB_INNER),
            (Kind::Lend, Attributes::NOT_SPECIFIED),
            (Kind::Donate, Attributes::NOT_SPECIFIED),
        ] {
            let permissions =
                if kind == Kind::Donate { Permissions { data: DataAccess::NotSpecified, ..RW } } else { RW };
            let header = Header { attributes, ..header(ME) };
            let receivers = [Receiver { permissions, ..to(HONEST) }];
            let sent = buffers.send(kind, &header, &receivers, &[Range { address, pages: 1 }]);
            ok &= refused("foreign memory", sent, &[Error::Denied, Error::InvalidParameters]);
        }
    }
    let own = page();
    let range = [Range { address: own.phys().0, pages: 1 }];
    for receiver in [VmId(0), ME, VmId(99), VmId(0x8000)] {
        let sent = buffers.send(Kind::Share, &header(ME), &[to(receiver)], &range);
        ok &= refused("a receiver that cannot be", sent, &[Error::InvalidParameters]);
    }
    let sent = buffers.send(Kind::Share, &header(HONEST), &[to(ME)], &range);
    ok &= refused("another one's name", sent, &[Error::Denied]);
    let pages = own.phys().0 / PAGE;
    for (address, pages) in [(pages * PAGE + 1, 1), (pages * PAGE, 0), (!0xfff, 2), (pages * PAGE, u32::MAX)]
    {
        let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &[Range { address, pages }]);
        ok &= refused("a range that cannot be", sent, &[Error::InvalidParameters, Error::NoMemory]);
    }
    // Its own page can be given once, and not twice.
    let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &range);
    let Ok(handle) = sent else { return false };
    ok &= refused(
        "a page that is shared",
        guest::rxtx_map(Ipa(range[0].address), Ipa(page().phys().0)),
        &[Error::Denied],
    );
    let again = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &range);
    ok &= refused("a page twice", again, &[Error::Denied]);
    ok && guest::memory::reclaim(handle, false).is_ok()
}

/// Uses memory that it has lent: not its own any more. Whoever comes back from this has not been stopped.
pub(super) fn lent(_: &App) -> bool {
    let mut buffers = mailbox();
    let own = page();
    let range = [Range { address: own.phys().0, pages: 1 }];
    let header = Header { attributes: Attributes::NOT_SPECIFIED, ..header(ME) };
    if buffers.send(Kind::Lend, &header, &[to(HONEST)], &range).is_ok() {
        let at = own.leak().as_ptr();
        // SAFETY: a page of this kernel's; that it is not there any more is the attack.
        println!("read {:#x} in it", unsafe { at.read_volatile() });
    }
    false
}

/// Uses memory that another VM has shared with it, and that it has given back.
pub(super) fn relinquished(_: &App) -> bool {
    let mut buffers = mailbox();
    for _ in 0..1000 {
        for generation in 0..8_u64 {
            let handle = Handle(1 << 63 | generation << 32 | 4 << 16);
            let header = Header { handle, attributes: Attributes::NOT_SPECIFIED, ..header(VmId(4)) };
            let mut at = None;
            let got = buffers.retrieve(&header, &[to(ME)], None, |range| at = Some(range.address));
            let mapped = got.ok().and(at).and_then(|at| map_shared(Region::new(at, PAGE)?).ok());
            let Some(mapped) = mapped else { continue };
            let word = core::ptr::with_exposed_provenance::<u64>(mapped);
            // SAFETY: shared memory that has just been mapped; and then, that it is not there any more is the
            // attack.
            println!("shared memory holds {:#x}", unsafe { word.read_volatile() });
            if buffers.relinquish(ME, handle, false).is_ok() {
                // SAFETY: as above.
                println!("and still {:#x}", unsafe { word.read_volatile() });
            }
            return false;
        }
        guest::yield_now();
    }
    false
}

/// Shares a page with the honest VM, or the one that `with=` names, for others to look for.
pub(super) fn keep(app: &App) -> bool {
    let receiver = app.command_line().number("with").map_or(HONEST, VmId);
    let mut buffers = mailbox();
    let me = guest::id_get().unwrap_or(ME);
    let range = [Range { address: page().leak_phys(), pages: 1 }];
    buffers.send(Kind::Share, &header(me), &[to(receiver)], &range).is_ok()
}

/// Retrieves what was not sent to it: guesses handles, tags and senders, until it has come upon a transaction
/// that there is.
pub(super) fn retrieve(_: &App) -> bool {
    let mut buffers = mailbox();
    let (mut ok, mut found) = (true, false);
    let bad = [Error::InvalidParameters, Error::Denied];
    let mut rounds = 0;
    while ok && !found && rounds < 1000 {
        for sender in [1, 2, 3, 4] {
            for slot in 0..16 {
                for generation in 0..8_u64 {
                    let handle = Handle(1 << 63 | generation << 32 | sender << 16 | slot);
                    let attributes = Attributes::NOT_SPECIFIED;
                    let header = Header { handle, attributes, ..header(VmId(sender as u16)) };
                    let got = buffers.retrieve(&header, &[to(ME)], None, |_| ());
                    let back = buffers.relinquish(ME, handle, false);
                    // Only of what there is it is said that this VM may not have it.
                    found |= matches!(back, Err(Error::Denied));
                    ok &= refused("a guessed handle", got, &bad);
                    ok &= refused("relinquishing it", back, &bad);
                    ok &= refused("reclaiming it", guest::memory::reclaim(handle, true), &bad);
                }
            }
        }
        rounds += 1;
        guest::yield_now();
    }
    println!("found a transaction: {found}, in round {rounds}");
    ok && found
}

/// Descriptors in which each field is wrong in turn, and descriptors made of random words.
pub(super) fn descriptors(_: &App) -> bool {
    let buffers = mailbox();
    let own = page();
    let mut template = [0; 256];
    let range = Range { address: own.phys().0, pages: 1 };
    let composite = Composite { pages: 1, ranges: 1 };
    let written = m::write(
        &mut template,
        buffers.version,
        &header(ME),
        &[to(HONEST)],
        Some(composite),
        [range].into_iter(),
    );
    let Some(written) = written else { return false };
    let mut random = Random(0x5eed);
    let (mut answered, mut accepted) = (0, 0);
    for round in 0..20_000_u64 {
        let mut bytes = template;
        // One field, or many.
        for _ in 0..=round % 3 {
            let at = random.below(written.total as u64 / 4) as usize * 4;
            let value = random.interesting() as u32;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        buffers.tx[..bytes.len()].copy_from_slice(&bytes);
        black_box(&mut *buffers.tx);
        let functions =
            [ffa::MEM_SHARE, ffa::MEM_LEND, ffa::MEM_DONATE, ffa::MEM_RETRIEVE_REQ, ffa::MEM_RELINQUISH];
        let function = functions[random.below(functions.len() as u64) as usize];
        let total = if random.below(4) == 0 { random.interesting() } else { written.total as u64 };
        let fragment = if random.below(8) == 0 { random.interesting() } else { total };
        match call([function.into(), total, fragment, 0, 0, 0, 0, 0]) {
            Ok(out) if out.function() == ffa::MEM_FRAG_RX => {
                let (low, high) = (out.0[1], out.0[2]);
                accepted += u32::from(guest::memory::reclaim(Handle::from_words(low, high), false).is_ok());
            }
            Ok(out) => {
                let handle = Handle::from_words(out.0[2], out.0[3]);
                accepted += u32::from(guest::memory::reclaim(handle, false).is_ok());
            }
            Err(_) => answered += 1,
        }
    }
    println!("{answered} descriptors refused, {accepted} were in order and were taken back");
    // What was in order is this VM's again: it can give it.
    let mut buffers = buffers;
    let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &[range]);
    answered > 10_000 && sent.is_ok_and(|handle| guest::memory::reclaim(handle, false).is_ok())
}

/// One vCPU sends descriptors while the other one changes them.
pub(super) fn race(app: &App) -> bool {
    static STOP: AtomicBool = AtomicBool::new(false);
    if app.cores() < 2 {
        println!("this attack takes two vCPUs");
        return false;
    }
    let mut buffers = mailbox();
    let own = page();
    let range = [Range { address: own.phys().0, pages: 1 }];
    let _ = m::write(
        buffers.tx,
        buffers.version,
        &header(ME),
        &[to(HONEST)],
        Some(Composite { pages: 1, ranges: 1 }),
        range.into_iter(),
    );
    let at = buffers.tx.as_ptr().expose_provenance() + m::ranges_offset(buffers.version, 1);
    let address = range[0].address;
    let toggler = task::spawn(CoreIndex(1), "toggler", move || {
        while !STOP.load(Ordering::Relaxed) {
            for value in FOREIGN.into_iter().chain([address]) {
                // SAFETY: the TX page is never given back; that it changes while it is read is the attack.
                unsafe { core::ptr::with_exposed_provenance_mut::<u64>(at).write_volatile(value) };
            }
        }
    });
    let (mut taken, mut denied, mut ok) = (0, 0, true);
    for _ in 0..20_000 {
        let total = (m::ranges_offset(buffers.version, 1) + m::RANGE_SIZE) as u64;
        match call([ffa::MEM_SHARE.into(), total, total, 0, 0, 0, 0, 0]) {
            // Whatever it read is what it checked: then it is this VM's own page.
            Ok(out) => {
                taken += 1;
                let back = guest::memory::reclaim(Handle::from_words(out.0[2], out.0[3]), false);
                ok &= back.is_ok();
            }
            Err(Error::Denied | Error::InvalidParameters) => denied += 1,
            Err(_) => ok = false,
        }
    }
    STOP.store(true, Ordering::Relaxed);
    toggler.join();
    println!("{taken} times its own page, {denied} times another one");
    let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &range);
    ok && denied > 0 && sent.is_ok()
}

/// RX and TX pages that are not its own, the same, not aligned, shared, or gone.
pub(super) fn mailboxes(_: &App) -> bool {
    let (one, other) = (page(), page());
    let (a, b) = (one.phys().0, other.phys().0);
    let bad = [Error::InvalidParameters, Error::Denied];
    let mut ok = true;
    for address in FOREIGN {
        ok &= refused("a foreign TX", guest::rxtx_map(Ipa(address), Ipa(b)), &bad);
        ok &= refused("a foreign RX", guest::rxtx_map(Ipa(a), Ipa(address)), &bad);
    }
    ok &= refused("one page for both", guest::rxtx_map(Ipa(a), Ipa(a)), &bad);
    ok &= refused("an unaligned page", guest::rxtx_map(Ipa(a + 8), Ipa(b)), &bad);
    for pages in [0, 2, 63, 64, u64::MAX] {
        let map = call([ffa::RXTX_MAP_64.into(), a, b, pages, 0, 0, 0, 0]);
        ok &= refused("a number of pages", map, &bad);
    }
    // Nothing that needs a mailbox works without one.
    let info = guest::partition_info_get([0; 4]);
    ok &= refused("information without a mailbox", info, &[Error::Busy]);
    ok &= refused("a message without a mailbox", messages::send2(), &bad);
    for function in [ffa::MEM_SHARE, ffa::MEM_RETRIEVE_REQ, ffa::MEM_RELINQUISH] {
        let sent = call([function.into(), 96, 96, 0, 0, 0, 0, 0]);
        ok &= refused("memory without a mailbox", sent, &bad);
    }
    ok &= refused("releasing nothing", guest::rx_release(), &[Error::Denied]);
    if guest::rxtx_map(Ipa(a), Ipa(b)).is_err() {
        return false;
    }
    ok &= refused(
        "a second mailbox",
        guest::rxtx_map(Ipa(page().leak_phys()), Ipa(page().leak_phys())),
        &[Error::Denied],
    );
    let mut buffers = Buffers { tx: one.leak(), rx: other.leak(), version: ffa::VERSION_1_2 };
    for address in [a, b] {
        let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &[Range { address, pages: 1 }]);
        ok &= refused("sharing the mailbox", sent, &[Error::Denied]);
    }
    let unmapped = || call([ffa::RXTX_UNMAP.into(), 0, 0, 0, 0, 0, 0, 0]);
    ok &= unmapped().is_ok();
    ok && refused("unmapping twice", unmapped(), &[Error::InvalidParameters])
}

/// What only the primary may do, and what nobody may do.
pub(super) fn powers(_: &App) -> bool {
    let mut ok = true;
    for vm in 0..5 {
        for index in 0..3 {
            let vcpu = VcpuId { vm: VmId(vm), index: VcpuIndex(index) };
            let run = call([ffa::RUN.into(), vcpu.pack(), 0, 0, 0, 0, 0, 0]);
            ok &= refused("running a vCPU", run, &[Error::NotSupported]);
            if vm != ME.0 {
                let sent = guest::interrupt_inject(vcpu, paravirt::TIMER);
                ok &= refused(
                    "interrupting a VM",
                    if sent { Ok(()) } else { Err(Error::Denied) },
                    &[Error::Denied],
                );
            }
        }
        let record = call([vendor::CRASH_RECORD_GET.into(), vm.into(), 0, 0, 0, 0, 0, 0]);
        ok &= refused("a crash record", record, &[Error::NotSupported]);
    }
    let ids = |from: VmId, to: VmId| u64::from(from.0) << 16 | u64::from(to.0);
    for (function, ids) in [
        (ffa::MSG_SEND_DIRECT_REQ, ids(HONEST, VmId::PRIMARY)),
        (ffa::MSG_SEND_DIRECT_REQ, ids(ME, VmId::PRIMARY)),
        (ffa::MSG_SEND_DIRECT_REQ, ids(ME, ME)),
        (ffa::MSG_SEND_DIRECT_RESP, ids(ME, VmId::PRIMARY)),
        (ffa::NOTIFICATION_SET, ids(HONEST, VmId::PRIMARY)),
        (ffa::NOTIFICATION_BIND, ids(ME, HONEST)),
        (ffa::NOTIFICATION_INFO_GET, 0),
        (ffa::NOTIFICATION_BITMAP_CREATE, u64::from(HONEST.0)),
        (ffa::RX_ACQUIRE, u64::from(HONEST.0)),
        (ffa::MEM_PERM_GET, 0x4000_0000),
        (ffa::MEM_PERM_SET, 0x4000_0000),
    ] {
        let out = call([function.into(), ids, 0, 1, 0, 0, 0, 0]);
        let allowed = [Error::Denied, Error::InvalidParameters, Error::NotSupported];
        ok &= refused("a call in another one's name", out, &allowed);
    }
    // Power functions, with affinities and entries that are not its own.
    for (mpidr, entry) in [(0, 0x4020_0000), (1, 0), (77, 0x4020_0000), (u64::MAX, u64::MAX), (1 << 32, 0)] {
        let status = guest::cpu_on(mpidr, entry, 0);
        if status == 0 {
            println!("CPU_ON of {mpidr:#x} at {entry:#x} was accepted");
            ok = false;
        }
    }
    for function in [psci::VERSION + 0x1f, 0x8400_0013, 0xc400_0011, 0xc200_0001, 0xb200_0000, 0x8300_0000, 0]
    {
        ok &=
            refused("a firmware call", call([function.into(), 1, 2, 3, 4, 5, 6, 7]), &[Error::NotSupported]);
    }
    ok
}

/// PSCI 0.1 had no numbers: these are QEMU's `CPU_SUSPEND` and `CPU_ON`, and it refuses [`ALL_ONES`] with
/// `INVALID_PARAMETERS`.
const QEMU_PSCI: [u64; 2] = [0x95c1_ba5e, 0x95c1_ba60];
const ALL_ONES: u64 = 0xffff_ffff;

/// Query call of `images/qemu-virt/src/firmware.S`.
const QUERY: u64 = 0x3f00_0000;

/// Calls by SMC that the hypervisor does not have: none reaches firmware but those of `listed=`, or, if it is
/// `all`, the services of others than hypervisors. And what firmware does against speculation.
pub(super) fn firmware(app: &App) -> bool {
    let workarounds = [smccc::ARCH_WORKAROUND_1, smccc::ARCH_WORKAROUND_2, smccc::ARCH_WORKAROUND_3];
    let features = workarounds.map(|function| {
        let out = guest::hvc(Regs([smccc::ARCH_FEATURES.into(), function.into(), 0, 0, 0, 0, 0, 0]));
        guest::hvc(Regs::func(function));
        out.0[0] as i32
    });
    println!("workarounds: {features:?}");
    let state = smc([QUERY, 1, 2, 3, 4, 5, 6, 0x1234_5678]);
    println!(
        "firmware was asked by {:#x}, called {} times, given {}, and keeps x7 {:#x}",
        state[0], state[1], state[2], state[7]
    );

    let line = app.command_line();
    let (all, listed) = (line.get("listed") == Some("all"), line.address("listed"));
    let services =
        (0..64).flat_map(|owner| [0x8000_0050 | owner << 24, 0xc000_0051 | owner << 24, owner << 24]);
    let mut ok = true;
    for function in services.filter(|function| *function != QUERY).chain(QEMU_PSCI) {
        let answer = arch::smc([function, ALL_ONES, ALL_ONES, 0]);
        let reaches = QEMU_PSCI.contains(&function) && (all || listed == Some(function));
        let expected = if reaches { Status::InvalidParameters.bits() } else { u64::MAX };
        if answer != expected {
            println!("an SMC {function:#x} was answered with {answer:#x}");
            ok = false;
        }
    }
    // As power functions they are the hypervisor's.
    ok &= arch::smc([psci::VERSION.into(), 0, 0, 0]) == psci::VERSION_1_1;
    ok && arch::smc([psci::SYSTEM_RESET2.into(), 1, 0, 0]) == Status::InvalidParameters.bits()
}

/// An SMC with x0 to x7; what they are afterwards.
fn smc(mut x: [u64; 8]) -> [u64; 8] {
    // SAFETY: SMCCC: a call changes x0 to x17 at most; the one that is made here touches no memory of this
    // kernel.
    unsafe {
        asm!("smc #0",
            inout("x0") x[0], inout("x1") x[1], inout("x2") x[2], inout("x3") x[3],
            inout("x4") x[4], inout("x5") x[5], inout("x6") x[6], inout("x7") x[7],
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack));
    }
    x
}

/// 100 000 calls with random numbers and arguments.
pub(super) fn random(_: &App) -> bool {
    let _buffers = mailbox();
    let mut random = Random(0x0000_ddb1_a5ed_5eed);
    // What would end this VM, or put it to sleep for good.
    let ends = [psci::SYSTEM_OFF, psci::SYSTEM_RESET, psci::SYSTEM_RESET2, psci::CPU_OFF];
    let sleeps = [ffa::MSG_WAIT, ffa::YIELD, psci::CPU_SUSPEND];
    let mut refused = 0;
    for _ in 0..100_000 {
        let class =
            [0x8400_0000, 0xc400_0000, 0x8600_0000, 0xc600_0000, 0x8000_0000, 0][random.below(6) as usize];
        let number = if class == 0 { 0xff00 + random.below(16) } else { random.below(0x100) };
        let function = if random.below(16) == 0 { random.next() as u32 } else { (class + number) as u32 };
        let base = function & !(1 << 30);
        if ends.contains(&base)
            || sleeps.contains(&base)
            || function == ffa::CONSOLE_LOG
            || function == ffa::CONSOLE_LOG_64
        {
            continue;
        }
        let mut regs = [0; 8];
        regs[0] = u64::from(function) | random.below(4) << 60;
        regs[1..].fill_with(|| random.interesting());
        refused += u32::from(call(regs).is_err());
    }
    println!("{refused} random calls refused");
    // The hypervisor still knows this VM, and the VM itself.
    guest::id_get() == Ok(ME)
}

/// Calls without end on its core, and interrupts without end to its other vCPU.
pub(super) fn flood(app: &App) -> bool {
    let mut buffers = mailbox();
    let own = page();
    let range = [Range { address: own.phys().0, pages: 1 }];
    let mut ok = true;
    for round in 0..40_000_u32 {
        ok &= guest::id_get() == Ok(ME);
        if app.cores() > 1 {
            guest::send_ipi(VcpuIndex((round % 2) as u16));
        }
        let _ = messages::notification_set(ME, HONEST, None, 1);
        let _ = messages::send2();
        if round % 16 == 0 {
            let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &range);
            ok &= sent.is_ok_and(|handle| guest::memory::reclaim(handle, true).is_ok());
        }
    }
    ok
}

/// Timer interrupts without end: its virtual timer is always due.
pub(super) fn timers(_: &App) -> bool {
    for _ in 0..100_000 {
        // SAFETY: a timer that is due interrupts this kernel, which takes it for one of its own.
        unsafe {
            asm!("msr cntv_cval_el0, xzr", "msr cntv_ctl_el0, {on}", "isb", on = in(reg) 1_u64, options(nomem, nostack));
        }
    }
    guest::id_get() == Ok(ME)
}

/// Opens transactions until there is no room, and in as many pieces as it can.
pub(super) fn exhaust(_: &App) -> bool {
    let mut buffers = mailbox();
    let Some(block) = allocate(1200 * PAGE) else { return false };
    let base = block.phys().0;
    let pieces = |first: u64, count: u64| {
        (first..first + count)
            .map(|n| Range { address: base + 2 * n * PAGE, pages: 1 })
            .collect::<Vec<Range>>()
    };
    let mut handles = Vec::new();
    let mut ok = false;
    for n in 0..40 {
        match buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &pieces(n, 1)) {
            Ok(handle) => handles.push(handle),
            error => {
                ok = refused("one transaction too many", error, &[Error::NoMemory]);
                break;
            }
        }
    }
    ok &= handles.into_iter().all(|handle| guest::memory::reclaim(handle, false).is_ok());
    let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &pieces(0, 600));
    ok &= refused("too many pieces", sent, &[Error::NoMemory]);
    // All of that is as it was.
    let sent = buffers.send(Kind::Share, &header(ME), &[to(HONEST)], &[Range { address: base, pages: 1200 }]);
    ok && sent.is_ok_and(|handle| guest::memory::reclaim(handle, false).is_ok())
}

trait LeakPhys {
    fn leak_phys(self) -> u64;
}

impl LeakPhys for Block {
    /// Its address, and the block for ever.
    fn leak_phys(self) -> u64 {
        let phys = self.phys().0;
        self.leak();
        phys
    }
}

/// Numbers that are the same on every run (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number at a border, an address, or anything.
    fn interesting(&mut self) -> u64 {
        match self.below(8) {
            0 => self.below(8),
            1 => FOREIGN[self.below(FOREIGN.len() as u64) as usize],
            2 => 0x4000_0000 + self.below(0x400_0000) / PAGE * PAGE,
            3 => u64::from(ME.0) << 16 | self.below(5),
            4 => self.below(5) << 16 | u64::from(ME.0),
            5 => u64::MAX >> self.below(64),
            6 => 1 << self.below(64),
            _ => self.next(),
        }
    }
}
