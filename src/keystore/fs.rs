//! One file per key in one directory, its value sealed unless the store is plain. Knows paths and modes of the store; not
//! what a value means, nor how sealing works.

use std::{
    borrow::Cow,
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{KeyStore, StoreError};
use crate::{
    config::SealConfig,
    crypto::SecretBytes,
    name::KeyName,
    seal::{KEY_FILE_MAGIC, SealError, Sealer, disk},
    sys::file::{
        check_writable, create_dir_durably, create_durably, open_to_read, parent_of, read_up_to,
        remove_durably, remove_stale, replace_durably, sync_dir,
    },
};

/// The original reads this much of a file and ignores the rest (`crypto-formats` §1).
const MAX_FILE: usize = 1 << 20;

/// Longest value that is stored: sealed and in base64 it still fits into [`MAX_FILE`].
const MAX_VALUE: usize = MAX_FILE / 2;

/// Temporary files younger than this may belong to another server (`keystores` §4).
const STALE: Duration = Duration::from_secs(3600);

/// How many files a start looks into at most, to tell sealed from plain.
const SURVEYED: usize = 64;

/// The file store.
#[derive(Debug)]
pub struct FsStore {
    dir: PathBuf,
    shown: String,
    mode: Mode,
    notices: Vec<String>,
}

#[derive(Debug)]
enum Mode {
    /// Values are sealed; plain files are refused.
    Sealed { sealer: Sealer, seal_file: PathBuf },
    /// The store was there before the first sealing start: served as the original does, until it is adopted.
    Unsealed { seal_file: PathBuf },
    /// Plain on purpose.
    Off,
}

impl FsStore {
    /// Opens the store in `dir`, called `shown` in messages. Makes the directory if it is missing, and the seal file if
    /// there are no keys yet. The error says in one line why the server cannot start with this store.
    pub fn open(dir: &Path, shown: &str, seal: &SealConfig) -> Result<Self, String> {
        open_dir(dir, shown)?;
        let (mode, notices) = open_mode(dir, shown, seal)?;
        Ok(Self { dir: dir.to_owned(), shown: shown.to_owned(), mode, notices })
    }

    /// As [`FsStore::open`], for a store that is there already; `None` if there is no directory, or neither a key nor a
    /// seal file. Nothing is made, and the directory need not be writable.
    pub fn open_existing(dir: &Path, shown: &str, seal: &SealConfig) -> Result<Option<Self>, String> {
        if is_missing(dir, shown, seal)? {
            return Ok(None);
        }
        let (mode, notices) = open_mode(dir, shown, seal)?;
        Ok(Some(Self { dir: dir.to_owned(), shown: shown.to_owned(), mode, notices }))
    }

    /// Stores a value under a name that has one, in its place. Returns only after the new value is durable; until then
    /// the old one is there.
    pub fn replace(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path_of(name);
        self.check_mode(&path)?;
        let text = self.file_text(name, &path, value)?;
        replace_durably(&path, &text, "replace").map_err(|cause| explain("cannot replace", &path, &cause))?;
        self.read_back(&path, &text)
    }

    /// One line on whether and how the values are sealed, for banner and status.
    pub fn sealing(&self) -> String {
        match &self.mode {
            Mode::Sealed { sealer, seal_file } => format!(
                "sealed (root key {}, seal file {}, unlock none: the seal file is the secret)",
                sealer.root_keys().active().id(),
                seal_file.display()
            ),
            Mode::Unsealed { .. } => "not sealed (plain key files, as the original writes them)".into(),
            Mode::Off => "off (plain key files, by configuration)".into(),
        }
    }

    /// Whether values are sealed before they are stored.
    pub fn is_sealed(&self) -> bool {
        matches!(self.mode, Mode::Sealed { .. })
    }

    /// Lines for banner and log on what the operator should do about this store.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    fn path_of(&self, name: &KeyName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// A missing file in a directory that is there is a missing key; without the directory nothing can be said.
    fn explain_missing(&self) -> StoreError {
        match check_dir(&self.dir) {
            Ok(()) => StoreError::KeyNotFound,
            Err(error) => error,
        }
    }

    /// Who hears that a key exists goes on to use it: its name must be on the disk even if its creator still syncs.
    fn explain_existing(&self) -> StoreError {
        match sync_dir(&self.dir) {
            Ok(()) => StoreError::KeyExists,
            Err(cause) => explain("cannot sync", &self.dir, &cause),
        }
    }

    /// A server that started on a plain store must not go on as before once the store has been sealed.
    fn check_mode(&self, path: &Path) -> Result<(), StoreError> {
        match &self.mode {
            Mode::Unsealed { seal_file } if seal_file.exists() => Err(StoreError::Failed(format!(
                "key file '{}': the store has been given the seal file '{}' since the start: reload the server",
                path.display(),
                seal_file.display()
            ))),
            _ => Ok(()),
        }
    }

    fn open_value(&self, name: &KeyName, path: &Path, text: SecretBytes) -> Result<SecretBytes, StoreError> {
        let cause = match &self.mode {
            _ if text.is_empty() => "is empty".into(),
            Mode::Sealed { sealer, .. } => match sealer.open(name, &text) {
                Ok(value) => return Ok(value),
                Err(cause) => cause.to_string(),
            },
            _ if text.starts_with(KEY_FILE_MAGIC) => "is sealed, but this store has no seal file".into(),
            _ => return Ok(text),
        };
        Err(StoreError::Failed(format!("key file '{}' {cause}", path.display())))
    }

    /// What the file of a key with this value holds.
    fn file_text<'a>(
        &self,
        name: &KeyName,
        path: &Path,
        value: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, StoreError> {
        if value.len() > MAX_VALUE {
            return Err(StoreError::Failed(format!("key file '{}': the value is too long", path.display())));
        }
        match &self.mode {
            Mode::Sealed { sealer, .. } => match sealer.seal(name, value) {
                Ok(sealed) => Ok(sealed.into_bytes().into()),
                Err(cause) => {
                    Err(StoreError::Failed(format!("cannot seal key file '{}': {cause}", path.display())))
                }
            },
            Mode::Unsealed { .. } | Mode::Off => Ok(value.into()),
        }
    }

    fn read_back(&self, path: &Path, written: &[u8]) -> Result<(), StoreError> {
        let read = open_to_read(path).and_then(|file| read_up_to(&file, MAX_FILE));
        let read = read.map_err(|cause| explain("cannot read back", path, &cause))?;
        if &read[..] == written {
            return Ok(());
        }
        Err(StoreError::Failed(format!("key file '{}' does not hold what was written", path.display())))
    }
}

impl KeyStore for FsStore {
    fn describe(&self) -> String {
        format!("Filesystem: {}", self.shown)
    }

    fn status(&self) -> Result<Duration, StoreError> {
        let start = Instant::now();
        check_dir(&self.dir)?;
        // It is there; now whether its files can be listed and opened.
        let usable = fs::read_dir(&self.dir).and_then(|_| fs::metadata(self.dir.join(".")));
        usable.map_err(|cause| explain("key directory", &self.dir, &cause))?;
        Ok(start.elapsed())
    }

    fn create(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path_of(name);
        self.check_mode(&path)?;
        // Not what decides, but it spares the disk a file.
        if path.symlink_metadata().is_ok() {
            return Err(self.explain_existing());
        }
        let text = self.file_text(name, &path, value)?;
        match create_durably(&path, &text, "create") {
            Ok(()) => self.read_back(&path, &text),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Err(self.explain_existing()),
            Err(cause) => Err(explain("cannot create", &path, &cause)),
        }
    }

    fn get(&self, name: &KeyName) -> Result<SecretBytes, StoreError> {
        let path = self.path_of(name);
        self.check_mode(&path)?;
        let file = match open_to_read(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(self.explain_missing()),
            result => result.map_err(|cause| explain("cannot read", &path, &cause))?,
        };
        let data = file.metadata().map_err(|cause| explain("cannot read", &path, &cause))?;
        if !data.is_file() {
            return Err(StoreError::Failed(format!("key file '{}' is not a regular file", path.display())));
        }
        let text = read_up_to(&file, MAX_FILE).map_err(|cause| explain("cannot read", &path, &cause))?;
        self.open_value(name, &path, text)
    }

    fn delete(&self, name: &KeyName) -> Result<(), StoreError> {
        let path = self.path_of(name);
        match remove_durably(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(self.explain_missing()),
            result => result.map_err(|cause| explain("cannot delete", &path, &cause)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<KeyName>, StoreError> {
        let explain_dir = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                StoreError::Unreachable(format!("key directory '{}': {cause}", self.dir.display()))
            }
            _ => explain("cannot list", &self.dir, &cause),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(explain_dir)? {
            let entry = entry.map_err(explain_dir)?;
            let name = key_name(&entry).filter(|name| name.as_str().starts_with(prefix));
            names.extend(name);
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn open_dir(dir: &Path, shown: &str) -> Result<(), String> {
    match fs::metadata(dir) {
        Ok(data) if !data.is_dir() => return Err(format!("key store '{shown}' is not a directory")),
        Ok(_) => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            create_dir_durably(dir)
                .map_err(|cause| format!("cannot make the key directory '{shown}': {cause}"))?;
        }
        Err(cause) => return Err(format!("cannot open the key directory '{shown}': {cause}")),
    }
    check_writable(dir).map_err(|cause| format!("key directory '{shown}' is not writable: {cause}"))?;
    // What is left over does no harm: its names are no key names.
    let _ = remove_stale(dir, ".", STALE);
    Ok(())
}

/// Whether there is nothing that could be opened.
fn is_missing(dir: &Path, shown: &str, seal: &SealConfig) -> Result<bool, String> {
    let explain = |cause: io::Error| format!("cannot open the key directory '{shown}': {cause}");
    match fs::metadata(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(true),
        result => {
            if !result.map_err(explain)?.is_dir() {
                return Err(format!("key store '{shown}' is not a directory"));
            }
        }
    }
    if matches!(seal, SealConfig::On { file } if file.symlink_metadata().is_ok()) {
        return Ok(false);
    }
    for entry in fs::read_dir(dir).map_err(explain)? {
        if key_name(&entry.map_err(explain)?).is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_mode(dir: &Path, shown: &str, seal: &SealConfig) -> Result<(Mode, Vec<String>), String> {
    match seal {
        SealConfig::Off => Ok((open_off(dir, shown)?, Vec::new())),
        SealConfig::On { file } => open_sealed(dir, shown, file),
    }
}

fn open_off(dir: &Path, shown: &str) -> Result<Mode, String> {
    match survey(dir, shown)?.sealed {
        Some(name) => Err(format!(
            "sealing is off, but key '{name}' in '{shown}' is sealed: set keystore.fs.seal to what it was"
        )),
        None => Ok(Mode::Off),
    }
}

fn open_sealed(dir: &Path, shown: &str, seal_file: &Path) -> Result<(Mode, Vec<String>), String> {
    check_place(dir, shown, seal_file)?;
    disk::remove_stale_temporaries(seal_file);
    let found = disk::load(seal_file).map_err(|cause| cause.to_string())?;
    let survey = match survey(dir, shown) {
        // With a seal file nothing hangs on what the survey finds: one unreadable key must not stop all others.
        Err(_) if found.is_some() => Survey::default(),
        result => result?,
    };
    let found = match found {
        Some(found) => found,
        // Another server may have made seal file and key since we looked.
        None if survey.sealed.is_some() => disk::load(seal_file)
            .map_err(|cause| cause.to_string())?
            .ok_or_else(|| missing(shown, seal_file, &survey))?,
        None if survey.plain.is_some() => {
            let notices = vec![
                format!("the keys in '{shown}' are not sealed: whoever reads that directory has them"),
                "seal them with: kes seal adopt".into(),
            ];
            return Ok((Mode::Unsealed { seal_file: seal_file.to_owned() }, notices));
        }
        None => disk::create(seal_file).map_err(|cause| cause.to_string())?,
    };
    let root_keys = found
        .into_root_keys()
        .map_err(|cause| SealError::File(seal_file.to_owned(), Box::new(cause)).to_string())?;
    let notice = survey.plain.map(|name| {
        format!("key '{name}' in '{shown}' is a plain file and is refused: seal it with: kes seal adopt")
    });
    let mode = Mode::Sealed { sealer: Sealer::new(root_keys), seal_file: seal_file.to_owned() };
    Ok((mode, notice.into_iter().collect()))
}

fn missing(shown: &str, seal_file: &Path, survey: &Survey) -> String {
    format!(
        "seal file '{}' is missing, but key '{}' in '{shown}' is sealed: restore the seal file from its backup \
         (a new one could not open these keys and is never made over them)",
        seal_file.display(),
        survey.sealed.as_ref().map_or("", KeyName::as_str)
    )
}

/// A seal file among the keys would be copied with them, and could be taken for a key.
fn check_place(dir: &Path, shown: &str, seal_file: &Path) -> Result<(), String> {
    let place = parent_of(seal_file).canonicalize().map_err(|cause| {
        format!("seal file '{}': cannot open its directory: {cause}", seal_file.display())
    })?;
    let keys =
        dir.canonicalize().map_err(|cause| format!("cannot open the key directory '{shown}': {cause}"))?;
    if place.starts_with(keys) {
        return Err(format!(
            "seal file '{}' must not lie in the key directory: a copy of the keys would hold what opens them",
            seal_file.display()
        ));
    }
    Ok(())
}

/// The first key file of either kind among those looked into.
#[derive(Default)]
struct Survey {
    sealed: Option<KeyName>,
    plain: Option<KeyName>,
}

/// Looks at the beginning of a few key files, so that a start costs the same for ten keys and for a million.
fn survey(dir: &Path, shown: &str) -> Result<Survey, String> {
    let explain = |cause: io::Error| format!("cannot list the key directory '{shown}': {cause}");
    let mut survey = Survey::default();
    let mut looked = 0_usize;
    for entry in fs::read_dir(dir).map_err(explain)? {
        let entry = entry.map_err(explain)?;
        let Some(name) = key_name(&entry) else { continue };
        let path = entry.path();
        let start = match open_to_read(&path).and_then(|file| read_up_to(&file, KEY_FILE_MAGIC.len())) {
            // Deleted by another server a moment ago.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(format!("cannot read key file '{}': {cause}", path.display())),
            Ok(start) => start,
        };
        let kind = if &start[..] == KEY_FILE_MAGIC { &mut survey.sealed } else { &mut survey.plain };
        kind.get_or_insert(name);
        looked = looked.saturating_add(1);
        let is_decided = survey.sealed.is_some() && survey.plain.is_some();
        if is_decided || looked >= SURVEYED {
            break;
        }
    }
    Ok(survey)
}

/// The key that a directory entry is the file of. Links count by what they point to, as Kubernetes mounts secrets so.
fn key_name(entry: &DirEntry) -> Option<KeyName> {
    let name = KeyName::parse(entry.file_name().to_str()?)?;
    let kind = entry.file_type().ok()?;
    let is_file =
        kind.is_file() || kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|data| data.is_file());
    is_file.then_some(name)
}

fn check_dir(dir: &Path) -> Result<(), StoreError> {
    let cause = match fs::metadata(dir) {
        Ok(data) if data.is_dir() => return Ok(()),
        Ok(_) => "is not a directory".into(),
        Err(cause) => cause.to_string(),
    };
    Err(StoreError::Unreachable(format!("key directory '{}': {cause}", dir.display())))
}

/// Troubles of the disk or the network behind it pass; all others are here to stay (`keystores` §4).
fn explain(what: &str, path: &Path, cause: &io::Error) -> StoreError {
    let text = format!("{what} '{}': {cause}", path.display());
    let is_unreachable = match cause.raw_os_error() {
        Some(libc::EIO | libc::ESTALE | libc::ENOTCONN | libc::ETIMEDOUT | libc::ENOTDIR) => true,
        // The caller has seen to a missing file: this is the directory.
        Some(libc::ENOENT) => true,
        _ => false,
    };
    if is_unreachable { StoreError::Unreachable(text) } else { StoreError::Failed(text) }
}

#[cfg(test)]
mod tests;
