//! The plain files of before an adoption, in a directory of their own.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::UpkeepError;
use crate::{
    name::KeyName,
    sys::{
        file::{create_dir_durably, create_durably, open_to_read, read_up_to, sync_dir},
        process::effective_user,
        swap::link_open,
    },
};

/// A directory that keeps what key files were.
#[derive(Debug)]
pub struct Backup {
    dir: PathBuf,
}

impl Backup {
    /// Takes or makes a directory that nobody else can enter. It must not be a link and must not lie among the keys.
    pub fn open(dir: &Path, keys: &Path) -> Result<Self, UpkeepError> {
        let failed = |cause: io::Error| UpkeepError::disk("cannot use the backup directory", dir, &cause);
        let refused = |why: &str| UpkeepError::Refused(format!("backup directory '{}' {why}", dir.display()));
        if dir.symlink_metadata().is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound) {
            create_dir_durably(dir).map_err(failed)?;
        }
        let data = dir.symlink_metadata().map_err(failed)?;
        if !data.is_dir() {
            return Err(refused("is a link or no directory"));
        }
        // Root works for the owner of the keys, who has them already, and for nobody else.
        let (user, service) = (effective_user(), fs::metadata(keys).map_err(failed)?.uid());
        if data.uid() != user && !(user == 0 && data.uid() == service) {
            return Err(refused("belongs to somebody else"));
        }
        if data.permissions().mode() & 0o077 != 0 {
            return Err(refused("can be entered by others than its owner; run: chmod 700 on it"));
        }
        if dir.canonicalize().map_err(failed)?.starts_with(keys.canonicalize().map_err(failed)?) {
            return Err(refused("lies in the key directory"));
        }
        remove_halves(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps an open key file under the name of its key: the file itself where that is possible, else a copy. One that is
    /// there already must be the same. Not on the disk before [`Backup::sync`].
    pub(super) fn keep(&self, name: &KeyName, file: &File, content: &[u8]) -> Result<(), UpkeepError> {
        let path = self.dir.join(name.as_str());
        let failed = |cause: io::Error| UpkeepError::disk("cannot keep a copy as", &path, &cause);
        match link_open(file, &path) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            // Another file system, or one without links.
            Err(_) => match create_durably(&path, content, "backup") {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result.map_err(failed),
            },
        }
        let is_file = fs::symlink_metadata(&path).is_ok_and(|data| data.is_file());
        let kept = open_to_read(&path).and_then(|kept| read_up_to(&kept, super::MAX_FILE)).map_err(failed)?;
        if is_file && kept[..] == *content {
            return Ok(());
        }
        Err(UpkeepError::Refused(format!(
            "'{}' is there already and is not what key '{name}' is now: name another backup directory",
            path.display()
        )))
    }

    pub(super) fn sync(&self) -> Result<(), UpkeepError> {
        sync_dir(&self.dir).map_err(|cause| UpkeepError::disk("cannot sync", &self.dir, &cause))
    }
}

/// Removes what a killed copy left, as its content is plain. Its name is that of a key between a dot and `.RANDOM.tmp`:
/// the directory may hold other things of its owner.
fn remove_halves(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let parts =
            name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp")?.split_once('.'));
        let is_half = parts.is_some_and(|(key, random)| {
            KeyName::parse(key).is_some()
                && random.len() == 16
                && random.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if is_half && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
