//! Authenticated encryption under keys that are derived anew for each message (`crypto-formats` §2.1).

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use super::{SecretBytes, hchacha::hchacha20, hmac_sha256};

/// Bytes of the authentication tag.
pub const TAG: usize = 16;
/// Bytes from which the one-time key is derived.
pub const IV: usize = 16;
/// Bytes of the inner cipher's nonce.
pub const NONCE: usize = 12;

/// Which cipher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// AES-256-GCM under HMAC-SHA256(key, iv).
    AesGcm,
    /// ChaCha20-Poly1305 under HChaCha20(key, iv).
    ChaCha20Poly1305,
}

/// Seals `data` in place under a key derived from `key` and `iv`; returns the tag. `None` if `data` is longer than the
/// cipher allows.
pub fn seal(
    cipher: Cipher,
    key: &[u8; 32],
    iv: &[u8; IV],
    nonce: [u8; NONCE],
    aad: &[u8],
    data: &mut [u8],
) -> Option<[u8; TAG]> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = derive(cipher, key, iv)?.seal_in_place_separate_tag(nonce, Aad::from(aad), data).ok()?;
    tag.as_ref().try_into().ok()
}

/// Opens `sealed` (data and tag); `None` if it is not authentic.
pub fn open(
    cipher: Cipher,
    key: &[u8; 32],
    iv: &[u8; IV],
    nonce: [u8; NONCE],
    aad: &[u8],
    sealed: &[u8],
) -> Option<SecretBytes> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let mut buffer = SecretBytes::with_capacity(sealed.len());
    buffer.extend(sealed);
    let opened = derive(cipher, key, iv)?.open_in_place(nonce, Aad::from(aad), &mut buffer).ok()?.len();
    buffer.truncate(opened);
    Some(buffer)
}

fn derive(cipher: Cipher, key: &[u8; 32], iv: &[u8; IV]) -> Option<LessSafeKey> {
    let unbound = match cipher {
        Cipher::AesGcm => {
            let mut derived = hmac_sha256(key, iv);
            let unbound = UnboundKey::new(&AES_256_GCM, &derived);
            derived.zeroize();
            unbound
        }
        Cipher::ChaCha20Poly1305 => UnboundKey::new(&CHACHA20_POLY1305, hchacha20(key, iv).expose()),
    };
    unbound.ok().map(LessSafeKey::new)
}
