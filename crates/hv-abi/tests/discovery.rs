//! Partition information, as another implementation reads and writes it.
#![allow(missing_docs)]

use arm_ffa::{
    Interface, Uuid, Version,
    interface_args::SuccessArgs,
    partition_info::{
        self as other, PartitionIdType, PartitionInfoIterator, PartitionProperties,
        SuccessArgsPartitionInfoGetRegs,
    },
};
use hv_abi::ffa::{self, PartitionInfo, PartitionInfoRegs};
use proptest::{collection::vec, prelude::*};

/// The UUID whose words, as registers hold them, are these: its first byte is the lowest one.
fn uuid(words: [u32; 4]) -> Uuid {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Uuid::from_slice(&bytes).unwrap()
}

fn theirs(info: &PartitionInfo) -> other::PartitionInfo {
    let has = |bit| info.properties & bit != 0;
    other::PartitionInfo {
        uuid: uuid(info.uuid),
        partition_id: info.id,
        partition_id_type: PartitionIdType::PeEndpoint { execution_ctx_count: info.execution_contexts },
        props: PartitionProperties {
            support_direct_req_rec: has(ffa::PROPERTY_DIRECT_RECV),
            support_direct_req_send: has(ffa::PROPERTY_DIRECT_SEND),
            support_direct_req2_rec: Some(has(ffa::PROPERTY_DIRECT2_RECV)),
            support_direct_req2_send: Some(has(ffa::PROPERTY_DIRECT2_SEND)),
            support_indirect_msg: has(ffa::PROPERTY_INDIRECT),
            support_notif_rec: has(ffa::PROPERTY_NOTIFICATIONS),
            subscribe_vm_created: false,
            subscribe_vm_destroyed: false,
            is_aarch64: has(ffa::PROPERTY_AARCH64),
        },
    }
}

prop_compose! {
    fn info()(id: u16, execution_contexts: u16, bits: u32, uuid: [u32; 4]) -> PartitionInfo {
        PartitionInfo { id, execution_contexts, properties: bits & 0x70f, uuid }
    }
}

proptest! {
    #[test]
    fn descriptors_are_read(infos in vec(info(), 1..5)) {
        let bytes: Vec<u8> = infos.iter().flat_map(PartitionInfo::to_bytes).collect();
        let read = PartitionInfoIterator::new(Version(1, 2), &bytes, infos.len()).unwrap();
        prop_assert!(read.map(Result::unwrap).eq(infos.iter().map(theirs)));
        prop_assert!(PartitionInfo::list(&bytes, infos.len(), 24).eq(infos));
    }

    #[test]
    fn a_query_is_read(words: [u32; 4], start_index in 1_u16.., info_tag: u16) {
        let query = Interface::PartitionInfoGetRegs { uuid: uuid(words), start_index, info_tag };
        let mut regs = [0; 18];
        query.to_regs(Version(1, 2), &mut regs);
        prop_assert_eq!(regs[0] as u32, ffa::PARTITION_INFO_GET_REGS);
        prop_assert_eq!(ffa::uuid_to_words(words), [regs[1], regs[2]]);
        prop_assert_eq!(ffa::uuid_from_words([regs[1], regs[2]]), words);
    }

    #[test]
    fn registers_are_read(infos in vec(info(), 1..=5), first in 0_u16..1000, more: u16, info_tag: u16) {
        let current_index = first + infos.len() as u16 - 1;
        let mut descriptor_data = [0; 15 * 8];
        for (slot, info) in descriptor_data.chunks_exact_mut(24).zip(&infos) {
            slot.copy_from_slice(&info.to_bytes());
        }
        let last_index = current_index.saturating_add(more);
        let answer = SuccessArgsPartitionInfoGetRegs { last_index, current_index, info_tag, descriptor_data };
        let SuccessArgs::Args64(words) = answer.into() else { panic!() };
        let mut regs = [0; 18];
        regs[0] = ffa::SUCCESS_64.into();
        regs[2..].copy_from_slice(&words);
        let read = PartitionInfoRegs { first, regs };
        prop_assert_eq!(read.last(), last_index);
        prop_assert_eq!(read.tag(), info_tag);
        prop_assert!(read.infos().eq(infos));
    }

    #[test]
    fn registers_may_hold_anything(first: u16, regs: [u64; 18]) {
        let read = PartitionInfoRegs { first, regs };
        prop_assert!(read.infos().count() <= 5);
    }
}
