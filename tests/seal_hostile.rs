//! `kes seal` where somebody has prepared the place, or a file is not what it should be.

mod support;

use std::{fs, os::unix::fs::PermissionsExt, process::Output};

use support::Dir;

/// A key in the current stored form.
fn stored() -> String {
    let document: serde_json::Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let mut keys = document["keys"].as_array().unwrap().iter();
    keys.find(|key| key["name"] == "aes").unwrap()["stored"].as_str().unwrap().to_owned()
}

/// A store of one plain key, `my-key`.
fn plain_store() -> Dir {
    let dir = Dir::new();
    let keystore = "keystore: { fs: { path: ./keys } }\n";
    dir.write(
        "config.yml",
        &format!("admin: {{ identity: disabled }}\ntls: {{ key: k, cert: c }}\n{keystore}"),
    );
    fs::create_dir(dir.join("keys")).unwrap();
    dir.write("keys/my-key", &stored());
    dir
}

fn seal(dir: &Dir, words: &[&str]) -> Output {
    let words: Vec<&str> = ["seal"].iter().chain(words).chain(&["--config", "config.yml"]).copied().collect();
    dir.kes(&words)
}

fn refused(dir: &Dir, words: &[&str]) -> String {
    let output = seal(dir, words);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn root_keeps_no_plain_keys_where_somebody_else_waits_for_them() {
    let dir = plain_store();
    fs::create_dir(dir.join("waiting")).unwrap();
    fs::set_permissions(dir.join("waiting"), fs::Permissions::from_mode(0o700)).unwrap();
    let give = |name: &str| std::os::unix::fs::chown(dir.join(name), Some(12345), Some(12345));
    if give("waiting").is_err() {
        return println!("not checked: only root gives files away");
    }
    let err = refused(&dir, &["adopt", "--backup", "waiting"]);
    assert!(err.contains("'waiting' belongs to somebody else"), "{err}");
    assert_eq!(fs::read_dir(dir.join("waiting")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(dir.join("keys/my-key")).unwrap(), stored());

    // The owner of the keys has them already.
    give("keys").unwrap();
    let output = seal(&dir, &["adopt", "--backup", "waiting"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(dir.join("waiting/my-key")).unwrap(), stored());
}

#[test]
fn a_key_that_could_not_be_read_once_it_is_sealed_stays_plain() {
    let dir = plain_store();
    // Old stored keys are JSON, which may have any white space.
    let json = r#"{"bytes":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","algorithm":"AES256"}"#;
    let long = format!("{json}{}", " ".repeat(1_000_000 - json.len()));
    dir.write("keys/long", &long);
    let output = seal(&dir, &["adopt", "--no-backup"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("key 'long' is too long to be sealed"), "{err}");
    assert!(fs::read_to_string(dir.join("keys/long")).unwrap() == long);
    let output = seal(&dir, &["verify"]);
    assert!(output.status.success(), "every key still opens: {output:?}");
}

#[test]
fn a_sealed_file_is_not_exported_as_a_plain_one_when_the_seal_file_is_gone() {
    let dir = plain_store();
    assert!(seal(&dir, &["adopt"]).status.success());
    fs::remove_file(dir.join("keys.seal")).unwrap();
    let err = refused(&dir, &["export", "--yes", "my-key"]);
    assert!(err.contains("key 'my-key' is sealed, and there is no seal file"), "{err}");
}
