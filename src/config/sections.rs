//! The sections of the file, in the order in which errors are reported (`config` §12).

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ApiConfig, Config, DEFAULT_ADDRESS, DEFAULT_CACHE, LogConfig, Overrides, TlsConfig, address, keystore,
    reader::{Reader, Section, Text},
    yaml::{Node, Value},
};
use crate::{
    crypto::SecretBytes,
    keyring::CacheExpiry,
    name::{Identity, KeyName, is_valid_name},
    policy::{Pattern, Policy, PolicySet},
    text::duration::parse_duration,
};

const FIELDS: [&str; 9] = ["version", "address", "admin", "tls", "policy", "cache", "api", "log", "keys"];

/// Fields of older releases that the original ignores today, which is dangerous, and what replaced them (`config` §10).
const OLD_FIELDS: [(&str, &str); 2] = [
    ("root", "'root' is of an old release: use 'admin.identity'"),
    ("proxy", "'proxy' at the top level is of an old release: use 'tls.proxy'"),
];

/// Paths on which `skip_auth` is allowed.
const MAY_SKIP_AUTH: [&str; 4] = ["/v1/ready", "/v1/status", "/v1/metrics", "/v1/api"];

/// Paths that the `api:` section can name: the routes of the server (`server-api` §2.1).
const API_PATHS: [&str; 22] = [
    "/version",
    "/v1/ready",
    "/v1/status",
    "/v1/metrics",
    "/v1/api",
    "/v1/key/create/",
    "/v1/key/import/",
    "/v1/key/describe/",
    "/v1/key/list/",
    "/v1/key/delete/",
    "/v1/key/encrypt/",
    "/v1/key/generate/",
    "/v1/key/decrypt/",
    "/v1/key/hmac/",
    "/v1/policy/describe/",
    "/v1/policy/read/",
    "/v1/policy/list/",
    "/v1/identity/describe/",
    "/v1/identity/list/",
    "/v1/identity/self/describe",
    "/v1/log/error",
    "/v1/log/audit",
];

/// Who has an identity already, so that no other may have it.
#[derive(Clone, PartialEq, Eq)]
enum Holder {
    Admin,
    Proxy,
    Policy(String),
}

/// Reads all sections and checks them against each other.
pub fn read(
    mut reader: Reader<'_>,
    root: Option<Node>,
    base: &Path,
    overrides: &Overrides,
) -> Result<Config, Vec<String>> {
    let Some(root) = root.filter(|root| root.value != Value::Null) else {
        reader.error(0, "the file is empty: the sections 'admin', 'tls' and 'keystore' are missing");
        return Err(reader.errors);
    };
    let mut known = FIELDS.to_vec();
    known.extend(["keystore"]);
    known.extend(OLD_FIELDS.map(|(name, _)| name));
    let Some(file) = reader.section(&root, "", &known) else { return Err(reader.errors) };
    check_version(&mut reader, &file);
    if !reader.errors.is_empty() {
        return Err(reader.errors);
    }
    for (name, message) in OLD_FIELDS {
        if let Some(line) = file.has(name) {
            reader.error(line, message);
        }
    }
    let mut holders = HashMap::new();
    let admin = read_admin(&mut reader, &file, &mut holders);
    let tls = read_tls(&mut reader, &file, base, overrides, &mut holders);
    let policies = read_policies(&mut reader, &file, &mut holders);
    let cache = read_cache(&mut reader, &file);
    let api = read_api(&mut reader, &file);
    let log = read_log(&mut reader, &file);
    let keys = read_keys(&mut reader, &file);
    let keystore = keystore::read(&mut reader, file.get("keystore"), base);
    let address = read_address(&mut reader, &file, overrides);
    match (admin, tls, keystore, address) {
        (Some(admin), Some(tls), Some(keystore), Some(address)) if reader.errors.is_empty() => Ok(Config {
            address,
            tls,
            policies: PolicySet::new(admin, policies),
            cache,
            api,
            log,
            keys,
            keystore,
            warnings: reader.warnings,
        }),
        _ => Err(reader.errors),
    }
}

/// A path as written, from `base` if it is relative.
pub fn absolute(base: &Path, text: &str) -> PathBuf {
    let path = base.join(text);
    // `.` in the middle would only be noise in messages.
    path.components().collect()
}

fn check_version(reader: &mut Reader<'_>, file: &Section<'_>) {
    let Some(node) = file.get("version") else { return };
    let Some(version) = reader.literal(node, "version") else { return };
    if !matches!(&*version.text, "" | "v1") {
        let message = format!("invalid server config version '{}': only 'v1' is known", version.text);
        reader.error(version.line, message);
    }
}

fn read_address(
    reader: &mut Reader<'_>,
    file: &Section<'_>,
    overrides: &Overrides,
) -> Option<std::net::SocketAddr> {
    let written = reader.field(file, "address");
    if let Some(addr) = overrides.addr.as_deref().filter(|addr| !addr.is_empty()) {
        return address::parse(addr).map_err(|error| reader.errors.push(format!("--addr: {error}"))).ok();
    }
    let (line, text) = written.map_or((0, DEFAULT_ADDRESS.to_owned()), |text| (text.line, text.text));
    address::parse(&text).map_err(|error| reader.error(line, error)).ok()
}

fn read_admin(
    reader: &mut Reader<'_>,
    file: &Section<'_>,
    holders: &mut HashMap<String, Holder>,
) -> Option<String> {
    let section = file.get("admin").map(|node| (node.line, reader.section(node, "admin", &["identity"])));
    let line = section.as_ref().map_or(0, |(line, _)| *line);
    let identity = section.and_then(|(_, section)| reader.field(&section?, "identity"));
    let Some(identity) = identity else {
        reader.error(
            line,
            "no admin identity: 'admin.identity' is missing or empty (use 'disabled' for no admin)",
        );
        return None;
    };
    let admin = read_identity(reader, &identity)?;
    holders.insert(admin.clone(), Holder::Admin);
    Some(admin)
}

/// An identity, trimmed and folded (`config` §6).
fn read_identity(reader: &mut Reader<'_>, text: &Text) -> Option<String> {
    let trimmed = text.text.trim();
    if trimmed.starts_with(crate::tls::identity::API_KEY_PREFIX) {
        reader
            .error(text.line, "this is an API key, which is a secret; use its identity ('kes identity of')");
        return None;
    }
    if let Some(identity) = Identity::parse(trimmed) {
        return Some(identity.to_string());
    }
    if !matches!(trimmed, "disabled" | "_") {
        let message = format!("identity '{trimmed}' is not 64 hexadecimal digits and matches nobody");
        reader.warn(text.line, message);
    }
    Some(trimmed.to_owned())
}

fn read_tls(
    reader: &mut Reader<'_>,
    file: &Section<'_>,
    base: &Path,
    overrides: &Overrides,
    holders: &mut HashMap<String, Holder>,
) -> Option<TlsConfig> {
    const FIELDS: [&str; 6] = ["key", "cert", "password", "auth", "ca", "proxy"];
    let line = file.has("tls").unwrap_or(0);
    let section = file.get("tls").and_then(|node| reader.section(node, "tls", &FIELDS));
    let field =
        |reader: &mut Reader<'_>, name: &str| section.as_ref().and_then(|tls| reader.field(tls, name));
    let path = |reader: &mut Reader<'_>, name: &str, flag: &Option<String>, what: &str| {
        let written = field(reader, name).map(|text| text.text);
        let path = flag.clone().filter(|flag| !flag.is_empty()).or(written);
        if path.is_none() {
            reader.error(line, format!("no {what}: 'tls.{name}' is missing or empty"));
        }
        path.map(|path| absolute(base, &path))
    };
    let key = path(reader, "key", &overrides.key, "private key");
    let cert = path(reader, "cert", &overrides.cert, "certificate");
    let password = field(reader, "password").map(|text| SecretBytes::from(text.text.into_bytes()));
    let written = field(reader, "auth");
    let written = match &written {
        Some(auth) => parse_auth(&auth.text).map_err(|error| reader.error(auth.line, error)).unwrap_or(None),
        None => None,
    };
    let flag = match parse_auth(overrides.auth.as_deref().unwrap_or("")) {
        Ok(flag) => flag,
        Err(error) => {
            reader.errors.push(format!("--auth: {error}"));
            None
        }
    };
    let ca = field(reader, "ca").map(|text| absolute(base, &text.text));
    let proxy = section.as_ref().and_then(|tls| tls.get("proxy"));
    let (proxies, proxy_header) = proxy.map(|node| read_proxy(reader, node, holders)).unwrap_or_default();
    Some(TlsConfig {
        key: key?,
        cert: cert?,
        password,
        verify_clients: flag.or(written).unwrap_or(false),
        auth_weakened: written == Some(true) && flag == Some(false),
        ca,
        proxies,
        proxy_header,
    })
}

/// `on` or `off` in any case; `None` if empty.
fn parse_auth(text: &str) -> Result<Option<bool>, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        _ => Err(format!("invalid auth '{text}': 'on' or 'off' is expected")),
    }
}

fn read_proxy(
    reader: &mut Reader<'_>,
    node: &Node,
    holders: &mut HashMap<String, Holder>,
) -> (Vec<Identity>, String) {
    let Some(proxy) = reader.section(node, "tls.proxy", &["identities", "header"]) else {
        return Default::default();
    };
    let header = proxy.get("header").and_then(|node| reader.section(node, "tls.proxy.header", &["cert"]));
    let header =
        header.and_then(|header| reader.field(&header, "cert")).map_or(String::new(), |text| text.text);
    let mut proxies = Vec::new();
    for text in reader.texts(&proxy, "identities").into_iter().filter(|text| !text.text.trim().is_empty()) {
        let Some(identity) = read_identity(reader, &text) else { continue };
        if holders.get(&identity) == Some(&Holder::Admin) {
            reader.error(text.line, format!("invalid tls proxy: identity '{identity}' is already admin"));
        }
        proxies.extend(Identity::parse(&identity));
        holders.insert(identity, Holder::Proxy);
    }
    if !proxies.is_empty() && header.is_empty() {
        reader.error(node.line, "'tls.proxy.identities' needs 'tls.proxy.header.cert'");
    }
    if !proxies.is_empty() {
        reader.error(node.line, "'tls.proxy' is not supported by this build");
    }
    (proxies, header)
}

fn read_policies(
    reader: &mut Reader<'_>,
    file: &Section<'_>,
    holders: &mut HashMap<String, Holder>,
) -> Vec<Policy> {
    let Some(section) = file.get("policy").and_then(|node| reader.names(node, "policy")) else {
        return Vec::new();
    };
    let mut policies = Vec::new();
    for (key, node) in section.entries() {
        if !is_valid_name(key.text.as_bytes()) {
            let message =
                format!("policy name '{}' is empty, too long or contains invalid characters", key.text);
            reader.error(key.line, message);
            continue;
        }
        policies.push(read_policy(reader, &key.text, node, holders));
    }
    policies
}

fn read_policy(
    reader: &mut Reader<'_>,
    name: &str,
    node: &Node,
    holders: &mut HashMap<String, Holder>,
) -> Policy {
    let mut policy =
        Policy { name: name.to_owned(), allow: Vec::new(), deny: Vec::new(), identities: Vec::new() };
    if node.value == Value::Null {
        return policy;
    }
    let path = format!("policy.{name}");
    let fields = ["allow", "deny", "identities", "paths"];
    let Some(section) = reader.section(node, &path, &fields) else { return policy };
    if let Some(line) = section.has("paths") {
        reader.error(line, format!("'{path}.paths' is of an old release: use '{path}.allow'"));
    }
    for (field, patterns) in [("allow", &mut policy.allow), ("deny", &mut policy.deny)] {
        for pattern in reader.literals(&section, field) {
            check_pattern(reader, &pattern);
            patterns.push(Pattern::new(&pattern.text));
        }
    }
    for text in reader.texts(&section, "identities") {
        policy.identities.extend(read_member(reader, name, &text, holders));
    }
    policy
}

/// An identity of a policy, which nobody else may have.
fn read_member(
    reader: &mut Reader<'_>,
    policy: &str,
    text: &Text,
    holders: &mut HashMap<String, Holder>,
) -> Option<String> {
    let identity = text.text.trim();
    if !identity.starts_with(crate::tls::identity::API_KEY_PREFIX) && !is_valid_name(identity.as_bytes()) {
        let message = format!("identity '{identity}' is empty, too long or contains invalid characters");
        reader.error(text.line, message);
        return None;
    }
    let identity = read_identity(reader, text)?;
    let problem = match holders.get(&identity) {
        Some(Holder::Admin) => format!("invalid policy '{policy}': identity '{identity}' is already admin"),
        Some(Holder::Proxy) => {
            format!("invalid policy '{policy}': identity '{identity}' is already a TLS proxy")
        }
        Some(Holder::Policy(other)) => format!(
            "cannot assign policy '{policy}' to '{identity}': identity already has a policy ('{other}')"
        ),
        None => {
            holders.insert(identity.clone(), Holder::Policy(policy.to_owned()));
            return Some(identity);
        }
    };
    reader.error(text.line, problem);
    None
}

/// Warns of patterns that look as if they did something that they do not do.
fn check_pattern(reader: &mut Reader<'_>, pattern: &Text) {
    let text = pattern.text.as_str();
    let stem = text.strip_suffix('*').unwrap_or(text);
    if !text.is_empty() && text != "*" && !text.starts_with('/') {
        reader.warn(pattern.line, format!("pattern '{text}' does not start with '/' and never matches"));
    } else if stem.contains(['*', '?', '[', ']', '\\']) {
        let message =
            format!("pattern '{text}': only a '*' at the end is special, all else is taken literally");
        reader.warn(pattern.line, message);
    }
}

fn read_cache(reader: &mut Reader<'_>, file: &Section<'_>) -> CacheExpiry {
    let mut expiry = DEFAULT_CACHE;
    let cache = file.get("cache").and_then(|node| reader.section(node, "cache", &["expiry"]));
    let Some(node) = cache.and_then(|cache| cache.get("expiry")) else { return expiry };
    let Some(section) = reader.section(node, "cache.expiry", &["any", "unused", "offline"]) else {
        return expiry;
    };
    let fields = [
        ("any", &mut expiry.any, "cache expiry"),
        ("unused", &mut expiry.unused, "cache unused expiry"),
        ("offline", &mut expiry.offline, "offline cache expiry"),
    ];
    for (name, value, what) in fields {
        // Zero is the same as nothing: the default (`config` §4).
        if let Some(duration) = read_duration(reader, &section, name, what).filter(|value| !value.is_zero()) {
            *value = duration;
        }
    }
    expiry
}

fn read_duration(reader: &mut Reader<'_>, section: &Section<'_>, name: &str, what: &str) -> Option<Duration> {
    let node = section.get(name)?;
    let text = reader.text(node, &section.name(name))?;
    match parse_duration(&text.text) {
        Ok((false, duration)) => Some(duration),
        Ok((true, _)) => {
            reader.error(text.line, format!("invalid {what} '{}': it is negative", text.text));
            None
        }
        Err(error) => {
            reader.error(text.line, format!("invalid {what}: {error}"));
            None
        }
    }
}

fn read_api(reader: &mut Reader<'_>, file: &Section<'_>) -> Vec<ApiConfig> {
    let Some(section) = file.get("api").and_then(|node| reader.names(node, "api")) else { return Vec::new() };
    let mut api = Vec::new();
    for (key, node) in section.entries() {
        let path = key.text.clone();
        if !API_PATHS.contains(&&*path) {
            let hint = crate::text::suggest::nearest(&path, API_PATHS.into_iter());
            let hint = hint.map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"));
            reader.warn(key.line, format!("unknown API path \"{path}\"{hint}"));
            continue;
        }
        if node.value == Value::Null {
            continue;
        }
        let name = format!("api.{path}");
        let Some(entry) = reader.section(node, &name, &["skip_auth", "timeout"]) else { continue };
        let skip_auth = read_bool(reader, &entry, "skip_auth").unwrap_or(false);
        if skip_auth && !MAY_SKIP_AUTH.contains(&&*path) {
            let message =
                format!("'skip_auth' is not allowed for '{path}', only for {}", MAY_SKIP_AUTH.join(", "));
            reader.error(key.line, message);
        }
        let timeout = read_duration(reader, &entry, "timeout", &format!("timeout for API '{path}'"));
        api.push(ApiConfig { path, skip_auth, timeout: timeout.filter(|timeout| !timeout.is_zero()) });
    }
    api
}

/// The words that YAML 1.1 takes for a truth value; unquoted, or from the environment.
fn read_bool(reader: &mut Reader<'_>, section: &Section<'_>, name: &str) -> Option<bool> {
    let node = section.get(name)?;
    let text = reader.text(node, &section.name(name))?;
    let value = match &*text.text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    };
    let value = value.filter(|_| text.is_plain);
    if value.is_none() {
        reader.error(text.line, format!("'{}' must be true or false", section.name(name)));
    }
    value
}

fn read_log(reader: &mut Reader<'_>, file: &Section<'_>) -> LogConfig {
    let mut log = LogConfig { error: 0, audit: 0 };
    let Some(section) = file.get("log").and_then(|node| reader.section(node, "log", &["error", "audit"]))
    else {
        return log;
    };
    for (name, level) in [("error", &mut log.error), ("audit", &mut log.audit)] {
        if let Some(text) = reader.field(&section, name) {
            match parse_level(&text.text) {
                Some(value) => *level = value,
                None => reader.error(
                    text.line,
                    format!(
                        "invalid log level '{}': on, off, debug, info, warn, error, LEVEL+N, LEVEL-N or a number \
                         is expected",
                        text.text
                    ),
                ),
            }
        }
    }
    log
}

/// `on`, `off`, a name with an optional distance, or a number (`config` §4).
fn parse_level(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_lowercase();
    if let Ok(level) = text.parse::<i32>() {
        return Some(level);
    }
    let (name, distance) = match text.find(['+', '-']) {
        Some(place) => (text[..place].trim_end(), text[place..].parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let base = match name {
        "on" if text == "on" => 0,
        "off" if text == "off" => 9,
        "debug" => -4,
        "info" => 0,
        "warn" => 4,
        "error" => 8,
        _ => return None,
    };
    i32::checked_add(base, distance)
}

fn read_keys(reader: &mut Reader<'_>, file: &Section<'_>) -> Vec<KeyName> {
    let Some(node) = file.get("keys") else { return Vec::new() };
    if matches!(node.value, Value::Map(_)) {
        reader.error(node.line, "'keys' is a list of names; a key store belongs under 'keystore'");
        return Vec::new();
    }
    let mut keys = Vec::new();
    for item in reader.list(node, "keys") {
        let Some(section) = reader.section(item, "keys", &["name"]) else { continue };
        let name = reader.field(&section, "name").map_or(String::new(), |text| text.text);
        match KeyName::parse(&name) {
            None => {
                let message = format!("key name '{name}' is empty, too long or contains invalid characters");
                reader.error(item.line, message);
            }
            Some(name) if keys.contains(&name) => {
                reader
                    .error(item.line, format!("invalid key config: key '{name}' is defined multiple times"));
            }
            Some(name) => keys.push(name),
        }
    }
    keys
}
