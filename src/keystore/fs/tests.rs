mod following;

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    time::SystemTime,
};

use super::*;
use crate::seal::{Source, file::write_plain};

/// Values as the original wrote them: its current form and its older one.
const ORIGINAL: [(&str, &str); 2] = [
    (
        "aes",
        "CiQKIJfHzfibaJmZH1TkLoXLpBH2cgESVG31Q6TjpYmlwwwaEAESJAogdtaMSrhq+giQx9ys4Ev+4NFHKzuAS4BotlgzYO32x/8QARoMCLaRk9gGEKfGhtoCIkBlYzI1ODQ4NzQ0MTY2MGU3OWI4NjBjNTZkMzAwMzEyZDhkOTMwYTM5YzA4NzRkMGU0ZGEzYzFhMGE3OWU2NWQ5",
    ),
    ("legacy", r#"{"bytes":"l8fN+JtomZkfVOQuhcukEfZyARJUbfVDpOOliaXDDBo=","algorithm":"AES256"}"#),
];

struct Place {
    root: PathBuf,
}

impl Place {
    fn new(test: &str) -> Self {
        let root = std::env::temp_dir().join(format!("kes-fs-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    fn seal_file(&self) -> PathBuf {
        self.root.join("keys.seal")
    }

    fn open(&self) -> Result<FsStore, String> {
        FsStore::open(
            &self.keys(),
            "./keys",
            &SealConfig::On { file: self.seal_file(), unlock: Source::None },
        )
    }

    fn open_off(&self) -> Result<FsStore, String> {
        FsStore::open(&self.keys(), "./keys", &SealConfig::Off)
    }

    /// A store that the original made.
    fn fill_as_original(&self) {
        fs::create_dir_all(self.keys()).unwrap();
        for (name, value) in ORIGINAL {
            fs::write(self.keys().join(name), value).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn failure<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Failed(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_start_makes_directory_and_seal_file_and_a_second_uses_them() {
    let place = Place::new("first");
    let store = place.open().unwrap();
    assert_eq!((mode_of(&place.keys()), mode_of(&place.seal_file())), (0o700, 0o600));
    assert!(store.sealing().starts_with("sealed (root key "), "{}", store.sealing());
    assert!(store.sealing().contains(&place.seal_file().display().to_string()));
    assert!(store.notices().is_empty());
    assert_eq!(store.describe(), "Filesystem: ./keys");
    store.create(&name("my-key"), b"value").unwrap();
    assert_eq!(mode_of(&place.keys().join("my-key")), 0o600);
    let text = fs::read_to_string(place.keys().join("my-key")).unwrap();
    assert!(text.starts_with("kes-sealed v1 ") && !text.contains("value"));
    let seal = fs::read(place.seal_file()).unwrap();

    let again = place.open().unwrap();
    assert_eq!(&again.get(&name("my-key")).unwrap()[..], b"value");
    assert_eq!(fs::read(place.seal_file()).unwrap(), seal);
    assert_eq!(again.sealing(), store.sealing());
}

#[test]
fn a_store_keeps_the_contract_sealed_and_plain() {
    let place = Place::new("contract");
    for store in [place.open_off().unwrap(), place.open().unwrap()] {
        let key = name("my-key");
        assert_eq!(store.get(&key).unwrap_err(), StoreError::KeyNotFound);
        assert_eq!(store.delete(&key), Err(StoreError::KeyNotFound));
        store.create(&key, b"one").unwrap();
        assert_eq!(store.create(&key, b"two"), Err(StoreError::KeyExists));
        assert_eq!(&store.get(&key).unwrap()[..], b"one");
        store.create(&name("my_b"), b"x").unwrap();
        store.create(&name("other"), b"x").unwrap();
        assert_eq!(store.list("").unwrap(), [key.clone(), name("my_b"), name("other")]);
        assert_eq!(store.list("my").unwrap(), [key.clone(), name("my_b")]);
        assert_eq!(store.list("z").unwrap(), []);
        store.status().unwrap();
        for key in store.list("").unwrap() {
            store.delete(&key).unwrap();
        }
        assert_eq!(fs::read_dir(place.keys()).unwrap().count(), 0, "nothing is left");
    }
}

#[test]
fn every_flipped_bit_of_a_key_file_is_refused_with_its_name() {
    let place = Place::new("flip");
    let store = place.open().unwrap();
    store.create(&name("my-key"), ORIGINAL[0].1.as_bytes()).unwrap();
    let path = place.keys().join("my-key");
    let text = fs::read(&path).unwrap();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &flipped).unwrap();
        let cause = failure(store.get(&name("my-key")));
        assert!(cause.contains(&path.display().to_string()), "{cause}");
    }
    for len in 0..text.len() {
        fs::write(&path, &text[..len]).unwrap();
        failure(store.get(&name("my-key")));
    }
    fs::write(&path, &text).unwrap();
    store.get(&name("my-key")).unwrap();
}

#[test]
fn swapped_renamed_foreign_and_planted_files_are_refused() {
    let place = Place::new("swap");
    let store = place.open().unwrap();
    let path = |name: &str| place.keys().join(name);
    for key in ["a", "b", "c"] {
        store.create(&name(key), key.as_bytes()).unwrap();
    }
    fs::rename(path("a"), path("x")).unwrap();
    fs::rename(path("b"), path("a")).unwrap();
    fs::rename(path("x"), path("b")).unwrap();
    for key in ["a", "b"] {
        assert!(failure(store.get(&name(key))).ends_with("edited, renamed or comes from another store"));
    }
    let other = Place::new("swap-other");
    other.open().unwrap().create(&name("c"), b"c").unwrap();
    fs::copy(other.keys().join("c"), path("c")).unwrap();
    assert!(failure(store.get(&name("c"))).contains("which the seal file lacks"));
    fs::write(path("planted"), ORIGINAL[0].1).unwrap();
    assert!(failure(store.get(&name("planted"))).contains("is not sealed"));
    let notices = place.open().unwrap().notices().to_vec();
    assert!(notices.len() == 1 && notices[0].contains("'planted'"), "{notices:?}");
}

#[test]
fn a_store_of_the_original_is_served_as_it_is() {
    let place = Place::new("original");
    place.fill_as_original();
    let store = place.open().unwrap();
    for (key, value) in ORIGINAL {
        assert_eq!(&store.get(&name(key)).unwrap()[..], value.as_bytes());
    }
    store.create(&name("new"), b"value").unwrap();
    assert_eq!(fs::read(place.keys().join("new")).unwrap(), b"value");
    assert!(!place.seal_file().exists());
    assert!(store.sealing().starts_with("not sealed"));
    assert!(store.notices().iter().any(|line| line.contains("kes seal adopt")));

    // Someone seals the store while it is served as plain.
    let elsewhere = Place::new("original-elsewhere");
    elsewhere.open().unwrap();
    fs::copy(elsewhere.seal_file(), place.seal_file()).unwrap();
    assert!(failure(store.get(&name("aes"))).contains("is not sealed"));
    store.create(&name("newer"), b"x").unwrap();
    assert!(is_sealed(&fs::read(place.keys().join("newer")).unwrap()) && store.is_sealed());
    let reloaded = place.open().unwrap();
    assert!(failure(reloaded.get(&name("aes"))).contains("is not sealed"));
}

#[test]
fn seal_off_keeps_values_plain_and_refuses_a_sealed_store() {
    let place = Place::new("off");
    let store = place.open_off().unwrap();
    store.create(&name("a"), b"value").unwrap();
    assert_eq!(fs::read(place.keys().join("a")).unwrap(), b"value");
    assert!(!place.seal_file().exists());
    assert!(store.sealing().starts_with("off"));
    fs::write(place.keys().join("b"), "kes-sealed v1 ").unwrap();
    assert!(failure(store.get(&name("b"))).contains("is sealed"));
    assert!(place.open_off().unwrap_err().contains("key 'b'"));
}

#[test]
fn a_missing_seal_file_beside_sealed_keys_stops_the_start() {
    let place = Place::new("lost");
    place.open().unwrap().create(&name("a"), b"value").unwrap();
    fs::write(place.keys().join("plain"), "plain").unwrap();
    let seal = place.root.join("moved");
    fs::rename(place.seal_file(), &seal).unwrap();
    let cause = place.open().unwrap_err();
    assert!(cause.contains(&place.seal_file().display().to_string()) && cause.contains("'a'"), "{cause}");
    assert!(!place.seal_file().exists());
    fs::rename(&seal, place.seal_file()).unwrap();
    assert_eq!(&place.open().unwrap().get(&name("a")).unwrap()[..], b"value");
}

#[test]
fn a_seal_file_that_others_may_read_is_refused() {
    let place = Place::new("mode");
    place.open().unwrap();
    for mode in [0o604, 0o640, 0o620, 0o644, 0o601] {
        fs::set_permissions(place.seal_file(), fs::Permissions::from_mode(mode)).unwrap();
        let cause = place.open().unwrap_err();
        let path = place.seal_file().display().to_string();
        assert!(cause.contains(&format!("mode {mode:04o}")), "{cause}");
        assert!(cause.ends_with(&format!("chmod 600 {path}")), "{cause}");
    }
    for mode in [0o400, 0o600] {
        fs::set_permissions(place.seal_file(), fs::Permissions::from_mode(mode)).unwrap();
        place.open().unwrap();
    }
}

#[test]
fn a_damaged_locked_or_misplaced_seal_file_stops_the_start() {
    let place = Place::new("damaged");
    place.open().unwrap();
    let good = fs::read(place.seal_file()).unwrap();
    let locked = include_bytes!("../../../tests/vectors/seal/passphrase.seal");
    for (text, part) in [
        (&good[..good.len() - 1], "checksum"),
        (b"", "cut short"),
        (b"kes-seal v9\n", "version 'v9'"),
        (&locked[..], "protected by the method 'passphrase', but keystore.fs.seal.unlock says 'none'"),
    ] {
        fs::write(place.seal_file(), text).unwrap();
        let cause = place.open().unwrap_err();
        assert!(cause.contains(part), "{cause}");
        assert!(cause.contains(&place.seal_file().display().to_string()), "{cause}");
        assert_eq!(fs::read(place.seal_file()).unwrap(), text, "it is left as it is");
    }
    fs::remove_file(place.seal_file()).unwrap();
    fs::create_dir(place.seal_file()).unwrap();
    assert!(place.open().unwrap_err().contains("regular file"));
    let inside = SealConfig::On { file: place.keys().join("seal"), unlock: Source::None };
    assert!(FsStore::open(&place.keys(), "./keys", &inside).unwrap_err().contains("must not lie"));
    let nowhere = SealConfig::On { file: place.root.join("no/seal"), unlock: Source::None };
    assert!(FsStore::open(&place.keys(), "./keys", &nowhere).unwrap_err().contains("no/seal"));
}

#[test]
fn many_servers_that_start_at_once_share_one_seal_file() {
    let place = Place::new("at-once");
    for round in 0..20 {
        let _ = fs::remove_dir_all(place.keys());
        let _ = fs::remove_file(place.seal_file());
        let barrier = std::sync::Barrier::new(4);
        let stores: Vec<FsStore> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4)
                .map(|server| {
                    let (barrier, place) = (&barrier, &place);
                    scope.spawn(move || {
                        barrier.wait();
                        let store = place.open().unwrap();
                        store.create(&name(&format!("key{server}")), b"value").unwrap();
                        store
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        for store in &stores {
            let names = store.list("").unwrap();
            assert_eq!(names.len(), 4, "round {round}");
            names.iter().for_each(|key| assert_eq!(&store.get(key).unwrap()[..], b"value"));
        }
    }
}

#[test]
fn of_two_servers_that_create_the_same_names_exactly_one_wins_each() {
    let place = Place::new("race");
    let stores = [place.open().unwrap(), place.open().unwrap()];
    let winners: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let work = |store: usize| {
            let stores = &stores;
            scope.spawn(move || {
                let create = |i: u32| stores[store].create(&name(&format!("k{i}")), &[store as u8; 100]);
                (0..500)
                    .map(|i| match create(i) {
                        Ok(()) => true,
                        Err(StoreError::KeyExists) => false,
                        Err(error) => panic!("{error}"),
                    })
                    .collect()
            })
        };
        [work(0), work(1)].map(|thread| thread.join().unwrap()).into()
    });
    for (i, (first, second)) in winners[0].iter().zip(&winners[1]).enumerate() {
        assert!(first != second, "k{i}");
        let value = stores[0].get(&name(&format!("k{i}"))).unwrap();
        assert_eq!(&value[..], &[u8::from(*second); 100], "k{i}");
    }
    assert_eq!(fs::read_dir(place.keys()).unwrap().count(), 500);
}

#[test]
fn only_old_temporary_files_are_removed() {
    let place = Place::new("stale");
    place.open().unwrap();
    let old = SystemTime::now() - STALE - Duration::from_secs(60);
    let make = |path: PathBuf, time: Option<SystemTime>| {
        let file = fs::File::create(&path).unwrap();
        time.into_iter().for_each(|time| file.set_modified(time).unwrap());
        path
    };
    let keys = place.keys();
    let gone = [
        make(keys.join(".a.0011223344556677.tmp"), Some(old)),
        make(place.root.join(".keys.seal.0011223344556677.tmp"), Some(old)),
    ];
    let kept = [
        make(keys.join(".b.0011223344556677.tmp"), None),
        make(keys.join("a.tmp"), Some(old)),
        make(keys.join(".hidden"), Some(old)),
        make(place.root.join(".other.tmp"), Some(old)),
    ];
    let store = place.open().unwrap();
    store.tidy();
    gone.iter().for_each(|path| assert!(!path.exists(), "{path:?}"));
    kept.iter().for_each(|path| assert!(path.exists(), "{path:?}"));
    assert_eq!(store.list("").unwrap(), []);
}

#[test]
fn only_regular_files_with_a_key_name_are_listed() {
    let place = Place::new("list");
    let store = place.open().unwrap();
    store.create(&name("good"), b"x").unwrap();
    fs::create_dir(place.keys().join("lost-found")).unwrap();
    for odd in [".hidden", "a.txt", "-a", "a b", "_"] {
        fs::write(place.keys().join(odd), "x").unwrap();
    }
    symlink("good", place.keys().join("link")).unwrap();
    symlink("nothing", place.keys().join("dangling")).unwrap();
    symlink("lost-found", place.keys().join("link-dir")).unwrap();
    assert_eq!(store.list("").unwrap(), [name("good"), name("link")]);
    assert!(failure(store.get(&name("lost-found"))).contains("not a regular file"));
    assert_eq!(store.create(&name("dangling"), b"x"), Err(StoreError::KeyExists));
}

#[test]
fn an_empty_or_endless_file_does_not_hurt() {
    let place = Place::new("empty");
    let store = place.open_off().unwrap();
    fs::write(place.keys().join("empty"), "").unwrap();
    assert!(failure(store.get(&name("empty"))).ends_with("is empty"));
    fs::write(place.keys().join("big"), vec![b'A'; MAX_FILE + 5]).unwrap();
    assert_eq!(store.get(&name("big")).unwrap().len(), MAX_FILE, "as the original reads it");
    symlink("/dev/zero", place.keys().join("endless")).unwrap();
    assert!(failure(store.get(&name("endless"))).contains("not a regular file"));
    let place = Place::new("empty-sealed");
    let cause = place.open().unwrap().create(&name("long"), &vec![0; MAX_VALUE + 1]).unwrap_err();
    assert!(matches!(cause, StoreError::Failed(_)));
}

#[test]
fn the_longest_value_can_be_read_again() {
    let place = Place::new("longest");
    let store = place.open().unwrap();
    store.create(&name("long"), &vec![7; MAX_VALUE]).unwrap();
    assert_eq!(&store.get(&name("long")).unwrap()[..], vec![7; MAX_VALUE]);
}

#[test]
fn a_directory_that_is_gone_is_unreachable_and_comes_back() {
    let place = Place::new("gone");
    let store = place.open().unwrap();
    store.create(&name("a"), b"value").unwrap();
    let away = place.root.join("away");
    fs::rename(place.keys(), &away).unwrap();
    for as_file in [false, true] {
        if as_file {
            fs::write(place.keys(), "in the way").unwrap();
        }
        let errors = [
            store.status().unwrap_err(),
            store.get(&name("a")).unwrap_err(),
            store.create(&name("b"), b"x").unwrap_err(),
            store.delete(&name("a")).unwrap_err(),
            store.list("").unwrap_err(),
        ];
        for error in errors {
            let StoreError::Unreachable(cause) = error else { panic!("{error:?}") };
            assert!(cause.contains(&place.keys().display().to_string()), "{cause}");
        }
    }
    fs::remove_file(place.keys()).unwrap();
    fs::rename(&away, place.keys()).unwrap();
    store.status().unwrap();
    assert_eq!(&store.get(&name("a")).unwrap()[..], b"value");
}

#[test]
fn what_lies_below_a_mount_is_not_taken_for_the_store() {
    let place = Place::new("unmounted");
    let mut store = place.open().unwrap();
    store.create(&name("a"), b"value").unwrap();
    // As if it had been mounted from elsewhere at the start, above one with a key of the same name.
    store.place.id.1 += 1;
    store.status().unwrap();
    store.place = crate::sys::file::Place { id: (0, 0), mount: store.place.mount.map(|mount| mount + 1) };
    let errors = [
        store.status().unwrap_err(),
        store.list("").unwrap_err(),
        store.get(&name("a")).unwrap_err(),
        store.delete(&name("a")).unwrap_err(),
        store.get(&name("b")).unwrap_err(),
        store.create(&name("b"), b"x").unwrap_err(),
        store.delete(&name("b")).unwrap_err(),
    ];
    for error in errors {
        let StoreError::Unreachable(cause) = error else { panic!("{error:?}") };
        assert!(cause.contains("is it mounted?"), "{cause}");
    }
    assert!(place.keys().join("a").exists() && !place.keys().join("b").exists());
}

#[test]
fn a_start_without_a_usable_directory_says_why() {
    let place = Place::new("unusable");
    fs::write(place.keys(), "a file").unwrap();
    assert_eq!(place.open().unwrap_err(), "key store './keys' is not a directory");
    let below = FsStore::open(&place.keys().join("below"), "./keys/below", &SealConfig::Off).unwrap_err();
    assert!(below.contains("'./keys/below'"), "{below}");
    // A file system that refuses even root.
    let cause = FsStore::open(Path::new("/proc"), "/proc", &SealConfig::Off).unwrap_err();
    assert!(cause.starts_with("key directory '/proc' is not writable: "), "{cause}");
}

#[test]
fn a_directory_without_permission_to_write_stops_the_start() {
    let place = Place::new("permission");
    fs::create_dir(place.keys()).unwrap();
    // The owner of our own process entry is the user that we run as.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("not checked: permissions do not hold for root");
        return;
    }
    fs::set_permissions(place.keys(), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(place.open().unwrap_err().contains("not writable"));
    fs::set_permissions(place.keys(), fs::Permissions::from_mode(0o700)).unwrap();
    let store = place.open().unwrap();
    fs::set_permissions(place.keys(), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(matches!(store.create(&name("a"), b"x"), Err(StoreError::Failed(_))));
    fs::set_permissions(place.keys(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_start_looks_into_a_bounded_number_of_files() {
    let place = Place::new("bounded");
    fs::create_dir(place.keys()).unwrap();
    for i in 0..SURVEYED {
        fs::write(place.keys().join(format!("k{i}")), "plain").unwrap();
    }
    let survey = survey(&place.keys(), "./keys").unwrap();
    assert!(survey.plain.is_some() && survey.sealed.is_none());
    assert!(place.open().unwrap().sealing().starts_with("not sealed"));
}

#[test]
fn troubles_of_the_disk_are_told_from_those_that_stay() {
    let explained =
        |code| explain("cannot create", Path::new("/keys/a"), &io::Error::from_raw_os_error(code));
    for code in [libc::EIO, libc::ESTALE, libc::ENOENT, libc::ENOTDIR, libc::ETIMEDOUT] {
        assert!(matches!(explained(code), StoreError::Unreachable(text) if text.contains("'/keys/a'")));
    }
    for code in [libc::ENOSPC, libc::EROFS, libc::EACCES, libc::EDQUOT, libc::EISDIR] {
        assert!(matches!(explained(code), StoreError::Failed(text) if text.contains("'/keys/a'")));
    }
}
