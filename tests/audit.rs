//! What an auditor would look for in the sources: secrets that could be printed, and claims about tests that are not there.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kes::{
    crypto::{Secret, SecretBytes},
    http::Reply,
    keyring::{Algorithm, KeyVersion},
    seal::{RootKey, RootKeys, SealFile, Sealer, file},
    text::json::{Rest, read_object},
    tls::{ApiKey, key::PrivateKey, pem},
};

/// 32 bytes that are easy to find in any form.
const MARKED: [u8; 32] = *b"a secret that must not be shown!";

fn secret() -> Secret<32> {
    Secret::from_slice(&MARKED).unwrap()
}

/// Panics if `value` shows the marked bytes as text, as numbers, in hexadecimal or in base64.
#[track_caller]
fn is_redacted(value: impl Debug) {
    for shown in [format!("{value:?}"), format!("{value:#?}").replace([' ', '\n'], "")] {
        let hex: String = MARKED[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = format!("{:?}", &MARKED[..6]);
        let numbers = numbers.trim_matches(['[', ']']);
        for form in [
            "secret that",
            "secretthat",
            numbers,
            &numbers.replace(' ', ""),
            &hex,
            &STANDARD.encode(&MARKED[..12]),
        ] {
            assert!(!shown.to_lowercase().contains(&form.to_lowercase()), "{shown}");
        }
    }
}

fn root_keys() -> RootKeys {
    RootKeys::new(RootKey::new(secret(), 0), Vec::new()).unwrap()
}

#[test]
fn no_secret_type_shows_what_it_holds() {
    is_redacted(secret());
    is_redacted(SecretBytes::from(MARKED.to_vec()));
    is_redacted(KeyVersion::import(Algorithm::Aes256, secret(), "").unwrap());
    is_redacted(RootKey::new(secret(), 0));
    is_redacted(root_keys());
    is_redacted(Sealer::new(root_keys()));
    is_redacted(SealFile::parse(&file::write_plain(&root_keys())).unwrap());
    let api_key =
        ApiKey::parse(&format!("kes:v1:{}", STANDARD.encode([&[0], &MARKED[..]].concat()))).unwrap();
    is_redacted(PrivateKey::parse(&pem::encode("PRIVATE KEY", &[], &api_key.to_pkcs8()), None).unwrap());
    is_redacted(api_key);
    is_redacted(pem::parse(&pem::encode("PRIVATE KEY", &[], &MARKED)));
    is_redacted(Reply { body: SecretBytes::from(MARKED.to_vec()), ..Reply::empty(200) });
    let text = STANDARD.encode(MARKED);
    let numbers = format!("{:?}", &MARKED);
    for value in [format!("\"{text}\""), format!("\"\\u0061{}\"", &text[1..]), numbers] {
        let input = format!("{{\"plaintext\":{value}}}");
        is_redacted(read_object(input.as_bytes(), ["plaintext"], Rest::Refused).unwrap());
    }
    // Errors do not quote what they were about.
    is_redacted(
        read_object(format!("{{\"plaintext\":{text}}}").as_bytes(), ["plaintext"], Rest::Refused).err(),
    );
    is_redacted(ApiKey::parse(&format!("kes:v1:{text}")).err());
}

#[test]
#[should_panic(expected = "secret")]
fn a_secret_that_is_shown_is_noticed() {
    is_redacted(String::from_utf8_lossy(&MARKED));
}

#[test]
#[should_panic(expected = "97, 32, 115")]
fn a_secret_that_is_shown_in_numbers_is_noticed() {
    is_redacted(MARKED);
}

/// All Rust sources below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Raw bytes that are called a secret belong into `Secret`, `SecretBytes` or `Zeroizing`, which are wiped and not printed.
#[test]
fn no_field_holds_a_secret_in_plain_memory() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeSet::new();
    for path in sources(&root.join("src")) {
        if path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "testing.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for line in text.lines().map(str::trim) {
            let Some((name, kind)) = line.trim_start_matches("pub ").split_once(": ") else { continue };
            let is_secret =
                ["secret", "password", "passphrase", "seed", "plaintext", "data_key"].contains(&name);
            let is_plain = ["Vec<u8>", "String", "[u8; 32]", "Option<String>", "Option<Vec<u8>>"]
                .iter()
                .any(|plain| kind.trim_end_matches(',') == *plain);
            if is_secret && is_plain {
                found.insert(format!("{}: {line}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Each test that `docs/threat-model.md` names, in the form `file: test` in backquotes, is there.
#[test]
fn the_threat_model_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let mut named = 0;
    for claim in text.split('`').skip(1).step_by(2) {
        if let Some((file, test)) = claim.split_once(": ").filter(|(file, _)| file.contains(".rs")) {
            let source =
                fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
            named += 1;
        } else if claim.starts_with("tests/") || claim.starts_with("fuzz/") || claim.starts_with("docs/") {
            assert!(root.join(claim).exists(), "{claim} does not exist");
            named += 1;
        }
    }
    assert!(named >= 40, "only {named} tests are named");
}
