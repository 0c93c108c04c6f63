#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut decoder = kes::http::hpack::Decoder::new();
    for block in data.split(|byte| *byte == 0xfe) {
        let _ = decoder.decode(block, |_, _| ());
    }
});
