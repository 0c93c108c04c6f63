#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = kes::tls::x509::Certificate::parse(data);
});
