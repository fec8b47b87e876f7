//! The guest that talks to another one, with interrupts from a GIC: what the hypervisor has for it comes as
//! SGIs.
#![no_std]
#![no_main]

use hv_abi::{ids::VirtIntId, paravirt};
use lwk_core::platform::VmWithGic;

const fn sgi(id: VirtIntId) -> u32 {
    match paravirt::gic_intid(id) {
        Some(intid) => intid,
        None => panic!("it has a number"),
    }
}

static PLATFORM: VmWithGic =
    VmWithGic::with(&[sgi(paravirt::MAILBOX_READABLE), sgi(paravirt::NOTIFICATION_PENDING)]);

lwk_core::image!(PLATFORM, margay_apps::peers::main);
