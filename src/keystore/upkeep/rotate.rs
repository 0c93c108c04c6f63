//! New root keys, fewer root keys, and another lock on the seal file.

use super::{
    Place, Resealed, Unlocked, UpkeepError, Watch, count,
    reseal::{Plain, reseal},
};
use crate::{
    keystore::fs::check_place,
    seal::{Protection, RootKeyId, SealError, Source, disk, unlock::Cost},
    sys::file::create_dir_durably,
};

/// Makes a new root key the active one and seals every key file anew. The keys of before stay in the seal file, retired, as
/// older copies of key files need them. If there are files under a retired key, because a rotation did not come to its end
/// or files came back from a backup, only that is put right and no new key is made. Returns the active key, and whether it
/// is new.
pub fn rotate(place: &Place, watch: Watch<'_>) -> Result<(RootKeyId, bool, Resealed), UpkeepError> {
    let mut unlocked = Unlocked::required(place)?;
    let census = count(&place.dir, &mut |_| ())?;
    let is_new = unlocked.keys.retired().iter().all(|key| census.under(key.id()) == 0);
    if is_new {
        unlocked.keys = unlocked.keys.rotated()?;
        let text = unlocked.protection.write(&unlocked.keys)?;
        unlocked.seal.replace(&text, "rotate")?;
    }
    let (seal, sealer) = unlocked.sealer();
    let resealed = reseal(&place.dir, &sealer, &Plain::Refuse, "rotate", watch)?;
    drop(seal);
    Ok((sealer.root_keys().active().id(), is_new, resealed))
}

/// Drops retired root keys of these IDs that no key file needs; with `is_dry` only says whether it would.
pub fn forget(place: &Place, ids: &[RootKeyId], is_dry: bool, watch: Watch<'_>) -> Result<(), UpkeepError> {
    let mut unlocked = Unlocked::required(place)?;
    let refused = |why: String| Err(UpkeepError::Refused(why));
    for id in ids {
        if unlocked.keys.active().id() == *id {
            return refused(format!("root key {id} is the active one"));
        }
        if unlocked.keys.find(*id).is_none() {
            return refused(format!("there is no root key {id}"));
        }
    }
    // New files are sealed under the active key alone, so that this does not change any more.
    let census = count(&place.dir, watch)?;
    if census.total() == 0 {
        return refused(format!(
            "there are no keys in '{}', so that nothing can be said of what they need: is it mounted?",
            place.shown
        ));
    }
    for id in ids {
        match census.under(*id) {
            0 => {}
            files => {
                return refused(format!(
                    "root key {id} is needed by {files} key files; run first: kes seal rotate"
                ));
            }
        }
    }
    if census.other > 0 {
        return refused(format!(
            "{} files in '{}' cannot be told sealed from plain",
            census.other, place.shown
        ));
    }
    if is_dry {
        return Ok(());
    }
    unlocked.keys = unlocked.keys.without(ids);
    let text = unlocked.protection.write(&unlocked.keys)?;
    unlocked.seal.replace(&text, "forget")?;
    Ok(())
}

/// Protects the seal file in another way. The root keys stay the same.
pub fn rewrap(place: &Place, to: &Source, cost: Cost) -> Result<(), UpkeepError> {
    let mut unlocked = Unlocked::required(place)?;
    let path = unlocked.seal.path().to_owned();
    let protection = Protection::new(to, cost).map_err(|cause| cause.at(&path))?;
    let text = protection.write(&unlocked.keys)?;
    unlocked.seal.replace(&text, "rewrap")?;
    Ok(())
}

/// Makes the seal file of an empty store, and the key directory if it is missing. Returns the ID of the root key.
pub fn init(place: &Place, cost: Cost) -> Result<RootKeyId, UpkeepError> {
    let failed = |cause| UpkeepError::disk("cannot make the key directory", &place.dir, &cause);
    create_dir_durably(&place.dir).map_err(failed)?;
    check_place(&place.dir, &place.shown, &place.seal_file).map_err(UpkeepError::Refused)?;
    let at = |cause: SealError| cause.at(&place.seal_file);
    let protection = Protection::new(&place.source, cost).map_err(at)?;
    // A server may have made a plain key while the secret was asked for.
    let census = count(&place.dir, &mut |_| ())?;
    if census.total() > 0 && disk::load(&place.seal_file)?.is_none() {
        return Err(UpkeepError::Refused(format!(
            "there are keys in '{}': seal them with: kes seal adopt",
            place.shown
        )));
    }
    let file = disk::create(&place.seal_file, &protection)?;
    Ok(protection.open(file).map_err(at)?.active().id())
}
