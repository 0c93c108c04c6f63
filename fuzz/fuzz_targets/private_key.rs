#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = kes::tls::pem::parse(data);
    let _ = kes::tls::pem::parse_certificates(data);
});
