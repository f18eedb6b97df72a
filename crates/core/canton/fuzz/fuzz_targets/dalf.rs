#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| heirloom_canton_fuzz::dalf(data));
