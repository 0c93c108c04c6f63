//! `kes migrate`, as a user or a script runs it, between stores that the original wrote and sealed ones.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{Dir, PATIENCE, Server};

/// The keys that the original wrote: name, content of its file, whether it can be used.
fn original_keys() -> Vec<(String, Vec<u8>, bool)> {
    let document: Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let keys = document["keys"].as_array().unwrap().iter();
    let key = |key: &Value| {
        let text = |member: &str| key[member].as_str().unwrap().to_owned();
        (text("name"), text("stored").into_bytes(), key["parsed"].is_object())
    };
    keys.map(key).collect()
}

/// Configurations `plain.yml`, `sealed.yml` and `back.yml`, and the good keys of the original in `./plain`.
fn stores() -> (Dir, BTreeMap<String, Vec<u8>>) {
    let dir = Dir::new();
    for (name, fs) in [
        ("plain", "{ path: ./plain, seal: off }"),
        ("sealed", "{ path: ./sealed }"),
        ("back", "{ path: ./back, seal: off }"),
    ] {
        dir.write(&format!("{name}.yml"), &config(fs));
    }
    fs::create_dir(dir.join("plain")).unwrap();
    let good: BTreeMap<_, _> =
        original_keys().into_iter().filter(|key| key.2).map(|(name, stored, _)| (name, stored)).collect();
    assert!(good.len() >= 5);
    good.iter().for_each(|(name, stored)| fs::write(dir.join("plain").join(name), stored).unwrap());
    (dir, good)
}

fn config(fs: &str) -> String {
    format!(
        "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\ntls: {{ key: no.key, cert: no.crt }}\n\
         keystore: {{ fs: {fs} }}\n"
    )
}

/// Name and content of each file in a directory.
fn files(dir: &Dir, name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir.join(name)).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Runs `kes migrate` with these words; exit status, standard output and standard error.
fn migrate(dir: &Dir, line: &str) -> (i32, String, String) {
    let words: Vec<&str> = ["migrate"].into_iter().chain(line.split_whitespace()).collect();
    let output = dir.kes(&words);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// As [`migrate`], and it succeeds without a word on standard error.
fn migrated(dir: &Dir, line: &str) -> String {
    let (code, out, err) = migrate(dir, line);
    assert!(code == 0 && err.is_empty(), "{line}: {code} {err}");
    out
}

/// As [`migrate`], and it fails; returns standard error.
fn refused(dir: &Dir, line: &str) -> String {
    let (code, out, err) = migrate(dir, line);
    assert!(
        code == 1 && !out.contains("successfully") && err.starts_with("Error: "),
        "{line}: {code} {out} {err}"
    );
    err
}

const TO_SEALED: &str = "--from plain.yml --to sealed.yml";
const TO_PLAIN: &str = "--from sealed.yml --to back.yml";

#[test]
fn keys_of_the_original_go_into_a_sealed_store_and_back_unchanged() {
    let (dir, good) = stores();
    let count = good.len();
    let message = format!("Starting key migration:\n\nMigrated {count:>6} keys successfully!\n");
    assert_eq!(migrated(&dir, TO_SEALED), message);
    let sealed = files(&dir, "sealed");
    assert!(sealed.keys().eq(good.keys()));
    assert!(sealed.values().all(|text| text.starts_with(b"kes-sealed v1 ")));
    assert!(dir.join("sealed.seal").exists() && !dir.join("plain.seal").exists());
    assert_eq!(files(&dir, "plain"), good, "the source is as it was");

    assert_eq!(migrated(&dir, TO_PLAIN), message);
    assert_eq!(files(&dir, "back"), good);
    for name in good.keys() {
        for store in ["sealed", "back"] {
            let mode = fs::metadata(dir.join(store).join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{store}/{name}");
        }
    }
}

#[test]
fn a_server_serves_what_was_migrated() {
    let (_, stored, _) = original_keys().into_iter().find(|key| key.0 == "aes").unwrap();
    let server = Server::start("");
    server.dir.write("plain.yml", &config("{ path: ./plain, seal: off }"));
    fs::create_dir(server.dir.join("plain")).unwrap();
    fs::write(server.dir.join("plain/aes"), stored).unwrap();
    assert_eq!(server.call("GET", "/v1/key/describe/aes", "").0, 404);
    // The target is the store of the running server.
    migrated(&server.dir, "--from plain.yml --to config.yml");
    let (status, body) = server.call("GET", "/v1/key/describe/aes", "");
    assert!(status == 200 && body.contains("2026-11-23T23:13:58.725721895Z"), "{status} {body}");
}

#[test]
fn a_pattern_chooses_and_a_malformed_one_is_an_error() {
    let (dir, good) = stores();
    let out = migrated(&dir, &format!("{TO_SEALED} --json a*"));
    let chosen: Vec<&String> = good.keys().filter(|name| name.starts_with('a')).collect();
    assert!(!chosen.is_empty() && chosen.len() < good.len());
    assert_eq!(json(&out)["migrated"], chosen.len());
    assert!(files(&dir, "sealed").keys().eq(chosen));

    for pattern in ["zz[", "a\\", "[z-a]"] {
        let err = refused(&dir, &format!("{TO_SEALED} --merge {pattern}"));
        assert!(err.contains("invalid pattern") && err.contains("See 'kes migrate --help'"), "{err}");
    }
    let out = migrated(&dir, &format!("{TO_SEALED} no-such-key"));
    assert_eq!(out, "Starting key migration:\n\nMigration succeeded! No keys migrated.\n");
}

#[test]
fn existing_keys_are_refused_kept_or_replaced() {
    let (dir, good) = stores();
    let (name, stored) = good.iter().next().unwrap();
    let (other, _) = good.iter().nth(1).unwrap();
    migrated(&dir, &format!("{TO_SEALED} {name}"));
    let before = files(&dir, "sealed");

    let err = refused(&dir, TO_SEALED);
    assert!(
        err.contains(&format!("key already exists: '{name}' in the target, and nothing was written")),
        "{err}"
    );
    assert!(err.contains("Hint: --merge"), "{err}");
    assert_eq!(files(&dir, "sealed"), before);

    assert_eq!(
        json(&migrated(&dir, &format!("{TO_SEALED} --merge --json"))),
        counts(good.len() - 1, 0, 0, 1)
    );
    assert_eq!(files(&dir, "sealed")[name], before[name], "what is there is not written again");

    // Another key of the same name in the source, and one that does not open in the target.
    fs::copy(dir.join("plain").join(other), dir.join("plain").join(name)).unwrap();
    fs::write(dir.join("sealed").join(other), b"damaged").unwrap();
    let out = migrated(&dir, &format!("{TO_SEALED} -f"));
    assert!(out.contains("Migrated      2 keys successfully!\n"), "{out}");
    assert!(out.contains("     2 of these replace others\n"), "{out}");
    migrated(&dir, TO_PLAIN);
    assert_eq!(files(&dir, "back"), files(&dir, "plain"));

    fs::write(dir.join("plain").join(name), stored).unwrap();
    assert_eq!(
        json(&migrated(&dir, &format!("{TO_SEALED} --force --json"))),
        counts(1, 1, good.len() - 1, 0)
    );
    let err = refused(&dir, &format!("{TO_SEALED} --force --merge"));
    assert!(err.contains("--merge and --force exclude each other"), "{err}");
}

#[test]
fn a_dry_run_checks_everything_and_makes_nothing() {
    let (dir, good) = stores();
    let count = good.len();
    let out = migrated(&dir, &format!("{TO_SEALED} --dry-run"));
    assert_eq!(out, format!("Dry run of a key migration:\n\nWould migrate {count:>6} keys.\n"));
    assert!(!dir.join("sealed").exists() && !dir.join("sealed.seal").exists());
    let value = json(&migrated(&dir, &format!("{TO_SEALED} --dry-run --json")));
    assert_eq!((&value["migrated"], &value["dry_run"]), (&count.into(), &true.into()));

    migrated(&dir, TO_SEALED);
    let before = files(&dir, "sealed");
    assert!(refused(&dir, &format!("{TO_SEALED} --dry-run")).contains("key already exists"));
    let out = migrated(&dir, &format!("{TO_SEALED} --dry-run --merge"));
    assert!(out.contains("There are no keys to migrate.\n"), "{out}");
    assert!(out.contains(&format!("{count:>6} exist in the target and stay as they are\n")), "{out}");
    fs::write(dir.join("plain/bad"), b"no key").unwrap();
    assert!(refused(&dir, &format!("{TO_SEALED} --dry-run --force")).contains("1 key cannot be migrated"));
    assert_eq!(files(&dir, "sealed"), before);
}

#[test]
fn nothing_is_written_if_one_value_is_no_key() {
    let (dir, _) = stores();
    let bad: Vec<_> = original_keys().into_iter().filter(|key| !key.2).collect();
    assert!(bad.len() >= 3);
    bad.iter().for_each(|(name, stored, _)| fs::write(dir.join("plain").join(name), stored).unwrap());
    let err = refused(&dir, TO_SEALED);
    for (name, stored, _) in &bad {
        assert!(err.contains(&format!("Error: key '{name}': ")), "{name}: {err}");
        let secret = String::from_utf8_lossy(stored);
        assert!(secret.len() < 40 || !err.contains(&secret[..40]), "no value is shown");
    }
    let last = format!("Error: {} keys cannot be migrated, and nothing was written\n", bad.len());
    assert!(err.contains(&last), "{err}");
    assert!(!dir.join("sealed").exists());
    // With the good ones alone it goes on.
    migrated(&dir, &format!("{TO_SEALED} [ac]*"));
}

#[test]
fn a_sealed_key_that_does_not_open_is_not_migrated() {
    let (dir, good) = stores();
    migrated(&dir, TO_SEALED);
    let names: Vec<&String> = good.keys().collect();
    fs::rename(dir.join("sealed").join(names[0]), dir.join("sealed").join(names[1])).unwrap();
    let err = refused(&dir, TO_PLAIN);
    assert!(err.contains(&format!("key '{}'", names[1])) && err.contains("does not authenticate"), "{err}");
    assert!(!dir.join("back").exists());
    // Without the seal file nothing opens, and none is made.
    fs::remove_file(dir.join("sealed.seal")).unwrap();
    assert!(refused(&dir, TO_PLAIN).contains("is missing"));
    assert!(refused(&dir, TO_SEALED).contains("is missing"));
    assert!(!dir.join("sealed.seal").exists());
}

#[test]
fn what_is_not_a_migration_is_refused() {
    let (dir, _) = stores();
    dir.write("wrong.yml", "address: 127.0.0.1:0\nkeystore: { fs: {} }\n");
    dir.write("same.yml", &config("{ path: ./x/../plain }"));
    dir.write("gone.yml", &config("{ path: ./gone }"));
    fs::create_dir(dir.join("x")).unwrap();
    for (line, text) in [
        ("--to sealed.yml", "no key store: --from names its configuration file. See 'kes migrate --help'"),
        ("--from plain.yml", "no key store: --to names its configuration file"),
        ("--from no.yml --to sealed.yml", "no.yml: cannot open"),
        ("--from wrong.yml --to sealed.yml", "wrong.yml:2: no path specified"),
        ("--from plain.yml --to same.yml", "both key stores are the directory './x/../plain'"),
        ("--from gone.yml --to sealed.yml", "there is no key directory './gone'"),
        ("--from plain.yml -s kms.example -e e -a key", "migration to MinIO KMS"),
        ("--from plain.yml --to sealed.yml --enclave=x", "is not supported: --to names the target"),
        ("--from plain.yml --to sealed.yml a b", "too many arguments"),
        ("--from plain.yml --to sealed.yml --no-such-flag", "unknown flag: --no-such-flag"),
    ] {
        let err = refused(&dir, line);
        assert!(err.contains(text), "{line}: {err}");
    }
    let made = ["sealed", "sealed.seal", "gone", "gone.seal", "plain.seal"];
    made.iter().for_each(|name| assert!(!dir.join(name).exists(), "{name}"));
}

#[test]
fn an_empty_source_stays_empty() {
    let (dir, good) = stores();
    dir.write("empty.yml", &config("{ path: ./empty }"));
    fs::create_dir(dir.join("empty")).unwrap();
    let out = migrated(&dir, "--from empty.yml --to sealed.yml");
    assert!(out.ends_with("Migration succeeded! No keys migrated.\n"), "{out}");
    assert!(!dir.join("empty.seal").exists() && !dir.join("sealed").exists());
    // Two sealed stores, each with its own root key.
    migrated(&dir, TO_SEALED);
    migrated(&dir, "--from sealed.yml --to empty.yml");
    assert_ne!(files(&dir, "empty"), files(&dir, "sealed"));
    migrated(&dir, "--from empty.yml --to back.yml");
    assert_eq!(files(&dir, "back"), good);
}

#[test]
fn the_old_name_and_the_quiet_flag_work() {
    let (dir, good) = stores();
    let output = dir.kes(&["tool", "migrate", "-q", "--from", "plain.yml", "--to", "sealed.yml"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(files(&dir, "sealed").len(), good.len());
}

#[test]
fn on_a_terminal_json_is_indented_and_progress_leaves_no_trace() {
    let (dir, good) = stores();
    let on_terminal = |more: &str| {
        let line = format!("\"$KES\" migrate {TO_SEALED} {more}");
        let mut command = std::process::Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]).current_dir(dir.path());
        command.env("KES", support::program()).env("TERM", "xterm").stdin(Stdio::null());
        let output = command.output().ok()?;
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap().replace('\r', ""))
    };
    let Some(shown) = on_terminal("") else { return println!("not checked: there is no script") };
    assert!(shown.contains("Migrating ["), "{shown:?}");
    assert!(
        shown.ends_with(&format!("\u{1b}[KMigrated {:>6} keys successfully!\n", good.len())),
        "{shown:?}"
    );
    let shown = on_terminal("--merge --json").unwrap();
    assert!(shown.starts_with("{\n  \"migrated\": 0,\n"), "{shown:?}");
    assert_eq!(json(&shown), counts(0, 0, 0, good.len()));
}

#[test]
fn what_root_migrates_belongs_to_the_owner_of_the_directory() {
    let (dir, good) = stores();
    fs::create_dir(dir.join("sealed")).unwrap();
    if std::os::unix::fs::chown(dir.join("sealed"), Some(12345), Some(12346)).is_err() {
        return println!("not checked: only root gives files away");
    }
    migrated(&dir, TO_SEALED);
    for name in good.keys() {
        let data = fs::metadata(dir.join("sealed").join(name)).unwrap();
        assert_eq!((data.uid(), data.gid()), (12345, 12346), "{name}");
    }
}

#[test]
fn a_migration_that_is_killed_goes_on_where_it_was() {
    let (dir, good) = stores();
    let stored = &good["aes"];
    (0..150).for_each(|i| fs::write(dir.join("plain").join(format!("key{i}")), stored).unwrap());
    let mut child = dir
        .command(&["migrate", "--from", "plain.yml", "--to", "sealed.yml", "-q"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let count = || fs::read_dir(dir.join("sealed")).map_or(0, Iterator::count);
    while count() < 10 && child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE * 6, "nothing is migrated");
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    child.wait().unwrap();
    migrated(&dir, &format!("{TO_SEALED} --merge"));
    migrated(&dir, TO_PLAIN);
    assert_eq!(files(&dir, "back"), files(&dir, "plain"));
}

/// In a mount namespace of its own, which only root can make.
#[test]
fn a_read_only_source_is_enough_and_a_full_target_loses_nothing() {
    let (dir, good) = stores();
    let stored = &good["aes"];
    (0..60).for_each(|i| fs::write(dir.join("plain").join(format!("key{i}")), stored).unwrap());
    fs::create_dir(dir.join("small")).unwrap();
    dir.write("small.yml", &config("{ path: ./small/keys }"));
    let script = r#"
        mount --bind plain plain && mount -o remount,ro,bind plain && mount -t tmpfs -o size=128k none small || exit 77
        ! touch plain/x 2>/dev/null || exit 77
        "$KES" migrate --from plain.yml --to small.yml && echo "the disk is not small"
        ls small/keys
        mount -o remount,size=8m small
        "$KES" migrate --from plain.yml --to small.yml --merge
        "$KES" migrate --from small.yml --to back.yml
    "#;
    let mut command = std::process::Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).current_dir(dir.path()).env("KES", support::program());
    let Ok(output) = command.output() else { return println!("not checked: there is no unshare") };
    if matches!(output.status.code(), Some(1 | 77))
        && !String::from_utf8_lossy(&output.stdout).contains("migration")
    {
        return println!("not checked: nothing can be mounted here");
    }
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !out.contains("is not small"), "{out}\n{err}");
    let done = err.lines().find_map(|line| line.split("; ").nth(1)?.split(' ').next()?.parse::<usize>().ok());
    assert!(err.contains("space") && err.contains("Hint: The same command with --merge"), "{err}");
    let before = out.lines().filter(|line| good.contains_key(*line) || line.starts_with("key")).count();
    // Several are copied at a time; those that failed may be there, whole.
    assert!(
        done.is_some_and(|done| done >= 1 && (done..done + 16).contains(&before)),
        "{done:?} {before}\n{err}"
    );
    assert_eq!(files(&dir, "back"), files(&dir, "plain"));
}

fn json(text: &str) -> Value {
    assert!(text.ends_with('\n'), "{text:?}");
    serde_json::from_str(text).unwrap()
}

fn counts(migrated: usize, replaced: usize, unchanged: usize, skipped: usize) -> Value {
    serde_json::json!({
        "migrated": migrated, "replaced": replaced, "unchanged": unchanged, "skipped": skipped, "dry_run": false,
    })
}
