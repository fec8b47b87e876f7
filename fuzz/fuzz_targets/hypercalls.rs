#![no_main]
//! Sequences of calls against the whole service.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hv_core::testing::sequence::drive(bytes));
