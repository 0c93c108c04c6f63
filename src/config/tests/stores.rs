//! The key store and its seal.

use super::*;

#[test]
fn exactly_one_key_store_must_be_given() {
    let store = |text: &str| problems(&format!("{ADMIN}{TLS}{text}"));
    for text in ["keystore:\n", "keystore: { fs: }\n", "keystore: { aws: }\n", "keystore: {}\n"] {
        let [problem] = &store(text)[..] else { panic!("{text}") };
        assert!(problem.ends_with("no keystore specified: set keystore.fs.path"), "{text}: {problem}");
    }
    assert_eq!(store(""), ["config.yml: no keystore specified: set keystore.fs.path"]);
    assert_eq!(
        store("keystore:\n  fs: { path: a }\n  vault: { endpoint: x }\n"),
        ["config.yml:5: more than one keystore: \"vault\" is given beside \"fs\" of line 4"]
    );
    assert_eq!(store("keystore:\n  fs: {}\n"), ["config.yml:4: no path specified: set keystore.fs.path"]);
    assert_eq!(
        store("keystore: { fs: ./keys }\n"),
        ["config.yml:3: keystore.fs must be a mapping, not text"]
    );
    assert_eq!(
        store("keystore: { fs: { path: [a] } }\n"),
        ["config.yml:3: keystore.fs.path must be text, not a list"]
    );
}

#[test]
fn a_key_store_that_is_not_built_is_named() {
    for (name, inside) in [
        ("vault", "{ endpoint: x }"),
        ("fortanix", "{ sdkms: { endpoint: x } }"),
        ("gemalto", "{ keysecure: { endpoint: x } }"),
        ("gcp", "{ secretmanager: { project_id: x } }"),
        ("aws", "{ secretsmanager: { region: x } }"),
        ("azure", "{ keyvault: { endpoint: x } }"),
        ("entrust", "{ keycontrol: { endpoint: x } }"),
        ("kes", "{ endpoint: [x] }"),
        ("generic", "{ endpoint: x }"),
        ("aws", "{}"),
        ("aws", "text"),
    ] {
        assert_eq!(
            problems(&format!("{ADMIN}{TLS}keystore:\n  {name}: {inside}\n")),
            [format!("config.yml:4: keystore '{name}' is not supported by this build")]
        );
    }
    let text = format!("{ADMIN}{TLS}keystore: {{ aws: {{ secretsmanager: }}, fs: {{ path: a }} }}\n");
    assert_eq!(config(&text).warnings, [""; 0], "a store with nothing in it is absent");
}

#[test]
fn the_seal_is_on_beside_the_directory_unless_switched_off() {
    let sealed = |path: &str, seal: &str| {
        config(&format!("{ADMIN}{TLS}keystore: {{ fs: {{ path: {path}, seal: {seal} }} }}\n"))
    };
    let on = |file: &str| SealConfig::On { file: file.into(), unlock: Source::None };
    for (path, seal, expected) in [
        ("./keys", "", on("/srv/kes/keys.seal")),
        ("keys/", "", on("/srv/kes/keys.seal")),
        (".", "on", on("/srv/kes.seal")),
        ("/k/v1.2", "{}", on("/k/v1.2.seal")),
        ("keys", "{ file: root.seal }", on("/srv/kes/root.seal")),
        ("keys", "{ file: /etc/kes/seal, unlock: none }", on("/etc/kes/seal")),
        ("..", "{ file: /etc/kes/seal }", on("/etc/kes/seal")),
        ("keys", "off", SealConfig::Off),
        ("keys", "\"OFF\"", SealConfig::Off),
        ("keys", "'${OFF}'", SealConfig::Off),
    ] {
        let config = sealed(path, seal);
        assert_eq!(fs(&config).2, &expected, "{path} {seal}");
        assert_eq!(config.warnings, [""; 0]);
    }
    assert!(sealed("keys", "{ file: keys/seal }").warnings[0].contains("lies in the key directory"));
}

#[test]
fn other_seal_settings_are_refused_without_printing_them() {
    let refused = |path: &str, seal: &str| {
        problems(&format!("{ADMIN}{TLS}keystore: {{ fs: {{ path: {path}, seal: {seal} }} }}\n")).join("\n")
    };
    for seal in [
        "hunter2",
        "{ unlock: hunter2 }",
        "{ unlock: passphrase }",
        "{ unlock: { none: hunter2 } }",
        "{ unlock: [hunter2] }",
        "{ unlock: {} }",
        "{ unlock: { passphrase: hunter2 } }",
        "{ unlock: { passphrase: [hunter2] } }",
        "{ unlock: { passphrase: { file: '' } } }",
        "{ unlock: { passphrase: { file: a, env: B } } }",
        "{ unlock: { passphrase: { env: 'hunter2!' } } }",
        "{ unlock: { credential: '../hunter2' } }",
        "{ unlock: { credential: .hunter2 } }",
        "{ unlock: { credential: a, command: [/b] } }",
        "{ unlock: { credential: a, timeout: 3s } }",
        "{ unlock: { command: hunter2 } }",
        "{ unlock: { command: [] } }",
        "{ unlock: { command: [hunter2] } }",
        "{ unlock: { command: [/b], timeout: 0s } }",
        "{ unlock: { command: [/b], timeout: 6m } }",
    ] {
        let problem = refused("keys", seal);
        assert!(problem.starts_with("config.yml:3: keystore.fs.seal"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    for path in ["..", "/"] {
        assert!(refused(path, "").contains("keystore.fs.seal.file must be set"), "{path}");
    }
}

#[test]
fn each_way_to_unlock_the_seal_file_is_read() {
    use crate::seal::unlock::Passphrase;
    let unlock = |text: &str| {
        let config = config(&format!(
            "{ADMIN}{TLS}keystore: {{ fs: {{ path: keys, seal: {{ unlock: {text} }} }} }}\n"
        ));
        assert_eq!(config.warnings, [""; 0]);
        let SealConfig::On { unlock, .. } = fs(&config).2.clone() else { panic!("{text}") };
        assert_eq!(parse_unlock(text, Path::new("/srv/kes"), &some_env).unwrap(), unlock, "{text}");
        unlock
    };
    let command = |words: &[&str], seconds: u64| Source::Command {
        program: words.iter().map(Into::into).collect(),
        time: Duration::from_secs(seconds),
    };
    for (text, source) in [
        ("none", Source::None),
        ("{ passphrase: terminal }", Source::Passphrase(Passphrase::Terminal)),
        ("{ passphrase: { file: pass } }", Source::Passphrase(Passphrase::File("/srv/kes/pass".into()))),
        ("{ passphrase: { file: /pass } }", Source::Passphrase(Passphrase::File("/pass".into()))),
        ("{ passphrase: { env: KES_SEAL } }", Source::Passphrase(Passphrase::Variable("KES_SEAL".into()))),
        ("{ credential: kes.seal-1 }", Source::Credential("kes.seal-1".into())),
        ("{ command: [/bin/tool, get, ''] }", command(&["/bin/tool", "get", ""], 10)),
        ("{ command: [/bin/tool], timeout: 1m }", command(&["/bin/tool"], 60)),
    ] {
        assert_eq!(unlock(text), source, "{text}");
    }
    assert!(parse_unlock("{ credential: a, more: b }", Path::new("/"), &some_env).is_err());
    assert!(parse_unlock("{", Path::new("/"), &some_env).is_err());
}
