#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = kes::text::json::read_object(data, ["plaintext", "context"], kes::text::json::Rest::Ignored);
});
