//! A running store and its seal file: new root keys, adoption, troubles, other people's files.

use super::*;
use crate::seal::{
    Protection, RootKey, RootKeys,
    unlock::{Cost, Passphrase},
};
use seals::adoption_file;

/// A seal file with these root keys, first the active one, in the place of whatever is there.
fn put_seal(path: &Path, secrets: &[u8]) {
    let mut keys = secrets
        .iter()
        .map(|byte| RootKey::new(crate::crypto::Secret::from_slice(&[*byte; 32]).unwrap(), u64::from(*byte)));
    let keys = RootKeys::new(keys.next().unwrap(), keys.collect()).unwrap();
    let temporary = path.with_extension("new");
    fs::write(&temporary, &write_plain(&keys)[..]).unwrap();
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(temporary, path).unwrap();
}

fn header(path: &Path) -> String {
    String::from_utf8(fs::read(path).unwrap()).unwrap().lines().next().unwrap().to_owned()
}

#[test]
fn a_running_store_follows_its_seal_file_to_new_root_keys_and_never_back() {
    let place = Place::new("follows");
    fs::create_dir(place.keys()).unwrap();
    put_seal(&place.seal_file(), &[1]);
    let (one, two) = (place.open().unwrap(), place.open().unwrap());
    one.create(&name("a"), b"a").unwrap();
    put_seal(&place.seal_file(), &[2, 1]);
    one.create(&name("b"), b"b").unwrap();
    assert_ne!(header(&place.keys().join("a")), header(&place.keys().join("b")));
    // The other one has only read so far, and meets a root key that it does not know.
    assert_eq!(&two.get(&name("a")).unwrap()[..], b"a");
    assert_eq!(&two.get(&name("b")).unwrap()[..], b"b");

    put_seal(&place.seal_file(), &[1]);
    let refused = failure(one.create(&name("c"), b"c"));
    assert!(refused.contains("which is in use: it is an older file"), "{refused}");
    assert!(!place.keys().join("c").exists());
    assert_eq!(&one.get(&name("b")).unwrap()[..], b"b", "what is known stays in use");
    let on = SealConfig::On { file: place.seal_file(), unlock: Source::None };
    let reloaded = FsStore::reopen(&place.keys(), "./keys", &on, Some(&one)).unwrap_err();
    assert!(reloaded.contains("which is in use"), "{reloaded}");
    fs::remove_file(place.seal_file()).unwrap();
    assert!(failure(one.create(&name("c"), b"c")).contains("restore it"));
    assert!(FsStore::reopen(&place.keys(), "./keys", &on, Some(&one)).unwrap_err().contains("restore it"));

    put_seal(&place.seal_file(), &[2]);
    one.create(&name("c"), b"c").unwrap();
    assert!(failure(one.get(&name("a"))).contains("which the seal file lacks"), "root key 1 was dropped");
    FsStore::reopen(&place.keys(), "./keys", &on, Some(&one)).unwrap();
}

#[test]
fn a_store_in_adoption_serves_plain_and_sealed_keys_and_seals_new_ones() {
    let place = Place::new("adopting");
    place.fill_as_original();
    let store = place.open().unwrap();
    let adoption = adoption_file(&place.seal_file());
    put_seal(&adoption, &[1]);
    store.create(&name("new"), b"value").unwrap();
    for store in [&store, &place.open().unwrap()] {
        assert_eq!(&store.get(&name("new")).unwrap()[..], b"value");
        assert_eq!(&store.get(&name(ORIGINAL[0].0)).unwrap()[..], ORIGINAL[0].1.as_bytes());
        assert!(store.sealing().starts_with("being sealed") && !store.is_sealed());
    }
    assert!(is_sealed(&fs::read(place.keys().join("new")).unwrap()));
    fs::rename(&adoption, place.seal_file()).unwrap();
    assert_eq!(&store.get(&name("new")).unwrap()[..], b"value");
    store.create(&name("newer"), b"x").unwrap();
    assert!(store.is_sealed());
    assert!(failure(store.get(&name(ORIGINAL[0].0))).contains("is not sealed"));
}

#[test]
fn a_key_made_while_the_root_key_changes_is_sealed_again_before_anybody_hears_of_it() {
    let place = Place::new("settles");
    fs::create_dir(place.keys()).unwrap();
    put_seal(&place.seal_file(), &[1]);
    let store = place.open().unwrap();
    let path = place.keys().join("a");
    let before = store.phase_to_write(&path).unwrap();
    store.create(&name("a"), b"a").unwrap();
    let old = header(&path);
    put_seal(&place.seal_file(), &[2, 1]);
    let file = || File::open(&path).unwrap();
    store.settle(&name("a"), &path, file(), b"a", before.clone()).unwrap();
    assert_ne!(header(&path), old);
    // As if it had been written plain just before an adoption began.
    fs::write(&path, b"a").unwrap();
    store.settle(&name("a"), &path, file(), b"a", Phase::Plain).unwrap();
    assert_eq!(&store.get(&name("a")).unwrap()[..], b"a");
    assert_eq!(fs::read_dir(place.keys()).unwrap().count(), 1, "nothing is left beside it");
    // Deleted meanwhile: it does not come back. Made anew by somebody else: that one stays.
    let gone = file();
    store.delete(&name("a")).unwrap();
    store.settle(&name("a"), &path, gone.try_clone().unwrap(), b"a", before.clone()).unwrap();
    assert!(!path.exists());
    store.create(&name("a"), b"another").unwrap();
    store.settle(&name("a"), &path, gone.try_clone().unwrap(), b"a", before.clone()).unwrap();
    assert_eq!(&store.get(&name("a")).unwrap()[..], b"another");
    // Sealed by somebody with another seal file: nobody is told that it is there.
    let other = Place::new("settles-other");
    fs::create_dir(other.keys()).unwrap();
    put_seal(&other.seal_file(), &[9]);
    other.open().unwrap().create(&name("a"), b"a").unwrap();
    fs::copy(other.keys().join("a"), &path).unwrap();
    assert!(
        failure(store.settle(&name("a"), &path, gone, b"a", before)).contains("which the seal file lacks")
    );
}

#[test]
fn a_trouble_with_the_seal_file_may_pass_without_a_change_of_the_file() {
    let place = Place::new("passes");
    let secret = place.root.join("passphrase");
    let source = Source::Passphrase(Passphrase::File(secret.clone()));
    let write = |passphrase: &str, cost: Cost| {
        fs::write(&secret, passphrase).unwrap();
        let protection = Protection::new(&source, cost).unwrap();
        let keys = RootKey::new(crate::crypto::Secret::from_slice(&[1; 32]).unwrap(), 1);
        let text = protection.write(&RootKeys::new(keys, Vec::new()).unwrap()).unwrap();
        let temporary = place.root.join("new");
        fs::write(&temporary, &text[..]).unwrap();
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(temporary, place.seal_file()).unwrap();
    };
    let cost = Cost { memory_kib: 8, passes: 1 };
    write("a passphrase", cost);
    let on = SealConfig::On { file: place.seal_file(), unlock: source.clone() };
    let store = FsStore::open(&place.keys(), "./keys", &on).unwrap();
    store.create(&name("a"), b"a").unwrap();
    write("another passphrase", cost);
    fs::rename(&secret, place.root.join("away")).unwrap();
    assert!(failure(store.create(&name("b"), b"b")).contains("cannot be unlocked"));
    assert!(FsStore::reopen(&place.keys(), "./keys", &on, Some(&store)).is_err());
    assert_eq!(&store.get(&name("a")).unwrap()[..], b"a");
    fs::rename(place.root.join("away"), &secret).unwrap();
    FsStore::reopen(&place.keys(), "./keys", &on, Some(&store)).unwrap();
    store.create(&name("b"), b"b").unwrap();
}

#[test]
fn an_empty_store_takes_any_later_root_key() {
    let place = Place::new("later-root-key");
    fs::create_dir(place.keys()).unwrap();
    put_seal(&place.seal_file(), &[1]);
    let store = place.open().unwrap();
    store.phase_to_write(&place.keys()).unwrap();
    put_seal(&place.seal_file(), &[2]);
    store.create(&name("a"), b"a").unwrap();
    assert_eq!(&place.open().unwrap().get(&name("a")).unwrap()[..], b"a");
}

#[test]
fn a_running_store_takes_no_seal_file_that_opens_none_of_its_keys() {
    let place = Place::new("foreign-seal");
    fs::create_dir(place.keys()).unwrap();
    put_seal(&place.seal_file(), &[1]);
    let store = place.open().unwrap();
    store.create(&name("a"), b"a").unwrap();
    put_seal(&place.seal_file(), &[3]);
    let refused = failure(store.create(&name("b"), b"b"));
    assert!(refused.contains("which is in use"), "{refused}");
    assert!(!place.keys().join("b").exists());
    assert_eq!(&store.get(&name("a")).unwrap()[..], b"a", "what is known stays in use");
}
