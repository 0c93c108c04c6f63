//! Seal files on disk: read only if private, made once and never over another.

use std::{io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::{
    SealError,
    file::{MAX_SEAL_FILE, SealFile, write_plain},
    root::RootKeys,
};
use crate::sys::file::{create_durably, open_to_read, parent_of, read_up_to, remove_stale, sync_dir};

/// Temporary files younger than this may belong to a server that is starting now.
const STALE: Duration = Duration::from_secs(3600);

/// Reads a seal file; `None` if there is none at this path. One that others than its owner may read is refused.
pub fn load(path: &Path) -> Result<Option<SealFile>, SealError> {
    let file = match open_to_read(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|cause| system(&cause).at(path))?,
    };
    // Of the opened file, so that it cannot be another by the time it is read.
    let data = file.metadata().map_err(|cause| system(&cause).at(path))?;
    let mode = data.permissions().mode() & 0o7777;
    if !data.is_file() {
        return Err(SealError::System("is not a regular file".into()).at(path));
    }
    if mode & 0o077 != 0 {
        return Err(SealError::ReadableByOthers(mode).at(path));
    }
    let text = read_up_to(&file, MAX_SEAL_FILE.saturating_add(1)).map_err(|cause| system(&cause).at(path))?;
    let seal_file = SealFile::parse(&text).map_err(|cause| cause.at(path))?;
    // Who made the file may not have come to this, and nothing may be sealed under keys that a power failure takes away.
    // A directory that cannot be opened or synced holds a file put there by other means.
    let _ = sync_dir(parent_of(path));
    Ok(Some(seal_file))
}

/// Makes a seal file with one new root key and no protection, durably, and reads it back. If another server has just made
/// one, that one is read instead: of all who start at once, exactly one makes the file.
pub fn create(path: &Path) -> Result<SealFile, SealError> {
    let text = write_plain(&RootKeys::generate()?);
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

fn system(cause: &io::Error) -> SealError {
    SealError::System(format!("cannot be read: {cause}"))
}
