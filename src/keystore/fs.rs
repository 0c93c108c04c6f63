//! One file per key in one directory, its value sealed unless the store is plain. Knows paths and modes of the store; not
//! what a value means, nor how sealing works.

pub mod seals;

use std::{
    fs::{self, DirEntry, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{KeyStore, StoreError};
use crate::{
    config::SealConfig,
    crypto::SecretBytes,
    name::KeyName,
    seal::{KEY_FILE_MAGIC, KeyFile, SealError, disk, is_sealed},
    sys::{
        file::{
            Place, check_writable, create_dir_durably, create_durably, open_to_read, parent_of, read_up_to,
            remove_durably, remove_stale, replace_durably, sync_dir,
        },
        swap::prepare,
    },
};
use seals::{Phase, Seals};

/// The original reads this much of a file and ignores the rest (`crypto-formats` §1).
const MAX_FILE: usize = 1 << 20;

/// Longest value that is stored: sealed and in base64 it still fits into [`MAX_FILE`].
const MAX_VALUE: usize = MAX_FILE / 2;

/// Temporary files younger than this may belong to another server (`keystores` §4).
const STALE: Duration = Duration::from_secs(3600);

/// A file that is older than this has its name on the disk: nobody takes so long from one to the other.
const YOUNG: Duration = Duration::from_secs(60);

/// How many files a start looks into at most, to tell sealed from plain.
const SURVEYED: usize = 64;

/// How often a new file is written again because its root key has been replaced meanwhile.
const SETTLE: usize = 10;

/// The file store.
#[derive(Debug)]
pub struct FsStore {
    dir: PathBuf,
    shown: String,
    /// Where the directory was at the start.
    place: Place,
    /// `None`: plain on purpose.
    seals: Option<Seals>,
    notices: Vec<String>,
}

impl FsStore {
    /// Opens the store in `dir`, called `shown` in messages. Makes the directory if it is missing, and the seal file if
    /// there are no keys yet. The error says in one line why the server cannot start with this store.
    pub fn open(dir: &Path, shown: &str, seal: &SealConfig) -> Result<Self, String> {
        Self::reopen(dir, shown, seal, None)
    }

    /// As [`FsStore::open`], in the place of another store that has been in use. A seal file that has been unlocked and has
    /// not changed is not unlocked again; one that lacks the root key in use is refused.
    pub fn reopen(
        dir: &Path,
        shown: &str,
        seal: &SealConfig,
        previous: Option<&Self>,
    ) -> Result<Self, String> {
        open_dir(dir, shown)?;
        Self::open_dir_as(dir, shown, seal, previous)
    }

    /// As [`FsStore::open`], for a store that is there already; `None` if there is no directory, or neither a key nor a
    /// seal file. Nothing is made, and the directory need not be writable.
    pub fn open_existing(dir: &Path, shown: &str, seal: &SealConfig) -> Result<Option<Self>, String> {
        match is_missing(dir, shown, seal)? {
            true => Ok(None),
            false => Self::open_dir_as(dir, shown, seal, None).map(Some),
        }
    }

    fn open_dir_as(
        dir: &Path,
        shown: &str,
        seal: &SealConfig,
        previous: Option<&Self>,
    ) -> Result<Self, String> {
        let (dir, shown) = (dir.to_owned(), shown.to_owned());
        let place = Place::of(&dir).map_err(|cause| format!("key store '{shown}': {cause}"))?;
        let (file, unlock) = match seal {
            SealConfig::Off => {
                check_off(&dir, &shown)?;
                return Ok(Self { dir, shown, place, seals: None, notices: Vec::new() });
            }
            SealConfig::On { file, unlock } => (file, unlock),
        };
        check_place(&dir, &shown, file)?;
        disk::remove_stale_temporaries(file);
        let previous = previous.filter(|previous| previous.dir == dir);
        let seals = Seals::open(&dir, file, unlock, previous.and_then(|previous| previous.seals.as_ref()));
        let seals = seals.map_err(|cause| cause.to_string())?;
        let notices = settle_phase(&dir, &shown, &seals)?;
        Ok(Self { dir, shown, place, seals: Some(seals), notices })
    }

    /// Stores a value under a name that has one, in its place. Returns only after the new value is durable; until then
    /// the old one is there.
    pub fn replace(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path_of(name);
        let phase = self.phase_to_write(&path)?;
        let text = self.text_for(&phase, name, &path, value)?;
        replace_durably(&path, &text, "replace").map_err(|cause| explain("cannot replace", &path, &cause))?;
        let file = self.read_back(name, &path, &text, value)?;
        self.settle(name, &path, file, value, phase)
    }

    /// One line on whether and how the values are sealed, for banner and status.
    pub fn sealing(&self) -> String {
        let Some(seals) = &self.seals else { return "off (plain key files, by configuration)".into() };
        let phase = seals.phase();
        match phase.sealer() {
            None => "not sealed (plain key files, as the original writes them)".into(),
            Some(sealer) => format!(
                "{} (root key {}, seal file {}, unlock {})",
                if matches!(phase, Phase::Sealed(_)) { "sealed" } else { "being sealed" },
                sealer.root_keys().active().id(),
                seals.file().display(),
                seals.source()
            ),
        }
    }

    /// Whether values are sealed before they are stored.
    pub fn is_sealed(&self) -> bool {
        self.seals.as_ref().is_some_and(|seals| matches!(seals.phase(), Phase::Sealed(_)))
    }

    /// Lines for banner and log on what the operator should do about this store.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    fn path_of(&self, name: &KeyName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// The directory must be there, and must not be what lies below the file system that was mounted there.
    fn check_dir(&self) -> Result<(), StoreError> {
        let cause = match fs::metadata(&self.dir) {
            Ok(data) if data.is_dir() && self.place.may_be(&self.dir, &data) => return Ok(()),
            Ok(data) if data.is_dir() => {
                "is on another file system than before: is it mounted? (if it was moved there on purpose, restart the server)".into()
            }
            Ok(_) => "is not a directory".into(),
            Err(cause) => cause.to_string(),
        };
        Err(StoreError::Unreachable(format!("key directory '{}': {cause}", self.dir.display())))
    }

    /// A missing file in a directory that is there is a missing key; without the directory nothing can be said.
    fn explain_missing(&self) -> StoreError {
        self.check_dir().err().unwrap_or(StoreError::KeyNotFound)
    }

    /// Who hears that a key exists goes on to use it: its name must be on the disk even if its creator still syncs.
    fn explain_existing(&self) -> StoreError {
        match sync_dir(&self.dir) {
            Ok(()) => StoreError::KeyExists,
            Err(cause) => explain("cannot sync", &self.dir, &cause),
        }
    }

    /// How new files are to be written at this moment.
    fn phase_to_write(&self, path: &Path) -> Result<Phase, StoreError> {
        let Some(seals) = &self.seals else { return Ok(Phase::Plain) };
        seals.refresh().map_err(|cause| {
            StoreError::Failed(format!("key file '{}' cannot be made: {cause}", path.display()))
        })
    }

    fn text_for(
        &self,
        phase: &Phase,
        name: &KeyName,
        path: &Path,
        value: &[u8],
    ) -> Result<SecretBytes, StoreError> {
        if value.len() > MAX_VALUE {
            return Err(StoreError::Failed(format!("key file '{}': the value is too long", path.display())));
        }
        let Some(sealer) = phase.sealer() else { return Ok(SecretBytes::from(value.to_vec())) };
        let sealed = sealer.seal(name, value).map_err(|cause| {
            StoreError::Failed(format!("cannot seal key file '{}': {cause}", path.display()))
        })?;
        Ok(SecretBytes::from(sealed.into_bytes()))
    }

    fn open_value(&self, name: &KeyName, path: &Path, text: SecretBytes) -> Result<SecretBytes, StoreError> {
        let failed = |cause: &dyn std::fmt::Display| {
            Err(StoreError::Failed(format!("key file '{}' {cause}", path.display())))
        };
        if text.is_empty() {
            return failed(&"is empty");
        }
        let Some(seals) = &self.seals else {
            return if is_sealed(&text) { failed(&"is sealed, but sealing is off") } else { Ok(text) };
        };
        let known = seals.phase();
        let mut result = open_in(&known, name, &text);
        // What cannot be opened may be of a later day than what we know of the seal file.
        let is_news = matches!(&result, Err(SealError::UnknownRootKey(_)));
        if is_news || !matches!(known, Phase::Sealed(_)) {
            match seals.refresh() {
                Ok(phase) => result = open_in(&phase, name, &text),
                Err(cause) if is_news => return failed(&format!("cannot be opened: {cause}")),
                Err(_) => {}
            }
        }
        match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Ok(text),
            Err(cause) => failed(&cause),
        }
    }

    fn read_text(&self, path: &Path) -> Result<SecretBytes, StoreError> {
        let failed = |cause: io::Error| explain("cannot read", path, &cause);
        let file = match open_to_read(path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Err(self.explain_missing()),
            result => result.map_err(failed)?,
        };
        let data = file.metadata().map_err(failed)?;
        if !data.is_file() {
            return Err(StoreError::Failed(format!("key file '{}' is not a regular file", path.display())));
        }
        let text = read_up_to(&file, MAX_FILE).map_err(failed)?;
        self.check_dir()?;
        // Who has made it may not have come to this, and nothing may be encrypted with a key that a power failure takes away.
        if is_young(&data) {
            match sync_dir(&self.dir) {
                Err(cause)
                    if !matches!(cause.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) =>
                {
                    return Err(explain("cannot sync", &self.dir, &cause));
                }
                _ => {}
            }
        }
        Ok(text)
    }

    /// The file that holds what was written.
    fn read_back(
        &self,
        name: &KeyName,
        path: &Path,
        written: &[u8],
        value: &[u8],
    ) -> Result<File, StoreError> {
        let failed = |cause: io::Error| explain("cannot read back", path, &cause);
        let file = open_to_read(path).map_err(failed)?;
        let read = read_up_to(&file, MAX_FILE).map_err(failed)?;
        // `kes seal` may have sealed it anew already.
        if read[..] == *written || is_sealed(&read) && self.open_value(name, path, read)?[..] == *value {
            return Ok(file);
        }
        Err(StoreError::Failed(format!("key file '{}' does not hold what was written", path.display())))
    }

    /// A new file may have been written plain or under a root key that has been replaced meanwhile, after `kes seal` has
    /// looked for such files: it is written again before anybody hears of it. `file` is the one that was written.
    fn settle(
        &self,
        name: &KeyName,
        path: &Path,
        mut file: File,
        value: &[u8],
        mut written: Phase,
    ) -> Result<(), StoreError> {
        let failed = |cause: io::Error| explain("cannot seal anew", path, &cause);
        for _ in 0..SETTLE {
            let phase = self.phase_to_write(path)?;
            if phase.writes_as(&written) {
                return Ok(());
            }
            let text = self.text_for(&phase, name, path, value)?;
            let (successor, next) = prepare(path, file, &text).map_err(failed)?;
            next.sync_all().map_err(failed)?;
            let dir = File::open(&self.dir).map_err(failed)?;
            let is_placed = successor.take_place(&dir).map_err(failed)?;
            sync_dir(&self.dir).map_err(failed)?;
            if !is_placed {
                // Somebody has deleted the key, or `kes seal` was faster: then under a root key that we have, too.
                return match self.get(name) {
                    Ok(_) | Err(StoreError::KeyNotFound) => Ok(()),
                    Err(cause) => Err(cause),
                };
            }
            (file, written) = (next, phase);
        }
        Err(StoreError::Failed(format!("key file '{}': the seal file does not come to rest", path.display())))
    }
}

/// The value in the text of a key file; `None` if the text itself is the value.
fn open_in(phase: &Phase, name: &KeyName, text: &[u8]) -> Result<Option<SecretBytes>, SealError> {
    match phase {
        Phase::Plain if is_sealed(text) => match KeyFile::parse(text) {
            Ok(file) => Err(SealError::UnknownRootKey(file.root)),
            Err(cause) => Err(cause),
        },
        Phase::Plain => Ok(None),
        Phase::Adopting(_) if !is_sealed(text) => Ok(None),
        Phase::Adopting(sealer) | Phase::Sealed(sealer) => sealer.open(name, text).map(Some),
    }
}

impl KeyStore for FsStore {
    fn tidy(&self) {
        // What cannot be removed does no harm: its names are no key names.
        let _ = remove_stale(&self.dir, ".", STALE);
    }

    fn describe(&self) -> String {
        format!("Filesystem: {}", self.shown)
    }

    fn status(&self) -> Result<Duration, StoreError> {
        let start = Instant::now();
        self.check_dir()?;
        // It is there; now whether its files can be listed and opened.
        let usable = fs::read_dir(&self.dir).and_then(|_| fs::metadata(self.dir.join(".")));
        usable.map_err(|cause| explain("key directory", &self.dir, &cause))?;
        Ok(start.elapsed())
    }

    fn create(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path_of(name);
        self.check_dir()?;
        // Not what decides, but it spares the disk a file.
        if path.symlink_metadata().is_ok() {
            return Err(self.explain_existing());
        }
        let phase = self.phase_to_write(&path)?;
        let text = self.text_for(&phase, name, &path, value)?;
        match create_durably(&path, &text, "create") {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Err(self.explain_existing()),
            Err(cause) => return Err(explain("cannot create", &path, &cause)),
        }
        let file = self.read_back(name, &path, &text, value)?;
        self.settle(name, &path, file, value, phase)?;
        self.check_dir()
    }

    fn get(&self, name: &KeyName) -> Result<SecretBytes, StoreError> {
        let path = self.path_of(name);
        let known = self.seals.as_ref().map(Seals::phase);
        let text = self.read_text(&path)?;
        match self.open_value(name, &path, text) {
            // `kes seal` may have put the sealed file in its place since it was read.
            Err(_) if matches!(known, Some(Phase::Plain | Phase::Adopting(_))) => {
                self.open_value(name, &path, self.read_text(&path)?)
            }
            result => result,
        }
    }

    fn delete(&self, name: &KeyName) -> Result<(), StoreError> {
        let path = self.path_of(name);
        self.check_dir()?;
        match remove_durably(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                self.check_dir()?;
                // Whoever has deleted it may still be about to make that last.
                sync_dir(&self.dir).map_err(|cause| explain("cannot sync", &self.dir, &cause))?;
                Err(StoreError::KeyNotFound)
            }
            Err(cause) => Err(explain("cannot delete", &path, &cause)),
            Ok(()) => self.check_dir(),
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
        self.check_dir()?;
        Ok(names)
    }
}

/// Whether a file has got its name, or been changed, a moment ago; also by a clock that was ahead of ours.
fn is_young(data: &fs::Metadata) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    u64::try_from(data.ctime()).is_ok_and(|changed| changed.saturating_add(YOUNG.as_secs()) > now)
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
    if matches!(seal, SealConfig::On { file, .. } if file.symlink_metadata().is_ok()) {
        return Ok(false);
    }
    for entry in fs::read_dir(dir).map_err(explain)? {
        if key_name(&entry.map_err(explain)?).is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check_off(dir: &Path, shown: &str) -> Result<(), String> {
    match survey(dir, shown)?.sealed {
        Some(name) => Err(format!(
            "sealing is off, but key '{name}' in '{shown}' is sealed: set keystore.fs.seal to what it was"
        )),
        None => Ok(()),
    }
}

/// Makes the seal file of an empty store, and says what the operator should do about another.
fn settle_phase(dir: &Path, shown: &str, seals: &Seals) -> Result<Vec<String>, String> {
    let is_plain = matches!(seals.phase(), Phase::Plain);
    let survey = match survey(dir, shown) {
        // With a seal file nothing hangs on what the survey finds: one unreadable key must not stop all others.
        Err(_) if !is_plain => Survey::default(),
        result => result?,
    };
    let mut phase = seals.phase();
    if matches!(phase, Phase::Plain) {
        phase = match &survey {
            // Another server may have made seal file and key since we looked.
            Survey { sealed: Some(_), .. } => match seals.refresh().map_err(|cause| cause.to_string())? {
                Phase::Plain => return Err(missing(shown, seals.file(), &survey)),
                phase => phase,
            },
            Survey { plain: Some(_), .. } => Phase::Plain,
            Survey { .. } => seals.create().map_err(|cause| cause.to_string())?,
        };
    }
    Ok(match (phase, survey.plain) {
        (Phase::Plain, _) => vec![
            format!("the keys in '{shown}' are not sealed: whoever reads that directory has them"),
            "seal them with: kes seal adopt".into(),
        ],
        (Phase::Adopting(_), _) => {
            vec![format!("not all keys in '{shown}' are sealed: finish it with: kes seal adopt")]
        }
        (Phase::Sealed(_), Some(name)) => {
            vec![format!(
                "key '{name}' in '{shown}' is a plain file and is refused: seal it with: kes seal adopt"
            )]
        }
        (Phase::Sealed(_), None) => Vec::new(),
    })
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
pub(super) fn check_place(dir: &Path, shown: &str, seal_file: &Path) -> Result<(), String> {
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
