//! Partition information: which VMs there are, and which services they have (DEN0077A, sections 6.1, 13.8 and 13.9).
//!
//! What there is does not change while the machine runs, so a list that is read in parts is always the same list: its tag is 0.

use super::{answer, error};
use crate::{run::Next, system::System, vcpu::Loaded, vm::Rx};
use hv_abi::{
    ffa::{self, Error, PartitionInfo},
    layout::PAGE,
};

/// Properties that every service has for itself; the others are those of its partition.
const METHODS: u32 = ffa::PROPERTY_DIRECT_RECV
    | ffa::PROPERTY_DIRECT_SEND
    | ffa::PROPERTY_INDIRECT
    | ffa::PROPERTY_DIRECT2_RECV
    | ffa::PROPERTY_DIRECT2_SEND;

/// The properties that 1.0 and 1.1 have words for.
const KNOWN_1_0: u32 = ffa::PROPERTY_DIRECT_RECV | ffa::PROPERTY_DIRECT_SEND | ffa::PROPERTY_INDIRECT;
const KNOWN_1_1: u32 = KNOWN_1_0 | ffa::PROPERTY_NOTIFICATIONS | ffa::PROPERTY_AARCH64;

/// Words of a descriptor, and how many of them 1.0 knows.
const WORDS: usize = ffa::PARTITION_INFO_SIZE / size_of::<Word>();
const WORDS_1_0: usize = ffa::PARTITION_INFO_SIZE_1_0 / size_of::<Word>();
/// Words in x3 to x17.
const IN_REGISTERS: usize = 15;

/// Eight bytes of memory.
type Word = [u8; 8];

/// Writes the descriptors that answer a query, from number `first` on, as many as `out` has room for; returns how many there are. With a
/// UUID it is the partitions that have it, without one each service of all of them. Before 1.2 a partition has one UUID: those callers get
/// one descriptor of it, with all that it can do.
#[inline(never)]
fn describe(uuid: [u32; 4], version: ffa::Version, first: usize, out: &mut [Word]) -> usize {
    let all = uuid == [0; 4];
    let (known, words) = match version {
        ffa::VERSION_1_0 => (KNOWN_1_0, WORDS_1_0),
        ffa::VERSION_1_1 => (KNOWN_1_1, WORDS),
        _ => (u32::MAX, WORDS),
    };
    let each = all && known == u32::MAX;
    let mut out = out.iter_mut();
    let mut count = 0;
    for vm in &System::get().vms {
        for service in &vm.services {
            if !all && service.uuid != uuid {
                continue;
            }
            if count >= first {
                let own =
                    if all && !each { u32::MAX } else { !METHODS | u32::from(service.messaging_method) };
                let info = PartitionInfo {
                    id: vm.id.0,
                    execution_contexts: vm.vcpus.len() as u16,
                    properties: vm.messaging.properties & known & own,
                    uuid: if all { service.uuid } else { [0; 4] },
                };
                for (word, out) in info.to_words()[..words].iter().zip(&mut out) {
                    *out = word.to_le_bytes();
                }
            }
            count += 1;
            if !each {
                break;
            }
        }
    }
    count
}

/// `FFA_PARTITION_INFO_GET`: descriptors in the RX buffer, or only how many there are.
pub(super) fn partition_info_get(mut current: Loaded) -> Next {
    let [_, a, b, c, d, flags, ..] = current.regs().arguments().0;
    let uuid = [a, b, c, d].map(|word| word as u32);
    let result = into_rx(&current, uuid, flags & 0xffff_ffff);
    answer(current, result)
}

fn into_rx(current: &Loaded, uuid: [u32; 4], flags: u64) -> Result<(u64, u64), Error> {
    let version = current.vm().ffa_version();
    let old = version == ffa::VERSION_1_0;
    let size = if old { ffa::PARTITION_INFO_SIZE_1_0 } else { ffa::PARTITION_INFO_SIZE };
    let count = describe(uuid, version, 0, &mut []);
    if flags & !ffa::PARTITION_INFO_COUNT_ONLY != 0 || count == 0 {
        return Err(Error::InvalidParameters);
    }
    if flags != 0 {
        return Ok((count as u64, 0));
    }
    let mut mailbox = current.vm().mailbox.lock();
    let Some((_, rx)) = mailbox.pages else { return Err(Error::Busy) };
    if mailbox.rx != Rx::Free {
        return Err(Error::Busy);
    }
    if count * size > PAGE as usize {
        return Err(Error::NoMemory);
    }
    current.core().window.with_page(rx, |page| _ = describe(uuid, version, 0, page.as_chunks_mut().0));
    mailbox.rx = Rx::Held(current.vcpu().index());
    Ok((count as u64, if old { 0 } else { size as u64 }))
}

/// `FFA_PARTITION_INFO_GET_REGS` (1.2): the same in registers, up to five from the one on that w3 names (bits 15:0; the tag in 31:16).
pub(super) fn partition_info_get_regs(mut current: Loaded) -> Next {
    let [_, low, high, from, ..] = current.regs().arguments().0;
    let (first, tag) = (usize::from(from as u16), (from >> 16) as u16);
    let mut words = [[0; 8]; IN_REGISTERS];
    let version = current.vm().ffa_version();
    let count = describe(ffa::uuid_from_words([low, high]), version, first, &mut words);
    let refused = if version < ffa::VERSION_1_2 {
        Error::NotSupported
    } else if first >= count || (first == 0 && tag != 0) {
        Error::InvalidParameters
    } else if tag != 0 {
        Error::Retry
    } else {
        let last = count - 1;
        let written = last.min(first + IN_REGISTERS / WORDS - 1);
        let x = &mut current.regs().x;
        x[0] = ffa::SUCCESS_64.into();
        x[1] = 0;
        x[2] = (last | written << 16 | ffa::PARTITION_INFO_SIZE << 48) as u64;
        for (x, word) in x[3..18].iter_mut().zip(words) {
            *x = u64::from_le_bytes(word);
        }
        return current.vcpu();
    };
    error(&mut current, refused);
    current.vcpu()
}
