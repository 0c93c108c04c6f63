//! Older forms, the order of errors, files that cannot be read.

use super::*;

#[test]
fn older_forms_are_errors_that_name_the_new_field() {
    assert_problems(&[
        (&format!("root: {ID_A}"), "4: root is an older form: use admin.identity"),
        ("proxy: { identities: [] }", "4: proxy is an older form: use tls.proxy"),
        (
            "policy:\n  a:\n    paths: [/v1/status]",
            "6: policy.a.paths is an older form: name it policy.a.allow",
        ),
        (
            "keys:\n  fs: { path: ./keys }",
            "5: keys is a list of keys to be created; the key store belongs under keystore",
        ),
    ]);
    assert_eq!(
        config(&with("log: {error: on, audit: off}")).log,
        LogConfig { error: 0, audit: 9, file: None }
    );
}

#[test]
fn all_problems_are_reported_in_the_order_of_the_checks() {
    let text = format!(
        "address: nowhere
keystore: {{}}
keys: [{{ name: a }}, {{ name: a }}, {{ name: 'a b' }}]
log: {{ error: loud, audit: '${{NOPE}}' }}
api: {{ /v1/ready: {{ timeout: -1s, skip_auth: 1 }} }}
cache: {{ expiry: {{ any: -1s }} }}
policy: {{ p.q: {{ identities: [{ID_A}] }} }}
tls: {{ auth: maybe }}
admin: {{ identity: {ID_A} }}
"
    );
    assert_eq!(
        problems(&text),
        [
            "config.yml:5: api./v1/ready.skip_auth must be true or false, without quotes",
            "config.yml:8: no private key: set tls.key",
            "config.yml:8: no certificate: set tls.cert",
            "config.yml:8: tls.auth: \"maybe\" is neither on nor off",
            &format!("config.yml:7: policy.p.q.identities: identity {ID_A:?} is already admin"),
            "config.yml:6: cache.expiry.any: the duration \"-1s\" is negative",
            "config.yml:5: api./v1/ready.timeout: the duration \"-1s\" is negative",
            "config.yml:4: log.error: \"loud\" is no log level: use on, off, debug, info, warn, error, LEVEL+N, LEVEL-N \
             or a number",
            "config.yml:3: keys: the key \"a\" is already in line 3",
            "config.yml:2: no keystore specified: set keystore.fs.path",
            "config.yml:4: log.audit: the environment variable \"NOPE\" is not set",
            "config.yml:1: the address \"nowhere\" has no port: write IP:PORT or :PORT",
            "config.yml:7: policy name \"p.q\" is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)",
            "config.yml:3: keys: the name \"a b\" is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)",
        ]
    );
}

#[test]
fn required_fields_are_named() {
    assert_eq!(
        problems("version: v1\n"),
        [
            "config.yml: no admin identity: set admin.identity, to disabled if there shall be no admin",
            "config.yml: no private key: set tls.key",
            "config.yml: no certificate: set tls.cert",
            "config.yml: no keystore specified: set keystore.fs.path",
        ]
    );
    assert_eq!(
        problems(&format!("{ADMIN}tls:\n  key: ''\n  cert: a\n{STORE}")),
        ["config.yml:3: no private key: set tls.key"]
    );
}

#[test]
fn secrets_are_in_no_message_and_not_in_debug_output() {
    for password in ["[hunter2]", "{ hunter2: x }", "${NOPE}"] {
        let text = format!("{ADMIN}tls:\n  key: a\n  cert: b\n  password: {password}\n{STORE}");
        let problems = problems(&text).join("\n");
        assert!(problems.contains("config.yml:5: tls.password"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let text = format!("{ADMIN}tls: {{ key: a, cert: b, password: hunter2 }}\n{STORE}");
    assert!(!format!("{:?}", config(&text)).contains("hunter2"));
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kes-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_is_loaded_with_paths_from_the_working_directory() {
    let directory = Directory::new("load");
    let path = directory.write("my.conf", with("polices: {}\n").as_bytes());
    let config = load(&path, &Overrides::default(), &no_env).unwrap();
    assert_eq!(config.tls.key, std::env::current_dir().unwrap().join("private.key"));
    let warning = format!("{}:4: unknown field \"polices\" (did you mean \"policy\"?)", path.display());
    assert_eq!(config.warnings, [warning]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let directory = Directory::new("unreadable");
    let error = |path: &Path| {
        let problems = load(path, &Overrides::default(), &no_env).unwrap_err();
        assert_eq!(problems.len(), 1);
        problems[0].strip_prefix(&path.display().to_string()).unwrap().to_string()
    };
    assert!(error(&directory.0.join("none.yml")).starts_with(": cannot open: No such file"));
    assert!(error(&directory.0).starts_with(": cannot read: "));
    assert_eq!(error(&directory.write("latin1.yml", b"a: b\nc: \xe9\n")), ":2: the text is not UTF-8");
    let large = directory.write("large.yml", &vec![b'#'; MAX_FILE + 1]);
    assert_eq!(error(&large), ": the file is larger than 1048576 bytes");
}

#[test]
fn the_hint_for_a_missing_file_tells_of_one_beside_the_configuration() {
    let directory = Directory::new("hint");
    let config_path = directory.write("config.yml", b"");
    let beside = directory.write("there.crt", b"");
    let base = std::env::current_dir().unwrap();
    let hint = missing_file_hint(&base.join("there.crt"), &config_path);
    assert!(hint.starts_with(&format!(
        "tried {}; there is {}",
        base.join("there.crt").display(),
        beside.display()
    )));
    let hint = missing_file_hint(&base.join("gone.crt"), &config_path);
    assert_eq!(hint, format!("tried {}", base.join("gone.crt").display()));
}
