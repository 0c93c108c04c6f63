//! A key: its secrets and what can be done with them (`crypto-formats` §2 to §4).

use super::legacy;
use crate::{
    crypto::{
        Secret, SecretBytes,
        aead::{self, Cipher, IV, NONCE, TAG},
        fill_random, hmac_sha256,
    },
    text::time::Timestamp,
};

/// Bytes that encryption adds: tag (16), iv (16), nonce (12).
pub const OVERHEAD: usize = TAG + IV + NONCE;

/// Bytes of a data key.
pub const DATA_KEY: usize = 32;

/// Which cipher a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// AES-256-GCM under keys derived by HMAC-SHA256.
    Aes256,
    /// ChaCha20-Poly1305 under keys derived by HChaCha20.
    ChaCha20,
}

impl Algorithm {
    /// What a new key gets on this processor: AES where it has instructions for it (`crypto-formats` §6).
    pub fn preferred() -> Self {
        #[cfg(target_arch = "x86_64")]
        let has_aes = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        let has_aes = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let has_aes = false;
        if has_aes { Self::Aes256 } else { Self::ChaCha20 }
    }

    /// From one of the names of the import API (`server-api` §3.4), case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "AES256" | "AES256-GCM_SHA256" => Some(Self::Aes256),
            "ChaCha20" | "XCHACHA20-POLY1305" => Some(Self::ChaCha20),
            _ => None,
        }
    }

    /// As the API shows it: `AES256` or `ChaCha20`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::ChaCha20 => "ChaCha20",
        }
    }

    fn cipher(self) -> Cipher {
        match self {
            Self::Aes256 => Cipher::AesGcm,
            Self::ChaCha20 => Cipher::ChaCha20Poly1305,
        }
    }
}

/// The ciphertext is not one that this key made with this context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAuthentic;

/// One key: a secret to encrypt, perhaps a secret for HMAC, and where it comes from.
#[derive(Debug)]
pub struct KeyVersion {
    /// Which cipher the key is for.
    pub algorithm: Algorithm,
    /// The secret to encrypt with.
    pub secret: Secret<32>,
    /// The secret for HMAC-SHA256; legacy keys have none.
    pub hmac: Option<Secret<32>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it; may be empty.
    pub created_by: String,
}

impl KeyVersion {
    /// A new random key for the preferred cipher, made now. `None` if the system has no random bytes.
    pub fn generate(created_by: &str) -> Option<Self> {
        let mut secret = Secret::zeroed();
        fill_random(secret.expose_mut()).then_some(())?;
        Self::import(Algorithm::preferred(), secret, created_by)
    }

    /// A given secret with a new random HMAC key, made now. `None` if the system has no random bytes.
    pub fn import(algorithm: Algorithm, secret: Secret<32>, created_by: &str) -> Option<Self> {
        let mut hmac = Secret::zeroed();
        fill_random(hmac.expose_mut()).then_some(())?;
        let created_by = created_by.to_owned();
        Some(Self { algorithm, secret, hmac: Some(hmac), created_at: Timestamp::now(), created_by })
    }

    /// Encrypts; the result is [`OVERHEAD`] bytes longer. `None` only if the system has no random bytes or the
    /// plaintext is longer than the cipher allows.
    pub fn encrypt(&self, plaintext: &[u8], context: &[u8]) -> Option<Vec<u8>> {
        let mut random = [0; IV + NONCE];
        fill_random(&mut random).then_some(())?;
        self.encrypt_with(&random, plaintext, context)
    }

    /// Encrypts with a given iv and nonce. They must never be used twice: this is for [`KeyVersion::encrypt`] and for
    /// test vectors.
    pub fn encrypt_with(
        &self,
        random: &[u8; IV + NONCE],
        plaintext: &[u8],
        context: &[u8],
    ) -> Option<Vec<u8>> {
        let mut ciphertext = Vec::with_capacity(plaintext.len() + OVERHEAD);
        ciphertext.extend_from_slice(plaintext);
        let (iv, nonce) = split_random(random);
        let sealed =
            aead::seal(self.algorithm.cipher(), self.secret.expose(), iv, nonce, context, &mut ciphertext);
        let Some(tag) = sealed else {
            drop(SecretBytes::from(ciphertext));
            return None;
        };
        ciphertext.extend_from_slice(&tag);
        ciphertext.extend_from_slice(random);
        Some(ciphertext)
    }

    /// Decrypts a ciphertext of the native or one of the legacy forms. Input that looks like a legacy form but is none
    /// is taken as native: one native ciphertext in 128 begins like one by chance.
    pub fn decrypt(&self, ciphertext: &[u8], context: &[u8]) -> Result<SecretBytes, NotAuthentic> {
        match legacy::to_native(ciphertext) {
            Some(native) => self.decrypt_native(&native, context),
            None => self.decrypt_native(ciphertext, context),
        }
    }

    fn decrypt_native(&self, ciphertext: &[u8], context: &[u8]) -> Result<SecretBytes, NotAuthentic> {
        let (sealed, random) = ciphertext.split_last_chunk().ok_or(NotAuthentic)?;
        let (iv, nonce) = split_random(random);
        aead::open(self.algorithm.cipher(), self.secret.expose(), iv, nonce, context, sealed)
            .ok_or(NotAuthentic)
    }

    /// A fresh data key and its ciphertext, from one call for random bytes. `None` if the system has none.
    pub fn generate_data_key(&self, context: &[u8]) -> Option<(Secret<DATA_KEY>, [u8; DATA_KEY + OVERHEAD])> {
        let mut random = Secret::<{ DATA_KEY + IV + NONCE }>::zeroed();
        fill_random(random.expose_mut()).then_some(())?;
        let (plain, random) = random.expose().split_first_chunk::<DATA_KEY>()?;
        let random: &[u8; IV + NONCE] = random.try_into().ok()?;

        let mut ciphertext = [0; DATA_KEY + OVERHEAD];
        let data_key = Secret::from_slice(plain)?;
        let (sealed, rest) = ciphertext.split_at_mut(DATA_KEY);
        sealed.copy_from_slice(plain);
        let (iv, nonce) = split_random(random);
        let tag = aead::seal(self.algorithm.cipher(), self.secret.expose(), iv, nonce, context, sealed)?;
        rest[..TAG].copy_from_slice(&tag);
        rest[TAG..].copy_from_slice(random);
        Some((data_key, ciphertext))
    }

    /// HMAC-SHA256 of a message; `None` for a key without HMAC secret.
    pub fn hmac(&self, message: &[u8]) -> Option<[u8; 32]> {
        self.hmac.as_ref().map(|secret| hmac_sha256(secret.expose(), message))
    }
}

/// The last 28 bytes of a ciphertext: iv, then nonce.
fn split_random(random: &[u8; IV + NONCE]) -> (&[u8; IV], [u8; NONCE]) {
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&random[IV..]);
    let (iv, _) = random.split_first_chunk().expect("28 bytes begin with 16");
    (iv, nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(algorithm: Algorithm) -> KeyVersion {
        KeyVersion::import(algorithm, Secret::from_slice(&[7; 32]).unwrap(), "me").unwrap()
    }

    #[test]
    fn a_data_key_can_be_decrypted_with_its_context_only() {
        for algorithm in [Algorithm::Aes256, Algorithm::ChaCha20] {
            let key = key(algorithm);
            let (plain, ciphertext) = key.generate_data_key(b"context").unwrap();
            assert_eq!(&key.decrypt(&ciphertext, b"context").unwrap()[..], plain.expose());
            assert!(key.decrypt(&ciphertext, b"").is_err());
            assert!(key.decrypt(&ciphertext, b"contexT").is_err());
        }
    }

    #[test]
    fn keys_of_another_algorithm_do_not_decrypt() {
        let (aes, chacha) = (key(Algorithm::Aes256), key(Algorithm::ChaCha20));
        let ciphertext = aes.encrypt(b"data", b"").unwrap();
        assert!(chacha.decrypt(&ciphertext, b"").is_err());
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let text = format!("{:?}", key(Algorithm::Aes256));
        assert!(!text.contains("7, 7"), "{text}");
    }

    proptest! {
        #[test]
        fn what_was_encrypted_decrypts(
            plaintext in proptest::collection::vec(any::<u8>(), 0..200),
            context in proptest::collection::vec(any::<u8>(), 0..50),
            is_aes: bool,
        ) {
            let key = key(if is_aes { Algorithm::Aes256 } else { Algorithm::ChaCha20 });
            let ciphertext = key.encrypt(&plaintext, &context).unwrap();
            prop_assert_eq!(ciphertext.len(), plaintext.len() + OVERHEAD);
            prop_assert_eq!(&key.decrypt(&ciphertext, &context).unwrap()[..], &plaintext[..]);
        }

        #[test]
        fn a_changed_bit_is_noticed(
            plaintext in proptest::collection::vec(any::<u8>(), 0..60), place: prop::sample::Index, bit in 0..8,
        ) {
            let key = key(Algorithm::Aes256);
            let mut ciphertext = key.encrypt(&plaintext, b"").unwrap();
            let place = place.index(ciphertext.len());
            ciphertext[place] ^= 1u8 << bit;
            prop_assert!(key.decrypt(&ciphertext, b"").is_err());
        }

        #[test]
        fn arbitrary_bytes_are_not_authentic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(key(Algorithm::Aes256).decrypt(&bytes, b"").is_err());
        }
    }
}
