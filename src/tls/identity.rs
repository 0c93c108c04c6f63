//! Who a client is, and API keys: text, seed, Ed25519 key, identity (`crypto-formats` §5, `server-api` §1.4).

use std::fmt;

use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::x509::Certificate;
use crate::{
    api::Peer,
    crypto::{Secret, SecretBytes},
    name::Identity,
    text::encode::{base64_into, corrupt_at, decode_base64},
};

/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "kes:v1:";

/// PKCS #8 v1 without a public key, up to the seed.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// SubjectPublicKeyInfo of an Ed25519 key, up to the key.
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The identity that belongs to the DER form of a public key (SubjectPublicKeyInfo).
pub fn identity_of(public_key: &[u8]) -> Identity {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, public_key).as_ref());
    Identity::new(hash)
}

/// Who sent these certificates, in the order in which they came (`server-api` §1.4): CA certificates are passed over,
/// exactly one must remain.
///
/// The one that remains must also be the first: the handshake proves possession of the first certificate's key alone.
/// Without this rule a client could send a CA certificate of its own, followed by somebody else's certificate, and be
/// taken for that other one.
pub fn peer_of(certificates: &[CertificateDer<'_>]) -> Peer {
    let mut owner = None;
    let mut others = 0usize;
    for (position, der) in certificates.iter().enumerate() {
        match Certificate::parse(der) {
            Ok(certificate) if certificate.is_ca => {}
            Ok(certificate) if position == 0 => owner = Some(identity_of(certificate.public_key)),
            // The verifier has refused what cannot be read; if it has not, the safe reading is "somebody else".
            Ok(_) | Err(_) => others += 1,
        }
    }
    match (owner, others) {
        (Some(identity), 0) => Peer::Known(identity),
        (Some(_), _) | (None, 2..) => Peer::SeveralCertificates,
        (None, _) => Peer::NoCertificate,
    }
}

/// Why a text is no API key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiKeyError {
    /// Not 33 bytes.
    Length,
    /// Another kind of key than Ed25519.
    Type,
    /// Not base64 from this byte on.
    Base64(usize),
}

impl fmt::Display for ApiKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("kes: invalid API key: invalid length"),
            Self::Type => f.write_str("kes: invalid API key: unsupported type"),
            Self::Base64(at) => write!(f, "illegal base64 data at input byte {at}"),
        }
    }
}

/// An API key: the seed of an Ed25519 private key.
#[derive(Debug)]
pub struct ApiKey(Secret<32>);

impl ApiKey {
    /// A fresh one. Fails only if the system has no randomness to give.
    pub fn generate() -> Result<Self, String> {
        let mut seed = Secret::zeroed();
        SystemRandom::new().fill(seed.expose_mut()).map_err(|_| "no randomness available".to_owned())?;
        Ok(Self(seed))
    }

    /// Reads the text form; the prefix may be missing (`crypto-formats` §5.1).
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let text = text.strip_prefix(API_KEY_PREFIX).unwrap_or(text);
        let bytes =
            decode_base64(text.as_bytes()).ok_or_else(|| ApiKeyError::Base64(corrupt_at(text.as_bytes())))?;
        match bytes.split_first() {
            Some((0, seed)) => Secret::from_slice(seed).map(Self).ok_or(ApiKeyError::Length),
            Some((_, seed)) if seed.len() == 32 => Err(ApiKeyError::Type),
            _ => Err(ApiKeyError::Length),
        }
    }

    /// The seed in a PKCS #8 private key of version 1 or 2; `None` if it is not an Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Option<Self> {
        // Version 2 (RFC 5958) differs in the length of the whole, in the version and by what follows the seed.
        let is_ed25519 = der.first() == Some(&0x30)
            && der.get(2..4) == Some(&[0x02, 0x01])
            && matches!(der.get(4), Some(0 | 1))
            && der.get(5..16) == PKCS8_ED25519.get(5..16);
        let seed = der.get(16..48).filter(|_| is_ed25519)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
        Secret::from_slice(seed).map(Self)
    }

    /// The text form, with its prefix.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = SecretBytes::with_capacity(33);
        bytes.extend(&[0]);
        bytes.extend(self.0.expose());
        let mut digits = SecretBytes::with_capacity(44);
        base64_into(&bytes, &mut digits);
        let mut text = Zeroizing::new(String::with_capacity(51));
        text.push_str(API_KEY_PREFIX);
        text.extend(digits.iter().map(|byte| char::from(*byte)));
        text
    }

    /// The private key in PKCS #8 v1 form.
    pub fn to_pkcs8(&self) -> SecretBytes {
        let mut der = SecretBytes::with_capacity(48);
        der.extend(&PKCS8_ED25519);
        der.extend(self.0.expose());
        der
    }

    /// The public key as SubjectPublicKeyInfo.
    pub fn public_key(&self) -> Vec<u8> {
        // Every 32 bytes are a seed, so that this cannot fail; an empty key would match nobody.
        let pair = Ed25519KeyPair::from_seed_unchecked(self.0.expose());
        let public = pair.as_ref().map_or(&[][..], |pair| pair.public_key().as_ref());
        [&SPKI_ED25519[..], public].concat()
    }

    /// Who the bearer of this key is.
    pub fn identity(&self) -> Identity {
        identity_of(&self.public_key())
    }
}

#[cfg(test)]
mod tests;
