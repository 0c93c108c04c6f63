//! Cryptography behind the program's own names: sealing with one-time keys, HMAC, random bytes, wiped memory.
//! Knows bytes and keys; no names, routes or files.

pub mod aead;
pub mod hchacha;
pub mod secret;

pub use secret::{Secret, SecretBytes};

use crate::sys::random;
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};

/// Fills `bytes` with random ones from the system, by the cheapest way that it has; `false` if it has none to give.
#[must_use]
pub fn fill_random(bytes: &mut [u8]) -> bool {
    random::fill(bytes) || SystemRandom::new().fill(bytes).is_ok()
}

/// HMAC-SHA256 (RFC 2104).
pub fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut sum = [0; 32];
    sum.copy_from_slice(tag.as_ref());
    sum
}
