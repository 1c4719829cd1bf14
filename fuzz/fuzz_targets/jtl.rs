//! See the property of this name in `examples/doctor/src/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genesys_doctor::fuzzing::jtl(data));
