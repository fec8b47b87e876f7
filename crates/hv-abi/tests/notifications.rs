//! What `FFA_NOTIFICATION_INFO_GET` returns, as another implementation writes it.
#![allow(missing_docs)]

use arm_ffa::{
    interface_args::SuccessArgs,
    notification::{SuccessArgsNotificationInfoGet32, SuccessArgsNotificationInfoGet64},
};
use hv_abi::{
    Regs,
    ffa::{SUCCESS, SUCCESS_64, notification::Pending},
};
use proptest::{collection::vec, prelude::*};

type Lists = Vec<(u16, Vec<u16>)>;

fn regs(args: SuccessArgs) -> Regs {
    let mut regs = [0; 8];
    match args {
        SuccessArgs::Args32(words) => {
            regs[0] = SUCCESS.into();
            regs[2..].copy_from_slice(&words.map(u64::from));
        }
        SuccessArgs::Args64(words) => {
            regs[0] = SUCCESS_64.into();
            regs[2..].copy_from_slice(&words[..6]);
        }
    }
    Regs(regs)
}

fn lists_of(pending: &Pending) -> Lists {
    let vcpus = |list: &[hv_abi::ids::VcpuIndex]| list.iter().map(|vcpu| vcpu.0).collect();
    pending.lists().map(|list| (list.vm.0, vcpus(list.vcpus()))).collect()
}

proptest! {
    #[test]
    fn lists_are_read(lists in vec((any::<u16>(), vec(any::<u16>(), 0..4)), 0..20), more in any::<bool>()) {
        let mut narrow = SuccessArgsNotificationInfoGet32::default();
        narrow.more_pending_notifications = more;
        let mut wide = SuccessArgsNotificationInfoGet64::default();
        wide.more_pending_notifications = more;
        let fits_narrow = lists.iter().take_while(|(vm, vcpus)| narrow.add_list(*vm, vcpus).is_ok()).count();
        let fits_wide = lists.iter().take_while(|(vm, vcpus)| wide.add_list(*vm, vcpus).is_ok()).count();
        for (args, fits) in [(SuccessArgs::from(narrow), fits_narrow), (SuccessArgs::from(wide), fits_wide)] {
            let pending = Pending::from_regs(regs(args)).unwrap();
            prop_assert_eq!(pending.more(), more);
            prop_assert_eq!(lists_of(&pending), lists[..fits].to_vec());
        }
    }

    #[test]
    fn arbitrary_registers_cause_no_panic(words in any::<[u64; 7]>(), wide in any::<bool>()) {
        let mut regs = [0; 8];
        regs[0] = if wide { SUCCESS_64 } else { SUCCESS }.into();
        regs[1..].copy_from_slice(&words);
        let pending = Pending::from_regs(Regs(regs)).unwrap();
        let ids: usize = lists_of(&pending).iter().map(|(_, vcpus)| 1 + vcpus.len()).sum();
        let most = if wide { 20 } else { 10 };
        prop_assert!(ids <= most);
    }
}
