//! Sealing as an administrator does it: `kes seal` beside running servers, damaged files, and each way to unlock.

mod support;

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use serde_json::Value;
use support::{Dir, PATIENCE, Server, request};

/// A cheap passphrase: what it costs is tested elsewhere.
const CHEAP: [&str; 2] = ["--kdf-memory=64", "--kdf-passes=1"];

/// Writes `config.yml`, with `seal` as the value of `keystore.fs.seal`, and the identities that it names.
fn configure(dir: &Dir, app: &str, seal: &str) {
    dir.write(
        "config.yml",
        &format!(
            "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\ntls: {{ key: server.key, cert: server.crt }}\n\
             cache: {{ expiry: {{ any: 1ns, unused: 1ns }} }}\n\
             policy:\n  app:\n    allow: ['/v1/*']\n    identities: [{app}]\n\
             keystore: {{ fs: {{ path: ./keys, seal: {seal} }} }}\n"
        ),
    );
}

fn new_dir(seal: &str) -> (Dir, String) {
    let dir = Dir::new();
    dir.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
    let app = dir.identity("app", &[]);
    configure(&dir, &app, seal);
    (dir, app)
}

/// The key files of the original server that are keys.
fn fill_as_original(dir: &Dir) -> Vec<(String, String)> {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/keys.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    fs::create_dir(dir.join("keys")).unwrap();
    let mut keys = Vec::new();
    for key in vectors["keys"].as_array().unwrap() {
        let (name, stored) = (key["name"].as_str().unwrap(), key["stored"].as_str().unwrap());
        if kes::keyring::codec::decode(stored.as_bytes()).is_ok() {
            dir.write(&format!("keys/{name}"), stored);
            keys.push((name.to_owned(), stored.to_owned()));
        }
    }
    assert!(keys.len() >= 10, "{keys:?}");
    keys
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a command that must succeed.
fn good(dir: &Dir, args: &[&str]) -> String {
    let output = dir.kes(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and gives what it says.
fn bad(dir: &Dir, args: &[&str]) -> String {
    let output = dir.kes(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
    text(&output)
}

fn json(dir: &Dir, args: &[&str]) -> Value {
    serde_json::from_str(&good(dir, args)).unwrap()
}

fn generate(server: &Server, name: &str) -> (String, String) {
    let (status, body) = server.call("PUT", &format!("/v1/key/generate/{name}"), "{}");
    assert_eq!(status, 200, "{name}: {body}");
    let reply: Value = serde_json::from_str(&body).unwrap();
    (reply["plaintext"].as_str().unwrap().to_owned(), reply["ciphertext"].as_str().unwrap().to_owned())
}

fn assert_decrypts(server: &Server, name: &str, (plaintext, ciphertext): &(String, String)) {
    let body = format!("{{\"ciphertext\":\"{ciphertext}\"}}");
    let (status, body) = server.call("PUT", &format!("/v1/key/decrypt/{name}"), &body);
    assert_eq!(status, 200, "{name}: {body}");
    let reply: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(reply["plaintext"].as_str(), Some(plaintext.as_str()), "{name}");
}

#[test]
fn a_store_of_the_original_is_served_adopted_verified_served_sealed_and_exported_as_it_was() {
    let (dir, app) = new_dir("on");
    let keys = fill_as_original(&dir);
    let before: Value = json(&dir, &["seal", "status", "--json"]);
    assert_eq!((&before["state"], &before["plain"]), (&"plain".into(), &keys.len().into()));
    let server = Server::start_in(dir, app, &[]);
    assert!(server.output().contains("kes seal adopt"), "{}", server.output());
    let data: Vec<_> = keys.iter().map(|(name, _)| (name, generate(&server, name))).collect();
    for (name, stored) in &keys {
        assert_eq!(
            &fs::read_to_string(server.dir.join("keys").join(name)).unwrap(),
            stored,
            "served as it is"
        );
    }

    let dry = json(&server.dir, &["seal", "adopt", "--dry-run", "--json"]);
    assert_eq!((&dry["sealed"], &dry["dry_run"]), (&keys.len().into(), &true.into()));
    assert!(!server.dir.join("keys.seal").exists() && !server.dir.join("keys.plain").exists());
    // The server is not told, and makes keys meanwhile.
    let done = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut client = server.connect("app", "http/1.1");
            let mut made = 0;
            while made == 0 || !done.load(Ordering::Relaxed) {
                client.send(request("PUT", &format!("/v1/key/create/made{made}"), ""));
                assert_eq!(client.read_reply().status, 200);
                made += 1;
            }
            made
        });
        let output = server.dir.kes(&["seal", "adopt"]);
        done.store(true, Ordering::Relaxed);
        assert!(output.status.success(), "{}", text(&output));
        worker.join().unwrap()
    });
    data.iter().for_each(|(name, data)| assert_decrypts(&server, name, data));
    assert_eq!(server.call("PUT", "/v1/key/create/made-later", "").0, 200);
    let status = json(&server.dir, &["seal", "status", "--json"]);
    assert_eq!(
        (&status["state"], &status["plain"], &status["sealed"]),
        (&"sealed".into(), &0.into(), &(keys.len() + made + 1).into())
    );
    assert!(good(&server.dir, &["seal", "verify"]).contains("keys opened, 0 did not"));
    for (name, stored) in &keys {
        assert!(fs::read(server.dir.join("keys").join(name)).unwrap().starts_with(b"kes-sealed v1 "));
        assert_eq!(
            &fs::read_to_string(server.dir.join("keys.plain").join(name)).unwrap(),
            stored,
            "the backup"
        );
    }
    let mode = |name: &str| fs::metadata(server.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys.plain"), mode("keys.seal"), mode("keys/aes")), (0o700, 0o600, 0o600));

    let (dir, app) = server.stop();
    let server = Server::start_in(dir, app, &[]);
    data.iter().for_each(|(name, data)| assert_decrypts(&server, name, data));
    for (name, stored) in &keys {
        assert_eq!(&good(&server.dir, &["seal", "export", "--yes", name]), stored);
        let file = format!("exported-{name}");
        good(&server.dir, &["seal", "export", "-y", "-o", &file, name]);
        assert_eq!(&fs::read_to_string(server.dir.join(&file)).unwrap(), stored);
    }
    assert!(bad(&server.dir, &["seal", "export", "aes"]).contains("--yes goes on without asking"));
    assert!(bad(&server.dir, &["seal", "export", "-y", "nothing"]).contains("does not exist"));
    let again = json(&server.dir, &["seal", "adopt", "--json"]);
    assert_eq!(again["sealed"], 0, "nothing is left to do");
}

#[test]
fn every_flipped_bit_and_every_misplaced_file_is_refused_with_one_line_that_names_the_key() {
    let (dir, app) = new_dir("on");
    let mut server = Server::start_in(dir, app, &[]);
    for name in ["victim", "other", "third"] {
        assert_eq!(server.call("PUT", &format!("/v1/key/create/{name}"), "").0, 200);
    }
    let path = server.dir.join("keys/victim");
    let whole = fs::read(&path).unwrap();
    let mut client = server.connect("app", "http/1.1");
    let mut refused = 0;
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).unwrap();
        client.send(request("GET", "/v1/key/describe/victim", ""));
        assert_eq!(client.read_reply().status, 502, "bit {bit}");
        refused += 1;
    }
    server.wait_for(|server| server.errors().matches("/keys/victim'").count() >= refused, "a line for each");
    assert_eq!(server.errors().matches("/keys/victim'").count(), refused, "one line for each");
    fs::write(&path, &whole).unwrap();
    assert_eq!(server.call("GET", "/v1/key/describe/victim", "").0, 200);

    let (foreign, _) = new_dir("on");
    good(&foreign, &["seal", "init"]);
    let keys = server.dir.join("keys");
    let read = |name: &str| fs::read(keys.join(name)).unwrap();
    let (other, third) = (read("other"), read("third"));
    // As if it were of another store: under the root key of that one.
    let id = |dir: &Dir| {
        let status = json(dir, &["seal", "status", "--json"]);
        status["root_keys"][0]["id"].as_str().unwrap().to_owned()
    };
    let stranger =
        String::from_utf8(other.clone()).unwrap().replacen(&id(&server.dir), &id(&foreign), 1).into_bytes();
    assert_ne!(stranger, other);
    for (name, content) in [
        ("other", third.clone()),
        ("third", other.clone()),
        ("renamed", other.clone()),
        ("other", stranger),
        (
            "planted",
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/seal/keys/plain")).unwrap(),
        ),
    ] {
        let before = server.errors().matches(&format!("/keys/{name}'")).count();
        fs::write(keys.join(name), &content).unwrap();
        assert_eq!(server.call("GET", &format!("/v1/key/describe/{name}"), "").0, 502, "{name}");
        let lines = |server: &Server| server.errors().matches(&format!("/keys/{name}'")).count();
        server.wait_for(|server| lines(server) > before, "the line");
        assert_eq!(lines(&server), before + 1, "{name}");
    }
    let verify = server.dir.kes(&["seal", "verify", "--json"]);
    assert_eq!(verify.status.code(), Some(1));
    let verify: Value = serde_json::from_slice(&verify.stdout).unwrap();
    let mut names: Vec<_> =
        verify["failed"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!((names, &verify["good"]), (vec!["other", "planted", "renamed", "third"], &1.into()));
    assert!(bad(&server.dir, &["seal", "adopt"]).contains("cannot be used"));
}

#[test]
fn root_keys_are_rotated_and_forgotten_while_a_server_makes_reads_and_deletes_keys() {
    let (dir, app) = new_dir("on");
    let server = Server::start_in(dir, app, &[]);
    for i in 0..40 {
        assert_eq!(server.call("PUT", &format!("/v1/key/create/key{i}"), "").0, 200);
    }
    let data = generate(&server, "key0");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut client = server.connect("app", "http/1.1");
            let mut call = |method: &str, path: String| {
                client.send(request(method, &path, ""));
                let answer = client.read_reply();
                assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
            };
            let mut made = 0;
            while !done.load(Ordering::Relaxed) {
                call("PUT", format!("/v1/key/create/new{made}"));
                call("GET", format!("/v1/key/describe/key{}", made % 40));
                call("GET", format!("/v1/key/describe/new{made}"));
                call("DELETE", format!("/v1/key/delete/new{made}"));
                call("PUT", format!("/v1/key/create/kept{made}"));
                made += 1;
            }
            made
        });
        for _ in 0..3 {
            let rotated = json(&server.dir, &["seal", "rotate", "--json"]);
            assert!(rotated["sealed"].as_u64() >= Some(40), "{rotated}");
            let status = json(&server.dir, &["seal", "status", "--json"]);
            let retired: Vec<_> = status["root_keys"].as_array().unwrap().iter().skip(1).collect();
            for key in retired {
                assert_eq!(key["keys"], 0, "{status}");
                good(&server.dir, &["seal", "forget", "--yes", key["id"].as_str().unwrap()]);
            }
        }
        done.store(true, Ordering::Relaxed);
        let made = worker.join().unwrap();
        let names = fs::read_dir(server.dir.join("keys")).unwrap().count();
        assert_eq!(names, 40 + made, "a deleted key stays deleted, and nothing else is left");
    });
    assert_decrypts(&server, "key0", &data);
    let status = json(&server.dir, &["seal", "status", "--json"]);
    assert_eq!(status["root_keys"].as_array().unwrap().len(), 1, "{status}");
    assert!(good(&server.dir, &["seal", "verify"]).ends_with(" 0 did not\n"));

    // Not without being asked, not the active one, not one that is needed.
    let active = status["root_keys"][0]["id"].as_str().unwrap().to_owned();
    assert!(bad(&server.dir, &["seal", "forget", &active]).contains("--yes"));
    assert!(bad(&server.dir, &["seal", "forget", "-y", &active]).contains("is the active one"));
    let old = fs::read(server.dir.join("keys/key1")).unwrap();
    good(&server.dir, &["seal", "rotate"]);
    fs::write(server.dir.join("keys/key1"), old).unwrap();
    assert!(bad(&server.dir, &["seal", "forget", "-y", &active]).contains("is needed by 1 key files"));
    let dry = json(&server.dir, &["seal", "rotate", "--dry-run", "--json"]);
    assert_eq!((&dry["sealed"], &dry["new_root_key"]), (&1.into(), &false.into()), "only what came back");
    let rotated = json(&server.dir, &["seal", "rotate", "--json"]);
    assert_eq!((&rotated["sealed"], &rotated["new_root_key"]), (&1.into(), &false.into()));
    good(&server.dir, &["seal", "forget", "-y", &active]);
}

#[test]
fn a_server_that_had_nothing_to_do_follows_a_rotation_whose_old_root_key_is_forgotten() {
    let (dir, app) = new_dir("on");
    let server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/one", "").0, 200);
    let status = json(&server.dir, &["seal", "status", "--json"]);
    let old = status["root_keys"][0]["id"].as_str().unwrap();
    for _ in 0..2 {
        good(&server.dir, &["seal", "rotate"]);
    }
    let status = json(&server.dir, &["seal", "status", "--json"]);
    for key in status["root_keys"].as_array().unwrap().iter().skip(1) {
        good(&server.dir, &["seal", "forget", "--yes", key["id"].as_str().unwrap()]);
    }
    assert_ne!(status["root_keys"][0]["id"], old);
    for (method, path) in [("GET", "describe/one"), ("PUT", "create/two"), ("GET", "describe/two")] {
        let (status, body) = server.call(method, &format!("/v1/key/{path}"), "");
        assert_eq!(status, 200, "{path}: {body} {}", server.errors());
    }
}

#[test]
fn no_root_key_is_forgotten_while_there_are_no_keys_to_ask() {
    let (dir, _) = new_dir("on");
    good(&dir, &["seal", "init"]);
    let old = json(&dir, &["seal", "status", "--json"])["root_keys"][0]["id"].as_str().unwrap().to_owned();
    good(&dir, &["seal", "rotate"]);
    let refusal = bad(&dir, &["seal", "forget", "--yes", &old]);
    assert!(refusal.contains("is it mounted?"), "{refusal}");
}

/// Where the tests run as root.
#[test]
fn root_adopts_as_the_owner_of_the_store_who_cannot_lead_it_elsewhere() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
    let (dir, _) = new_dir("on");
    let keys = fill_as_original(&dir);
    let is_open = |path: &Path| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    if chown(dir.path(), Some(12345), Some(12345)).is_err() || !dir.path().ancestors().skip(1).all(is_open) {
        return println!("not checked: only root becomes somebody else, who must come to the place");
    }
    // Keys of root that the owner leads to by a link.
    fs::rename(dir.join("keys"), dir.join("roots")).unwrap();
    fs::set_permissions(dir.join("roots"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("roots", dir.join("keys")).unwrap();
    lchown(dir.join("keys"), Some(12345), Some(12345)).unwrap();
    bad(&dir, &["seal", "adopt"]);
    for (name, stored) in &keys {
        assert_eq!(fs::read_to_string(dir.join("roots").join(name)).unwrap(), *stored);
    }
    // His own.
    fs::remove_file(dir.join("keys")).unwrap();
    fs::rename(dir.join("roots"), dir.join("keys")).unwrap();
    for entry in fs::read_dir(dir.join("keys")).unwrap() {
        chown(entry.unwrap().path(), Some(12345), Some(12345)).unwrap();
    }
    chown(dir.join("keys"), Some(12345), Some(12345)).unwrap();
    for left in ["keys.plain", "keys.seal.adopting"] {
        let _ = fs::remove_dir_all(dir.join(left));
        let _ = fs::remove_file(dir.join(left));
    }
    good(&dir, &["seal", "adopt"]);
    for made in ["keys.seal", "keys.plain", &format!("keys/{}", keys[0].0)] {
        assert_eq!(fs::symlink_metadata(dir.join(made)).unwrap().uid(), 12345, "{made}");
    }
    assert_eq!(json(&dir, &["seal", "verify", "--json"])["bad"], 0);
}

/// Where the tests run as root.
#[test]
fn root_adopts_as_the_owner_of_the_store_also_in_a_directory_of_root_that_is_everybodys() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let (dir, _) = new_dir("on");
    let keys = fill_as_original(&dir);
    let is_open = |path: &Path| fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o001 != 0);
    if chown(dir.join("keys"), Some(12345), Some(12345)).is_err() || !dir.path().ancestors().all(is_open) {
        return println!("not checked: only root becomes somebody else, who must come to the place");
    }
    keys.iter().for_each(|(key, _)| chown(dir.join("keys").join(key), Some(12345), Some(12345)).unwrap());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    good(&dir, &["seal", "adopt"]);
    for made in ["keys.seal", "keys.plain"] {
        assert_eq!(fs::symlink_metadata(dir.join(made)).unwrap().uid(), 12345, "{made}");
    }
}

#[test]
fn an_older_or_foreign_seal_file_is_refused_at_a_reload_and_by_new_keys() {
    let (dir, app) = new_dir("on");
    let mut server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let seal = server.dir.join("keys.seal");
    let older = fs::read(&seal).unwrap();
    good(&server.dir, &["seal", "rotate"]);
    assert_eq!(server.call("GET", "/v1/key/describe/a", "").0, 200);
    let newer = fs::read(&seal).unwrap();
    fs::write(&seal, older).unwrap();
    assert_eq!(server.call("PUT", "/v1/key/create/b", "").0, 502);
    server.wait_for(|server| server.errors().contains("it is an older file"), "the line");
    assert_eq!(server.call("GET", "/v1/key/describe/a", "").0, 200, "what is known stays in use");
    server.signal("HUP");
    server.wait_for(|server| server.errors().contains("Failed to reload server config"), "the refusal");
    fs::write(&seal, newer).unwrap();
    assert_eq!(server.call("PUT", "/v1/key/create/b", "").0, 200);
    let (dir, app) = server.stop();
    let server = Server::start_in(dir, app, &[]);
    for name in ["a", "b"] {
        assert_eq!(server.call("GET", &format!("/v1/key/describe/{name}"), "").0, 200);
    }
}

#[test]
fn seal_files_and_backups_of_doubtful_owners_links_and_second_commands_are_refused() {
    let (dir, _) = new_dir("on");
    good(&dir, &["seal", "init"]);
    assert!(bad(&dir, &["seal", "init"]).contains("there is a seal file already"));
    // Held as another command holds it.
    let held = fs::File::open(dir.join("keys.seal")).unwrap();
    assert!(kes::sys::swap::try_lock(&held).unwrap());
    assert!(bad(&dir, &["seal", "rotate"]).contains("in use by another 'kes seal' command"));
    drop(held);
    good(&dir, &["seal", "rotate"]);
    let root =
        fs::metadata("/proc/self").map(|data| std::os::unix::fs::MetadataExt::uid(&data)).unwrap() == 0;
    if root {
        std::os::unix::fs::chown(dir.join("keys.seal"), Some(12345), None).unwrap();
        assert!(bad(&dir, &["seal", "status"]).contains("belongs to the user 12345"));
        // A service's directory: root works on it for the service, and what it replaces stays the service's.
        std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
        good(&dir, &["seal", "rotate"]);
        let owner = fs::metadata(dir.join("keys.seal"))
            .map(|data| std::os::unix::fs::MetadataExt::uid(&data))
            .unwrap();
        assert_eq!(owner, 12345);
        std::os::unix::fs::chown(dir.path(), Some(0), None).unwrap();
    } else {
        println!("owners are not checked: not root");
    }
    fs::remove_file(dir.join("keys.seal")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("keys.seal")).unwrap();
    assert!(bad(&dir, &["seal", "status"]).contains("is a link to a file that is not there"));
    assert!(
        bad(&dir, &["server", "--config", "config.yml"]).contains("is a link to a file that is not there")
    );
    assert!(!dir.join("nowhere").exists());

    let (dir, _) = new_dir("on");
    fill_as_original(&dir);
    fs::create_dir(dir.join("real")).unwrap();
    fs::set_permissions(dir.join("real"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
    for (backup, why) in
        [("link", "is a link"), ("keys/inside", "lies in the key directory"), ("config.yml", "no directory")]
    {
        let said = bad(&dir, &["seal", "adopt", "--backup", backup]);
        assert!(said.contains(why), "{backup}: {said}");
    }
    fs::remove_dir(dir.join("keys/inside")).unwrap();
    fs::set_permissions(dir.join("real"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(bad(&dir, &["seal", "adopt", "--backup", "real"]).contains("chmod 700"));
    fs::set_permissions(dir.join("real"), fs::Permissions::from_mode(0o700)).unwrap();
    // Something else of that name is in the backup already; nothing is overwritten, and the store is still plain.
    dir.write("real/aes", "another");
    assert!(bad(&dir, &["seal", "adopt", "--backup", "real"]).contains("is there already"));
    assert_eq!(fs::read_to_string(dir.join("real/aes")).unwrap(), "another");
    // A link among the keys, and a file that is no key.
    std::os::unix::fs::symlink("../config.yml", dir.join("keys/linked")).unwrap();
    let said = bad(&dir, &["seal", "adopt", "--no-backup"]);
    assert!(said.contains("key 'linked' is a link"), "{said}");
    fs::remove_file(dir.join("keys/linked")).unwrap();
    dir.write("keys/README", "not a key");
    let said = bad(&dir, &["seal", "adopt", "--no-backup"]);
    assert!(said.contains("key 'README' is no key") && said.contains("nothing was sealed"), "{said}");
    fs::remove_file(dir.join("keys/README")).unwrap();
    // What a killed copy left goes; what else is there stays.
    fs::remove_file(dir.join("real/aes")).unwrap();
    dir.write("real/.aes.0011223344556677.tmp", "plain");
    dir.write("real/.mine.tmp", "mine");
    good(&dir, &["seal", "adopt", "--backup", "real"]);
    assert!(!dir.join("real/.aes.0011223344556677.tmp").exists() && dir.join("real/.mine.tmp").exists());
    assert!(dir.join("real/aes").exists());
}

/// How long something takes.
fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

#[test]
fn a_passphrase_in_a_file_starts_the_server_and_a_wrong_one_costs_as_much_and_says_so_in_one_line() {
    let secret = "correct horse battery staple";
    let (dir, app) = new_dir("{ unlock: { passphrase: { file: pass } } }");
    dir.write("pass", &format!("{secret}\n"));
    good(&dir, &["seal", "init"]);
    let seal = fs::read_to_string(dir.join("keys.seal")).unwrap();
    assert!(seal.contains("\nunlock passphrase argon2id v=19 m=65536 t=3 p=1 salt="), "{seal}");
    let right = seconds(|| drop(good(&dir, &["seal", "status"])));
    let server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let shown = format!("{}{}", server.output(), server.errors());
    assert!(shown.contains("unlock passphrase from '") && !shown.contains(secret), "{shown}");
    let command_line = fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains("horse"));
    let (dir, _) = server.stop();

    dir.write("pass", "wrong\n");
    let mut said = String::new();
    let wrong = seconds(|| said = bad(&dir, &["server", "--config", "config.yml"]));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.ends_with("keys.seal': does not open with this secret\n"), "{said}");
    // A loaded machine may take any time, but 192 MiB of memory cannot be filled in no time at all.
    assert!(wrong > 0.02 && right > 0.02, "{wrong} {right}");
    dir.write("pass", "\n");
    assert!(bad(&dir, &["seal", "status"]).contains("the passphrase is empty"));
    fs::remove_file(dir.join("pass")).unwrap();
    assert!(bad(&dir, &["seal", "status"]).contains("cannot read '"));
}

#[test]
fn a_rotation_needs_no_passphrase_from_the_running_server_and_a_reload_none_either() {
    let (dir, app) = new_dir("{ unlock: { passphrase: { file: pass } } }");
    dir.write("pass", "a passphrase");
    good(&dir, &["seal", "init", CHEAP[0], CHEAP[1]]);
    let mut server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    good(&server.dir, &["seal", "rotate"]);
    fs::rename(server.dir.join("pass"), server.dir.join("away")).unwrap();
    assert_eq!(server.call("GET", "/v1/key/describe/a", "").0, 200);
    let before = server.output().matches("SIGHUP signal completed").count();
    server.signal("HUP");
    server
        .wait_for(|server| server.output().matches("SIGHUP signal completed").count() > before, "the reload");
    assert_eq!(server.call("GET", "/v1/key/describe/a", "").0, 200);
}

#[test]
fn a_passphrase_in_the_environment_a_credential_and_a_command_start_the_server_unattended() {
    let ways = [
        ("{ passphrase: { env: KES_TEST_SEAL } }", "passphrase from the environment variable KES_TEST_SEAL"),
        ("{ credential: kes-seal }", "credential 'kes-seal'"),
        ("{ command: [/bin/sh, unlock.sh, word] }", "command '/bin/sh'"),
    ];
    let (dir, app) = new_dir("on");
    fs::create_dir(dir.join("credentials")).unwrap();
    dir.write("credentials/kes-seal", "0123456789abcdef0123456789abcdef");
    // It writes down what it was given, so that this test can look.
    dir.write(
        "unlock.sh",
        "env >seen.env; echo \"$*\" >seen.args; cat >seen.in; printf %s 'fedcba9876543210fedcba9876543210'\n",
    );
    let command = |dir: &Dir, args: &[&str]| {
        let mut command = dir.command(args);
        command.env("KES_TEST_SEAL", "pass from the environment");
        command.env("CREDENTIALS_DIRECTORY", dir.join("credentials"));
        command
    };
    let mut dir = dir;
    good(&dir, &["seal", "init"]);
    for (way, shown) in ways {
        let output = command(&dir, &["seal", "rewrap", CHEAP[0], CHEAP[1], "--to", way]).output().unwrap();
        assert!(output.status.success(), "{way}: {}", text(&output));
        let stale = bad(&dir, &["seal", "status"]);
        assert!(stale.contains("keystore.fs.seal.unlock"), "the configuration says another method: {stale}");
        configure(&dir, &app, &format!("{{ unlock: {way} }}"));
        let server_command = command(&dir, &["server", "--config", "config.yml"]);
        let server = Server::run(dir, app.clone(), server_command);
        let status = server.call("PUT", "/v1/key/create/a", "").0;
        assert!(status == 200 || status == 400, "{status}");
        assert_eq!(server.call("GET", "/v1/key/describe/a", "").0, 200);
        assert!(server.output().contains(shown), "{}", server.output());
        (dir, _) = server.stop();
        let unlocked = command(&dir, &["seal", "verify"]).output().unwrap();
        assert!(unlocked.status.success(), "{}", text(&unlocked));
        // Back to none for the next one.
        let output = command(&dir, &["seal", "rewrap", "--to", "none"]).output().unwrap();
        assert!(output.status.success(), "{way}: {}", text(&output));
        configure(&dir, &app, "on");
    }
    let environment = fs::read_to_string(dir.join("seen.env")).unwrap();
    let names: Vec<_> = environment.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert!(names.iter().all(|name| ["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(name)), "{environment}");
    assert_eq!(fs::read_to_string(dir.join("seen.args")).unwrap(), "word\n");
    assert_eq!(fs::read_to_string(dir.join("seen.in")).unwrap(), "");
}

#[test]
fn a_secret_that_cannot_be_had_again_never_locks_a_seal_file() {
    let (dir, app) = new_dir("on");
    good(&dir, &["seal", "init"]);
    let before = fs::read(dir.join("keys.seal")).unwrap();
    for (to, why) in [
        ("{ command: [/bin/sh, -c, 'od -An -N32 -tx1 /dev/urandom'] }", "was not the same twice"),
        ("{ command: [/bin/sh, -c, 'exit 3'] }", "exit status: 3"),
        ("{ command: [/bin/sh, -c, 'sleep 1000'], timeout: 100ms }", "it takes too long"),
        ("{ command: [/bin/sh, -c, 'echo short'] }", "less than 16 bytes"),
        ("{ command: [relative] }", "absolute path"),
        ("{ credential: nothing }", "CREDENTIALS_DIRECTORY is not set"),
        ("{ passphrase: { env: KES_TEST_NO_SUCH } }", "KES_TEST_NO_SUCH is not set"),
        ("{ passphrase: { file: nowhere } }", "No such file"),
        ("secret", "must be none, or a mapping"),
    ] {
        let said = bad(&dir, &["seal", "rewrap", "--to", to]);
        assert!(said.contains(why), "{to}: {said}");
        assert_eq!(fs::read(dir.join("keys.seal")).unwrap(), before, "{to}");
    }
    // A command of the configuration that fails or hangs stops the start with one line.
    configure(&dir, &app, "{ unlock: { command: [/bin/sh, -c, 'sleep 1000'], timeout: 100ms } }");
    fs::remove_file(dir.join("keys.seal")).unwrap();
    let said = bad(&dir, &["server", "--config", "config.yml"]);
    assert!(said.lines().count() == 1 && said.contains("it takes too long"), "{said}");
    assert!(!dir.join("keys.seal").exists());
}

/// Runs a command on a terminal of its own and types `keys` after each prompt.
fn on_terminal(dir: &Dir, args: &str, keys: &[&str]) -> (Option<i32>, String) {
    let program = support::program();
    let command = format!("{} {args}", program.display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(dir.path())
        .env_remove("KES_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux");
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut shown = String::new();
    let mut byte = [0; 256];
    let mut keys = keys.iter();
    let mut prompts = 0;
    let start = Instant::now();
    loop {
        let n = output.read(&mut byte).unwrap();
        if n == 0 {
            break;
        }
        shown.push_str(&String::from_utf8_lossy(&byte[..n]));
        // Nothing else that the program prints looks like one of these.
        let asked = |prompt| shown.matches(prompt).count();
        while asked("the seal file: ") + asked("passphrase again: ") + asked("[y/N] ") > prompts {
            prompts += 1;
            // Ctrl-C where nothing more was expected, so that no test waits for ever.
            let typed = keys.next().unwrap_or(&"\x03");
            let _ = input.write_all(typed.as_bytes()).and_then(|()| input.flush());
        }
        assert!(start.elapsed() < PATIENCE * 5, "{shown}");
    }
    let status = child.wait().unwrap();
    drop(input);
    (status.code(), shown)
}

#[test]
fn a_passphrase_is_typed_at_the_terminal_and_ctrl_c_ends_with_130() {
    let (dir, _) = new_dir("{ unlock: { passphrase: terminal } }");
    let init = format!("seal init {} {}", CHEAP[0], CHEAP[1]);
    let (code, shown) = on_terminal(&dir, &init, &["one passphrase\r", "another\r"]);
    assert!(code == Some(1) && shown.contains("was not the same twice"), "{code:?} {shown}");
    assert!(!dir.join("keys.seal").exists());
    let (code, shown) = on_terminal(&dir, &init, &["one passphrase\r", "one passphrase\r"]);
    assert!(code == Some(0) && !shown.contains("one passphrase"), "{code:?} {shown}");
    let (code, shown) = on_terminal(&dir, "seal verify", &["one passphrase\r"]);
    assert!(code == Some(0) && shown.contains("0 keys opened"), "{code:?} {shown}");
    let (code, shown) = on_terminal(&dir, "seal verify", &["wrong\r"]);
    assert!(code == Some(1) && shown.contains("does not open with this secret"), "{code:?} {shown}");
    let (code, shown) = on_terminal(&dir, "seal verify", &["one\x03"]);
    assert_eq!(code, Some(130), "{shown}");
    let (code, shown) = on_terminal(&dir, "seal rotate", &["\x03"]);
    assert_eq!(code, Some(130), "{shown}");
}

/// On a small file system of its own, which only root can mount.
#[test]
fn a_full_or_read_only_disk_in_the_middle_of_adopt_and_rotate_loses_nothing() {
    let (dir, _) = new_dir("on");
    let keys = fill_as_original(&dir);
    let one = &keys[0].1;
    let script = r#"
        set -eu
        mount -t tmpfs -o size=1200k,mode=700 none "$1/disk" || exit 77
        cp config.yml disk; cp -r keys disk; cd disk
        i=0; while [ $i -lt 100 ]; do printf %s "$3" >keys/more$i; i=$((i + 1)); done
        list() { (cd "$1" && for f in *; do printf '%s ' "$f"; cat "$f" | cksum; done); }
        before=$(list keys)
        # Space for the seal file and a few keys: one page each.
        dd if=/dev/zero of=filler bs=4k count=1000 2>/dev/null || true
        dd if=/dev/zero of=filler bs=4k count=$(($(stat -c %s filler) / 4096 - 20)) 2>/dev/null
        if "$2" seal adopt --no-backup 2>../err; then echo "adopt on a full disk succeeded"; exit 1; fi
        grep -q 'No space left' ../err || { cat ../err; exit 1; }
        [ ! -e keys.seal ] && [ -e keys.seal.adopting ]
        "$2" seal verify
        rm filler
        "$2" seal adopt --no-backup
        "$2" seal verify
        for f in keys/*; do "$2" seal export -y -o "plain.$(basename $f)" "$(basename $f)"; done
        mkdir out; for f in plain.*; do mv "$f" "out/${f#plain.}"; done
        [ "$(list out)" = "$before" ] || { echo "other values after adopt"; exit 1; }
        rm -r out
        dd if=/dev/zero of=filler bs=4k count=1000 2>/dev/null || true
        dd if=/dev/zero of=filler bs=4k count=$(($(stat -c %s filler) / 4096 - 20)) 2>/dev/null
        if "$2" seal rotate 2>../err; then echo "rotate on a full disk succeeded"; exit 1; fi
        grep -q 'No space left' ../err || { cat ../err; exit 1; }
        "$2" seal verify
        rm filler
        "$2" seal rotate | grep -q 'Took up an earlier rotation'
        "$2" seal verify
        # Read-only between two commands, and from under a rotation.
        mount -o remount,ro .
        if "$2" seal rotate 2>../err; then exit 1; fi
        grep -q 'Read-only' ../err || { cat ../err; exit 1; }
        "$2" seal verify
        mount -o remount,rw .
        "$2" seal rotate & pid=$!
        mount -o remount,ro . || true
        wait $pid || true
        "$2" seal verify
        mount -o remount,rw .
        "$2" seal rotate
        "$2" seal verify
        echo "the disk was full and read-only"
    "#;
    fs::create_dir(dir.join("disk")).unwrap();
    let result = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(support::program())
        .arg(one)
        .current_dir(dir.path())
        .env_remove("KES_CONFIG")
        .stdin(Stdio::null())
        .output();
    let Ok(output) = result else { return println!("not checked: there is no unshare") };
    if output.status.code() == Some(77) || text(&output).contains("unshare") {
        return println!("not checked: no file system can be mounted here");
    }
    assert!(
        output.status.success() && text(&output).contains("the disk was full and read-only"),
        "{}",
        text(&output)
    );
}
