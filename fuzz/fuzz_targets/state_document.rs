#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| samsara_etl_fuzz::state_document(data));
