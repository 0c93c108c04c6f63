//! Sealing of values at rest under root keys. Knows the two file formats (`kes-seal(5)`), key names as text and root
//! keys; not what a value means, nor where key files lie.

mod cipher;
pub mod disk;
pub mod file;
pub mod root;
#[cfg(test)]
mod tests;
pub mod unlock;

use std::{fmt, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};

pub use self::{
    file::{SealFile, Unlock},
    root::{RootKey, RootKeyId, RootKeys},
    unlock::{Protection, Source},
};
use crate::{crypto::SecretBytes, name::KeyName};
use cipher::Cipher;

/// What every sealed key file starts with, of this version or a later one.
pub const KEY_FILE_MAGIC: &[u8] = b"kes-sealed ";

/// Tells the keys of key files from all other keys derived from a root key.
const KEY_INFO: &[u8] = b"kes sealed key v1";

/// Length of the first line of a key file in bytes, with its line feed.
pub const KEY_FILE_HEADER: usize = KEY_FILE_MAGIC.len() + 3 + 16 + 1;

const KEY_FILE_VERSION: &str = "v1";

/// Why something does not open. No text contains key material.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SealError {
    /// A key file is plain.
    NotSealed,
    /// A file ends too early.
    Truncated,
    /// A file is not of the written form; the text says in which part.
    Malformed(&'static str),
    /// A file is of another version than this program knows.
    UnknownVersion(String),
    /// The first byte of a sealed value is no known cipher.
    UnknownCipher(u8),
    /// A key file is sealed under a root key that the seal file does not have.
    UnknownRootKey(RootKeyId),
    /// The cipher refuses: the content or what it is bound to is not what was sealed.
    NotAuthentic,
    /// The system has no random bytes.
    NoRandomBytes,
    /// A value is longer than can be sealed.
    TooLong,
    /// A line of a seal file, counted from 1, is not of the written form.
    BadLine(usize, &'static str),
    /// The checksum of a seal file does not match.
    Edited,
    /// A seal file is protected by another method than the configuration names.
    OtherMethod {
        /// The method of the file.
        file: &'static str,
        /// The method of the configuration.
        configured: &'static str,
    },
    /// The secret cannot be had; the text says from where and why, without the secret.
    NoSecret(String),
    /// The source of a new secret does not give the same twice.
    SecretChanges,
    /// Ctrl-C at the prompt for a passphrase.
    Interrupted,
    /// A seal file does not open with the given secret.
    WrongUnlockSecret,
    /// Others than its owner may read a seal file with these permission bits.
    ReadableByOthers(u32),
    /// A seal file belongs to the user of this number, who is neither this one nor root.
    OwnedByOther(u32),
    /// A seal file has not the root key under which keys were sealed before: it is older, or of another store.
    LacksRootKeyInUse(RootKeyId),
    /// Another command is at work on the store.
    Busy,
    /// The system refuses; its own text.
    System(String),
    /// The seal file at this path has one of the troubles above.
    File(PathBuf, Box<SealError>),
}

impl SealError {
    /// The same trouble, with the seal file's path in front.
    pub fn at(self, path: &std::path::Path) -> Self {
        Self::File(path.to_owned(), Box::new(self))
    }
}

impl SealError {
    /// The trouble without the path in front.
    pub fn root_cause(&self) -> &Self {
        match self {
            Self::File(_, cause) => cause.root_cause(),
            other => other,
        }
    }
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => {
                f.write_str("is not sealed, and a plain key file is refused in a sealed store")
            }
            Self::Truncated => f.write_str("is cut short"),
            Self::Malformed(part) => write!(f, "is damaged: malformed {part}"),
            Self::UnknownVersion(version) => {
                write!(f, "is of version '{version}', which this build does not know")
            }
            Self::UnknownCipher(byte) => write!(f, "is damaged: unknown cipher {byte}"),
            Self::UnknownRootKey(id) => write!(f, "is sealed under root key {id}, which the seal file lacks"),
            Self::NotAuthentic => {
                f.write_str("does not authenticate: it was edited, renamed or comes from another store")
            }
            Self::NoRandomBytes => f.write_str("the system has no random bytes"),
            Self::TooLong => f.write_str("is too long"),
            Self::BadLine(line, cause) => write!(f, "line {line}: {cause}"),
            Self::Edited => f.write_str("the checksum does not match: the file was edited or cut short"),
            Self::OtherMethod { file, configured } => write!(
                f,
                "is protected by the method '{file}', but keystore.fs.seal.unlock says '{configured}'"
            ),
            Self::NoSecret(cause) => write!(f, "cannot be unlocked: {cause}"),
            Self::SecretChanges => {
                f.write_str("the secret was not the same twice, so that it would open nothing")
            }
            Self::Interrupted => f.write_str("no passphrase was given"),
            Self::WrongUnlockSecret => f.write_str("does not open with this secret"),
            Self::ReadableByOthers(mode) => {
                write!(f, "can be read by others than its owner (mode {mode:04o})")
            }
            Self::OwnedByOther(user) => {
                write!(f, "belongs to the user {user}, who is neither this user nor root")
            }
            Self::LacksRootKeyInUse(id) => {
                write!(
                    f,
                    "lacks root key {id}, which is in use: it is an older file or that of another store"
                )
            }
            Self::Busy => f.write_str("is in use by another 'kes seal' command"),
            Self::System(cause) => f.write_str(cause),
            Self::File(path, cause) => {
                write!(f, "seal file '{}': {cause}", path.display())?;
                match **cause {
                    Self::ReadableByOthers(_) => write!(f, "; run: chmod 600 {}", path.display()),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for SealError {}

/// Whether the content of a key file is sealed, in whatever version.
pub fn is_sealed(text: &[u8]) -> bool {
    text.starts_with(KEY_FILE_MAGIC)
}

/// Seals and opens key files under the root keys of one store.
#[derive(Debug)]
pub struct Sealer {
    root_keys: RootKeys,
}

impl Sealer {
    /// A sealer with these root keys.
    pub fn new(root_keys: RootKeys) -> Self {
        Self { root_keys }
    }

    /// The keys that it works with.
    pub fn root_keys(&self) -> &RootKeys {
        &self.root_keys
    }

    /// The text of the key file for this value, sealed under the active root key and bound to the name.
    pub fn seal(&self, name: &KeyName, value: &[u8]) -> Result<String, SealError> {
        self.seal_as(Cipher::preferred(), name, value)
    }

    fn seal_as(&self, cipher: Cipher, name: &KeyName, value: &[u8]) -> Result<String, SealError> {
        let root = self.root_keys.active();
        let mut text = format!("kes-sealed {KEY_FILE_VERSION} {}\n", root.id());
        let bound = bound_to(text.as_bytes(), name);
        let sealed = cipher::seal(cipher, &root.secret().expose()[..], KEY_INFO, &bound, value)?;
        STANDARD.encode_string(sealed, &mut text);
        text.push('\n');
        Ok(text)
    }

    /// The value in the text of the key file of this name.
    pub fn open(&self, name: &KeyName, text: &[u8]) -> Result<SecretBytes, SealError> {
        let file = KeyFile::parse(text)?;
        let root = self.root_keys.find(file.root).ok_or(SealError::UnknownRootKey(file.root))?;
        let bound = bound_to(file.header, name);
        cipher::open(&root.secret().expose()[..], KEY_INFO, &bound, &file.sealed)
    }
}

/// A sealed key file, taken apart.
#[derive(Debug)]
pub struct KeyFile<'a> {
    header: &'a [u8],
    /// The root key it is sealed under.
    pub root: RootKeyId,
    sealed: Vec<u8>,
}

impl<'a> KeyFile<'a> {
    /// Reads the text of a key file, strictly: each file has one written form.
    pub fn parse(text: &'a [u8]) -> Result<Self, SealError> {
        let (root, end) = parse_header(text)?;
        let (header, body) = text.split_at(end);
        // The last line feed is the mark that the text is whole.
        let Some((b'\n', encoded)) = body.split_last() else { return Err(SealError::Truncated) };
        let sealed = STANDARD.decode(encoded).map_err(|_| SealError::Malformed("base64"))?;
        Ok(Self { header, root, sealed })
    }
}

/// Which root key a key file is sealed under. Its first [`KEY_FILE_HEADER`] bytes are enough to know.
pub fn root_of(start: &[u8]) -> Result<RootKeyId, SealError> {
    parse_header(start).map(|(root, _)| root)
}

/// The root key, and where the second line begins.
fn parse_header(text: &[u8]) -> Result<(RootKeyId, usize), SealError> {
    if !text.starts_with(KEY_FILE_MAGIC) {
        let is_start = KEY_FILE_MAGIC.starts_with(text);
        return Err(if is_start { SealError::Truncated } else { SealError::NotSealed });
    }
    let end = text.iter().position(|&byte| byte == b'\n').ok_or(SealError::Truncated)?;
    let fields = text.get(KEY_FILE_MAGIC.len()..end).unwrap_or_default();
    let fields = std::str::from_utf8(fields).map_err(|_| SealError::Malformed("first line"))?;
    let (version, id) = fields.split_once(' ').unwrap_or((fields, ""));
    if version != KEY_FILE_VERSION {
        return Err(unknown_version(version));
    }
    let root = RootKeyId::parse(id).ok_or(SealError::Malformed("root key ID"))?;
    Ok((root, end.saturating_add(1)))
}

/// What a key file is bound to: its first line with the line feed, then the name. The line has exactly one line feed and
/// a name has none, so that no two pairs give the same bytes.
fn bound_to(header: &[u8], name: &KeyName) -> Vec<u8> {
    [header, name.as_str().as_bytes()].concat()
}

/// A version that we do not know, if it looks like one at all.
fn unknown_version(version: &str) -> SealError {
    let digits = version.strip_prefix('v').unwrap_or_default();
    if matches!(digits.len(), 1..=6) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return SealError::UnknownVersion(version.to_owned());
    }
    SealError::Malformed("version")
}
