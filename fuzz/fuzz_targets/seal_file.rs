#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = kes::seal::file::SealFile::parse(data);
});
