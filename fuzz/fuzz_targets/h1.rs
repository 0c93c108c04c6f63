#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kes_fuzz::drive(kes::http::h1::H1::new(kes::http::BodyBudget::new(1 << 20), 0), data);
});
