//! Seal files on disk: read only if private, made once and never over another, replaced in one step.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    SealError,
    file::{MAX_SEAL_FILE, SealFile},
    root::RootKeys,
    unlock::Protection,
};
use crate::sys::{
    file::{create_durably, open_to_read, parent_of, read_up_to, remove_stale, sync_dir},
    process::effective_user,
    swap::{is_same, remove_leftovers, rename_new, replace_locked, try_lock},
};

/// Temporary files younger than this may belong to a server that is starting now.
const STALE: Duration = Duration::from_secs(3600);

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file at this path; `None` if there is none that can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        // To open a file asks a server of NFS how it is now. A link to nothing is something, too.
        let data = open_to_read(path).and_then(|file| file.metadata());
        let data = data.or_else(|_| fs::metadata(path)).or_else(|_| fs::symlink_metadata(path));
        data.ok().as_ref().map(Self::from_data)
    }

    fn from_data(data: &Metadata) -> Self {
        Self {
            file: (data.dev(), data.ino()),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// Reads a seal file; `None` if there is none at this path. One that others than its owner may read is refused, and one
/// that belongs to somebody else than us and root.
pub fn load(path: &Path) -> Result<Option<SealFile>, SealError> {
    match open(path, open_to_read)? {
        Some(file) => read(&file, path).map(Some),
        None => Ok(None),
    }
}

/// Makes a seal file with one new root key, durably, and reads it back. If another server has just made one, that one is
/// read instead: of all who start at once, exactly one makes the file.
pub fn create(path: &Path, protection: &Protection) -> Result<SealFile, SealError> {
    let text =
        RootKeys::generate().and_then(|keys| protection.write(&keys)).map_err(|cause| cause.at(path))?;
    match create_durably(path, &text, "seal") {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SealError::System(format!("cannot be made: {cause}")).at(path));
        }
        _ => {}
    }
    load(path)?.ok_or_else(|| SealError::System("is gone again".into()).at(path))
}

/// Removes what a crash left behind while a seal file was being made. Troubles do not matter.
pub fn remove_stale_temporaries(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
    let _ = remove_stale(parent_of(path), &format!(".{name}."), STALE);
}

/// A seal file that no other command changes while this lives. Servers read it all the same.
#[derive(Debug)]
pub struct LockedSeal {
    path: PathBuf,
    file: File,
}

impl LockedSeal {
    /// Locks the seal file at this path; `None` if there is none. A link is followed: what it points to is replaced, not
    /// the link.
    pub fn open(path: &Path) -> Result<Option<Self>, SealError> {
        let Ok(path) = fs::canonicalize(path) else {
            return load(path).map(|_| None);
        };
        // Whoever had it locked before may have put another in its place meanwhile.
        for _ in 0..100 {
            let Some(file) = open(&path, open_to_lock)? else { return Ok(None) };
            let locked = try_lock(&file).map_err(|cause| system("cannot be locked", &cause).at(&path))?;
            if !locked {
                return Err(SealError::Busy.at(&path));
            }
            let is_current = file
                .metadata()
                .and_then(|own| fs::metadata(&path).map(|named| is_same(&own, &named)))
                .unwrap_or(false);
            if is_current {
                // They have the root keys in them, perhaps under a lock of before.
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                remove_leftovers(parent_of(&path), &name)
                    .map_err(|cause| system("cannot be tidied up after", &cause).at(&path))?;
                return Ok(Some(Self { path, file }));
            }
        }
        Err(SealError::Busy.at(&path))
    }

    /// Where it is, with links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it.
    pub fn read(&self) -> Result<SealFile, SealError> {
        load(&self.path)?.ok_or_else(|| SealError::System("is gone".into()).at(&self.path))
    }

    /// Puts a new text in its place, in one step and durably. `operation` names the fault points on the way.
    pub fn replace(&mut self, text: &[u8], operation: &str) -> Result<(), SealError> {
        let replaced = self.file.metadata().and_then(|old| replace_locked(&self.path, &old, text, operation));
        self.file = replaced.map_err(|cause| system("cannot be replaced", &cause).at(&self.path))?;
        Ok(())
    }

    /// Gives it another name, which must be new, durably.
    pub fn rename(&mut self, to: &Path) -> Result<(), SealError> {
        rename_new(&self.path, to).map_err(|cause| system("cannot be made", &cause).at(to))?;
        self.path = to.to_owned();
        Ok(())
    }
}

/// NFS gives a lock only to those who may write.
fn open_to_lock(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
    file.or_else(|_| open_to_read(path))
}

fn open(path: &Path, open: fn(&Path) -> io::Result<File>) -> Result<Option<File>, SealError> {
    let file = match open(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Err(SealError::System("is a link to a file that is not there".into()).at(path));
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|cause| system("cannot be read", &cause).at(path))?,
    };
    // Of the opened file, so that it cannot be another by the time it is read.
    let data = file.metadata().map_err(|cause| system("cannot be read", &cause).at(path))?;
    if !data.is_file() {
        return Err(SealError::System("is not a regular file".into()).at(path));
    }
    let mode = data.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SealError::ReadableByOthers(mode).at(path));
    }
    if !may_own(data.uid(), path) {
        return Err(SealError::OwnedByOther(data.uid()).at(path));
    }
    Ok(Some(file))
}

/// Whoever owns a seal file can put his own root keys in it. Root works for the service whose directory it is.
fn may_own(owner: u32, path: &Path) -> bool {
    let user = effective_user();
    owner == user
        || owner == 0
        || user == 0 && fs::metadata(parent_of(path)).is_ok_and(|directory| directory.uid() == owner)
}

fn read(file: &File, path: &Path) -> Result<SealFile, SealError> {
    let text = read_up_to(file, MAX_SEAL_FILE.saturating_add(1));
    let text = text.map_err(|cause| system("cannot be read", &cause).at(path))?;
    let seal_file = SealFile::parse(&text).map_err(|cause| cause.at(path))?;
    // Who made the file may not have come to this, and nothing may be sealed under keys that a power failure takes away.
    // A directory that we may not open or that cannot be written to holds a file put there by other means.
    match sync_dir(parent_of(path)) {
        Err(cause) if !matches!(cause.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
            Err(system("cannot be synced", &cause).at(path))
        }
        _ => Ok(seal_file),
    }
}

fn system(what: &str, cause: &io::Error) -> SealError {
    SealError::System(format!("{what}: {cause}"))
}
