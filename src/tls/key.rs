//! Reads private keys from PEM files, also those under a password (RFC 1423 and PKCS #8 PBES2), and writes them under
//! RFC 1423, the only kind that MinIO reads.

use std::{fmt, sync::Arc};

use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use der::{
    Decode, Reader, SliceReader, Tag,
    asn1::{ObjectIdentifier, OctetStringRef},
};
use md5::{Digest, Md5};
use ring::{
    pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

use super::{
    pem,
    x509::{self, Malformed, sequence},
};
use crate::{
    crypto::SecretBytes,
    text::encode::{decode_hex, hex},
};

const PBES2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.5.12");
const HMAC_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.7");
const HMAC_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.9");
const HMAC_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.10");
const HMAC_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.11");
const AES_128_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.2");
const AES_192_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.22");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");
const DES_EDE3_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.3.7");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");

/// More rounds of PBKDF2 than anybody writes; a file that asks for more would stop the start for minutes.
const MAX_ROUNDS: u32 = 50_000_000;

/// Why a private key cannot be used (texts: `server-api` §1.6, `config` §7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// No private key among the blocks.
    Missing,
    /// A block that is neither a private key nor something that may stand beside one.
    UnsupportedBlock,
    /// Under a password, and none was given.
    PasswordRequired,
    /// It does not open with this password.
    WrongPassword,
    /// Under a password in a way that this program does not know.
    UnsupportedEncryption(String),
    /// A kind of key that this program cannot sign with.
    Unsupported(&'static str),
    /// Not a private key at all.
    Malformed,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("https: no PEM-encoded private key found"),
            Self::UnsupportedBlock => f.write_str("https: unsupported PEM data block"),
            Self::PasswordRequired => f.write_str("https: private key is encrypted: password required"),
            Self::WrongPassword => f.write_str("x509: decryption password incorrect"),
            Self::UnsupportedEncryption(name) => {
                write!(f, "https: private key is encrypted in an unknown way: {name}")
            }
            Self::Unsupported(kind) => write!(f, "tls: unsupported private key: {kind}"),
            Self::Malformed => f.write_str("tls: failed to parse private key"),
        }
    }
}

impl From<Malformed> for KeyError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<der::Error> for KeyError {
    fn from(_: der::Error) -> Self {
        Self::Malformed
    }
}

/// Which structure the DER bytes of a private key are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// `RSA PRIVATE KEY` (RFC 8017).
    Pkcs1,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
    /// `PRIVATE KEY` (RFC 5958).
    Pkcs8,
}

/// A private key of any kind that was found in a file.
#[derive(Debug)]
pub struct PrivateKey {
    der: SecretBytes,
    form: Form,
}

impl PrivateKey {
    /// Takes the first private key of a PEM file; certificates and EC parameters before it are passed over.
    /// `password` opens it if it is encrypted.
    pub fn parse(text: &[u8], password: Option<&[u8]>) -> Result<Self, KeyError> {
        for block in pem::parse(text).blocks {
            match block.label.as_str() {
                "CERTIFICATE" | "EC PARAMETERS" => {}
                "ENCRYPTED PRIVATE KEY" => {
                    let der = open_pbes2(&block.bytes, password.ok_or(KeyError::PasswordRequired)?)?;
                    return Self { der, form: Form::Pkcs8 }.checked();
                }
                label if label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY") => {
                    let form = match label {
                        "RSA PRIVATE KEY" => Form::Pkcs1,
                        "EC PRIVATE KEY" => Form::Sec1,
                        _ => Form::Pkcs8,
                    };
                    let is_encrypted =
                        block.header("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED"));
                    let der = match is_encrypted {
                        true => open_rfc1423(&block, password.ok_or(KeyError::PasswordRequired)?)?,
                        false => block.bytes,
                    };
                    return Self { der, form }.checked();
                }
                _ => return Err(KeyError::UnsupportedBlock),
            }
        }
        Err(KeyError::Missing)
    }

    /// A key in PKCS #8 form.
    pub fn from_pkcs8(der: SecretBytes) -> Self {
        Self { der, form: Form::Pkcs8 }
    }

    /// The PKCS #8 bytes, if that is what the file held.
    pub fn pkcs8(&self) -> Option<&[u8]> {
        (self.form == Form::Pkcs8).then_some(&self.der[..])
    }

    /// The key as rustls uses it. Says clearly which kinds are not supported.
    pub fn signing_key(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        self.check_kind()?;
        let der = match self.form {
            Form::Pkcs1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(&self.der[..])),
            Form::Sec1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(&self.der[..])),
            Form::Pkcs8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&self.der[..])),
        };
        rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| KeyError::Malformed)
    }

    /// What is no structure at all is refused at once: so a wrong password is seen whose padding happens to fit.
    fn checked(self) -> Result<Self, KeyError> {
        let mut reader = SliceReader::new(&self.der)?;
        sequence(&mut reader)?;
        reader.finish()?;
        Ok(self)
    }

    fn check_kind(&self) -> Result<(), KeyError> {
        let mut reader = SliceReader::new(&self.der)?;
        let mut fields = sequence(&mut reader)?;
        match self.form {
            Form::Pkcs1 => return check_rsa(&self.der),
            Form::Sec1 => {
                x509::content(&mut fields, Tag::Integer)?;
                x509::content(&mut fields, Tag::OctetString)?;
                let Some(parameters) = x509::optional(&mut fields, 0)? else { return Ok(()) };
                return check_curve(ObjectIdentifier::from_der(parameters)?);
            }
            Form::Pkcs8 => {}
        }
        x509::content(&mut fields, Tag::Integer)?;
        let mut algorithm = sequence(&mut fields)?;
        match ObjectIdentifier::decode(&mut algorithm)? {
            RSA => check_rsa(<&OctetStringRef>::decode(&mut fields)?.as_bytes()),
            EC => check_curve(ObjectIdentifier::decode(&mut algorithm)?),
            _ => Ok(()),
        }
    }
}

/// `der` as a PEM `PRIVATE KEY` under a password, in the manner of RFC 1423: AES-256-CBC, the key from MD5.
///
/// One round of MD5 is a weak guard for a weak password. The form is fixed by what reads it: MinIO knows no other.
pub fn seal_rfc1423(der: &[u8], password: &[u8]) -> Result<SecretBytes, String> {
    let mut iv = [0; 16];
    SystemRandom::new().fill(&mut iv).map_err(|_| "no randomness available".to_owned())?;
    let key = stretch_md5(password, iv.get(..8).unwrap_or(&[]), 32);
    let mut content = SecretBytes::with_capacity(der.len().saturating_add(16));
    content.extend(der);
    content.extend(&[0; 16]);
    let failed = |_| "the private key cannot be encrypted".to_owned();
    let cipher =
        cbc::Encryptor::<aes::Aes256>::new_from_slices(&key, &iv).map_err(|error| error.to_string())?;
    let sealed = cipher.encrypt_padded::<Pkcs7>(&mut content, der.len()).map_err(failed)?;
    let info = format!("AES-256-CBC,{}", hex(&iv));
    Ok(pem::encode("PRIVATE KEY", &[("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", &info)], sealed))
}

fn open_rfc1423(block: &pem::Block, password: &[u8]) -> Result<SecretBytes, KeyError> {
    let (name, iv) =
        block.header("DEK-Info").and_then(|info| info.split_once(',')).ok_or(KeyError::Malformed)?;
    let cipher = match name {
        "AES-128-CBC" => Cipher::Aes128,
        "AES-192-CBC" => Cipher::Aes192,
        "AES-256-CBC" => Cipher::Aes256,
        "DES-EDE3-CBC" => Cipher::TripleDes,
        other => return Err(KeyError::UnsupportedEncryption(other.to_owned())),
    };
    let iv = decode_hex(iv.trim()).ok_or(KeyError::Malformed)?;
    let key = stretch_md5(password, iv.get(..8).ok_or(KeyError::Malformed)?, cipher.key_len());
    cipher.decrypt(&key, &iv, &block.bytes)
}

/// The key derivation of RFC 1423 files: MD5 over the previous hash, the password and the salt, until there is enough.
fn stretch_md5(password: &[u8], salt: &[u8], len: usize) -> SecretBytes {
    let mut key = SecretBytes::with_capacity(48);
    let mut hash = SecretBytes::with_capacity(16);
    while key.len() < len {
        let mut md5 = Md5::new();
        md5.update(&hash[..]);
        md5.update(password);
        md5.update(salt);
        let mut digest = md5.finalize();
        hash.clear();
        hash.extend(&digest);
        key.extend(&digest);
        zeroize::Zeroize::zeroize(digest.as_mut_slice());
    }
    key.truncate(len);
    key
}

/// EncryptedPrivateKeyInfo (RFC 5958, section 3) with PBES2 (RFC 8018, section 6.2) and PBKDF2.
fn open_pbes2(der: &[u8], password: &[u8]) -> Result<SecretBytes, KeyError> {
    let mut reader = SliceReader::new(der)?;
    let mut fields = sequence(&mut reader)?;
    reader.finish()?;
    let mut algorithm = sequence(&mut fields)?;
    let sealed = <&OctetStringRef>::decode(&mut fields)?.as_bytes();
    expect(&mut algorithm, PBES2)?;
    let mut parameters = sequence(&mut algorithm)?;
    let mut derivation = sequence(&mut parameters)?;
    expect(&mut derivation, PBKDF2)?;
    let mut derivation = sequence(&mut derivation)?;
    let mut encryption = sequence(&mut parameters)?;
    let cipher = match ObjectIdentifier::decode(&mut encryption)? {
        AES_128_CBC => Cipher::Aes128,
        AES_192_CBC => Cipher::Aes192,
        AES_256_CBC => Cipher::Aes256,
        DES_EDE3_CBC => Cipher::TripleDes,
        other => return Err(KeyError::UnsupportedEncryption(other.to_string())),
    };
    let iv = <&OctetStringRef>::decode(&mut encryption)?.as_bytes();

    let salt = <&OctetStringRef>::decode(&mut derivation)?.as_bytes();
    let rounds = u32::decode(&mut derivation)?;
    if !derivation.is_finished() && Tag::peek(&derivation)? == Tag::Integer {
        u32::decode(&mut derivation)?;
    }
    let hash = match derivation.is_finished() {
        true => pbkdf2::PBKDF2_HMAC_SHA1,
        false => hash_by_id(ObjectIdentifier::decode(&mut sequence(&mut derivation)?)?)?,
    };
    let rounds = std::num::NonZeroU32::new(rounds).ok_or(KeyError::Malformed)?;
    if rounds.get() > MAX_ROUNDS {
        return Err(KeyError::UnsupportedEncryption(format!("{rounds} rounds of PBKDF2")));
    }
    let mut key = SecretBytes::from(vec![0; cipher.key_len()]);
    pbkdf2::derive(hash, rounds, salt, password, &mut key);
    cipher.decrypt(&key, iv, sealed)
}

fn expect(reader: &mut SliceReader<'_>, wanted: ObjectIdentifier) -> Result<(), KeyError> {
    match ObjectIdentifier::decode(reader)? {
        found if found == wanted => Ok(()),
        other => Err(KeyError::UnsupportedEncryption(other.to_string())),
    }
}

fn hash_by_id(id: ObjectIdentifier) -> Result<pbkdf2::Algorithm, KeyError> {
    match id {
        HMAC_SHA1 => Ok(pbkdf2::PBKDF2_HMAC_SHA1),
        HMAC_SHA256 => Ok(pbkdf2::PBKDF2_HMAC_SHA256),
        HMAC_SHA384 => Ok(pbkdf2::PBKDF2_HMAC_SHA384),
        HMAC_SHA512 => Ok(pbkdf2::PBKDF2_HMAC_SHA512),
        other => Err(KeyError::UnsupportedEncryption(other.to_string())),
    }
}

#[derive(Clone, Copy)]
enum Cipher {
    Aes128,
    Aes192,
    Aes256,
    TripleDes,
}

impl Cipher {
    fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    fn decrypt(self, key: &[u8], iv: &[u8], sealed: &[u8]) -> Result<SecretBytes, KeyError> {
        match self {
            Self::Aes128 => decrypt::<cbc::Decryptor<aes::Aes128>>(key, iv, sealed),
            Self::Aes192 => decrypt::<cbc::Decryptor<aes::Aes192>>(key, iv, sealed),
            Self::Aes256 => decrypt::<cbc::Decryptor<aes::Aes256>>(key, iv, sealed),
            Self::TripleDes => decrypt::<cbc::Decryptor<des::TdesEde3>>(key, iv, sealed),
        }
    }
}

fn decrypt<D: KeyIvInit + BlockModeDecrypt>(
    key: &[u8],
    iv: &[u8],
    sealed: &[u8],
) -> Result<SecretBytes, KeyError> {
    let cipher = D::new_from_slices(key, iv).map_err(|_| KeyError::Malformed)?;
    let mut content = SecretBytes::with_capacity(sealed.len());
    content.extend(sealed);
    let len = cipher.decrypt_padded::<Pkcs7>(&mut content).map_err(|_| KeyError::WrongPassword)?.len();
    content.truncate(len);
    Ok(content)
}

fn check_rsa(pkcs1: &[u8]) -> Result<(), KeyError> {
    let mut reader = SliceReader::new(pkcs1)?;
    let mut fields = sequence(&mut reader)?;
    x509::content(&mut fields, Tag::Integer)?;
    let modulus = x509::content(&mut fields, Tag::Integer)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    if modulus.len() < 256 {
        return Err(KeyError::Unsupported("RSA with less than 2048 bits"));
    }
    Ok(())
}

fn check_curve(curve: ObjectIdentifier) -> Result<(), KeyError> {
    match curve {
        P256 | P384 => Ok(()),
        P521 => Err(KeyError::Unsupported("the elliptic curve P-521; use P-256 or P-384")),
        SECP256K1 => Err(KeyError::Unsupported("the elliptic curve secp256k1; use P-256 or P-384")),
        _ => Err(KeyError::Unsupported("unknown elliptic curve; use P-256 or P-384")),
    }
}

#[cfg(test)]
mod tests;
