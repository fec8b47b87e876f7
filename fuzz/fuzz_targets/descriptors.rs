#![no_main]
//! FF-A descriptors and message headers.

use hv_abi::ffa::{
    VERSION_1_0, VERSION_1_1, VERSION_1_2,
    memory::{self, Descriptor, Relinquish},
    message::Message,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let version = [VERSION_1_0, VERSION_1_1, VERSION_1_2][usize::from(first % 3)];
    if let Ok(message) = Message::parse(bytes, version) {
        assert!(message.offset + message.size <= bytes.len());
    }
    let _ = Relinquish::parse(bytes).map(Relinquish::to_bytes);
    if let Ok(ranges) = memory::ranges(bytes) {
        assert_eq!(ranges.count(), bytes.len() / memory::RANGE_SIZE);
    }
    let total = bytes.len() + usize::from(first / 3) * memory::RANGE_SIZE;
    let Ok(descriptor) = Descriptor::parse(bytes, total, version) else { return };
    let Ok(receivers) = descriptor.receivers().collect::<Result<Vec<_>, _>>() else { return };
    // Written again, and whole, it says the same.
    let mut copy = vec![0; 1 << 16];
    let ranges: Vec<_> = descriptor.ranges().collect();
    let composite = descriptor
        .composite()
        .map(|composite| memory::Composite { ranges: ranges.len() as u32, ..composite });
    let composite = composite.filter(|composite| composite.ranges > 0);
    let Some(written) =
        memory::write(&mut copy, version, descriptor.header(), &receivers, composite, ranges.iter().copied())
    else {
        return;
    };
    let again =
        Descriptor::parse(&copy[..written.fragment], written.total, version).expect("what was written");
    assert_eq!(again.header(), descriptor.header());
    assert!(again.receivers().map(Result::unwrap).eq(receivers));
    if composite.is_some() {
        assert!(again.ranges().eq(ranges));
    }
});
