#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| banstream::fuzz::journal_file(input));
