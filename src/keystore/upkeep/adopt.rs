//! From a store that the original made to a sealed one.

use std::{fs, io};

use super::{
    Backup, Census, Place, Resealed, Unlocked, UpkeepError, Watch,
    reseal::{Plain, reseal},
};
use crate::{
    keystore::fs::{check_place, seals::adoption_file},
    seal::{
        Protection, RootKeys, SealError,
        disk::{self, LockedSeal},
        unlock::Cost,
    },
    sys::{fault, file::create_durably},
};

/// What came of an adoption.
#[derive(Debug)]
pub struct Adoption {
    /// Of the key files.
    pub resealed: Resealed,
    /// Every key file is sealed, and from now on plain ones are refused.
    pub is_complete: bool,
}

/// Seals every plain key file. Until all are sealed, the root keys are in a file of another name (see
/// [`adoption_file`]), by which servers know that there are files of both kinds; then it becomes the seal file. `census`
/// is of a moment ago.
pub fn adopt(
    place: &Place,
    census: &Census,
    cost: Cost,
    backup: Option<&Backup>,
    watch: Watch<'_>,
) -> Result<Adoption, UpkeepError> {
    check_place(&place.dir, &place.shown, &place.seal_file).map_err(UpkeepError::Refused)?;
    let unlocked = match Unlocked::open(place)? {
        Some(unlocked) => unlocked,
        None if census.sealed_total() > 0 => {
            return Err(UpkeepError::Refused(format!(
                "seal file '{}' is missing, but there are sealed keys in '{}': restore it from its backup",
                place.seal_file.display(),
                place.shown
            )));
        }
        None => begin(place, cost)?,
    };
    let (mut seal, sealer) = unlocked.sealer();
    let resealed = reseal(&place.dir, &sealer, &Plain::Seal(backup), "adopt", watch)?;
    if resealed.troubles > 0 {
        return Ok(Adoption { resealed, is_complete: false });
    }
    let adoption = adoption_file(&place.seal_file);
    if adoption.canonicalize().is_ok_and(|adoption| adoption == seal.path()) {
        fault::point("adopt", "before-publish");
        seal.rename(&place.seal_file)?;
        fault::point("adopt", "after-publish");
    }
    Ok(Adoption { resealed, is_complete: true })
}

fn begin(place: &Place, cost: Cost) -> Result<Unlocked, UpkeepError> {
    let path = adoption_file(&place.seal_file);
    let at = |cause: SealError| cause.at(&path);
    let protection = Protection::new(&place.source, cost).map_err(at)?;
    let text = RootKeys::generate().and_then(|keys| protection.write(&keys)).map_err(at)?;
    match create_durably(&path, &text, "adopt-seal") {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Unlocked::required(place),
        Err(cause) => return Err(UpkeepError::disk("cannot make", &path, &cause)),
    }
    let Some(seal) = LockedSeal::open(&path)? else { return Unlocked::required(place) };
    // Another command may have begun and ended while the secret was asked for.
    if disk::load(&place.seal_file)?.is_some() {
        let gone = fs::remove_file(&path);
        gone.map_err(|cause| UpkeepError::disk("cannot remove", &path, &cause))?;
        return Unlocked::required(place);
    }
    let keys = protection.open(seal.read()?).map_err(at)?;
    Ok(Unlocked { seal, protection, keys })
}
