#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut input = vec![opening.len() as u8];
    input.extend_from_slice(opening);
    input.extend_from_slice(data);
    kes_fuzz::drive(kes::http::h2::H2::new(kes::http::BodyBudget::new(1 << 20), 0), &input);
});
