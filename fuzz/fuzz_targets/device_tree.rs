#![no_main]
//! Machines' device trees, and what is made of them.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(machine) = machine::Machine::from_dtb(bytes) {
        let _ = (machine.memory().count(), machine.reserved().count(), machine.cores().count());
        machine.for_each_device(&mut |_, region| assert!(region.base.checked_add(region.size).is_some()));
        machine.for_each_interrupt(&mut |_, interrupt| assert!(interrupt.number() < 8192));
        hv_core::testing::rewrite_trees(machine.dtb());
    }
});
