//! The longest calls: transactions that take as many steps as possible, with a VM that accepts them all.

use super::calls::{ME, mailbox};
use alloc::vec::Vec;
use core::ptr;
use hv_abi::{
    ffa::memory::{
        self as m, Attributes, DataAccess, Handle, Header, InstructionAccess, Kind, Permissions, Range,
        Receiver,
    },
    guest::{self, memory::Buffers},
    ids::{VcpuId, VcpuIndex, VmId},
};
use lwk_core::{
    app::App,
    memory::{allocate, map_shared},
    println,
};
use machine::Region;

const PAGE: u64 = 4096;
const BLOCK: u64 = 512;
/// The VM that retrieves what it is given.
const OTHER: VmId = VmId(3);
/// The first transaction of this VM.
const FIRST: Handle = Handle(1 << 63 | 1 << 32 | (ME.0 as u64) << 16);
/// How often one looks for the other, before it gives up.
const PATIENCE: u32 = 1_000_000;

const fn header(flags: u32, attributes: Attributes, handle: Handle) -> Header {
    Header { sender: ME, attributes, flags, handle, tag: 0 }
}

const fn receiver(data: DataAccess) -> Receiver {
    let permissions = Permissions { data, instruction: InstructionAccess::NotSpecified };
    Receiver { vm: OTHER, permissions, flags: 0 }
}

/// Two words in a page that both VMs see: what has been given, and what has been given back.
#[derive(Clone, Copy)]
struct Board(*mut u64);

impl Board {
    fn get(self, word: usize) -> u64 {
        // SAFETY: a page that was mapped for this, shared with the other VM.
        unsafe { self.0.add(word).read_volatile() }
    }

    fn set(self, word: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.add(word).write_volatile(value) };
    }

    fn wait(self, word: usize, until: impl Fn(u64) -> bool) -> bool {
        (0..PATIENCE).any(|_| {
            guest::yield_now();
            until(self.get(word))
        })
    }
}

/// Gives what `ranges` name, and takes it back when the other VM has had it.
fn give(buffers: &mut Buffers<'_>, board: Board, zero: bool, ranges: &[Range]) -> bool {
    let flags = if zero { m::FLAG_ZERO } else { 0 };
    let header = header(flags, Attributes::NOT_SPECIFIED, Handle(0));
    let sent = buffers.send(Kind::Lend, &header, &[receiver(DataAccess::ReadWrite)], ranges);
    let Ok(handle) = sent else {
        println!("a loan of {} ranges was answered with {:?}", ranges.len(), sent.err());
        return false;
    };
    board.set(0, handle.0);
    board.wait(1, |word| word == handle.0) && guest::memory::reclaim(handle, zero).is_ok()
}

/// Lends memory in all shapes: pages in as many blocks as possible, every other page, as much as can be
/// zeroed, as much as there may be.
pub(super) fn longest(_: &App) -> bool {
    let mut buffers = mailbox();
    let Some(shared) = allocate(PAGE) else { return false };
    let range = Range { address: shared.phys().0, pages: 1 };
    let board = Board(shared.leak().as_mut_ptr().cast());
    let shape = header(0, Attributes::NORMAL_WB_INNER, Handle(0));
    let sent = buffers.send(Kind::Share, &shape, &[receiver(DataAccess::ReadWrite)], &[range]);
    if sent != Ok(FIRST) || !board.wait(1, |word| word == FIRST.0) {
        println!("nobody shares a page: {sent:?}");
        return false;
    }
    // The longest line, and a message of a page.
    guest::console_log(&[b'x'; 2000]);
    guest::console_log(b"\n");
    let Some(memory) = allocate(160 * BLOCK * PAGE) else { return false };
    let base = memory.phys().0;
    let at = |page: u64, pages: u64| Range { address: base + page * PAGE, pages: pages as u32 };
    let scattered: Vec<_> = (0..12).map(|n| at(n * BLOCK + 7, 1)).collect();
    let pieces: Vec<_> = (0..240).map(|n| at(2 * n, 1)).collect();
    let unaligned: Vec<_> = (0..4).map(|n| at(n * 2 * BLOCK + 3, BLOCK)).collect();
    let all = [
        give(&mut buffers, board, true, &scattered),
        give(&mut buffers, board, true, &pieces),
        give(&mut buffers, board, true, &unaligned),
        give(&mut buffers, board, true, &[at(1, 4096)]),
        give(&mut buffers, board, true, &[at(0, 16_384)]),
        give(&mut buffers, board, false, &[at(0, 65_536)]),
    ];
    println!("given and taken back: {all:?}");
    board.set(0, u64::MAX);
    // Whole pages by direct request are not part of FF-A: calls that look at every VM instead.
    for _ in 0..3 {
        let _ = guest::partition_info_get([0; 4]);
        let _ = guest::rx_release();
    }
    guest::interrupt_inject(VcpuId { vm: ME, index: VcpuIndex(0) }, hv_abi::paravirt::TIMER);
    all == [true; 6]
}

/// Retrieves what the other VM lends, zeroed, and gives it back, zeroed.
pub(super) fn accept(_: &App) -> bool {
    let mut buffers = mailbox();
    let asks = [receiver(DataAccess::ReadWrite)];
    let retrieve = |buffers: &mut Buffers<'_>, flags, handle| {
        let mut at = None;
        let header = header(flags, Attributes::NOT_SPECIFIED, handle);
        buffers.retrieve(&header, &asks, None, |range| at = Some(range.address)).ok().and(at)
    };
    let found = (0..PATIENCE).find_map(|_| {
        guest::yield_now();
        retrieve(&mut buffers, 0, FIRST)
    });
    let Some(mapped) = found.and_then(|at| map_shared(Region::new(at, PAGE)?).ok()) else { return false };
    let board = Board(ptr::with_exposed_provenance_mut(mapped));
    board.set(1, FIRST.0);
    let (mut last, mut count) = (0, 0);
    while board.wait(0, |word| word != last) {
        last = board.get(0);
        if last == u64::MAX {
            println!("retrieved and relinquished: {count}");
            return true;
        }
        // More than can be zeroed in one transaction is not.
        let flags = if count < 5 { m::FLAG_ZERO | m::FLAG_ZERO_AFTER } else { 0 };
        if retrieve(&mut buffers, flags, Handle(last)).is_none()
            || buffers.relinquish(OTHER, Handle(last), false).is_err()
        {
            println!("transaction {last:#x} was refused");
            return false;
        }
        count += 1;
        board.set(1, last);
    }
    false
}
