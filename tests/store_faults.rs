//! Crashes at each step of a create, a delete and the making of a seal file. Needs the feature `fault-points`, which no
//! release build has: `cargo test --features fault-points --test store_faults`.
#![cfg(feature = "fault-points")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kes::{
    config::SealConfig,
    keystore::{KeyStore, StoreError, fs::FsStore},
    name::KeyName,
    seal::Source,
};

const CHILD: &str = "KES_TEST_STORE";
const TEST: &str = "a_crash_at_any_step_loses_nothing_and_leaves_nothing_half_made";

#[test]
fn a_crash_at_any_step_loses_nothing_and_leaves_nothing_half_made() {
    if let Some(root) = env::var_os(CHILD) {
        return work(Path::new(&root));
    }
    // The fault, and whether after it the key that was being created is there, and the one that was being deleted.
    let cases = [
        ("seal:after-write", false, None),
        ("seal:after-sync", false, None),
        ("seal:after-link", false, None),
        ("seal:after-dir-sync", false, None),
        ("create:after-write", false, Some(true)),
        ("create:after-sync", false, Some(true)),
        ("create:after-link", true, Some(true)),
        ("create:after-dir-sync", true, Some(true)),
        ("delete:after-unlink", true, Some(false)),
    ];
    for (fault, is_created, old) in cases {
        let root = env::temp_dir().join(format!("kes-faults-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        if old.is_some() {
            open(&root).create(&name("old"), b"old value").unwrap();
        }
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", TEST])
            .env(CHILD, &root)
            .env("KES_FAULT", fault)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "{fault} was not reached");

        let store = open(&root);
        let names = [("new", is_created), ("old", old == Some(true))].into_iter().filter(|(_, is)| *is);
        let expected: Vec<_> = names.map(|(key, _)| name(key)).collect();
        assert_eq!(store.list("").unwrap(), expected, "{fault}");
        for key in expected {
            assert_eq!(&store.get(&key).unwrap()[..], format!("{key} value").as_bytes(), "{fault}");
        }
        match store.create(&name("new"), b"new value") {
            Ok(()) => assert!(!is_created, "{fault}"),
            Err(error) => assert!(is_created && error == StoreError::KeyExists, "{fault}: {error}"),
        }
        fs::remove_dir_all(&root).unwrap();
    }
}

fn work(root: &Path) {
    let store = open(root);
    store.create(&name("new"), b"new value").unwrap();
    store.delete(&name("old")).unwrap();
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn open(root: &Path) -> FsStore {
    let file: PathBuf = root.join("keys.seal");
    FsStore::open(&root.join("keys"), "./keys", &SealConfig::On { file, unlock: Source::None }).unwrap()
}
