//! Sealing of one value under a key that is made for it alone: tag byte ‖ salt ‖ ciphertext ‖ authentication tag.

use ring::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf,
    rand::{SecureRandom, SystemRandom},
};

use super::SealError;
use crate::crypto::SecretBytes;

/// Random bytes per sealed value.
pub const SALT_LEN: usize = 32;

/// Bytes that sealing adds: cipher, salt, authentication tag.
pub const OVERHEAD: usize = 1 + SALT_LEN + TAG_LEN;

const TAG_LEN: usize = 16;

/// The cipher of a sealed value; its first byte says which, so that any machine can open it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cipher {
    /// AES-256-GCM, written as 1.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439), written as 2.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The faster one here: AES where the processor has it, as only then does it run in constant time at full speed.
    pub fn preferred() -> Self {
        if has_aes() { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Seals a value under `secret` with a fresh salt. `info` tells apart what is sealed (RFC 5869 §3.2), `bound` is not
/// stored but must be the same when the value is opened.
pub fn seal(
    cipher: Cipher,
    secret: &[u8],
    info: &[u8],
    bound: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut salt = [0; SALT_LEN];
    SystemRandom::new().fill(&mut salt).map_err(|_| SealError::NoRandomBytes)?;
    seal_with_salt(cipher, &salt, secret, info, bound, value)
}

/// As [`seal`], with a given salt. To be called once only with each salt.
pub(super) fn seal_with_salt(
    cipher: Cipher,
    salt: &[u8; SALT_LEN],
    secret: &[u8],
    info: &[u8],
    bound: &[u8],
    value: &[u8],
) -> Result<Vec<u8>, SealError> {
    let key = derive_key(cipher, salt, secret, info).ok_or(SealError::TooLong)?;
    let mut sealed = Vec::with_capacity(value.len().saturating_add(OVERHEAD));
    sealed.push(cipher.byte());
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(value);
    let body = sealed.get_mut(1 + SALT_LEN..).unwrap_or_default();
    let tag =
        key.seal_in_place_separate_tag(nonce(), Aad::from(bound), body).map_err(|_| SealError::TooLong)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens what [`seal`] made with the same `secret`, `info` and `bound`.
pub fn open(secret: &[u8], info: &[u8], bound: &[u8], sealed: &[u8]) -> Result<SecretBytes, SealError> {
    let (&first, rest) = sealed.split_first().ok_or(SealError::Truncated)?;
    let cipher = Cipher::from_byte(first).ok_or(SealError::UnknownCipher(first))?;
    if sealed.len() < OVERHEAD {
        return Err(SealError::Truncated);
    }
    let (salt, body) = rest.split_at(SALT_LEN);
    let key = derive_key(cipher, salt, secret, info).ok_or(SealError::NotAuthentic)?;
    let mut value = SecretBytes::from(body.to_vec());
    let len =
        key.open_in_place(nonce(), Aad::from(bound), &mut value).map_err(|_| SealError::NotAuthentic)?.len();
    value.truncate(len);
    Ok(value)
}

fn derive_key(cipher: Cipher, salt: &[u8], secret: &[u8], info: &[u8]) -> Option<LessSafeKey> {
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let info = [info];
    let okm = prk.expand(&info, cipher.algorithm()).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Twelve zero bytes. A nonce must not repeat under one key; here each key comes from a random salt of 32 bytes and
/// seals one value, so that there is nothing to count. Random nonces would only bring a second chance of repetition.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
