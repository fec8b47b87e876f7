//! Who may call what: one table.

use super::{direct, ffa, indirect, mailbox, memory, notify, paravirt, psci, vendor};
use crate::{
    run::Next,
    vcpu::Loaded,
    vm::{Vm, VmKind},
};
use hv_abi::{ffa as f, paravirt as p, psci as ps, smccc, vendor as v};

/// A hypercall's handler.
pub(crate) type Handler = fn(Loaded) -> Next;

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

/// Makes the table: a match, which finds a row without walking through the others, and for tests a list.
macro_rules! access_table {
    ($($function:path, $who:ident, $handler:path;)+) => {
        fn find_for(function: u32, kind: VmKind) -> Option<Handler> {
            match function {
                $($function if Who::$who.includes(kind) => Some($handler),)+
                _ => None,
            }
        }

        #[cfg(any(test, feature = "testing"))]
        static ACCESS: &[(u32, Who)] = &[$(($function, Who::$who)),+];
    };
}

// Every call there is. `FFA_RUN` for the primary, `FFA_ID_GET`, `FFA_YIELD` and `HF_INTERRUPT_GET` are also matched
// ahead of this table.
access_table! {
    // FF-A.
    f::VERSION, All, ffa::version;
    f::FEATURES, All, ffa::features;
    f::ID_GET, All, super::call;
    f::SPM_ID_GET, All, ffa::spm_id_get;
    f::PARTITION_INFO_GET, All, mailbox::partition_info_get;
    f::RXTX_MAP, All, mailbox::rxtx_map;
    f::RXTX_MAP_64, All, mailbox::rxtx_map;
    f::RXTX_UNMAP, All, mailbox::rxtx_unmap;
    f::RX_RELEASE, All, mailbox::rx_release;
    f::RUN, Primary, super::call;
    f::YIELD, All, super::call;
    f::MSG_WAIT, Secondaries, ffa::msg_wait;
    f::MSG_SEND_DIRECT_REQ, All, super::call;
    f::MSG_SEND_DIRECT_REQ_64, All, super::call;
    f::MSG_SEND_DIRECT_RESP, Secondaries, super::call;
    f::MSG_SEND_DIRECT_RESP_64, Secondaries, super::call;
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
    f::MEM_RECLAIM, All, memory::reclaim;
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
    p::INTERRUPT_GET, All, super::call;
    p::INTERRUPT_INJECT, All, paravirt::inject;
    p::INTERRUPT_SEND_IPI, All, paravirt::send_ipi;
    // PSCI: forwarded for the primary, emulated for the others.
    ps::VERSION, All, psci::version;
    ps::FEATURES, All, psci::features;
    ps::CPU_ON, Primary, psci::primary_cpu_on;
    ps::CPU_ON_64, Primary, psci::primary_cpu_on;
    ps::CPU_OFF, Primary, psci::primary_cpu_off;
    ps::AFFINITY_INFO, Primary, psci::primary_affinity_info;
    ps::AFFINITY_INFO_64, Primary, psci::primary_affinity_info;
    ps::SYSTEM_OFF, Primary, psci::primary_system_off;
    ps::SYSTEM_RESET, Primary, psci::primary_system_reset;
    ps::CPU_ON, Secondaries, psci::cpu_on;
    ps::CPU_ON_64, Secondaries, psci::cpu_on;
    ps::CPU_OFF, Secondaries, psci::cpu_off;
    ps::AFFINITY_INFO, Secondaries, psci::affinity_info;
    ps::AFFINITY_INFO_64, Secondaries, psci::affinity_info;
    ps::SYSTEM_OFF, Secondaries, psci::system_off;
    ps::SYSTEM_RESET, Secondaries, psci::system_reset;
    ps::CPU_SUSPEND, All, psci::cpu_suspend;
    ps::CPU_SUSPEND_64, All, psci::cpu_suspend;
    ps::MIGRATE_INFO_TYPE, All, psci::migrate_info_type;
    // SMCCC and Margay.
    smccc::VERSION, All, vendor::smccc_version;
    smccc::ARCH_FEATURES, All, vendor::arch_features;
    v::CALL_UID, All, vendor::uid;
    v::CALL_REVISION, All, vendor::revision;
    v::CRASH_RECORD_GET, Primary, vendor::crash_record;
}

/// The handler of `function` for `vm`; `None` if the VM has no such call.
pub(crate) fn find(function: u32, vm: &Vm) -> Option<Handler> {
    find_for(function, vm.kind)
}

/// All calls that there are.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn functions() -> std::vec::Vec<u32> {
    ACCESS.iter().map(|(function, _)| *function).collect()
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
        for kind in [VmKind::Primary, VmKind::Secondary] {
            for (id, _) in ACCESS {
                let rows = ACCESS.iter().filter(|(other, who)| other == id && who.includes(kind)).count();
                assert!(rows <= 1, "{id:#x} has {rows} rows for {kind:?}");
            }
        }
    }

    #[test]
    fn only_the_primary_has_power_over_others() {
        for call in [f::RUN, v::CRASH_RECORD_GET] {
            assert!(may_call(call, VmKind::Primary));
            assert!(!may_call(call, VmKind::Secondary), "{call:#x}");
        }
    }
}
