//! Kinds of values, and references to the environment.

use super::*;

#[test]
fn text_is_any_scalar_as_written() {
    for (written, text) in
        [("17451", "17451"), ("true", "true"), ("'a b'", "a b"), ("1.50", "1.50"), ("0x10", "0x10")]
    {
        let config = config(&format!("{ADMIN}{TLS}keystore: {{ fs: {{ path: {written} }} }}\n"));
        assert_eq!(fs(&config).0, text);
    }
    assert_problems(&[
        ("address: [a]", "4: address must be text, not a list"),
        ("address:\n  a: b", "5: address must be text, not a mapping"),
        ("keys: [a]", "4: an entry of keys must be a mapping, not text"),
        ("keys: a", "4: keys must be a list, not text"),
        ("policy: [a]", "4: policy must be a mapping, not a list"),
        ("policy: { a: { allow: /v1/status } }", "4: policy.a.allow must be a list, not text"),
        ("policy: { a: { allow: [[x]] } }", "4: policy.a.allow must be text, not a list"),
    ]);
}

#[test]
fn booleans_are_unquoted_words_in_any_case() {
    for (written, value) in [
        ("true", true),
        ("True", true),
        ("YES", true),
        ("on", true),
        ("${TRUE}", true),
        ("'${TRUE}'", true),
        ("false", false),
        ("no", false),
        ("OFF", false),
        ("", false),
    ] {
        let config = config(&with(&format!("api:\n  /v1/ready:\n    skip_auth: {written}")));
        assert_eq!(config.api[0].skip_auth, value, "{written}");
    }
    for written in ["1", "0", "\"true\"", "'yes'", "maybe", "\"\"", "${EMPTY}"] {
        assert_eq!(
            problems(&with(&format!("api:\n  /v1/ready:\n    skip_auth: {written}"))),
            ["config.yml:6: api./v1/ready.skip_auth must be true or false, without quotes"],
            "{written}"
        );
    }
}

#[test]
fn durations_are_gos_with_days_and_a_bare_zero() {
    for (written, seconds) in
        [("5m0s", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172_800), ("${TIME}", 7), ("'9s'", 9)]
    {
        let config =
            config(&with(&format!("cache: {{ expiry: {{ any: '{}' }} }}", written.trim_matches('\''))));
        assert_eq!(config.cache.any, Duration::from_secs(seconds), "{written}");
    }
    for written in ["0", "0s", "", "~"] {
        let config = config(&with(&format!("cache: {{ expiry: {{ any: {written} }} }}")));
        assert_eq!(config.cache.any, Duration::from_secs(300), "{written}");
    }
    assert_problems(&[
        (
            "cache: { expiry: { any: 5 } }",
            "4: cache.expiry.any: \"5\" has no unit: add one of ns, us, ms, s, m, h, d",
        ),
        (
            "cache: { expiry: { any: 5.5 } }",
            "4: cache.expiry.any: \"5.5\" has no unit: add one of ns, us, ms, s, m, h, d",
        ),
        (
            "cache: { expiry: { any: \"\" } }",
            "4: cache.expiry.any: \"\" is no duration: write for example 30s, 5m or 1h30m",
        ),
        (
            "api: { /v1/ready: { timeout: 5 } }",
            "4: api./v1/ready.timeout: \"5\" has no unit: add one of ns, us, ms, s, m, h, d",
        ),
    ]);
}

#[test]
fn a_whole_scalar_is_replaced_from_the_environment() {
    for written in
        ["${ID}", "${ ID }", "'${ID}'", "\"  ${ID}  \"", "${UNSET:-disabled}", "${EMPTY:-disabled}"]
    {
        let config = config(&format!("admin:\n  identity: {written}\n{TLS}{STORE}"));
        assert!([ID_A, "disabled"].contains(&config.policies.admin.as_str()), "{written}");
    }
    for (written, admin) in
        [("${ID:-x}", ID_A), ("${UNSET:-a:-b}", "a:-b"), ("'${UNSET:- a b }'", "a b"), ("${NESTED}", "${ID}")]
    {
        let config = config(&format!("admin:\n  identity: {written}\n{TLS}{STORE}"));
        assert_eq!(config.policies.admin, admin, "{written}");
    }
}

#[test]
fn references_work_in_every_scalar_field() {
    let text = "address: ${ADDR}
admin: { identity: '${WORD}' }
tls:
  key: ${WORD}
  cert: ${WORD}
  password: ${WORD}
  auth: ${OFF}
  ca: ${WORD}
  proxy: { identities: ['${ID}'], header: { cert: '${WORD}' } }
policy: { app: { identities: ['${OFF}'] } }
cache: { expiry: { any: '${TIME}', unused: '${TIME}', offline: '${TIME}' } }
api: { /v1/ready: { skip_auth: '${TRUE}', timeout: '${TIME}' } }
log: { error: '${OFF}', audit: '${OFF}' }
keys: [{ name: '${WORD}' }]
keystore: { fs: { path: '${WORD}', seal: { file: '${OFF}', unlock: '${UNSET:-none}' } } }
";
    let config = config(text);
    let word = PathBuf::from("/srv/kes/hunter2");
    let seven = Duration::from_secs(7);
    assert_eq!(config.address.to_string(), "127.0.0.1:1234");
    assert_eq!(config.policies.admin, "hunter2");
    assert_eq!((&config.tls.key, &config.tls.cert, &config.tls.ca), (&word, &word, &Some(word.clone())));
    assert_eq!(&config.tls.password.as_ref().unwrap()[..], b"hunter2");
    assert_eq!((config.tls.proxies.len(), config.tls.proxy_header.as_str()), (1, "hunter2"));
    assert_eq!(config.policies.policies[0].identities, ["off"]);
    assert_eq!((config.cache.any, config.cache.unused, config.cache.offline), (seven, seven, seven));
    assert_eq!((config.api[0].skip_auth, config.api[0].timeout), (true, Some(seven)));
    assert_eq!(config.log, LogConfig { error: 9, audit: 9, file: None });
    assert_eq!(config.keys[0].as_str(), "hunter2");
    assert_eq!(
        fs(&config),
        ("hunter2", &*word, &SealConfig::On { file: "/srv/kes/off".into(), unlock: Source::None })
    );
}

#[test]
fn references_are_not_replaced_elsewhere() {
    let config = config(&with("policy:\n  a:\n    allow: ['${ID}']\n    deny: ['/v1/${ID}']"));
    assert_eq!(config.policies.policies[0].allow[0].as_str(), "${ID}");
    assert_eq!(config.policies.policies[0].deny[0].as_str(), "/v1/${ID}");
    assert!(config.warnings[0].contains("environment variables are not replaced in patterns"));
    for path in ["./k-${ID}", "$ID", "$${ID}", "${ID}x", "$(ID)"] {
        let config = super::config(&format!("{ADMIN}{TLS}keystore: {{ fs: {{ path: '{path}' }} }}"));
        assert_eq!(fs(&config).0, path, "no part of a scalar is replaced");
    }
    assert_problems(&[(
        "policy: { '${ID}': {} }",
        "4: policy name \"${ID}\" is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)",
    )]);
    assert_eq!(
        problems(&with("version: ${OFF}")),
        ["config.yml:4: the version \"${OFF}\" is not supported: only v1 is"]
    );
}

#[test]
fn an_unset_variable_is_an_error_with_its_line() {
    assert_problems(&[
        ("address: ${NOPE}", "4: address: the environment variable \"NOPE\" is not set"),
        ("address: ${}", "4: address: the environment variable \"\" is not set"),
        ("address: ${A=B}", "4: address: the environment variable \"A=B\" is not set"),
        ("address: '${OFF}${OFF}'", "4: address: the environment variable \"OFF}${OFF\" is not set"),
        (
            "policy: { a: { identities: ['${NOPE}'] } }",
            "4: policy.a.identities: the environment variable \"NOPE\" is not set",
        ),
        (
            "cache: { expiry: { any: '${EMPTY}' } }",
            "4: cache.expiry.any: \"\" is no duration: write for example 30s, 5m or 1h30m",
        ),
    ]);
    assert_eq!(
        problems(&format!("admin: {{ identity: '${{EMPTY}}' }}\n{TLS}{STORE}")),
        ["config.yml:1: no admin identity: set admin.identity, to disabled if there shall be no admin"]
    );
}

#[test]
fn a_value_from_the_environment_is_text_and_never_null() {
    let config = config(&format!("admin: {{ identity: '${{NULL}}' }}\n{TLS}{STORE}"));
    assert_eq!(config.policies.admin, "null");
}
