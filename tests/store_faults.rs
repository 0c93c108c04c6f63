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

/// Each moment of an adoption and of a rotation at which the command may be killed, and what must hold after it.
#[test]
fn a_kill_at_any_step_of_adopt_and_rotate_loses_no_key_and_the_next_run_ends_the_work() {
    let steps = ["after-write", "after-sync", "after-first", "after-places", "after-dir-sync"];
    let seal = ["after-seal-write", "after-seal-sync", "after-seal-rename", "after-seal-dir-sync"];
    let begin = ["after-write", "after-sync", "after-link", "after-dir-sync"];
    let adopt = begin.iter().map(|moment| format!("adopt-seal:{moment}"));
    let adopt = adopt.chain(steps.iter().map(|moment| format!("adopt:{moment}")));
    let adopt =
        adopt.chain(["before-publish", "after-publish"].iter().map(|moment| format!("adopt:{moment}")));
    let rotate = seal.iter().chain(&steps).map(|moment| format!("rotate:{moment}"));
    let cases: Vec<(&str, String)> =
        adopt.map(|fault| ("adopt", fault)).chain(rotate.map(|fault| ("rotate", fault))).collect();
    assert_eq!(cases.len(), 20);
    for (command, fault) in cases {
        let root = env::temp_dir().join(format!("kes-seal-faults-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("keys")).unwrap();
        let config =
            "admin: { identity: disabled }\ntls: { key: a, cert: b }\nkeystore: { fs: { path: ./keys } }\n";
        fs::write(root.join("config.yml"), config).unwrap();
        let kes = |args: &[&str], fault: &str| {
            let mut kes = Command::new(env!("CARGO_BIN_EXE_kes"));
            kes.arg("seal").args(args).current_dir(&root).env("KES_FAULT", fault).env_remove("KES_CONFIG");
            kes.stdin(Stdio::null()).output().unwrap()
        };
        let values: Vec<_> = ORIGINAL_NAMES.iter().map(|key| (*key, original(key))).collect();
        for (key, value) in &values {
            fs::write(root.join("keys").join(key), value).unwrap();
        }
        if command == "rotate" {
            assert!(kes(&["adopt", "--no-backup"], "").status.success());
        }
        // As a server sees them, which was there before, and as one that starts now.
        let running = open(&root);
        let killed = kes(&[command], &fault);
        assert!(killed.status.code().is_none(), "{fault} was not reached: {killed:?}");
        for store in [&running, &open(&root)] {
            for (key, value) in &values {
                assert_eq!(&store.get(&name(key)).unwrap()[..], value.as_bytes(), "{fault} {key}");
            }
        }
        running.create(&name("meanwhile"), values[0].1.as_bytes()).unwrap();
        let again = kes(&[command], "");
        assert!(again.status.success(), "{fault}: {again:?}");
        let verify = kes(&["verify", "--json"], "");
        let said = String::from_utf8_lossy(&verify.stdout).into_owned();
        assert!(said.starts_with("{\"good\":4,\"bad\":0,\"sealed\":true"), "{fault}: {said}");
        for store in [&running, &open(&root)] {
            for (key, value) in &values {
                assert_eq!(&store.get(&name(key)).unwrap()[..], value.as_bytes(), "{fault} {key}");
            }
        }
        // Nothing plain is left but what the backup keeps.
        let left = |dir: &str| {
            let entries = fs::read_dir(root.join(dir)).into_iter().flatten();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            names
        };
        assert_eq!(left("keys"), ["aes", "chacha", "json", "meanwhile"], "{fault}");
        if command == "adopt" {
            assert!(left("keys.plain").iter().all(|name| !name.starts_with('.')), "{fault}");
            assert!(left("keys.plain").len() >= 3, "{fault}");
            assert!(!root.join("keys.seal.adopting").exists(), "{fault}");
        }
        fs::remove_dir_all(&root).unwrap();
    }
}

const ORIGINAL_NAMES: [&str; 3] = ["aes", "chacha", "json"];

/// The stored form of a key, as the original writes it.
fn original(key: &str) -> String {
    let secret = key.bytes().cycle().take(32).collect::<Vec<u8>>();
    let text = kes::text::encode::base64(&secret);
    format!("{{\"bytes\":\"{text}\"}}")
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
