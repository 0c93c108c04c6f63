//! Work on a whole file store, which may be served meanwhile: counting, checking, sealing and sealing anew. Keys are taken
//! one directory entry after the other, so that a million need no more memory than ten.

mod adopt;
mod backup;
mod reseal;
mod rotate;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

pub use self::{
    adopt::{Adoption, adopt},
    backup::Backup,
    reseal::Resealed,
    rotate::{forget, init, rewrap, rotate},
};
use super::fs::seals::{Phase, adoption_file};
use crate::{
    crypto::SecretBytes,
    name::KeyName,
    seal::{
        KEY_FILE_HEADER, Protection, RootKeyId, RootKeys, SealError, Sealer, Source, disk::LockedSeal,
        root_of,
    },
    sys::file::read_up_to,
};

/// The original reads this much of a file and ignores the rest (`crypto-formats` §1).
const MAX_FILE: usize = 1 << 20;

/// A file store as the configuration names it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The key directory.
    pub dir: PathBuf,
    /// The directory as it was written, for messages.
    pub shown: String,
    /// The seal file.
    pub seal_file: PathBuf,
    /// What opens the seal file.
    pub source: Source,
}

/// Why work on a store came to an end before it was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpkeepError {
    /// Something about the seal file.
    Seal(SealError),
    /// Something about a file or directory; the text names it.
    Disk(String),
    /// The store is not in the state that this work is for; a whole line.
    Refused(String),
}

impl std::fmt::Display for UpkeepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Seal(cause) => cause.fmt(f),
            Self::Disk(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl From<SealError> for UpkeepError {
    fn from(cause: SealError) -> Self {
        Self::Seal(cause)
    }
}

impl UpkeepError {
    fn disk(what: &str, path: &Path, cause: &io::Error) -> Self {
        Self::Disk(format!("{what} '{}': {cause}", path.display()))
    }
}

/// What happens on the way, for whoever watches.
#[derive(Debug)]
pub enum Step<'a> {
    /// One more key has been looked at.
    Key,
    /// Something is wrong with this key; the reason follows on its name in a sentence (`is cut short`).
    Trouble(&'a KeyName, &'a str),
}

/// Whoever watches.
pub type Watch<'a> = &'a mut dyn FnMut(Step<'_>);

/// How many key files there are of each kind.
#[derive(Default, Debug)]
pub struct Census {
    /// Sealed, by root key.
    pub sealed: BTreeMap<String, u64>,
    /// Plain.
    pub plain: u64,
    /// Neither: unreadable, damaged at the beginning, or links.
    pub other: u64,
}

impl Census {
    /// How many in all.
    pub fn total(&self) -> u64 {
        self.sealed_total() + self.plain + self.other
    }

    /// How many are sealed.
    pub fn sealed_total(&self) -> u64 {
        self.sealed.values().sum()
    }

    /// How many are sealed under this root key.
    pub fn under(&self, id: RootKeyId) -> u64 {
        self.sealed.get(&id.to_string()).copied().unwrap_or(0)
    }
}

/// Counts key files by their first lines alone.
pub fn count(dir: &Path, watch: Watch<'_>) -> Result<Census, UpkeepError> {
    let mut census = Census::default();
    each_key(dir, &mut |name, path| {
        match kind_of(path) {
            Ok(Some(id)) => *census.sealed.entry(id.to_string()).or_default() += 1,
            Ok(None) => census.plain += 1,
            Err(None) => return Ok(()),
            Err(Some(cause)) => {
                census.other += 1;
                watch(Step::Trouble(name, &cause));
            }
        }
        watch(Step::Key);
        Ok(())
    })?;
    Ok(census)
}

/// Opens every key file as a server would, and shows each value to `check`. Returns how many are good and how many not.
pub fn verify(
    dir: &Path,
    phase: &Phase,
    check: &dyn Fn(&[u8]) -> Result<(), String>,
    watch: Watch<'_>,
) -> Result<(u64, u64), UpkeepError> {
    let (mut good, mut bad) = (0, 0);
    each_key(dir, &mut |name, path| {
        let result = match read_key(path) {
            Ok((_, text)) => open_value(phase, name, text).and_then(|value| check(&value)),
            Err(None) => return Ok(()),
            Err(Some(cause)) => Err(cause),
        };
        match result {
            Ok(()) => good += 1,
            Err(cause) => {
                bad += 1;
                watch(Step::Trouble(name, &cause));
            }
        }
        watch(Step::Key);
        Ok(())
    })?;
    Ok((good, bad))
}

/// The value of one key.
pub fn export(dir: &Path, phase: &Phase, name: &KeyName) -> Result<SecretBytes, UpkeepError> {
    let refused = |cause: &str| UpkeepError::Refused(format!("key '{name}' {cause}"));
    let (_, text) = read_key(&dir.join(name.as_str()))
        .map_err(|cause| refused(cause.as_deref().unwrap_or("does not exist")))?;
    open_value(phase, name, text).map_err(|cause| refused(&cause))
}

fn open_value(phase: &Phase, name: &KeyName, text: SecretBytes) -> Result<SecretBytes, String> {
    let sealer = match phase {
        Phase::Plain if crate::seal::is_sealed(&text) => {
            return Err("is sealed, and there is no seal file".into());
        }
        Phase::Plain => return Ok(text),
        Phase::Adopting(_) if !crate::seal::is_sealed(&text) => return Ok(text),
        Phase::Adopting(sealer) | Phase::Sealed(sealer) => sealer,
    };
    sealer.open(name, &text).map_err(|cause| cause.to_string())
}

/// Visits each entry that has the name of a key and is no directory.
fn each_key(
    dir: &Path,
    visit: &mut dyn FnMut(&KeyName, &Path) -> Result<(), UpkeepError>,
) -> Result<(), UpkeepError> {
    let failed = |cause: io::Error| UpkeepError::disk("cannot list the key directory", dir, &cause);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(name) = entry.file_name().to_str().and_then(KeyName::parse) else { continue };
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_directory {
            visit(&name, &entry.path())?;
        }
    }
    Ok(())
}

/// The root key that a file is sealed under, `None` for a plain one. The error is a reason, or nothing if the file is gone.
fn kind_of(path: &Path) -> Result<Option<RootKeyId>, Option<String>> {
    let file = open_key(path)?;
    let start = read_up_to(&file, KEY_FILE_HEADER).map_err(|cause| Some(unreadable(&cause)))?;
    match root_of(&start) {
        Ok(id) => Ok(Some(id)),
        Err(SealError::NotSealed) => Ok(None),
        Err(_) if start.is_empty() => Err(Some("is empty".into())),
        Err(cause) => Err(Some(cause.to_string())),
    }
}

/// An open key file and its text. The error is as in [`kind_of`].
fn read_key(path: &Path) -> Result<(File, SecretBytes), Option<String>> {
    let file = open_key(path)?;
    let text = read_up_to(&file, MAX_FILE).map_err(|cause| Some(unreadable(&cause)))?;
    match text.is_empty() {
        true => Err(Some("is empty".into())),
        false => Ok((file, text)),
    }
}

/// A link is not followed: what it points to could be put in its place, but would stay what it is.
fn open_key(path: &Path) -> Result<File, Option<String>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(None),
        Err(cause) if cause.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Some("is a link, and only files can be sealed".into()));
        }
        result => result.map_err(|cause| Some(unreadable(&cause)))?,
    };
    let data = file.metadata().map_err(|cause| Some(unreadable(&cause)))?;
    match data.is_file() {
        true => Ok(file),
        false => Err(Some("is not a regular file".into())),
    }
}

fn unreadable(cause: &io::Error) -> String {
    format!("cannot be read: {cause}")
}

/// A seal file that is ours to change, and what is in it.
struct Unlocked {
    seal: LockedSeal,
    protection: Protection,
    keys: RootKeys,
}

impl Unlocked {
    /// The seal file, or that of an adoption that has not come to its end; `None` if there is neither.
    fn open(place: &Place) -> Result<Option<Self>, SealError> {
        match Self::at(place, &place.seal_file)? {
            Some(unlocked) => Ok(Some(unlocked)),
            None => Self::at(place, &adoption_file(&place.seal_file)),
        }
    }

    fn at(place: &Place, path: &Path) -> Result<Option<Self>, SealError> {
        let Some(seal) = LockedSeal::open(path)? else { return Ok(None) };
        let file = seal.read()?;
        let protection = Protection::of(&file, &place.source).map_err(|cause| cause.at(path))?;
        let keys = protection.open(file).map_err(|cause| cause.at(path))?;
        Ok(Some(Self { seal, protection, keys }))
    }

    fn required(place: &Place) -> Result<Self, UpkeepError> {
        Self::open(place)?.ok_or_else(|| {
            UpkeepError::Refused(format!("there is no seal file '{}'", place.seal_file.display()))
        })
    }

    fn sealer(self) -> (LockedSeal, Sealer) {
        (self.seal, Sealer::new(self.keys))
    }
}
