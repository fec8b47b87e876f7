//! Who may call what: one table, built by the compiler, searched here and in `vectors.S`.

use super::{direct, discovery, ffa, indirect, mailbox, memory, notify, paravirt, psci, steps, vendor};
use crate::{
    firmware, measured,
    run::{self, Next},
    vcpu::{Loaded, Vcpu},
    vm::{Vm, VmKind},
};
use hv_abi::{ffa as f, paravirt as p, psci as ps, smccc, vendor as v};

/// A hypercall's handler, as the assembly calls it: with the current vCPU, of which no [`Loaded`] exists.
type Handler = extern "C" fn(&'static Vcpu) -> Next;

/// Which VMs may make a call. To all others it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Every VM.
    All,
    /// The primary.
    Primary,
    /// Every VM but the primary.
    Secondaries,
}

impl Who {
    const fn includes(self, kind: VmKind) -> bool {
        match self {
            Self::All => true,
            Self::Primary => matches!(kind, VmKind::Primary),
            Self::Secondaries => !matches!(kind, VmKind::Primary),
        }
    }
}

/// A hash table without deletion: slot, row, and on to the next slot until one is empty. `vectors.S` knows this layout.
#[repr(C, align(32))]
struct Table<const ROWS: usize> {
    /// 0: empty; otherwise the number of the row, plus one.
    slots: [u8; 256],
    functions: [u32; ROWS],
    /// Who answers each for the primary, and who for other VMs.
    handlers: [[Option<Handler>; 2]; ROWS],
}

/// The first slot of a function. The number's upper byte tells apart calls whose low byte is the same.
const fn slot(function: u32) -> usize {
    (function ^ function >> 23) as usize & 0xff
}

/// How many functions there are in a list: some are there twice, with a handler for each kind of VM.
const fn distinct(functions: &[u32]) -> usize {
    let (mut count, mut i) = (0, 0);
    while i < functions.len() {
        let mut earlier = 0;
        while functions[earlier] != functions[i] {
            earlier += 1;
        }
        count += (earlier == i) as usize;
        i += 1;
    }
    count
}

impl<const ROWS: usize> Table<ROWS> {
    const fn new(calls: &[(u32, Who, Handler)]) -> Self {
        assert!(ROWS < 200, "the table of calls has too few slots");
        let mut table = Self { slots: [0; 256], functions: [0; ROWS], handlers: [[None; 2]; ROWS] };
        let mut used = 0;
        let mut call = 0;
        while call < calls.len() {
            let (function, who, handler) = calls[call];
            let row = match table.row(function) {
                Ok(row) => row,
                Err(slot) => {
                    table.slots[slot] = used as u8 + 1;
                    table.functions[used] = function;
                    used += 1;
                    used - 1
                }
            };
            if who.includes(VmKind::Primary) {
                table.handlers[row][0] = Some(handler);
            }
            if who.includes(VmKind::Secondary) {
                table.handlers[row][1] = Some(handler);
            }
            call += 1;
        }
        table
    }

    /// The row of a function, or the empty slot where it would be.
    const fn row(&self, function: u32) -> Result<usize, usize> {
        let mut slot = slot(function);
        while self.slots[slot] != 0 {
            let row = self.slots[slot] as usize - 1;
            if self.functions[row] == function {
                return Ok(row);
            }
            slot = (slot + 1) & 0xff;
        }
        Err(slot)
    }
}

/// Where the handlers for a VM are: for the assembly, as the distance in bytes from the table to the handler in row 0, of rows that
/// are counted from 1.
pub(crate) const fn column(kind: VmKind) -> usize {
    let row_0 = core::mem::offset_of!(Table<ROWS>, handlers) - 2 * size_of::<Handler>();
    row_0 + if Who::Primary.includes(kind) { 0 } else { size_of::<Handler>() }
}

/// Makes the table, and for tests a list.
macro_rules! access_table {
    ($($function:path, $who:ident, $handler:path;)+) => {
        pub(crate) const ROWS: usize = distinct(&[$($function),+]);

        #[cfg_attr(target_os = "none", unsafe(no_mangle))]
        static HV_CALLS: Table<ROWS> = Table::new(&[$({
            extern "C" fn handler(vcpu: &'static Vcpu) -> Next {
                measured::entered();
                // SAFETY: the caller passes the vCPU that this core has loaded, and has no token for it.
                let next = $handler(unsafe { Loaded::assume(vcpu) });
                measured::call($function);
                next
            }
            ($function, Who::$who, handler as Handler)
        }),+]);

        #[cfg(any(test, feature = "testing"))]
        static ACCESS: &[(u32, Who)] = &[$(($function, Who::$who)),+];
        #[cfg(test)]
        static NAMES: &[&str] = &[$(stringify!($function)),+];
    };
}

// Every call there is.
access_table! {
    // FF-A.
    f::VERSION, All, ffa::version;
    f::FEATURES, All, ffa::features;
    f::ID_GET, All, ffa::id_get;
    f::SPM_ID_GET, All, ffa::spm_id_get;
    f::PARTITION_INFO_GET, All, discovery::partition_info_get;
    f::RXTX_MAP, All, mailbox::rxtx_map;
    f::RXTX_MAP_64, All, mailbox::rxtx_map;
    f::RXTX_UNMAP, All, mailbox::rxtx_unmap;
    f::RX_RELEASE, All, mailbox::rx_release;
    f::RUN, Primary, run::run;
    f::YIELD, All, ffa::yield_now;
    f::MSG_WAIT, Secondaries, ffa::msg_wait;
    f::MSG_SEND_DIRECT_REQ, All, direct::request;
    f::MSG_SEND_DIRECT_REQ_64, All, direct::request;
    f::MSG_SEND_DIRECT_RESP, Secondaries, direct::response;
    f::MSG_SEND_DIRECT_RESP_64, Secondaries, direct::response;
    f::MSG_SEND_DIRECT_REQ2, All, direct::request2;
    f::MSG_SEND_DIRECT_RESP2, Secondaries, direct::response2;
    f::MSG_SEND2, All, indirect::send;
    f::MEM_DONATE, All, memory::donate;
    f::MEM_DONATE_64, All, memory::donate;
    f::MEM_LEND, All, memory::lend;
    f::MEM_LEND_64, All, memory::lend;
    f::MEM_SHARE, All, memory::share;
    f::MEM_SHARE_64, All, memory::share;
    f::MEM_RETRIEVE_REQ, All, memory::retrieve;
    f::MEM_RETRIEVE_REQ_64, All, memory::retrieve;
    f::MEM_RELINQUISH, All, memory::relinquish;
    f::MEM_RECLAIM, All, steps::reclaim;
    f::MEM_FRAG_RX, All, memory::frag_rx;
    f::MEM_FRAG_TX, All, memory::frag_tx;
    f::NOTIFICATION_BITMAP_CREATE, All, notify::create;
    f::NOTIFICATION_BITMAP_DESTROY, All, notify::destroy;
    f::NOTIFICATION_BIND, All, notify::bind;
    f::NOTIFICATION_UNBIND, All, notify::unbind;
    f::NOTIFICATION_SET, All, notify::set;
    f::NOTIFICATION_GET, All, notify::get;
    f::NOTIFICATION_INFO_GET, Primary, notify::info_get;
    f::NOTIFICATION_INFO_GET_64, Primary, notify::info_get;
    f::CONSOLE_LOG, All, ffa::console_log_32;
    f::CONSOLE_LOG_64, All, ffa::console_log_64;
    // Para-virtual interrupts.
    p::INTERRUPT_ENABLE, All, paravirt::enable;
    p::INTERRUPT_GET, All, paravirt::get;
    p::INTERRUPT_INJECT, All, paravirt::inject;
    p::INTERRUPT_SEND_IPI, All, paravirt::send_ipi;
    // PSCI: forwarded for the primary, emulated for the others.
    ps::VERSION, All, psci::version;
    ps::FEATURES, All, psci::features;
    ps::CPU_ON, Primary, psci::primary_cpu_on;
    ps::CPU_ON_64, Primary, psci::primary_cpu_on;
    ps::CPU_OFF, Primary, psci::primary_cpu_off;
    ps::AFFINITY_INFO, Primary, psci::forward;
    ps::AFFINITY_INFO_64, Primary, psci::forward;
    ps::SYSTEM_OFF, Primary, psci::primary_system_off;
    ps::SYSTEM_RESET, Primary, psci::primary_system_reset;
    ps::SYSTEM_RESET2, Primary, psci::forward;
    ps::SYSTEM_RESET2_64, Primary, psci::forward;
    ps::CPU_ON, Secondaries, psci::cpu_on;
    ps::CPU_ON_64, Secondaries, psci::cpu_on;
    ps::CPU_OFF, Secondaries, psci::cpu_off;
    ps::AFFINITY_INFO, Secondaries, psci::affinity_info;
    ps::AFFINITY_INFO_64, Secondaries, psci::affinity_info;
    ps::SYSTEM_OFF, Secondaries, psci::system_off;
    ps::SYSTEM_RESET, Secondaries, psci::system_reset;
    ps::SYSTEM_RESET2, Secondaries, psci::system_reset2;
    ps::SYSTEM_RESET2_64, Secondaries, psci::system_reset2;
    ps::CPU_SUSPEND, All, psci::cpu_suspend;
    ps::CPU_SUSPEND_64, All, psci::cpu_suspend;
    ps::MIGRATE_INFO_TYPE, All, psci::migrate_info_type;
    // SMCCC and Margay.
    smccc::VERSION, All, vendor::smccc_version;
    smccc::ARCH_FEATURES, All, vendor::arch_features;
    smccc::ARCH_WORKAROUND_1, All, firmware::work_around;
    smccc::ARCH_WORKAROUND_2, All, firmware::work_around;
    smccc::ARCH_WORKAROUND_3, All, firmware::work_around;
    v::CALL_UID, All, vendor::uid;
    v::CALL_REVISION, All, vendor::revision;
    v::CRASH_RECORD_GET, Primary, vendor::crash_record;
    v::VM_STOP, Primary, vendor::stop;
    v::VM_RESTART, Primary, vendor::restart;
    v::VCPU_STATISTICS_GET, Primary, vendor::statistics;
    v::BUILD_ID_GET, All, vendor::build_id;
    // Here, because its first slot is one that interrupts need.
    f::PARTITION_INFO_GET_REGS, All, discovery::partition_info_get_regs;
    p::INTERRUPT_DEACTIVATE, All, paravirt::deactivate;
    v::INTERRUPT_ROUTE_GET, Primary, vendor::route;
    v::INTERRUPT_ROUTE_SET, Primary, vendor::set_route;
}

fn find_for(function: u32, kind: VmKind) -> Option<Handler> {
    let row = HV_CALLS.row(function).ok()?;
    HV_CALLS.handlers[row][usize::from(!Who::Primary.includes(kind))]
}

/// The row of a function, below [`ROWS`], and the function of a row: for who keeps something about each call.
pub(crate) fn row(function: u32) -> Option<usize> {
    HV_CALLS.row(function).ok()
}

/// As [`row`].
pub(crate) fn function(row: usize) -> Option<u32> {
    HV_CALLS.functions.get(row).copied()
}

/// The handler of `function` for `vm`; `None` if the VM has no such call.
pub(super) fn find(function: u32, vm: &Vm) -> Option<Handler> {
    find_for(function, vm.kind)
}

/// All calls that there are.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn functions() -> std::vec::Vec<u32> {
    ACCESS.iter().map(|(function, _)| *function).collect()
}

/// The functions of that name, as `docs/abi.md` has them: FF-A's, PSCI's or Margay's.
#[cfg(test)]
pub(super) fn named(name: &str) -> std::vec::Vec<u32> {
    let is = |full: &&str| full.rsplit("::").next() == Some(name);
    ACCESS.iter().zip(NAMES).filter(|(_, full)| is(full)).map(|((function, _), _)| *function).collect()
}

/// Whether a VM of this kind may call `function`.
pub(super) fn may_call(function: u32, kind: VmKind) -> bool {
    find_for(function, kind).is_some()
}

/// Whether `function` is in FF-A's range, where errors are `FFA_ERROR`.
pub(crate) fn is_ffa(function: u32) -> bool {
    f::FUNCTION_RANGE.contains(&(function & !smccc::CONVENTION_64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_has_two_handlers_for_one_kind_of_vm() {
        for kind in [VmKind::Primary, VmKind::SuperSecondary, VmKind::Secondary] {
            for (id, _) in ACCESS {
                let rows = ACCESS.iter().filter(|(other, who)| other == id && who.includes(kind)).count();
                assert!(rows <= 1, "{id:#x} has {rows} rows for {kind:?}");
            }
        }
    }

    #[test]
    fn the_table_has_every_call_and_no_other() {
        for kind in [VmKind::Primary, VmKind::SuperSecondary, VmKind::Secondary] {
            let listed = |function| ACCESS.iter().any(|(id, who)| *id == function && who.includes(kind));
            for (id, _) in ACCESS {
                // Neighbours have the same slots, or the ones next to them.
                for function in [*id, id ^ 0x4000_0000, id ^ 0x0200_0000, id ^ 1, id.rotate_left(9)] {
                    assert_eq!(may_call(function, kind), listed(function), "{function:#x} for {kind:?}");
                }
            }
        }
        assert!(!may_call(0, VmKind::Primary));
    }

    #[test]
    fn the_documentation_has_every_call_and_who_may_make_it() {
        let text = include_str!("../../../../docs/abi.md");
        let cells = |line: &str| -> std::vec::Vec<std::string::String> {
            line.split('|').map(|cell| cell.trim().trim_matches('`').into()).collect()
        };
        let mut rows: std::vec::Vec<_> =
            text.lines().filter(|line| line.matches("| `").count() >= 2).map(cells).collect();
        for ((function, _), name) in ACCESS.iter().zip(NAMES) {
            let (name, number) = (name.rsplit("::").next().unwrap(), std::format!("{function:#010x}"));
            let Some(at) = rows.iter().position(|row| row[1] == name && row[2] == number) else {
                // A call with two rows here has one there.
                let listed = ACCESS.iter().filter(|(other, _)| other == function).count();
                assert!(listed > 1, "{name} ({number}) is not in docs/abi.md");
                continue;
            };
            let row = rows.remove(at);
            for (kind, said) in
                [VmKind::Primary, VmKind::SuperSecondary, VmKind::Secondary].iter().zip(&row[3..6])
            {
                assert_eq!(may_call(*function, *kind), said == "yes", "{name} for {kind:?}");
            }
            assert!(row[6].len() > 2, "{name} has no description");
        }
        assert!(rows.is_empty(), "no such calls: {rows:?}");
    }

    #[test]
    fn the_assembly_knows_the_table() {
        assert_eq!(core::mem::offset_of!(Table<1>, functions), 256);
        assert_eq!(size_of::<[Option<Handler>; 2]>(), 16);
        assert_eq!(column(VmKind::Secondary) - column(VmKind::Primary), 8);
    }

    #[test]
    fn only_the_primary_has_power_over_others() {
        for call in [f::RUN, v::CRASH_RECORD_GET, v::VM_STOP, v::VM_RESTART, v::VCPU_STATISTICS_GET] {
            assert!(may_call(call, VmKind::Primary));
            assert!(!may_call(call, VmKind::SuperSecondary), "{call:#x}");
            assert!(!may_call(call, VmKind::Secondary), "{call:#x}");
        }
    }
}
