//! The sealed store as other programs see it: fixed files that must open for ever, and several processes at once.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use kes::{
    config::SealConfig,
    keystore::{
        KeyStore, StoreError,
        fs::FsStore,
        upkeep::{Place, Step, rotate},
    },
    name::KeyName,
    seal::{SealFile, Sealer, Source, Unlock, file::write_plain},
    text::encode::{decode_hex, hex},
};
use ring::digest::{SHA256, digest};

const CHILD: &str = "KES_TEST_STORE";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/seal")
}

fn sealer() -> Sealer {
    let text = fs::read(vectors().join("none.seal")).unwrap();
    Sealer::new(SealFile::parse(&text).unwrap().into_root_keys().unwrap())
}

#[test]
fn fixed_key_files_open_and_the_others_are_refused() {
    let sealer = sealer();
    let expect = fs::read_to_string(vectors().join("expect.txt")).unwrap();
    let mut counts = HashMap::new();
    for line in expect.lines().filter(|line| !line.starts_with("secret ")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let name = KeyName::parse(fields[1]).unwrap();
        let opened = sealer.open(&name, &fs::read(vectors().join("keys").join(fields[1])).unwrap());
        match fields[0] {
            "key" => assert_eq!(hex(digest(&SHA256, &opened.unwrap()).as_ref()), fields[2], "{name}"),
            "refused" => assert!(opened.is_err(), "{name}"),
            _ => panic!("{line}"),
        }
        *counts.entry(fields[0]).or_insert(0) += 1;
    }
    assert_eq!((counts["key"], counts["refused"]), (7, 3));
}

#[test]
fn fixed_seal_files_open_with_their_secrets() {
    let plain = fs::read(vectors().join("none.seal")).unwrap();
    let expect = fs::read_to_string(vectors().join("expect.txt")).unwrap();
    let mut methods = Vec::new();
    for line in expect.lines().filter_map(|line| line.strip_prefix("secret ")) {
        let (file, secret) = line.split_once(' ').unwrap();
        let text = fs::read(vectors().join(file)).unwrap();
        let seal_file = SealFile::parse(&text).unwrap();
        methods.push(seal_file.unlock().name());
        if let Unlock::Passphrase(argon2id) = seal_file.unlock() {
            assert_eq!((argon2id.memory_kib, argon2id.passes, argon2id.lanes), (8192, 3, 2));
        }
        let keys = seal_file.open_with(&decode_hex(secret).unwrap()).unwrap();
        assert_eq!(&write_plain(&keys)[..], &plain[..], "{file}");
    }
    assert_eq!(methods, ["passphrase", "credential", "command"]);
}

#[test]
fn a_store_of_fixed_files_is_served_by_a_server() {
    let root = TestDir::new("fixed");
    fs::create_dir(root.path.join("keys")).unwrap();
    for entry in fs::read_dir(vectors().join("keys")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), root.path.join("keys").join(entry.file_name())).unwrap();
    }
    fs::copy(vectors().join("none.seal"), root.path.join("keys.seal")).unwrap();
    make_private(&root.path.join("keys.seal"));
    let store = open(&root.path).unwrap();
    assert!(store.sealing().contains("root key f602ed7ad4706e47"), "{}", store.sealing());
    let names = store.list("").unwrap();
    let good = names.iter().filter(|name| store.get(name).is_ok()).count();
    assert_eq!((names.len(), good), (10, 7));
}

/// Three processes start on an empty store and create the same 500 names.
#[test]
fn of_many_processes_exactly_one_creates_each_key() {
    if let Some(root) = env::var_os(CHILD) {
        return create_all(Path::new(&root));
    }
    let root = TestDir::new("processes");
    let child = || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "of_many_processes_exactly_one_creates_each_key", "--nocapture"]);
        command.env(CHILD, &root.path).stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let children = [child(), child(), child()];
    let mut created: HashMap<String, u32> = HashMap::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("created ")) {
            *created.entry(line.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(created.len(), 500);
    assert!(created.values().all(|&count| count == 1), "{created:?}");
    let store = open(&root.path).unwrap();
    let names = store.list("").unwrap();
    assert_eq!(names.len(), 500);
    names.iter().for_each(|name| assert_eq!(&store.get(name).unwrap()[..], name.as_str().as_bytes()));
}

#[test]
fn a_key_made_anew_while_all_are_sealed_anew_is_not_lost_and_a_deleted_one_stays_deleted() {
    let root = env::temp_dir().join(format!("kes-anew-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    let (dir, seal_file) = (root.join("keys"), root.join("keys.seal"));
    let place = Place { dir, shown: "./keys".into(), seal_file, source: Source::None };
    let on = SealConfig::On { file: place.seal_file.clone(), unlock: Source::None };
    let open = || FsStore::open(&place.dir, "./keys", &on).unwrap();
    let store = open();
    let names = ["a", "b", "c", "gone"].map(|key| KeyName::parse(key).unwrap());
    names.iter().for_each(|name| store.create(name, b"old").unwrap());

    // The successor of the first one that is looked at is written, and has not taken its place.
    let mut is_first = true;
    let change = &mut |_: Step<'_>| {
        if std::mem::take(&mut is_first) {
            for name in &names {
                store.delete(name).unwrap();
                // A file system like ext4 gives the new file the number of the old one.
                store.create(name, b"new").unwrap();
            }
            store.delete(&names[3]).unwrap();
        }
    };
    let (_, is_new, resealed) = rotate(&place, change).unwrap();
    assert!(is_new && resealed.troubles == 0);
    for store in [&store, &open()] {
        assert_eq!(store.list("").unwrap(), names[..3]);
        for name in &names[..3] {
            assert_eq!(&store.get(name).unwrap()[..], b"new", "{name}");
        }
    }
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 3, "nothing is left beside them");
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn every_key_made_while_all_are_sealed_anew_is_acknowledged_and_sealed_under_the_last_root_key() {
    let root = env::temp_dir().join(format!("kes-meanwhile-{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    let (dir, seal_file) = (root.join("keys"), root.join("keys.seal"));
    let place = Place { dir, shown: "./keys".into(), seal_file, source: Source::None };
    let on = SealConfig::On { file: place.seal_file.clone(), unlock: Source::None };
    let store = FsStore::open(&place.dir, "./keys", &on).unwrap();
    store.create(&KeyName::parse("first").unwrap(), b"value").unwrap();
    let make = &|maker: usize| {
        for n in 0..300 {
            store.create(&KeyName::parse(&format!("k{maker}-{n}")).unwrap(), b"value").unwrap();
        }
    };
    std::thread::scope(|scope| {
        let makers = [0, 1, 2, 3].map(|maker| scope.spawn(move || make(maker)));
        while !makers.iter().all(|maker| maker.is_finished()) {
            assert_eq!(rotate(&place, &mut |_| {}).unwrap().2.troubles, 0);
        }
    });
    // One more finds nothing under an older root key.
    let active = rotate(&place, &mut |_| {}).unwrap().0.to_string();
    let store = FsStore::open(&place.dir, "./keys", &on).unwrap();
    let names = store.list("").unwrap();
    assert_eq!(names.len(), 4 * 300 + 1);
    for name in names {
        assert_eq!(&store.get(&name).unwrap()[..], b"value", "{name}");
        assert!(fs::read_to_string(place.dir.join(name.as_str())).unwrap().contains(&active), "{name}");
    }
    fs::remove_dir_all(&root).unwrap();
}

/// On a small file system of its own, which only root can mount.
#[test]
fn a_full_or_read_only_disk_loses_nothing_that_was_acknowledged() {
    if let Some(root) = env::var_os(CHILD) {
        return fill_disk(Path::new(&root));
    }
    let root = TestDir::new("full");
    let script = "mount -t tmpfs -o size=256k none \"$1\" || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let result = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&root.path)
        .arg(env::current_exe().unwrap())
        .arg("a_full_or_read_only_disk_loses_nothing_that_was_acknowledged")
        .env(CHILD, &root.path)
        .output();
    let Ok(output) = result else { return println!("not checked: there is no unshare") };
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("the disk is") {
        return println!("not checked: no file system can be mounted here");
    }
    assert!(output.status.success() && text.contains("the disk is read-only"), "{output:?}");
}

fn fill_disk(root: &Path) {
    println!("the disk is small");
    let store = open(root).unwrap();
    let name = |i: usize| KeyName::parse(&format!("key{i}")).unwrap();
    let value = |i: usize| vec![i as u8; 3000];
    let mut created = 0;
    let cause = loop {
        match store.create(&name(created), &value(created)) {
            Ok(()) => created += 1,
            Err(error) => break error,
        }
    };
    let path = root.join("keys").join(name(created).as_str()).display().to_string();
    assert!(
        matches!(&cause, StoreError::Failed(text) if text.contains(&path) && text.contains("space")),
        "{cause}"
    );
    let check = |store: &FsStore| {
        assert_eq!(store.list("").unwrap().len(), created);
        (0..created).for_each(|i| assert_eq!(&store.get(&name(i)).unwrap()[..], value(i)));
    };
    assert!(created > 5);
    check(&store);

    let remount = Command::new("mount").args(["-o", "remount,ro"]).arg(root).status().unwrap();
    assert!(remount.success());
    let errors = [store.create(&name(created), b"x").unwrap_err(), store.delete(&name(0)).unwrap_err()];
    for cause in errors {
        assert!(matches!(&cause, StoreError::Failed(text) if text.contains("Read-only")), "{cause}");
    }
    check(&store);
    assert!(open(root).unwrap_err().contains("not writable"));
    println!("the disk is read-only");
}

fn create_all(root: &Path) {
    let store = open(root).unwrap();
    println!();
    for i in 0..500 {
        let name = format!("key{i:03}");
        match store.create(&KeyName::parse(&name).unwrap(), name.as_bytes()) {
            Ok(()) => println!("created {name}"),
            Err(error) => assert_eq!(error, StoreError::KeyExists),
        }
    }
}

fn open(root: &Path) -> Result<FsStore, String> {
    FsStore::open(
        &root.join("keys"),
        "./keys",
        &SealConfig::On { file: root.join("keys.seal"), unlock: Source::None },
    )
}

fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

struct TestDir {
    path: PathBuf,
}

impl TestDir {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("kes-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
