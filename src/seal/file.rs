//! The text of a seal file, reader beside writer. Knows nothing of paths. Each seal file has one written form: what the
//! reader takes, the writer would write byte for byte. The form is described in `kes-seal(5)`.

use std::ops::RangeInclusive;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use super::{
    SealError,
    cipher::{self, Cipher},
    root::{RootKey, RootKeyId, RootKeys},
    unknown_version,
};
use crate::{
    crypto::{Secret, SecretBytes},
    text::encode::{base64, base64_into, hex},
};

/// Longest seal file in bytes: room for about 11,000 root keys.
pub const MAX_SEAL_FILE: usize = 1 << 20;

const MAGIC: &str = "kes-seal";
const VERSION: &str = "v1";

/// Tells the key of a body from all other derived keys.
const BODY_INFO: &[u8] = b"kes seal file v1";

/// The last line: `check `, 64 digits, line feed.
const CHECK_LEN: usize = 71;

// The upper bounds keep a planted file from taking all memory or the rest of the day.
/// Memory of Argon2id in KiB.
pub const MEMORY_KIB: RangeInclusive<u32> = 8..=1_048_576;
/// Passes of Argon2id.
pub const PASSES: RangeInclusive<u32> = 1..=100;
const LANES: RangeInclusive<u32> = 1..=16;
const SALT_LEN: RangeInclusive<usize> = 16..=64;

/// How the root keys in a seal file are protected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unlock {
    /// Not at all: the file is the secret.
    None,
    /// Under a passphrase, through Argon2id.
    Passphrase(Argon2id),
    /// Under a systemd credential. Which one is said in the configuration.
    Credential,
    /// Under the output of a program. Which one is said in the configuration and never here: who can write a file must
    /// not thereby choose what is run.
    Command,
}

impl Unlock {
    /// The method's name in the file and in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Passphrase(_) => "passphrase",
            Self::Credential => "credential",
            Self::Command => "command",
        }
    }
}

/// Parameters of Argon2id, version 1.3 (RFC 9106 §3.1), with a result of 32 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argon2id {
    /// Memory in KiB, at least 8 for each lane and at most 1,048,576 (1 GiB).
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 100.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
    /// 16 to 64 random bytes.
    pub salt: Vec<u8>,
}

/// A seal file as it was read. Its root keys may still be locked.
#[derive(Debug)]
pub struct SealFile {
    unlock: Unlock,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Plain(RootKeys),
    Locked { bound: Vec<u8>, sealed: Vec<u8> },
}

impl SealFile {
    /// Reads the text of a seal file.
    pub fn parse(text: &[u8]) -> Result<Self, SealError> {
        if text.len() > MAX_SEAL_FILE {
            return Err(SealError::TooLong);
        }
        check_first_line(text)?;
        let content = check_sum(text)?;
        let content = std::str::from_utf8(content).map_err(|_| SealError::Malformed("text"))?;
        let mut lines = Lines { rest: content, number: 0 };
        lines.next();
        let unlock = lines.next().and_then(parse_unlock).ok_or(lines.bad("malformed unlock method"))?;
        let body = if unlock == Unlock::None {
            Body::Plain(parse_root_keys(&mut lines)?)
        } else {
            let bound = content.as_bytes().get(..lines.offset(content)).unwrap_or_default().to_vec();
            let encoded = lines.next().and_then(|line| line.strip_prefix("body "));
            let sealed = encoded
                .and_then(|encoded| STANDARD.decode(encoded).ok())
                .ok_or(lines.bad("malformed body"))?;
            Body::Locked { bound, sealed }
        };
        if !lines.rest.is_empty() {
            lines.next();
            return Err(lines.bad("unknown line"));
        }
        Ok(Self { unlock, body })
    }

    /// How it is protected.
    pub fn unlock(&self) -> &Unlock {
        &self.unlock
    }

    /// The root keys of a file that is not protected.
    pub fn into_root_keys(self) -> Result<RootKeys, SealError> {
        match self.body {
            Body::Plain(keys) => Ok(keys),
            Body::Locked { .. } => {
                Err(SealError::OtherMethod { file: self.unlock.name(), configured: Unlock::None.name() })
            }
        }
    }

    /// The root keys of a protected file. `secret` is the result of Argon2id for a passphrase, and what the credential or
    /// command gave for the other methods.
    pub fn open_with(self, secret: &[u8]) -> Result<RootKeys, SealError> {
        let (bound, sealed) = match self.body {
            Body::Plain(keys) => return Ok(keys),
            Body::Locked { bound, sealed } => (bound, sealed),
        };
        let body =
            cipher::open(secret, BODY_INFO, &bound, &sealed).map_err(|_| SealError::WrongUnlockSecret)?;
        let text = std::str::from_utf8(&body).map_err(|_| SealError::Malformed("body"))?;
        let mut lines = Lines { rest: text, number: 0 };
        let keys = parse_root_keys(&mut lines)?;
        if lines.rest.is_empty() { Ok(keys) } else { Err(SealError::Malformed("body")) }
    }
}

/// The text of a seal file that is itself the secret.
pub fn write_plain(keys: &RootKeys) -> SecretBytes {
    let mut text = write_start(&Unlock::None);
    write_root_keys(keys, &mut text);
    write_check(&mut text);
    text
}

/// The text of a seal file whose root keys are sealed under `secret` (see [`SealFile::open_with`]).
pub fn write_locked(keys: &RootKeys, unlock: &Unlock, secret: &[u8]) -> Result<SecretBytes, SealError> {
    let mut text = write_start(unlock);
    let mut body = SecretBytes::new();
    write_root_keys(keys, &mut body);
    let sealed = cipher::seal(Cipher::preferred(), secret, BODY_INFO, &text, &body)?;
    text.extend(b"body ");
    text.extend(base64(&sealed).as_bytes());
    text.extend(b"\n");
    write_check(&mut text);
    Ok(text)
}

/// Lines that end with a line feed, counted from 1.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.number = self.number.saturating_add(1);
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        Some(line)
    }

    fn offset(&self, whole: &str) -> usize {
        whole.len().saturating_sub(self.rest.len())
    }

    fn bad(&self, cause: &'static str) -> SealError {
        SealError::BadLine(self.number, cause)
    }
}

fn check_first_line(text: &[u8]) -> Result<(), SealError> {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let version = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(MAGIC)?.strip_prefix(' '));
    match version {
        Some(VERSION) => Ok(()),
        Some(version) => Err(unknown_version(version)),
        None if text.is_empty() => Err(SealError::Truncated),
        None => Err(SealError::BadLine(1, "this is no seal file")),
    }
}

/// What stands before the last line, if that line is its checksum.
fn check_sum(text: &[u8]) -> Result<&[u8], SealError> {
    let (content, check) = text
        .len()
        .checked_sub(CHECK_LEN)
        .and_then(|at| text.split_at_checked(at))
        .ok_or(SealError::Edited)?;
    if check == check_line(content).as_bytes() { Ok(content) } else { Err(SealError::Edited) }
}

/// The checksum finds accidents and hasty edits. It is no defence, as anyone can compute it: a protected body has its own
/// authentication, and who can write an unprotected seal file owns the store anyway.
fn check_line(content: &[u8]) -> String {
    format!("check {}\n", hex(digest(&SHA256, content).as_ref()))
}

fn parse_unlock(line: &str) -> Option<Unlock> {
    match line.strip_prefix("unlock ")? {
        "none" => Some(Unlock::None),
        "credential" => Some(Unlock::Credential),
        "command" => Some(Unlock::Command),
        other => parse_argon2id(other.strip_prefix("passphrase argon2id v=19 ")?).map(Unlock::Passphrase),
    }
}

fn parse_argon2id(text: &str) -> Option<Argon2id> {
    let mut fields = text.split(' ');
    let memory_kib = parse_number(fields.next()?.strip_prefix("m=")?)?;
    let passes = parse_number(fields.next()?.strip_prefix("t=")?)?;
    let lanes = parse_number(fields.next()?.strip_prefix("p=")?)?;
    let salt = STANDARD.decode(fields.next()?.strip_prefix("salt=")?).ok()?;
    let is_bounded = MEMORY_KIB.contains(&memory_kib)
        && PASSES.contains(&passes)
        && LANES.contains(&lanes)
        && memory_kib >= lanes.saturating_mul(8)
        && SALT_LEN.contains(&salt.len())
        && fields.next().is_none();
    is_bounded.then_some(Argon2id { memory_kib, passes, lanes, salt })
}

fn parse_root_keys(lines: &mut Lines<'_>) -> Result<RootKeys, SealError> {
    let active = parse_root_key(lines, "active")?;
    let mut retired = Vec::new();
    while lines.rest.starts_with("root ") {
        retired.push(parse_root_key(lines, "retired")?);
    }
    RootKeys::new(active, retired).ok_or(lines.bad("a root key is there twice"))
}

fn parse_root_key(lines: &mut Lines<'_>, state: &str) -> Result<RootKey, SealError> {
    let line = lines.next().and_then(|line| line.strip_prefix("root "));
    let fields = line.ok_or(lines.bad("a root key should be here"))?;
    let (id, key) = parse_root_fields(fields, state).ok_or(lines.bad("malformed root key"))?;
    if key.id() == id { Ok(key) } else { Err(lines.bad("the root key is not the one of this ID")) }
}

fn parse_root_fields(fields: &str, state: &str) -> Option<(RootKeyId, RootKey)> {
    let mut fields = fields.split(' ');
    let id = RootKeyId::parse(fields.next()?)?;
    if fields.next()? != state {
        return None;
    }
    let created = parse_number(fields.next()?)?;
    let encoded = fields.next()?;
    if fields.next().is_some() || encoded.len() != 44 {
        return None;
    }
    let mut bytes = SecretBytes::from(vec![0; 33]);
    let n = STANDARD.decode_slice(encoded, &mut bytes).ok()?;
    Some((id, RootKey::new(Secret::from_slice(bytes.get(..n)?)?, created)))
}

/// A decimal number without sign or leading zeros.
fn parse_number<T: std::str::FromStr + ToString>(text: &str) -> Option<T> {
    let number: T = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn write_start(unlock: &Unlock) -> SecretBytes {
    let parameters = match unlock {
        Unlock::Passphrase(Argon2id { memory_kib, passes, lanes, salt }) => {
            format!(" argon2id v=19 m={memory_kib} t={passes} p={lanes} salt={}", base64(salt))
        }
        _ => String::new(),
    };
    let start = format!("{MAGIC} {VERSION}\nunlock {}{parameters}\n", unlock.name());
    SecretBytes::from(start.into_bytes())
}

fn write_root_keys(keys: &RootKeys, text: &mut SecretBytes) {
    let retired = keys.retired().iter().map(|key| (key, "retired"));
    for (key, state) in std::iter::once((keys.active(), "active")).chain(retired) {
        text.extend(format!("root {} {state} {} ", key.id(), key.created()).as_bytes());
        base64_into(&key.secret().expose()[..], text);
        text.extend(b"\n");
    }
}

fn write_check(text: &mut SecretBytes) {
    let check = check_line(text);
    text.extend(check.as_bytes());
}
