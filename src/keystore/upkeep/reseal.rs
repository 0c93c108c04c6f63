//! Seals key files, or seals them anew under the active root key, while servers read, make and delete keys.

use std::{collections::BTreeSet, fs::File, io, path::Path};

use super::{Backup, MAX_FILE, Step, UpkeepError, Watch, each_key, kind_of, read_key};
use crate::{
    name::KeyName,
    seal::{Sealer, is_sealed},
    sys::{
        fault,
        file::sync_dir,
        memory::raise_descriptor_limit,
        swap::{Successor, prepare, remove_leftovers, sync_file_system},
    },
};

/// So many files are written before all are put on the disk at once, which is what takes long. Those that they replace stay
/// open meanwhile, and most systems let a program have 1024 open files.
const BATCH: usize = 512;

/// What came of it.
#[derive(Default, Debug)]
pub struct Resealed {
    /// So many files have been replaced.
    pub replaced: u64,
    /// So many files could not be, and are as they were.
    pub troubles: u64,
}

/// What is to be done with plain files.
pub(super) enum Plain<'a> {
    /// They are troubles.
    Refuse,
    /// They are sealed, and kept as they were in the backup if there is one.
    Seal(Option<&'a Backup>),
}

/// Replaces each key file that is not sealed under the active root key, until there is none left. Every file is whole and
/// opens at every moment, also after a crash; whoever calls again goes on where this ended. `operation` names the fault
/// points.
pub(super) fn reseal(
    dir: &Path,
    sealer: &Sealer,
    plain: &Plain<'_>,
    operation: &str,
    watch: Watch<'_>,
) -> Result<Resealed, UpkeepError> {
    let failed = |cause: io::Error| UpkeepError::disk("cannot work on the key directory", dir, &cause);
    remove_leftovers(dir, "").map_err(failed)?;
    let handle = File::open(dir).map_err(failed)?;
    let most = usize::try_from(raise_descriptor_limit() / 2).unwrap_or(BATCH).clamp(1, BATCH);
    let mut work = Work { dir, handle, sealer, plain, operation, batch: Vec::new(), most, replaced: 0 };
    let mut troubles = BTreeSet::new();
    let mut total = 0;
    loop {
        let is_first = total == 0;
        each_key(dir, &mut |name, path| {
            if let Err(cause) = work.take(name, path)?
                && troubles.insert(name.as_str().to_owned())
            {
                watch(Step::Trouble(name, &cause));
            }
            if is_first {
                watch(Step::Key);
            }
            Ok(())
        })?;
        work.flush()?;
        total += work.replaced;
        // Keys that were made or changed during this pass are found by the next one.
        if std::mem::take(&mut work.replaced) == 0 {
            return Ok(Resealed { replaced: total, troubles: troubles.len() as u64 });
        }
    }
}

struct Work<'a> {
    dir: &'a Path,
    handle: File,
    sealer: &'a Sealer,
    plain: &'a Plain<'a>,
    operation: &'a str,
    batch: Vec<Successor>,
    /// So many may be in a batch.
    most: usize,
    replaced: u64,
}

impl Work<'_> {
    /// Writes the successor of a file that needs one. The inner error is why the file stays as it is.
    fn take(&mut self, name: &KeyName, path: &Path) -> Result<Result<(), String>, UpkeepError> {
        let active = self.sealer.root_keys().active().id();
        match kind_of(path) {
            Ok(Some(id)) if id == active => return Ok(Ok(())),
            Err(None) => return Ok(Ok(())),
            Err(Some(cause)) => return Ok(Err(cause)),
            Ok(_) => {}
        }
        let (file, text) = match read_key(path) {
            Ok(read) => read,
            Err(None) => return Ok(Ok(())),
            Err(Some(cause)) => return Ok(Err(cause)),
        };
        let opened = match self.plain {
            Plain::Seal(backup) if !is_sealed(&text) => {
                if let Some(backup) = backup {
                    backup.keep(name, &file, &text)?;
                }
                Ok(text)
            }
            _ => self.sealer.open(name, &text),
        };
        let value = match opened {
            Ok(value) => value,
            Err(cause) => return Ok(Err(cause.to_string())),
        };
        let sealed = self.sealer.seal(name, &value)?;
        if sealed.len() > MAX_FILE {
            return Ok(Err("is too long to be sealed".into()));
        }
        if self.sealer.open(name, sealed.as_bytes())?[..] != value[..] {
            return Err(UpkeepError::Disk(format!("key '{name}' does not open after it was sealed")));
        }
        let (successor, _) = prepare(path, file, sealed.as_bytes())
            .map_err(|cause| UpkeepError::disk("cannot write beside", path, &cause))?;
        self.batch.push(successor);
        if self.batch.len() >= self.most {
            self.flush()?;
        }
        Ok(Ok(()))
    }

    /// First all successors are on the disk, then they take their places, then that is on the disk.
    fn flush(&mut self) -> Result<(), UpkeepError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let failed = |cause: io::Error| UpkeepError::disk("cannot seal the keys in", self.dir, &cause);
        fault::point(self.operation, "after-write");
        if let Plain::Seal(Some(backup)) = self.plain {
            backup.sync()?;
        }
        sync_file_system(&self.handle).map_err(failed)?;
        fault::point(self.operation, "after-sync");
        for successor in self.batch.drain(..) {
            self.replaced += u64::from(successor.take_place(&self.handle).map_err(failed)?);
            fault::point(self.operation, "after-first");
        }
        fault::point(self.operation, "after-places");
        sync_dir(self.dir).map_err(failed)?;
        fault::point(self.operation, "after-dir-sync");
        Ok(())
    }
}
