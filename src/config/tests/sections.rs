//! Every section but the key store.

use super::*;

#[test]
fn only_version_v1_is_read_and_the_version_is_checked_first() {
    for version in ["v1", "'v1'", "\"\"", "", "~"] {
        config(&with(&format!("version: {version}")));
    }
    for version in ["1", "v2", "V1", "${OFF}"] {
        let problem = format!("config.yml:2: the version {version:?} is not supported: only v1 is");
        assert_eq!(problems(&format!("tls: [wrong]\nversion: {version}\nkeys: a\n")), [problem]);
    }
    assert_eq!(problems("version: [v1]\ntls: 5\n"), ["config.yml:1: version must be text, not a list"]);
}

#[test]
fn the_address_is_an_ip_and_a_port_and_the_flag_wins() {
    assert_eq!(config(&with("address: '[::1]:0'")).address, "[::1]:0".parse::<SocketAddr>().unwrap());
    assert_problems(&[
        ("address: 127.0.0.1", "4: the address \"127.0.0.1\" has no port: write IP:PORT or :PORT"),
        ("address: 17451", "4: the address \"17451\" has no port: write IP:PORT or :PORT"),
        (
            "address: localhost:7373",
            "4: the address \"localhost:7373\" is not valid: \"localhost\" is no IP address",
        ),
    ]);
    let flag = |addr: &str| Overrides { addr: Some(addr.into()), ..Overrides::default() };
    let text = with("address: not even an address");
    let address =
        |addr: &str| parse_with(&text, &flag(addr), &no_env).map(|config| config.address.to_string());
    assert_eq!(address(":5").unwrap(), "0.0.0.0:5");
    assert_eq!(address("127.0.0.1:5").unwrap(), "127.0.0.1:5");
    assert!(address("localhost:5").unwrap().ends_with(":5"));
    assert_eq!(address("5").unwrap_err(), ["--addr: the address \"5\" has no port: write IP:PORT or :PORT"]);
    assert_eq!(address("").unwrap_err().len(), 1, "an empty flag is not given");
}

#[test]
fn flags_for_key_and_certificate_beat_the_file_and_replace_the_section() {
    let flags = |key: Option<&str>, cert: Option<&str>| Overrides {
        key: key.map(Into::into),
        cert: cert.map(Into::into),
        ..Overrides::default()
    };
    let config = parse_with(&with(""), &flags(Some("k"), None), &no_env).unwrap();
    assert_eq!((config.tls.key, config.tls.cert), ("/srv/kes/k".into(), "/srv/kes/public.crt".into()));
    let text = format!("{ADMIN}{STORE}");
    let config = parse_with(&text, &flags(Some("/k"), Some("../c")), &no_env).unwrap();
    assert_eq!((config.tls.key, config.tls.cert), ("/k".into(), "/srv/kes/../c".into()));
    let problems = parse_with(&text, &flags(Some("k"), None), &no_env).unwrap_err();
    assert_eq!(problems, ["config.yml: no certificate: set tls.cert"]);
}

#[test]
fn the_auth_flag_beats_the_file() {
    let parsed = |file: &str, flag: Option<&str>| {
        let text = format!("{ADMIN}tls: {{ key: a, cert: b, auth: {file} }}\n{STORE}");
        let overrides = Overrides { auth: flag.map(Into::into), ..Overrides::default() };
        parse_with(&text, &overrides, &no_env)
            .map(|config| (config.tls.verify_clients, config.tls.auth_weakened))
    };
    for (file, flag, expected) in [
        ("", None, (false, false)),
        ("''", None, (false, false)),
        ("on", None, (true, false)),
        ("'On'", None, (true, false)),
        ("OFF", None, (false, false)),
        ("on", Some(""), (true, false)),
        ("on", Some("off"), (false, true)),
        ("off", Some("ON"), (true, false)),
        ("off", Some("Off"), (false, false)),
        ("", Some("on"), (true, false)),
    ] {
        assert_eq!(parsed(file, flag).unwrap(), expected, "{file} {flag:?}");
    }
    for file in ["true", "yes", "maybe"] {
        let problem = format!("config.yml:2: tls.auth: {file:?} is neither on nor off");
        assert_eq!(parsed(file, None).unwrap_err(), [problem]);
    }
    assert_eq!(parsed("on", Some("yes")).unwrap_err(), ["--auth: \"yes\" is neither on nor off"]);
}

#[test]
fn a_proxy_needs_a_header_and_is_neither_admin_nor_in_a_policy() {
    let text = |admin: &str, proxy: &str, policy: &str| {
        format!(
            "admin: {{ identity: {admin} }}\ntls:\n  key: a\n  cert: b\n  proxy: {proxy}\n{STORE}\
             policy: {{ app: {{ identities: [{policy}] }} }}\n"
        )
    };
    let proxy = format!("{{ identities: [' {} '], header: {{ cert: X-Cert }} }}", ID_A.to_uppercase());
    let config = config(&text("disabled", &proxy, ID_B));
    assert_eq!(config.tls.proxies, [Identity::parse(ID_A).unwrap()]);
    assert_eq!(config.tls.proxy_header, "X-Cert");
    assert_eq!(
        problems(&text(ID_A, &proxy, ID_B)),
        [format!("config.yml:5: tls.proxy.identities: identity {ID_A:?} is already admin")]
    );
    assert_eq!(
        problems(&text("disabled", &proxy, ID_A)),
        [format!("config.yml:7: policy.app.identities: identity {ID_A:?} is already a TLS proxy")]
    );
    assert_eq!(
        problems(&text("disabled", &format!("{{ identities: [{ID_A}] }}"), ID_B)),
        ["config.yml:5: tls.proxy.identities needs the name of a header in tls.proxy.header.cert"]
    );
    assert_eq!(
        problems(&text("disabled", &format!("{{ identities: [{ID_A}], header: {{ cert: 'X: y' }} }}"), ID_B)),
        ["config.yml:5: tls.proxy.header.cert: \"X: y\" is no header name"]
    );
    assert_eq!(
        problems(&text("disabled", "{ identities: [''], header: { cert: X } }", ID_B)),
        ["config.yml:5: tls.proxy.identities: an identity is empty"]
    );
}

#[test]
fn policies_have_valid_names_and_each_identity_has_one_policy() {
    let rule = "is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)";
    for name in ["''", "_", "-a", "a-", "a.b", "a b"] {
        let shown = name.trim_matches('\'');
        let problem = format!("config.yml:4: policy name {shown:?} {rule}");
        assert_eq!(problems(&with(&format!("policy: {{ {name}: {{}} }}"))), [problem]);
    }
    let upper = ID_A.to_uppercase();
    assert_problems(&[
        (
            &format!("policy:\n  a: {{ identities: [{ID_A}] }}\n  b: {{ identities: [{upper}] }}"),
            &format!("6: policy.b.identities: identity {ID_A:?} already has the policy \"a\" (line 5)"),
        ),
        (
            &format!("policy:\n  a:\n    identities:\n    - {ID_A}\n    - {ID_A}"),
            &format!("8: policy.a.identities: identity {ID_A:?} already has the policy \"a\" (line 7)"),
        ),
        (
            "policy: { a: { identities: [disabled] } }",
            "4: policy.a.identities: identity \"disabled\" is already admin",
        ),
        (
            "policy: { a: { identities: [''] } }",
            "4: policy.a.identities: identity \"\" is empty, too long or contains other characters than 0-9 A-Z a-z _ -",
        ),
        (
            "policy: { a: { identities: [foo.bar] } }",
            "4: policy.a.identities: identity \"foo.bar\" is empty, too long or contains other characters than \
             0-9 A-Z a-z _ -",
        ),
    ]);
    assert_eq!(
        problems(&format!(
            "admin: {{ identity: ' {upper}' }}\n{TLS}{STORE}policy: {{ a: {{ identities: [{ID_A}] }} }}"
        )),
        [format!("config.yml:4: policy.a.identities: identity {ID_A:?} is already admin")]
    );
}

#[test]
fn identities_that_match_nobody_are_warned_about() {
    let nobody = "matches nobody: it is not 64 hexadecimal digits";
    assert_warnings(&[(
        "policy: { a: { identities: [foo] } }",
        &format!("4: policy.a.identities: \"foo\" {nobody}"),
    )]);
    for (admin, warned) in
        [("disabled", false), ("_", false), ("foobar", true), ("abcd", true), (ID_A, false)]
    {
        let warnings = config(&format!("admin: {{ identity: {admin} }}\n{TLS}{STORE}")).warnings;
        assert_eq!(warnings.len(), usize::from(warned), "{admin}: {warnings:?}");
    }
    let text =
        format!("admin: {{ identity: foo }}\n{TLS}{STORE}policy: {{ a: {{ identities: [disabled] }} }}");
    assert_eq!(config(&text).warnings, [format!("config.yml:1: admin.identity: \"foo\" {nobody}")]);
}

#[test]
fn an_api_key_as_identity_is_refused_and_not_printed() {
    let key = "kes:v1:AAAAsecretsecretsecret";
    let texts = [
        format!("admin: {{ identity: '{key}' }}\n{TLS}{STORE}"),
        with(&format!("policy: {{ a: {{ identities: [' {key}'] }} }}")),
        format!(
            "{ADMIN}tls: {{ key: a, cert: b, proxy: {{ identities: ['{key}'], header: {{ cert: X }} }} }}\n{STORE}"
        ),
    ];
    for text in texts {
        let problems = problems(&text).join("\n");
        assert!(problems.contains("this is an API key, a secret"), "{problems}");
        assert!(!problems.contains("AAAA"), "{problems}");
    }
}

#[test]
fn odd_patterns_are_warned_about_and_kept() {
    let row = |pattern: &str| {
        let config = config(&with(&format!("policy: {{ a: {{ allow: [\"{pattern}\"] }} }}")));
        assert_eq!(config.policies.policies[0].allow.len(), 1);
        config.warnings.join("\n")
    };
    for pattern in ["/v1/*", "*", "/*", "/v1/status", "/v1/key/create/a-*"] {
        assert_eq!(row(pattern), "", "{pattern}");
    }
    for pattern in ["/v1/*/x", "/v1/key/a?", "/v1/[a-z]", "/v1/{a,b}", "/v1/**", "**", "/v1/a\\\\*"] {
        assert!(row(pattern).starts_with("config.yml:4: policy.a.allow: the pattern"), "{pattern}");
        assert!(row(pattern).contains("is no glob"), "{pattern}");
    }
    for pattern in ["v1/*", " /v1/status"] {
        assert!(row(pattern).contains("does not start with a slash"), "{pattern}");
    }
    assert!(row("").contains("is empty and matches nothing"));
}

#[test]
fn cache_expiry_has_its_defaults_and_is_never_negative() {
    let config = config(&with("cache: { expiry: { any: 10s, unused: 0s, offline: 1m } }"));
    assert_eq!(config.cache.any, Duration::from_secs(10));
    assert_eq!(config.cache.unused, Duration::from_secs(30));
    assert_eq!(config.cache.offline, Duration::from_secs(60));
    assert_problems(&[
        ("cache: { expiry: { any: -5s } }", "4: cache.expiry.any: the duration \"-5s\" is negative"),
        ("cache: { expiry: { unused: -5s } }", "4: cache.expiry.unused: the duration \"-5s\" is negative"),
        ("cache: { expiry: { offline: -5s } }", "4: cache.expiry.offline: the duration \"-5s\" is negative"),
    ]);
}

#[test]
fn api_settings_are_for_known_paths_and_open_only_four() {
    for path in OPEN_PATHS {
        let config = config(&with(&format!("api: {{ {path}: {{ skip_auth: true }} }}")));
        assert!(config.api[0].skip_auth, "{path}");
    }
    for path in API_PATHS.iter().filter(|path| !OPEN_PATHS.contains(path)) {
        assert_problems(&[(
            &format!("api: {{ {path}: {{ skip_auth: true }} }}"),
            &format!(
                "4: api.{path}: skip_auth is possible for /v1/ready, /v1/status, /v1/metrics, /v1/api only"
            ),
        )]);
        let config = config(&with(&format!("api: {{ {path}: {{ skip_auth: false, timeout: 0s }} }}")));
        assert_eq!(config.api, [ApiConfig { path: path.to_string(), skip_auth: false, timeout: None }]);
    }
    assert_warnings(&[
        (
            "api: { /v1/key/create: { timeout: 5s } }",
            "4: unknown API path \"/v1/key/create\" (did you mean \"/v1/key/create/\"?)",
        ),
        ("api: { /nothing/at/all/like/it: {} }", "4: unknown API path \"/nothing/at/all/like/it\""),
    ]);
    assert_problems(&[(
        "api: { /v1/ready: { timeout: -1s } }",
        "4: api./v1/ready.timeout: the duration \"-1s\" is negative",
    )]);
}

#[test]
fn log_levels_are_names_with_offsets_or_numbers() {
    for (written, level) in [
        ("", 0),
        ("''", 0),
        ("on", 0),
        ("ON", 0),
        ("off", 9),
        ("' debug '", -4),
        ("info", 0),
        ("Warn", 4),
        ("ERROR", 8),
        ("error+1", 9),
        ("'error +1'", 9),
        ("debug+2", -2),
        ("info-1", -1),
        ("-4", -4),
        ("0", 0),
        ("'12'", 12),
    ] {
        let config = config(&with(&format!("log: {{ error: {written}, audit: {written} }}")));
        assert_eq!(config.log, LogConfig { error: level, audit: level, file: None }, "{written}");
    }
    for written in
        ["trace", "true", "info+", "info+x", "on+1", "info+ 1", "1.5", "99999999999", "error+2147483647"]
    {
        let problem = format!(
            "config.yml:4: log.audit: {written:?} is no log level: use on, off, debug, info, warn, error, LEVEL+N, \
             LEVEL-N or a number"
        );
        assert_eq!(problems(&with(&format!("log: {{ audit: '{written}' }}"))), [problem]);
    }
}

#[test]
fn keys_to_be_created_have_valid_and_different_names() {
    let config = config(&with("keys:\n- name: a\n- { name: b-1 }"));
    assert_eq!(config.keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["a", "b-1"]);
    assert_problems(&[(
        "keys:\n- name: a\n- name: b\n- name: a",
        "7: keys: the key \"a\" is already in line 5",
    )]);
    for name in ["''", "a/b", "a.b", "a b", "_", "'${EMPTY}'"] {
        let problems = problems(&with(&format!("keys:\n- name: {name}")));
        assert!(problems[0].starts_with("config.yml:5: keys: the name "), "{problems:?}");
    }
    assert_eq!(problems(&with("keys:\n- {}")).len(), 1);
}
