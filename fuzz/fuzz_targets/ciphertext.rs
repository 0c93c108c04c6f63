#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let secret = kes::crypto::Secret::from_slice(&[7; 32]).unwrap();
    let key = kes::keyring::KeyVersion::import(kes::keyring::Algorithm::Aes256, secret, "").unwrap();
    assert!(key.decrypt(data, b"").is_err());
});
