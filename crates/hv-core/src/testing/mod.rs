//! A system in host memory: a primary on two cores, VM 2 with two vCPUs, VM 3 with one. The processor is
//! `arch::host`, so what is tested is every decision, and no instruction.

use crate::{
    arch,
    devices::{Policy, subset::Subset},
    el2_map::Window,
    percore::Core,
    routing::Routes,
    run::{self, Next},
    service,
    system::System,
    tables::VmTables,
    vcpu::{Loaded, Vcpu, VcpuState},
    vm::{Messaging, Vm, VmKind},
    vmtree,
};
use alloc::alloc::{Layout, dealloc};
use bundle::Service;
use core::cell::{Cell, RefCell};
use hv_abi::{
    Regs,
    exit::{Exit, Fault},
    ffa,
    ids::{Ipa, Pa, VcpuId, VcpuIndex, VmId},
    layout::PAGE,
    paravirt, psci,
};
use machine::Conduit;
use page_ownership::Ownership;
use stage2_mmu::{Access, IpaWidth, Mapping, MemoryType};
use std::{boxed::Box, collections::BTreeMap, thread_local, vec::Vec};
use vtimer::Frequency;

#[cfg(test)]
mod aborts;
#[cfg(test)]
mod bcm2836;
#[cfg(test)]
mod boards;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod firmware;
#[cfg(test)]
mod hotplug;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod pine64;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod power;
#[cfg(test)]
mod raspi3;
#[cfg(test)]
mod running;
pub mod sequence;
#[cfg(test)]
mod serrors;
#[cfg(test)]
mod stop_notice;
#[cfg(test)]
mod timers;
#[cfg(test)]
mod virtual_gic;

#[cfg(test)]
pub(crate) use virtual_gic::list_registers;

thread_local! {
    /// Pages of memory, by physical address.
    static PAGES: RefCell<BTreeMap<u64, Box<[u8; 4096]>>> = const { RefCell::new(BTreeMap::new()) };
    static SYSTEM: Cell<Option<&'static System>> = const { Cell::new(None) };
    /// Pages of tables, which [`Node::end`] frees.
    static TABLES: RefCell<Vec<(*mut u8, Layout)>> = const { RefCell::new(Vec::new()) };
}

/// Boot has taken pages for tables from the heap, for good.
pub(crate) fn taken_for_tables(page: *mut u8, layout: Layout) {
    assert!(!page.is_null(), "the host has no memory");
    TABLES.with_borrow_mut(|tables| tables.push((page, layout)));
}

/// This thread's system.
pub(crate) fn system() -> &'static System {
    SYSTEM.get().expect("the test has not built a system")
}

/// How much memory each VM has, and from where it receives more.
const MEMORY: u64 = 0x20_0000;
const WINDOW: u64 = 0x8000_0000;

fn pa_of(id: u16) -> Pa {
    Pa(u64::from(id) << 32)
}

fn memory_of(kind: VmKind, id: u16) -> Ipa {
    if kind == VmKind::Secondary { Ipa(0x4000_0000) } else { Ipa(pa_of(id).0) }
}

thread_local! {
    /// What another core does before this one next opens its window.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
    /// What other cores do each time a vCPU makes a call again.
    static BETWEEN: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    /// vCPUs do not make calls again.
    static GIVES_UP: Cell<bool> = const { Cell::new(false) };
    /// How often vCPUs have made calls again.
    static ENTRIES: Cell<u64> = const { Cell::new(0) };
    /// How often this core has opened its window: a measure of how much memory a call reads or writes.
    static PAGES_TOUCHED: Cell<u64> = const { Cell::new(0) };
}

/// Runs `work` on a page of memory, as [`Window`] does.
pub(crate) fn with_page(pa: Pa, work: impl FnOnce(&mut [u8])) {
    if let Some(other) = MEANWHILE.with_borrow_mut(Option::take) {
        other();
    }
    PAGES_TOUCHED.set(PAGES_TOUCHED.get() + 1);
    let mut page = PAGES.with_borrow_mut(|pages| pages.remove(&pa.0)).unwrap_or(Box::new([0; 4096]));
    work(&mut page[..]);
    PAGES.with_borrow_mut(|pages| pages.insert(pa.0, page));
}

fn vm(id: u16, kind: VmKind, vcpus: u16) -> Vm {
    let vcpus = (0..vcpus).map(|i| Vcpu::new(VcpuIndex(i), vmtree::vcpu_mpidr(i))).collect();
    let mut tables = VmTables::new(IpaWidth::new(40).unwrap()).unwrap();
    tables.map(memory_of(kind, id), pa_of(id), MEMORY, Access::RWX, MemoryType::Normal).unwrap();
    let services = [Service { uuid: [u32::from(id); 4], messaging_method: u16::MAX }];
    Vm::new(VmId(id), kind, "vm", &services, Messaging::of(kind), vcpus, tables, [WINDOW, 16])
}

/// A core of the system, seen through the eyes of its primary vCPU.
struct Node {
    system: &'static System,
    /// The same, as the box that it was.
    whole: *mut System,
    core: &'static Core,
}

/// What has become of a vCPU's call.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It goes on, with these results.
    Returned(Regs),
    /// The primary goes on, with this exit.
    Exited(VcpuId, Exit),
    /// That vCPU was entered.
    Entered(VcpuId),
}

impl Node {
    fn new() -> Self {
        Self::with_vms(|_| ())
    }

    /// With VMs as `change` makes them.
    fn with_vms(change: impl Fn(&mut Vm)) -> Self {
        Self::with(change, Routes::new())
    }

    /// The same, and interrupts that go where `routes` says.
    fn with(change: impl Fn(&mut Vm), routes: Routes) -> Self {
        let mut vms: Vec<Vm> =
            [vm(1, VmKind::Primary, 2), vm(2, VmKind::Secondary, 2), vm(3, VmKind::Secondary, 1)].into();
        vms.iter_mut().for_each(change);
        Self::of(vms, routes)
    }

    /// With these VMs.
    fn of(vms: Vec<Vm>, routes: Routes) -> Self {
        PAGES.with_borrow_mut(BTreeMap::clear);
        let cores = (0..2u16)
            .map(|i| Core::new(i, vmtree::vcpu_mpidr(i), vms.len(), Window::nowhere(), Pa(0), 0))
            .collect();
        let ids = || vms.iter().map(|vm| vm.id);
        let mut ownership = Ownership::new(ids().map(|id| (pa_of(id.0).0, MEMORY)), ids());
        // So that a few pages take several entries.
        ownership.set_step(1);
        ids().for_each(|id| assert!(ownership.assign(id, pa_of(id.0), MEMORY / PAGE)));
        let whole = Box::into_raw(Box::new(System {
            vms: vms.into(),
            cores,
            frequency: Frequency::from_hz(1_000_000_000).unwrap(),
            vtcr: 0,
            ownership: crate::lock::Lock::new(ownership),
            conduit: Some(Conduit::Smc),
            workarounds: Default::default(),
            routes,
        }));
        // SAFETY: it was a box, and stays until `end`.
        let system: &'static System = unsafe { &*whole };
        system.vms.iter().for_each(|vm| vm.vcpus.iter().for_each(|vcpu| vcpu.attach(vm)));
        for (core, vcpu) in system.cores.iter().zip(&system.vms[0].vcpus) {
            core.attach(vcpu);
            let _ = vcpu.claim(VcpuState::Off, core).unwrap();
        }
        for vm in &system.vms[1..] {
            vm.vcpus[0].claim(VcpuState::Off, &system.cores[0]).unwrap().release(VcpuState::Ready);
        }
        SYSTEM.set(Some(system));
        Self { system, whole, core: &system.cores[0] }
    }

    /// Gives the memory of the system back. Tests need not; whoever plays millions of sequences must.
    ///
    /// # Safety
    /// Nothing of the system is used again, and nothing else on this thread has made tables that are.
    unsafe fn end(self) {
        SYSTEM.set(None);
        PAGES.with_borrow_mut(BTreeMap::clear);
        // SAFETY: `new` made it of a box; the caller has no other reference that it uses.
        drop(unsafe { Box::from_raw(self.whole) });
        for (page, layout) in TABLES.take() {
            // SAFETY: it was allocated with this layout, and the tables are gone.
            unsafe { dealloc(page, layout) };
        }
    }

    fn vm(&self, vm: u16) -> &'static Vm {
        self.system.vm(VmId(vm)).unwrap()
    }

    /// What a VM sees at an address, if it may read it.
    fn translate(&self, vm: u16, ipa: u64) -> Option<Mapping> {
        self.vm(vm).stage2.lock().walk(Ipa(ipa))
    }

    /// What a VM reads at an address.
    fn read(&self, vm: u16, ipa: u64, length: usize) -> Vec<u8> {
        let mapping = self.translate(vm, ipa).expect("a page that the VM can read");
        let mut bytes = Vec::new();
        let page = Pa(mapping.pa.0 & !(PAGE - 1));
        with_page(page, |page| bytes = page[(ipa % PAGE) as usize..][..length].to_vec());
        bytes
    }

    /// Lets a VM write at the start of a page.
    fn write(&self, vm: u16, ipa: u64, bytes: &[u8]) {
        let mapping = self.translate(vm, ipa).filter(|mapping| mapping.access.write);
        with_page(mapping.expect("a page that the VM can write").pa, |page| {
            page[..bytes.len()].copy_from_slice(bytes);
        });
    }

    /// The address of a VM's page `n`.
    fn page(vm: u16, n: u64) -> u64 {
        (if vm == 1 { pa_of(1).0 } else { 0x4000_0000 }) + n * PAGE
    }

    fn vcpu(&self, vm: u16, index: u16) -> &'static Vcpu {
        &self.system.vm(VmId(vm)).unwrap().vcpus[usize::from(index)]
    }

    /// Lets `vcpu`, which is loaded, make a call, and does the switch that follows.
    fn call(vcpu: &'static Vcpu, arguments: &[u64]) -> Outcome {
        Self::call_by(service::call, vcpu, arguments)
    }

    /// The same by SMC.
    #[cfg(test)]
    fn smc(vcpu: &'static Vcpu, arguments: &[u64]) -> Outcome {
        Self::call_by(service::call_by_smc, vcpu, arguments)
    }

    fn call_by(handler: fn(Loaded) -> Next, vcpu: &'static Vcpu, arguments: &[u64]) -> Outcome {
        let mut regs = Regs::default();
        regs.0[..arguments.len()].copy_from_slice(arguments);
        // SAFETY: the test loads one vCPU at a time on its one core.
        let mut loaded = unsafe { Loaded::assume(vcpu) };
        loaded.regs().set_results(&regs);
        let is_run = arguments[0] == u64::from(ffa::RUN) && vcpu.vm().is_primary();
        let mut next = handler(loaded);
        // The vCPU makes the call again, with the same registers.
        while arch::REPEATED.replace(false) && !GIVES_UP.get() {
            ENTRIES.set(ENTRIES.get() + 1);
            if let Some(mut other) = BETWEEN.with_borrow_mut(Option::take) {
                other();
                BETWEEN.set(Some(other));
            }
            // SAFETY: as above.
            next = handler(unsafe { Loaded::assume(vcpu) });
        }
        Self::settle(vcpu, next, is_run)
    }

    /// `is_run`: `from` is the primary and called `FFA_RUN`, so that results are an exit.
    fn settle(from: &'static Vcpu, next: Next, is_run: bool) -> Outcome {
        if !core::ptr::eq(from, next) {
            run::switch(Some(from), next);
        }
        // SAFETY: as `call`.
        let regs = unsafe { Loaded::assume(next) }.regs().arguments();
        if core::ptr::eq(from, next) && !is_run {
            return Outcome::Returned(regs);
        }
        if next.vm().is_primary() {
            let (about, exit) = Exit::from_regs(&regs).unwrap();
            return Outcome::Exited(about, exit);
        }
        Outcome::Entered(next.id())
    }

    fn run(&self, vm: u16, index: u16) -> Outcome {
        Self::call(self.core.primary(), &[ffa::RUN.into(), id(vm, index).pack()])
    }
}

fn id(vm: u16, index: u16) -> VcpuId {
    VcpuId { vm: VmId(vm), index: VcpuIndex(index) }
}

fn refused(vm: u16, index: u16, code: ffa::Error) -> Outcome {
    Outcome::Exited(id(vm, index), Exit::Refused(code))
}

fn returned(x0: u64) -> impl Fn(&Outcome) -> bool {
    move |outcome| matches!(outcome, Outcome::Returned(regs) if regs.0[0] == x0)
}

fn words(ids: (u16, u16)) -> u64 {
    u64::from(ids.0) << 16 | u64::from(ids.1)
}

/// Runs VM `vm`'s vCPU until it waits for a message.
fn wait_for_message(node: &Node, vm: u16, index: u16) {
    if node.vcpu(vm, index).state() == VcpuState::Off {
        node.vcpu(vm, index).claim(VcpuState::Off, node.core).unwrap().release(VcpuState::Ready);
    }
    assert_eq!(node.run(vm, index), Outcome::Entered(id(vm, index)));
    let waits = Exit::MessageWait { timeout_ns: None };
    assert_eq!(
        Node::call(node.vcpu(vm, index), &[ffa::MSG_WAIT.into()]),
        Outcome::Exited(id(vm, index), waits)
    );
}

/// A call of a loaded vCPU that is refused with `code`, and changes nothing.
fn is_refused(vcpu: &'static Vcpu, call: &[u64], code: ffa::Error) {
    let Outcome::Returned(regs) = Node::call(vcpu, call) else { panic!("{call:x?} left the vCPU") };
    assert_eq!((regs.0[0] as u32, ffa::Error::from_bits(regs.0[2])), (ffa::ERROR, Some(code)), "{call:x?}");
}

/// Makes the trees of all kinds of VMs from a machine's, which has been checked.
///
/// # Panics
/// A tree that was made is none.
pub fn rewrite_trees(machine_dtb: &[u8]) {
    let regions = [crate::plan::Region::new(0x4000_0000, 0x1000_0000)];
    let (bootargs, ramdisk) = ("a=b", Some((0x4800_0000, 0x4810_0000)));
    let primary =
        vmtree::PrimaryTree { others: &[(2, "two", "")], regions: &regions, bootargs, ramdisk, gic: None };
    let Ok(machine) = machine::Machine::from_dtb(machine_dtb) else { return };
    let policy = Policy {
        allowed: machine::allowed::QEMU_VIRT,
        granted: b"pl061@9030000\0",
        taken: &regions,
        limit: 1 << 40,
    };
    let controllers: &[&[&str]] = &[machine::GIC_V3, machine::GIC_V2];
    let nodes = |primary, policy| Subset::new(&machine, primary, controllers, policy);
    let secondary = vmtree::SecondaryTree {
        memory_base: 0x4000_0000,
        memory_len: 0x1000_0000,
        vcpus: 3,
        bootargs,
        ramdisk,
        name: "two",
        allwinner: false,
        gic: None,
        bcm2836: None,
        list_registers: false,
        regions: &[],
    };
    let made = [
        vmtree::primary(&machine, &primary, &nodes(true, None)),
        vmtree::primary(&machine, &primary, &nodes(true, Some(&policy))),
        vmtree::super_secondary(&machine, &secondary, &nodes(false, Some(&policy))),
        vmtree::secondary(&secondary),
    ];
    for tree in made.into_iter().flatten() {
        assert!(devtree::Tree::new(&tree).is_ok(), "a tree that was made is none");
    }
}
