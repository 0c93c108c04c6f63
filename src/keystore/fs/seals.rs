//! How a running store follows its seal file: from plain through adoption to sealed, and from one root key to the next.

use std::{
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, TryLockError},
    time::{Duration, Instant},
};

use super::{MAX_FILE, key_name};
use crate::{
    seal::{
        Protection, SealError, SealFile, Sealer, Source,
        disk::{self, Stamp},
        root::RootKeys,
        unlock::Cost,
    },
    sys::file::{open_to_read, read_up_to},
};

/// How long a seal file that gave trouble is not read again at first, if it does not change; then twice as long each time.
const RETRY: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// It is read again at least so often, if somebody asks.
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);

/// So many key files are tried at most with a seal file that lacks the root key in use.
const TRIED: usize = 16;

/// Where a store is on its way.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Plain key files alone, as the original makes them.
    Plain,
    /// `kes seal adopt` is at work, or was: there are plain and sealed files, and new ones are sealed.
    Adopting(Arc<Sealer>),
    /// Plain files are refused.
    Sealed(Arc<Sealer>),
}

impl Phase {
    /// What new files are sealed with.
    pub fn sealer(&self) -> Option<&Arc<Sealer>> {
        match self {
            Self::Plain => None,
            Self::Adopting(sealer) | Self::Sealed(sealer) => Some(sealer),
        }
    }

    /// Whether new files are written alike in both.
    pub fn writes_as(&self, other: &Self) -> bool {
        let active = |phase: &Self| phase.sealer().map(|sealer| sealer.root_keys().active().id());
        active(self) == active(other)
    }
}

/// Where the seal file of a store in adoption is until every key file is sealed.
pub fn adoption_file(seal_file: &Path) -> PathBuf {
    let mut name = seal_file.file_name().unwrap_or_default().to_os_string();
    name.push(".adopting");
    seal_file.with_file_name(name)
}

/// The seal file of a store, read again when it has changed.
#[derive(Debug)]
pub struct Seals {
    dir: PathBuf,
    file: PathBuf,
    adoption: PathBuf,
    source: Source,
    state: RwLock<Arc<State>>,
    /// From now on there is nobody at the terminal to be asked.
    is_open: bool,
    /// Held while the files are read again. Whoever only reads keys does not wait for that.
    reading: Mutex<()>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    protection: Option<Arc<Protection>>,
    /// Of the seal file and of that of an adoption, before they were read.
    stamps: Option<Stamps>,
    /// Why the files as they are now are not followed.
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    cause: SealError,
    since: Instant,
    /// So long after that it is looked again.
    wait: Duration,
}

type Stamps = (Option<Stamp>, Option<Stamp>);

impl Seals {
    /// Reads the seal file of the key directory `dir` if there is one. It must not be older than what `previous` has in use;
    /// what `previous` has unlocked need not be unlocked again.
    pub fn open(
        dir: &Path,
        file: &Path,
        source: &Source,
        previous: Option<&Self>,
    ) -> Result<Self, SealError> {
        let is_same = |previous: &Self| previous.file == file && previous.source == *source;
        let start = match previous.map(|previous| (previous.state(), is_same(previous))) {
            Some((state, true)) if state.trouble.is_none() => state,
            Some((state, is_same)) => {
                let protection = state.protection.clone().filter(|_| is_same);
                Arc::new(State { phase: state.phase.clone(), protection, ..State::UNKNOWN })
            }
            None => Arc::new(State::UNKNOWN),
        };
        let (file, adoption) = (file.to_owned(), adoption_file(file));
        let mut seals = Self {
            dir: dir.to_owned(),
            file,
            adoption,
            source: source.clone(),
            state: RwLock::new(start),
            is_open: false,
            reading: Mutex::new(()),
        };
        seals.refresh()?;
        seals.is_open = true;
        Ok(seals)
    }

    /// The path of the seal file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was known when it was last looked at.
    pub fn phase(&self) -> Phase {
        self.state().phase.clone()
    }

    /// One phrase on how the seal file is protected.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Looks whether the files have changed, and reads them again if so. An error is about the files as they are now; what
    /// was known before stays in use for reading.
    pub fn refresh(&self) -> Result<Phase, SealError> {
        let seen = self.state();
        if seen.is_of(&self.stamps()) {
            return seen.result();
        }
        // For what may have passed nobody waits who finds somebody else looking.
        let reading = match seen.stamps == Some(self.stamps()) {
            true => match self.reading.try_lock() {
                Err(TryLockError::WouldBlock) => return seen.result(),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Ok(reading) => reading,
            },
            false => self.reading.lock().unwrap_or_else(PoisonError::into_inner),
        };
        // Whoever was before us may have done it.
        let (before, stamps) = (self.state(), self.stamps());
        if before.is_of(&stamps) {
            return before.result();
        }
        let stamps = Some(stamps);
        let wait = match &before.trouble {
            Some(trouble) if before.stamps == stamps => (trouble.wait * 2).min(LONGEST_RETRY),
            _ => RETRY,
        };
        let next = match self.read_again(&before) {
            Ok((phase, protection)) => State { phase, protection, stamps, trouble: None },
            Err(cause) => {
                let (phase, protection) = (before.phase.clone(), before.protection.clone());
                State {
                    phase,
                    protection,
                    stamps,
                    trouble: Some(Trouble { cause, since: Instant::now(), wait }),
                }
            }
        };
        drop(reading);
        let result = next.result();
        self.set(next);
        result
    }

    /// Makes the seal file of an empty store.
    pub fn create(&self) -> Result<Phase, SealError> {
        let protection =
            Protection::new(&self.source, Cost::default()).map_err(|cause| cause.at(&self.file))?;
        // The secret may have taken its time.
        if has_keys(&self.dir) && !self.file.exists() {
            let cause = "is not made, as there are keys now that were made without it: start again";
            return Err(SealError::System(cause.into()).at(&self.file));
        }
        disk::create(&self.file, &protection)?;
        self.set(State { protection: Some(Arc::new(protection)), ..State::UNKNOWN });
        self.refresh()
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn stamps(&self) -> Stamps {
        (Stamp::of(&self.file), Stamp::of(&self.adoption))
    }

    fn read_again(&self, before: &State) -> Result<(Phase, Option<Arc<Protection>>), SealError> {
        if let Some(file) = disk::load(&self.file)? {
            let (sealer, protection) = self.unlock(file, &self.file, before)?;
            return Ok((Phase::Sealed(sealer), Some(protection)));
        }
        if let Some(file) = disk::load(&self.adoption)? {
            if matches!(before.phase, Phase::Sealed(_)) {
                return Err(gone(&self.file));
            }
            let (sealer, protection) = self.unlock(file, &self.adoption, before)?;
            return Ok((Phase::Adopting(sealer), Some(protection)));
        }
        // An adoption may have ended between the two looks.
        match (disk::load(&self.file)?, &before.phase) {
            (Some(file), _) => {
                let (sealer, protection) = self.unlock(file, &self.file, before)?;
                Ok((Phase::Sealed(sealer), Some(protection)))
            }
            (None, Phase::Plain) => Ok((Phase::Plain, None)),
            (None, _) => Err(gone(&self.file)),
        }
    }

    fn unlock(
        &self,
        file: SealFile,
        path: &Path,
        before: &State,
    ) -> Result<(Arc<Sealer>, Arc<Protection>), SealError> {
        let at = |cause: SealError| cause.at(path);
        let (keys, protection) = match &before.protection {
            Some(known) if known.unlock() == file.unlock() => match known.open(file) {
                // Methods without parameters look the same when the secret has changed.
                Err(SealError::WrongUnlockSecret) => self.fetch_and_open(path)?,
                result => (result.map_err(at)?, Arc::clone(known)),
            },
            _ => self.fetch_and_open(path)?,
        };
        // Never back to a seal file that cannot open what was sealed a moment ago.
        let opened = Sealer::new(keys);
        if let Some(sealer) = before.phase.sealer() {
            let active = sealer.root_keys().active().id();
            let is_later = || {
                let is_new = sealer.root_keys().find(opened.root_keys().active().id()).is_none();
                is_new && opens_keys(&self.dir, &opened)
            };
            if opened.root_keys().find(active).is_none() && !is_later() {
                return Err(at(SealError::LacksRootKeyInUse(active)));
            }
        }
        Ok((Arc::new(opened), protection))
    }

    fn fetch_and_open(&self, path: &Path) -> Result<(RootKeys, Arc<Protection>), SealError> {
        let at = |cause: SealError| cause.at(path);
        let file = disk::load(path)?.ok_or_else(|| gone(path))?;
        // Nobody is there to be asked in the middle of a request.
        if self.source.is_interactive() && self.is_open {
            let cause = "it has another passphrase than at the start, and nobody can be asked now: restart the server";
            return Err(at(SealError::NoSecret(cause.into())));
        }
        let protection = Protection::of(&file, &self.source).map_err(at)?;
        Ok((protection.open(file).map_err(at)?, Arc::new(protection)))
    }
}

impl State {
    /// Before the first look.
    const UNKNOWN: Self = Self { phase: Phase::Plain, protection: None, stamps: None, trouble: None };

    /// Whether this is what is to be known of files with these stamps. A trouble may pass without a change of the files.
    fn is_of(&self, stamps: &Stamps) -> bool {
        let is_old = self.trouble.as_ref().is_some_and(|trouble| trouble.since.elapsed() >= trouble.wait);
        self.stamps.as_ref() == Some(stamps) && !is_old
    }

    fn result(&self) -> Result<Phase, SealError> {
        match &self.trouble {
            Some(trouble) => Err(trouble.cause.clone()),
            None => Ok(self.phase.clone()),
        }
    }
}

/// Whether at least half of some key files, or all of none, open with these root keys. That, and an active root key that we have never seen,
/// tells a seal file which has come after the one that we know, by `kes seal rotate` and `forget` while we had nothing to
/// do, from an older or a foreign one: after a rotation hardly any key file is left under an older root key, but for those
/// that are being made.
fn opens_keys(dir: &Path, sealer: &Sealer) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    let opens = |entry: DirEntry| {
        let name = key_name(&entry)?;
        match open_to_read(&entry.path()).and_then(|file| read_up_to(&file, MAX_FILE)) {
            // Deleted a moment ago.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => None,
            text => Some(text.is_ok_and(|text| sealer.open(&name, &text).is_ok())),
        }
    };
    let tried: Vec<bool> = entries.flatten().filter_map(opens).take(TRIED).collect();
    let opened = tried.iter().filter(|opens| **opens).count();
    opened >= tried.len() - opened
}

fn has_keys(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| entries.flatten().any(|entry| key_name(&entry).is_some()))
}

fn gone(path: &Path) -> SealError {
    SealError::System("is gone, but keys are sealed under it: restore it".into()).at(path)
}
