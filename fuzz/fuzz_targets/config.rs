#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let overrides = kes::config::Overrides::default();
    let _ = kes::config::parse(text, "fuzz.yml", std::path::Path::new("/"), &overrides, &|_| None);
});
