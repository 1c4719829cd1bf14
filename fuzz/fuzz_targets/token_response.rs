//! See the property of this name in `src/fuzzing/`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| genesys_scripts::fuzzing::token_response(data));
