//! One test for each table of the configuration's description: the file, scalars, environment, sections, older forms,
//! errors.

mod errors;
pub mod manual;
mod properties;
mod scalars;
mod sections;
mod stores;

use std::{net::SocketAddr, path::Path, path::PathBuf, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::name::Identity;

const ID_A: &str = "02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b";
const ID_B: &str = "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22";

const ADMIN: &str = "admin: { identity: disabled }\n";
const TLS: &str = "tls: { key: private.key, cert: public.crt }\n";
const STORE: &str = "keystore: { fs: { path: ./keys } }\n";

fn no_env(_: &str) -> Option<String> {
    None
}

/// A few variables for tests of references.
fn some_env(name: &str) -> Option<String> {
    let value = match name {
        "ID" => ID_A,
        "ADDR" => "127.0.0.1:1234",
        "EMPTY" => "",
        "TRUE" => "true",
        "TIME" => "7s",
        "WORD" => "hunter2",
        "NESTED" => "${ID}",
        "OFF" => "off",
        "NULL" => "null",
        _ => return None,
    };
    Some(value.into())
}

fn parse_with(
    text: &str,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    parse(text, "config.yml", Path::new("/srv/kes"), overrides, env)
}

fn try_parse(text: &str) -> Result<Config, Vec<String>> {
    parse_with(text, &Overrides::default(), &some_env)
}

fn config(text: &str) -> Config {
    try_parse(text).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

fn problems(text: &str) -> Vec<String> {
    match try_parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(problems) => problems,
    }
}

/// The smallest file and `more` behind it, from line 4 on.
fn with(more: &str) -> String {
    format!("{ADMIN}{TLS}{STORE}{more}")
}

/// Every row: what is added to the smallest file, and the only problem.
fn assert_problems(rows: &[(&str, &str)]) {
    for (more, problem) in rows {
        assert_eq!(problems(&with(more)), [format!("config.yml:{problem}")], "{more}");
    }
}

/// Every row: what is added to the smallest file, and the only warning.
fn assert_warnings(rows: &[(&str, &str)]) {
    for (more, warning) in rows {
        assert_eq!(config(&with(more)).warnings, [format!("config.yml:{warning}")], "{more}");
    }
}

fn fs(config: &Config) -> (&str, &Path, &SealConfig) {
    match &config.keystore {
        KeyStoreConfig::Fs { shown, path, seal } => (shown, path, seal),
        KeyStoreConfig::Memory => panic!("no fs store"),
    }
}

#[test]
fn the_smallest_file_gets_all_defaults() {
    let config = config(&with(""));
    assert_eq!(config.address.to_string(), "0.0.0.0:7373");
    assert_eq!(config.tls.key, PathBuf::from("/srv/kes/private.key"));
    assert_eq!(config.tls.cert, PathBuf::from("/srv/kes/public.crt"));
    assert!(config.tls.password.is_none() && config.tls.ca.is_none());
    assert!(!config.tls.verify_clients && !config.tls.auth_weakened);
    assert!(config.tls.proxies.is_empty() && config.tls.proxy_header.is_empty());
    assert_eq!(config.policies.admin, "disabled");
    assert!(config.policies.policies.is_empty() && config.api.is_empty() && config.keys.is_empty());
    assert_eq!(config.cache.any, Duration::from_secs(300));
    assert_eq!(config.cache.unused, Duration::from_secs(30));
    assert_eq!(config.cache.offline, Duration::ZERO);
    assert_eq!(config.log, LogConfig { error: 0, audit: 0, file: None });
    let seal = SealConfig::On { file: "/srv/kes/keys.seal".into(), unlock: Source::None };
    assert_eq!(fs(&config), ("./keys", Path::new("/srv/kes/keys"), &seal));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn the_full_example_is_read() {
    let text = "version: v1
address: 0.0.0.0:7373

admin:
  identity: ${KES_ADMIN_IDENTITY}      # 64 hex digits, or a word that matches nobody

tls:
  key: /etc/kes/private.key
  cert: /etc/kes/public.crt
  password: ${KES_TLS_PASSWORD}        # only for an encrypted key
  auth: \"off\"                          # \"on\": clients need a certificate from a known root
  ca: /etc/kes/client-roots            # file or directory
  proxy:
    identities: []
    header:
      cert: X-Tls-Client-Cert

policy:
  minio:
    allow:
    - /v1/key/create/minio-*
    - /v1/key/generate/minio-*
    - /v1/key/decrypt/minio-*
    deny:
    - /v1/key/create/minio-internal-*
    identities:
    - 02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b
    - ${BACKUP_IDENTITY}

api:
  /v1/ready: { skip_auth: true, timeout: 5s }

cache:
  expiry: { any: 5m, unused: 30s, offline: 0s }

log: { error: on, audit: off }

keys:
- name: minio-default-key

keystore:
  fs:
    path: /var/lib/kes/keys
";
    let env = |name: &str| match name {
        "KES_ADMIN_IDENTITY" => Some("ad".repeat(32)),
        "KES_TLS_PASSWORD" => Some("secret".into()),
        "BACKUP_IDENTITY" => Some(ID_B.into()),
        _ => None,
    };
    let config = parse_with(text, &Overrides::default(), &env).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.policies.admin, "ad".repeat(32));
    assert_eq!(&config.tls.password.as_ref().unwrap()[..], b"secret");
    assert_eq!(config.tls.ca, Some("/etc/kes/client-roots".into()));
    assert_eq!(config.tls.proxy_header, "", "there are no proxies");
    let policy = config.policies.policy_of(ID_B).unwrap();
    assert_eq!((policy.name.as_str(), policy.allow.len(), policy.deny.len()), ("minio", 3, 1));
    assert_eq!(policy.identities, [ID_A, ID_B]);
    let ready =
        ApiConfig { path: "/v1/ready".into(), skip_auth: true, timeout: Some(Duration::from_secs(5)) };
    assert_eq!(config.api, [ready]);
    assert_eq!(config.log, LogConfig { error: 0, audit: 9, file: None });
    assert_eq!(config.keys[0].as_str(), "minio-default-key");
    let seal = SealConfig::On { file: "/var/lib/kes/keys.seal".into(), unlock: Source::None };
    assert_eq!(fs(&config), ("/var/lib/kes/keys", Path::new("/var/lib/kes/keys"), &seal));
}

#[test]
fn the_tutorials_file_is_read_verbatim() {
    // With the blanks at the ends of lines.
    let text = "address: 0.0.0.0:7373 # Listen on all network interfaces on port 7373

admin:
  identity: disabled  # We disable the admin identity since we don't need it in this guide 
   
tls:
  key: private.key    # The KES server TLS private key
  cert: public.crt    # The KES server TLS certificate
   
policy:
  my-app: 
    allow:
    - /v1/key/create/minio-*
    - /v1/key/generate/minio-*
    - /v1/key/decrypt/minio-*
    identities:
    - 02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b # Use the identity of your client.crt
   
keystore:
  fs:
    path: ./keys # Choose a directory for the secret keys
";
    let overrides = Overrides { auth: Some("off".into()), ..Overrides::default() };
    let config = parse_with(text, &overrides, &no_env).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert!(!config.tls.auth_weakened);
    let client = Identity::parse(ID_A).unwrap();
    assert_eq!(config.policies.decide(&client, b"/v1/key/create/minio-a"), crate::policy::Decision::Allow);
}

#[test]
fn an_empty_file_names_the_missing_sections() {
    for text in ["", "\n# nothing\n", "---\n", "null\n"] {
        let problem = "config.yml: the file is empty: it needs the sections admin, tls and keystore";
        assert_eq!(problems(text), [problem], "{text:?}");
    }
}

#[test]
fn the_top_level_must_be_a_mapping() {
    assert_eq!(problems("- a\n- b\n"), ["config.yml:1: the file must be a mapping, not a list"]);
    assert_eq!(problems("\njust text\n"), ["config.yml:2: the file must be a mapping, not text"]);
}

#[test]
fn a_second_document_is_a_warning() {
    assert_warnings(&[("---\nadmin: [broken", "4: only the first document of the file is read")]);
}

#[test]
fn anchors_aliases_and_merge_keys_work_in_sections() {
    let text = with(&format!(
        "policy:\n  base: &base\n    allow: [/v1/status]\n    deny: &none []\n  app:\n    <<: *base\n    \
         deny: *none\n    identities: [{ID_A}]\n"
    ));
    let config = config(&text);
    let app = config.policies.policy_of(ID_A).unwrap();
    assert_eq!((app.name.as_str(), app.allow[0].as_str()), ("app", "/v1/status"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn unknown_fields_are_warnings_with_line_and_nearest_name() {
    assert_warnings(&[
        ("polices: {}", "4: unknown field \"polices\" (did you mean \"policy\"?)"),
        ("enclave: {}", "4: unknown field \"enclave\""),
        ("Log: { error: debug }", "4: unknown field \"Log\" (did you mean \"log\"?)"),
        ("cache:\n  expiry:\n    unusd: 5s", "6: unknown field \"unusd\" (did you mean \"unused\"?)"),
        ("policy:\n  app:\n    alow: [x]", "6: unknown field \"alow\" (did you mean \"allow\"?)"),
        (
            "api:\n  /v1/ready:\n    skipauth: true",
            "6: unknown field \"skipauth\" (did you mean \"skip_auth\"?)",
        ),
        ("keys:\n- name: a\n  size: 5", "6: unknown field \"size\""),
        ("log:\n  errors: on", "5: unknown field \"errors\" (did you mean \"error\"?)"),
    ]);
    let text = format!("{ADMIN}tls: {{ key: a, cert: b, proxy: {{ header: {{ certs: X }} }} }}\n{STORE}");
    assert_eq!(config(&text).warnings, ["config.yml:2: unknown field \"certs\" (did you mean \"cert\"?)"]);
}

#[test]
fn unknown_fields_are_errors_when_strict() {
    let strict = Overrides { strict: true, ..Overrides::default() };
    let problems = parse_with(&with("polices: {}\npolicy: { a: { allow: ['x'] } }"), &strict, &no_env);
    assert_eq!(
        problems.unwrap_err(),
        [
            "config.yml:4: unknown field \"polices\" (did you mean \"policy\"?)",
            "config.yml:5: warning: policy.a.allow: the pattern \"x\" matches nothing: it does not start with a slash"
        ]
    );
}

#[test]
fn a_key_in_the_wrong_case_is_unknown_and_the_hint_comes_with_the_error() {
    assert_eq!(
        problems(&format!("{ADMIN}{TLS}keystore:\n  FS: {{ path: ./keys }}\n")),
        [
            "config.yml:4: no keystore specified: set keystore.fs.path",
            "config.yml:4: warning: unknown field \"FS\" (did you mean \"fs\"?)"
        ]
    );
}

#[test]
fn duplicate_keys_are_errors_with_both_lines() {
    assert_problems(&[
        ("log: {}\nlog: {}", "5: the key \"log\" is already in line 4"),
        ("policy:\n  a: {}\n  b: {}\n  a: {}", "7: the key \"a\" is already in line 5"),
    ]);
}

#[test]
fn sections_with_nothing_in_them_are_absent() {
    let more = "version:\naddress:\npolicy:\ncache:\napi:\nlog: ~\nkeys: null\nroot:\nproxy:\n";
    assert_eq!(config(&with(more)).warnings, [""; 0]);
    let more =
        "policy:\n  a:\n  b: { allow: , deny: ~, identities: }\ncache: { expiry: }\napi:\n  /v1/ready:\n";
    assert_eq!(config(&with(more)).policies.policies.len(), 2);
}

#[test]
fn tabs_are_errors_with_their_line() {
    assert_problems(&[("log:\n\terror: on", "5: not valid YAML: indented with a tab, use spaces")]);
}

#[test]
fn fields_may_come_in_any_order() {
    assert_eq!(config(&format!("{STORE}{TLS}{ADMIN}version: v1\n")).policies.admin, "disabled");
}

/// The manual page, which describes every field.
const MANUAL: &str = include_str!("../../../man/kes-config.5");

#[test]
fn the_examples_of_the_manual_are_read_without_warnings() {
    let env = |name: &str| (name == "MINIO_IDENTITY").then(|| ID_A.to_string());
    let examples: Vec<&str> = MANUAL.split(".Bd -literal -offset indent\n").skip(1).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let text = example.split(".Ed\n").next().unwrap_or_default();
        let config = parse_with(text, &Overrides::default(), &env).unwrap();
        assert_eq!(config.warnings, [""; 0], "{text}");
    }
}
