//! A key: its secrets and what can be done with them (`crypto-formats` §2 to §4).

use crate::{
    crypto::{Secret, SecretBytes},
    text::time::Timestamp,
};

/// Bytes that encryption adds: tag (16), iv (16), nonce (12).
pub const OVERHEAD: usize = 44;

/// Which cipher a key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// AES-256-GCM under keys derived by HMAC-SHA256.
    Aes256,
    /// ChaCha20-Poly1305 under keys derived by HChaCha20.
    ChaCha20,
}

impl Algorithm {
    /// What a new key gets on this processor (`crypto-formats` §6).
    pub fn preferred() -> Self {
        todo!()
    }

    /// From one of the names of the import API (`server-api` §3.4), case-sensitive.
    pub fn parse(_name: &str) -> Option<Self> {
        todo!()
    }

    /// As the API shows it: `AES256` or `ChaCha20`.
    pub fn name(self) -> &'static str {
        todo!()
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
    /// A new random key for the preferred cipher, made now.
    pub fn generate(_created_by: &str) -> Self {
        todo!()
    }

    /// A given secret with a new random HMAC key, made now.
    pub fn import(_algorithm: Algorithm, _secret: Secret<32>, _created_by: &str) -> Self {
        todo!()
    }

    /// Encrypts; the result is [`OVERHEAD`] bytes longer. Fails only if the system has no random bytes or
    /// the plaintext is longer than the cipher allows.
    pub fn encrypt(&self, _plaintext: &[u8], _context: &[u8]) -> Option<Vec<u8>> {
        todo!()
    }

    /// Decrypts a ciphertext of the native or one of the legacy forms.
    pub fn decrypt(&self, _ciphertext: &[u8], _context: &[u8]) -> Result<SecretBytes, NotAuthentic> {
        todo!()
    }

    /// A fresh data key of 32 bytes and its ciphertext of 76, from one call for random bytes.
    pub fn generate_data_key(&self, _context: &[u8]) -> Option<(Secret<32>, [u8; 76])> {
        todo!()
    }

    /// HMAC-SHA256 of a message; `None` for a key without HMAC secret.
    pub fn hmac(&self, _message: &[u8]) -> Option<[u8; 32]> {
        todo!()
    }
}
