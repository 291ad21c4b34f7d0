#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kmesh_oracle::fuzz::resource(bytes));
