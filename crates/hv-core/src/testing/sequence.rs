//! Sequences of calls that any bytes stand for, on two cores, with everything checked after each: for fuzzing, and for a property test.

use super::*;
use crate::service::functions;
use ffa::memory::{self as m, Attributes, Composite, Handle, Header, Permissions, Range, Receiver};
use page_ownership::PageState;

/// Pages that sequences play with, and that are looked at after each step: enough for joined and split ranges, and the mailboxes.
const PAGES_USED: [u64; 10] = [0, 1, 2, 3, 4, 5, 6, 256, 510, 511];
const STEPS: usize = 200;

/// Decisions, read from bytes; all zero behind their end.
struct Input<'a> {
    bytes: &'a [u8],
}

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }
}

/// The system, what runs on its cores, and what its VMs have been told.
struct Player<'a> {
    node: Node,
    input: Input<'a>,
    loaded: [&'static Vcpu; 2],
    handles: Vec<Handle>,
}

/// Plays the sequence that `bytes` stand for.
///
/// # Panics
/// Something that must always hold does not.
pub fn drive(bytes: &[u8]) {
    let node = Node::new();
    let loaded = [node.system.cores[0].primary(), node.system.cores[1].primary()];
    let handles = [Handle(0), Handle(u64::MAX)].into();
    let mut player = Player { node, input: Input { bytes }, loaded, handles };
    player.begin();
    for _ in 0..STEPS {
        if player.input.bytes.is_empty() {
            break;
        }
        player.step();
        player.check();
    }
    // SAFETY: all references into the system were the player's.
    unsafe { player.node.end() };
}

impl Player<'_> {
    /// Gives every VM a mailbox, so that sequences need not find out how.
    fn begin(&mut self) {
        let go = |core: usize, vm: u16| [core, usize::from(vm)];
        for [core, vm] in [go(0, 2), go(1, 3)] {
            self.call(core, &[ffa::RUN.into(), id(vm as u16, 0).pack()]);
        }
        for core in [0, 1] {
            self.map(core);
        }
        self.call(0, &[ffa::YIELD.into()]);
        self.map(0);
        self.call(0, &[ffa::RUN.into(), id(2, 0).pack()]);
    }

    /// A handle that has been seen, mostly the last.
    fn handle(&mut self) -> Handle {
        let back: usize = self.input.pick(&[0, 0, 0, 0, 1, 1, 2, 3, 7, 50]);
        self.handles[self.handles.len().saturating_sub(1 + back)]
    }

    fn map(&mut self, core: usize) {
        let vm = self.loaded[core].vm().id.0;
        self.call(core, &[ffa::RXTX_MAP_64.into(), Node::page(vm, 510), Node::page(vm, 511), 1]);
    }

    fn step(&mut self) {
        let core = usize::from(self.input.byte() % 2);
        match self.input.byte() % 16 {
            0 => self.any_call(core),
            1 | 2 => {
                let (vm, index) = self.input.pick(&[(2, 0), (2, 1), (3, 0), (1, 0), (9, 9)]);
                self.call(core, &[ffa::RUN.into(), id(vm, index).pack()]);
            }
            3..6 => self.offer(core),
            6..11 => self.retrieve(core),
            11..14 => self.give_back(core),
            14 => {
                let bytes: Vec<u8> = (0..self.input.byte()).map(|_| self.input.byte()).collect();
                self.write_tx(core, &bytes);
            }
            _ => self.event(core),
        }
    }

    /// A call with arguments that are mostly nearly right.
    fn any_call(&mut self, core: usize) {
        let function = if self.input.byte() < 250 {
            let functions = functions();
            let index = self.input.word() as usize % functions.len();
            functions[index]
        } else {
            self.input.word() as u32
        };
        let primary = self.loaded[core].vm().is_primary();
        if primary && [psci::SYSTEM_OFF, psci::SYSTEM_RESET].contains(&function) {
            // That is the end of the machine.
            return;
        }
        let mut call = [0; 8];
        call[0] = u64::from(function);
        for argument in &mut call[1..] {
            *argument = self.value();
        }
        self.call(core, &call);
    }

    fn value(&mut self) -> u64 {
        let vm = self.input.pick(&[1, 2, 3]);
        match self.input.byte() % 8 {
            0 | 1 => u64::from(self.input.byte() % 8),
            2 => words((vm, self.input.pick(&[1, 2, 3, 0]))),
            3 => Node::page(vm, self.input.pick(&PAGES_USED)),
            4 => {
                let (low, high) = self.handle().words();
                self.input.pick(&[low, high])
            }
            5 => self.input.pick(&[u64::MAX, 1 << 63, 0xffff_ffff, 0x1_0000, 4096, 48, 80, 96, 112]),
            6 => WINDOW + u64::from(self.input.byte() % 4) * PAGE,
            _ => self.input.word(),
        }
    }

    fn write_tx(&mut self, core: usize, bytes: &[u8]) {
        let pages = self.loaded[core].vm().mailbox.lock().pages;
        if let Some((tx, _)) = pages {
            with_page(tx, |page| page[..bytes.len()].copy_from_slice(bytes));
        }
    }

    fn permissions(&mut self) -> Permissions {
        Permissions::from_bits(self.input.byte() % 11).unwrap_or(Permissions::from_bits(2).unwrap())
    }

    /// Donates, lends or shares.
    fn offer(&mut self, core: usize) {
        let vm = self.loaded[core].vm();
        let function = self.input.pick(&[ffa::MEM_DONATE, ffa::MEM_LEND, ffa::MEM_SHARE, ffa::MEM_LEND]);
        let mut others = [1, 2, 3].into_iter().filter(|other| *other != vm.id.0).collect::<Vec<u16>>();
        if self.input.byte().is_multiple_of(2) {
            others.reverse();
        }
        let count: usize = self.input.pick(&[1, 1, 1, 2]);
        let open = function == ffa::MEM_DONATE;
        let receivers: Vec<Receiver> = others[2 - count..]
            .iter()
            .map(|other| {
                let fits = Permissions::from_bits(if open { 0 } else { self.input.pick(&[1, 2, 2]) });
                let permissions =
                    if self.input.byte().is_multiple_of(8) { self.permissions() } else { fits.unwrap() };
                Receiver { vm: VmId(*other), permissions, flags: 0 }
            })
            .collect();
        let left_open = open || (function == ffa::MEM_LEND && count == 1);
        let attributes = if left_open { Attributes::NOT_SPECIFIED } else { Attributes::NORMAL_WB_INNER };
        let ranges: Vec<Range> = (0..=(self.input.byte() % 3))
            .map(|_| {
                let page = self.input.pick(&PAGES_USED);
                let address = match self.input.byte() % 8 {
                    0 => WINDOW + page % 4 * PAGE,
                    1 => pa_of(3).0 + page * PAGE,
                    _ => Node::page(vm.id.0, page),
                };
                Range { address, pages: u32::from(self.input.byte() % 3) + 1 }
            })
            .collect();
        let header = Header {
            sender: vm.id,
            attributes,
            flags: self.input.pick(&[0, 0, 0, 1]),
            handle: Handle(0),
            tag: 0,
        };
        let composite =
            Composite { pages: ranges.iter().map(|range| range.pages).sum(), ranges: ranges.len() as u32 };
        let mut bytes = [0; 4096];
        let version = vm.ffa_version();
        let written =
            m::write(&mut bytes, version, &header, &receivers, Some(composite), ranges.into_iter()).unwrap();
        self.write_tx(core, &bytes[..written.fragment]);
        // Sometimes only a part of it is sent at first.
        let fragment =
            if self.input.byte().is_multiple_of(4) { written.total - m::RANGE_SIZE } else { written.total };
        self.call(core, &[function.into(), written.total as u64, fragment as u64]);
    }

    fn retrieve(&mut self, core: usize) {
        let vm = self.loaded[core].vm();
        let handle = self.handle();
        let header = Header {
            sender: VmId((handle.0 >> 16) as u16),
            attributes: Attributes::NOT_SPECIFIED,
            flags: self.input.pick(&[0, 0, 0, 0, 0, 1, 4, 1 << 3, 2 << 3, 3 << 3])
                | self.input.pick(&[0, 1 << 10]),
            handle,
            tag: 0,
        };
        let fits = Permissions::from_bits(self.input.pick(&[0, 1, 2])).unwrap();
        let permissions = if self.input.byte().is_multiple_of(4) { self.permissions() } else { fits };
        let own = Receiver { vm: vm.id, permissions, flags: 0 };
        let other = Receiver { vm: VmId(self.input.pick(&[1, 2, 3])), ..own };
        let receivers =
            if self.input.byte().is_multiple_of(4) { std::vec![own, other] } else { std::vec![own] };
        let range = Range {
            address: self.input.pick(&[WINDOW, WINDOW + PAGE, Node::page(vm.id.0, 3)]),
            pages: u32::from(self.input.byte() % 3) + 1,
        };
        let placed = self.input.byte().is_multiple_of(4);
        let composite = placed.then_some(Composite { pages: range.pages, ranges: 1 });
        let mut bytes = [0; 4096];
        let ranges = placed.then_some(range).into_iter();
        let written = m::write(&mut bytes, vm.ffa_version(), &header, &receivers, composite, ranges).unwrap();
        self.write_tx(core, &bytes[..written.total]);
        let length = written.total as u64;
        self.call(core, &[ffa::MEM_RETRIEVE_REQ.into(), length, length]);
        if !self.input.byte().is_multiple_of(4) {
            self.call(core, &[ffa::RX_RELEASE.into()]);
        }
    }

    fn give_back(&mut self, core: usize) {
        let handle = self.handle();
        let flags = self.input.pick(&[0, 0, 0, 1, 2, 3, 4]);
        if self.input.byte().is_multiple_of(2) {
            let bytes = m::Relinquish { handle, flags, vm: self.loaded[core].vm().id }.to_bytes();
            self.write_tx(core, &bytes);
            self.call(core, &[ffa::MEM_RELINQUISH.into()]);
        } else {
            let (low, high) = handle.words();
            self.call(core, &[ffa::MEM_RECLAIM.into(), low, high, flags.into()]);
        }
    }

    /// Something that is no call: an interrupt, a fault.
    fn event(&mut self, core: usize) {
        let current = self.loaded[core];
        // SAFETY: that vCPU is loaded on that core.
        let loaded = unsafe { Loaded::assume(current) };
        let next = match self.input.byte() % 16 {
            0 if !current.vm().is_primary() => {
                let fault = Fault { syndrome: 1, address: 2, ipa: 3, pc: 4 };
                let first = current.vm().abort(current.index(), fault);
                run::stop(&loaded, first)
            }
            1..8 => {
                self.node.system.cores[core].primary().irqs.pend(paravirt::TIMER);
                run::after_interrupt(loaded)
            }
            _ => {
                current.irqs.pend(paravirt::TIMER);
                run::after_interrupt(loaded)
            }
        };
        self.settle(core, next);
    }

    fn call(&mut self, core: usize, arguments: &[u64]) {
        let mut regs = Regs::default();
        regs.0[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: that vCPU is loaded on that core.
        let mut loaded = unsafe { Loaded::assume(self.loaded[core]) };
        loaded.regs().set_results(&regs);
        let mut next = service::call(loaded);
        // A call that is not over is made again, mostly; it may also be that something else happens first, or for good.
        while arch::REPEATED.replace(false) {
            self.check();
            if self.input.byte() % 8 == 1 {
                return;
            }
            // SAFETY: as above.
            next = service::call(unsafe { Loaded::assume(self.loaded[core]) });
        }
        self.settle(core, next);
        // SAFETY: as above.
        let results = unsafe { Loaded::assume(self.loaded[core]) }.regs().arguments().0;
        let sent = [ffa::SUCCESS, ffa::MEM_FRAG_RX].contains(&(results[0] as u32));
        let handle = match results {
            [_, low, high, ..] if results[0] as u32 == ffa::MEM_FRAG_RX => Handle::from_words(low, high),
            [_, _, low, high, ..] => Handle::from_words(low, high),
        };
        if sent && handle.0 & Handle::HYPERVISOR != 0 && !self.handles.contains(&handle) {
            self.handles.push(handle);
        }
    }

    fn settle(&mut self, core: usize, next: Next) {
        if !core::ptr::eq(self.loaded[core], next) {
            run::switch(Some(self.loaded[core]), next);
            self.loaded[core] = next;
        }
        let system = self.node.system;
        let free =
            |vm: &Vm| !vm.mailbox.is_locked() && !vm.notifications.is_locked() && !vm.stage2.is_locked();
        assert!(!system.ownership.is_locked() && system.vms.iter().all(free), "a lock is held");
    }

    fn check(&self) {
        let system = self.node.system;
        for vm in &system.vms {
            for vcpu in &vm.vcpus {
                if let VcpuState::Running(core) = vcpu.state() {
                    let core = usize::from(core);
                    let here = core::ptr::eq(self.loaded[core], vcpu)
                        || core::ptr::eq(system.cores[core].primary(), vcpu);
                    assert!(here, "{} runs nowhere", vcpu.id());
                }
            }
        }
        for (core, loaded) in self.loaded.iter().enumerate() {
            assert_eq!(loaded.state(), VcpuState::Running(core as u16));
        }
        let own = |vm: u16| PAGES_USED.map(|n| Node::page(vm, n)).into_iter();
        let received = (0..8).map(|n| WINDOW + n * PAGE);
        let of_others = (1..=3).flat_map(|vm| PAGES_USED.map(|n| pa_of(vm).0 + n * PAGE));
        for vm in 1..=3 {
            for ipa in own(vm).chain(received.clone()).chain(of_others.clone()) {
                if let Some(mapping) = self.node.translate(vm, ipa) {
                    self.check_access(VmId(vm), &mapping);
                }
            }
        }
    }

    /// A VM may use a page if it owns it and has not lent it away, or if it has retrieved it, and no more than it was granted.
    fn check_access(&self, vm: VmId, mapping: &Mapping) {
        let pa = Pa(mapping.pa.0 & !(PAGE - 1));
        let mut ownership = self.node.system.ownership.lock();
        let state = ownership.state(pa);
        let allowed = match state {
            PageState::Hypervisor => false,
            PageState::Owned(owner) | PageState::Mailbox(owner) => owner == vm,
            PageState::Given(owner, slot) => {
                let within = |range: &page_ownership::Given| {
                    (range.pa.0..range.pa.0 + range.pages * PAGE).contains(&pa.0)
                };
                let with_page = |(handle, ranges): (Handle, &[page_ownership::Given])| {
                    (handle.0 as u16 == slot && ranges.iter().any(within)).then_some(handle)
                };
                let handle = ownership.given_by(owner).find_map(with_page).expect("the page's transaction");
                if owner == vm {
                    // Shared, or not complete yet.
                    !ownership.is_exclusive(handle)
                } else {
                    let granted = ownership
                        .borrowers(handle)
                        .ok()
                        .and_then(|mut all| all.find(|(other, _)| *other == vm));
                    let granted = granted.is_some_and(|(_, grant)| grant.write || !mapping.access.write);
                    granted && ownership.holders(handle).any(|holder| holder == vm)
                }
            }
        };
        assert!(allowed, "{vm} can use {pa}, which is {state:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]
        #[test]
        fn whatever_vms_do_they_use_only_what_is_theirs(bytes in prop::collection::vec(any::<u8>(), 0..2500)) {
            drive(&bytes);
        }
    }
}
