//! The whole file: every section but `policy` and `keystore`, and what sections must agree on.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use super::{
    API_PATHS, ApiConfig, Config, LogConfig, OPEN_PATHS, Overrides, TlsConfig, address,
    keystore::keystore,
    policies::{Taken, identity, policies, warn_if_nobody},
    read::{Fields, Reader, Reported, Topic},
    yaml::{Entry, Node, Value},
};
use crate::{
    crypto::SecretBytes,
    keyring::CacheExpiry,
    name::{Identity, KeyName},
    policy::PolicySet,
};

/// Sections, and the older forms `root` and `proxy`, which are named in errors.
const SECTIONS: [&str; 14] = [
    "version", "address", "probe", "admin", "tls", "policy", "cache", "api", "log", "keys", "keystore",
    "sandbox", "root", "proxy",
];

/// Defaults of `cache.expiry`; offline keys are not kept.
pub(super) const DEFAULT_CACHE: CacheExpiry = CacheExpiry {
    any: Duration::from_secs(5 * 60),
    unused: Duration::from_secs(30),
    offline: Duration::ZERO,
};

/// Level names of `log`. `off` is above every event.
const LEVELS: [(&str, i32); 6] =
    [("on", 0), ("off", 9), ("debug", -4), ("info", 0), ("warn", 4), ("error", 8)];

/// Reads everything; problems are recorded in `reader`.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    root: &'a Node,
    overrides: &Overrides,
) -> Result<Config, Reported> {
    if root.is_null() {
        let problem = "the file is empty: it needs the sections admin, tls and keystore";
        return Err(reader.problem(Topic::Admin, None, problem));
    }
    if let Value::Map(entries) = &root.value {
        check_version(reader, entries)?;
    }
    let top = reader.fields(Some(root), "", &SECTIONS)?;
    check_old_forms(reader, top);

    let admin = admin(reader, top);
    let tls_fields =
        reader.fields(top.get("tls"), "tls", &["key", "cert", "password", "auth", "ca", "proxy"]);
    let proxy = tls_fields.as_ref().ok().map(|fields| read_proxy(reader, *fields, admin.as_deref().ok()));
    let tls = tls_fields.and_then(|fields| tls(reader, fields, overrides));
    let taken = Taken {
        admin: admin.as_deref().unwrap_or_default(),
        proxies: proxy.as_ref().map(|proxy| proxy.texts.as_slice()).unwrap_or_default(),
    };
    let policies = policies(reader, top.get("policy"), &taken);
    let cache = cache(reader, top);
    let api = api(reader, top);
    let log = log(reader, top);
    let keys = keys(reader, top);
    let keystore = keystore(reader, top.get("keystore"));
    let sandbox = on_or_off(reader, top.get("sandbox"), "sandbox", Topic::Type);
    let address = listen_address(reader, top, overrides);
    let probe = probe_address(reader, top);

    let (mut tls, proxy) = (tls?, proxy.unwrap_or_default());
    (tls.proxies, tls.proxy_header) = (proxy.identities, proxy.header);
    Ok(Config {
        address: address?,
        probe: probe?,
        tls,
        policies: PolicySet::new(admin?, policies?),
        cache: cache?,
        api: api?,
        log: log?,
        keys: keys?,
        keystore: keystore?,
        sandbox: sandbox?.unwrap_or(true),
        warnings: Vec::new(),
    })
}

/// The version is compared as written, before everything else: a later version may mean other things by its fields.
fn check_version(reader: &mut Reader<'_>, entries: &[Entry]) -> Result<(), Reported> {
    let entry = entries.iter().find(|entry| entry.key == "version");
    match reader.literal(entry.map(|entry| &*entry.value), "version")? {
        Some(text) if !text.is_empty() && &*text != "v1" => {
            let problem = format!("the version {:?} is not supported: only v1 is", &*text);
            Err(reader.problem(Topic::Type, Some(text.line), problem))
        }
        _ => Ok(()),
    }
}

fn check_old_forms(reader: &mut Reader<'_>, top: Fields<'_>) {
    for (old, new, topic) in [("root", "admin.identity", Topic::Admin), ("proxy", "tls.proxy", Topic::Tls)] {
        if let Some(node) = top.get(old) {
            reader.problem(topic, Some(node.line), format!("{old} is an older form: use {new}"));
        }
    }
}

fn admin<'a>(reader: &mut Reader<'a>, top: Fields<'a>) -> Result<String, Reported> {
    let path = "admin.identity";
    let fields = reader.fields(top.get("admin"), "admin", &["identity"])?;
    let text = reader.text(fields.get("identity"), path)?;
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        let problem = "no admin identity: set admin.identity, to disabled if there shall be no admin";
        return Err(reader.problem(Topic::Admin, fields.line, problem));
    };
    let admin = identity(reader, &text, path)?;
    warn_if_nobody(reader, &admin, text.line, path);
    Ok(admin)
}

fn tls<'a>(
    reader: &mut Reader<'a>,
    fields: Fields<'a>,
    overrides: &Overrides,
) -> Result<TlsConfig, Reported> {
    let key = tls_file(reader, fields, &overrides.key, ("key", "no private key"));
    let cert = tls_file(reader, fields, &overrides.cert, ("cert", "no certificate"));
    let auth = auth(reader, fields, overrides);
    let password = reader.filled(fields.get("password"), "tls.password");
    let ca = reader.filled(fields.get("ca"), "tls.ca");
    let (verify_clients, auth_weakened) = auth?;
    Ok(TlsConfig {
        key: key?,
        cert: cert?,
        password: password?.map(|text| SecretBytes::from(text.as_bytes().to_vec())),
        verify_clients,
        auth_weakened,
        ca: ca?.map(|text| reader.absolute(&text)),
        proxies: Vec::new(),
        proxy_header: String::new(),
    })
}

/// A required file of `tls`, which the command line may replace.
fn tls_file<'a>(
    reader: &mut Reader<'a>,
    fields: Fields<'a>,
    flag: &Option<String>,
    (field, missing): (&str, &str),
) -> Result<PathBuf, Reported> {
    let written = reader.filled(fields.get(field), &format!("tls.{field}"))?;
    let flag = flag.as_deref().filter(|path| !path.is_empty());
    match flag.or(written.as_deref()) {
        Some(path) => Ok(reader.absolute(path)),
        None => Err(reader.problem(Topic::Tls, fields.line, format!("{missing}: set tls.{field}"))),
    }
}

/// Whether clients are verified, and whether the command line has switched that off.
fn auth<'a>(
    reader: &mut Reader<'a>,
    fields: Fields<'a>,
    overrides: &Overrides,
) -> Result<(bool, bool), Reported> {
    let written = on_or_off(reader, fields.get("auth"), "tls.auth", Topic::Auth)?.unwrap_or(false);
    let Some(flag) = overrides.auth.as_deref().filter(|flag| !flag.is_empty()) else {
        return Ok((written, false));
    };
    match read_on_or_off(flag) {
        Some(flag) => Ok((flag, written && !flag)),
        None => Err(reader.flag_problem(Topic::Auth, format!("--auth: {flag:?} is neither on nor off"))),
    }
}

/// A field that is `on`, `off` or absent.
fn on_or_off<'a>(
    reader: &mut Reader<'a>,
    node: Option<&'a Node>,
    path: &str,
    topic: Topic,
) -> Result<Option<bool>, Reported> {
    let Some(text) = reader.filled(node, path)? else { return Ok(None) };
    read_on_or_off(&text).map(Some).ok_or_else(|| {
        let problem = format!("{path}: {:?} is neither on nor off", &*text);
        reader.problem(topic, Some(text.line), problem)
    })
}

fn read_on_or_off(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// `tls.proxy`
#[derive(Default)]
struct Proxy {
    /// All identities as compared with others.
    texts: Vec<String>,
    /// Those that a certificate can have.
    identities: Vec<Identity>,
    header: String,
}

/// Reads `tls.proxy`; what has a problem is left out.
fn read_proxy<'a>(reader: &mut Reader<'a>, tls: Fields<'a>, admin: Option<&str>) -> Proxy {
    let mut proxy = Proxy::default();
    let path = "tls.proxy.identities";
    let fields = reader.fields(tls.get("proxy"), "tls.proxy", &["identities", "header"]);
    let fields = fields.unwrap_or(Fields::ABSENT);
    for item in reader.list(fields.get("identities"), path).unwrap_or_default() {
        let Ok(text) = reader.filled(Some(item), path) else { continue };
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            reader.problem(Topic::Name, Some(item.line), format!("{path}: an identity is empty"));
            continue;
        };
        let Ok(identity) = identity(reader, &text, path) else { continue };
        if admin == Some(&identity) {
            let problem = format!("{path}: identity {identity:?} is already admin");
            reader.problem(Topic::Clash, Some(text.line), problem);
        }
        warn_if_nobody(reader, &identity, text.line, path);
        proxy.identities.extend(Identity::parse(&identity));
        proxy.texts.push(identity);
    }
    let header = reader.fields(fields.get("header"), "tls.proxy.header", &["cert"]);
    let header = header.and_then(|header| reader.filled(header.get("cert"), "tls.proxy.header.cert"));
    if proxy.texts.is_empty() {
        return proxy;
    }
    match header {
        Ok(Some(text)) if is_header_name(&text) => proxy.header = text.value.to_string(),
        Ok(Some(text)) => {
            let problem = format!("tls.proxy.header.cert: {:?} is no header name", &*text);
            reader.problem(Topic::Tls, Some(text.line), problem);
        }
        Ok(None) => {
            let problem = "tls.proxy.identities needs the name of a header in tls.proxy.header.cert";
            reader.problem(Topic::Tls, fields.line, problem);
        }
        Err(_) => {}
    }
    proxy
}

/// A token of RFC 9110 §5.6.2.
fn is_header_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn cache<'a>(reader: &mut Reader<'a>, top: Fields<'a>) -> Result<CacheExpiry, Reported> {
    let fields = reader.fields(top.get("cache"), "cache", &["expiry"])?;
    let fields = reader.fields(fields.get("expiry"), "cache.expiry", &["any", "unused", "offline"])?;
    let mut expiry = |field: &str, default| {
        let duration = reader.duration(fields.get(field), &format!("cache.expiry.{field}"))?;
        Ok(duration.filter(|duration| !duration.is_zero()).unwrap_or(default))
    };
    let any = expiry("any", DEFAULT_CACHE.any);
    let unused = expiry("unused", DEFAULT_CACHE.unused);
    let offline = expiry("offline", DEFAULT_CACHE.offline);
    Ok(CacheExpiry { any: any?, unused: unused?, offline: offline? })
}

fn api<'a>(reader: &mut Reader<'a>, top: Fields<'a>) -> Result<Vec<ApiConfig>, Reported> {
    let mut routes = Vec::new();
    for entry in reader.map(top.get("api"), "api")?.entries {
        routes.extend(api_route(reader, entry).ok().flatten());
    }
    Ok(routes)
}

/// One route's settings; `None` if there is no such route.
fn api_route<'a>(reader: &mut Reader<'a>, entry: &'a Entry) -> Result<Option<ApiConfig>, Reported> {
    let path = entry.key.as_str();
    let is_known = API_PATHS.contains(&path);
    if !is_known {
        reader.unknown(entry.line, "unknown API path", path, &API_PATHS);
    }
    let shown = format!("api.{path}");
    let fields = reader.fields(Some(&entry.value), &shown, &["skip_auth", "timeout"])?;
    let skip_auth = reader.boolean(fields.get("skip_auth"), &format!("{shown}.skip_auth"));
    let timeout = reader.duration(fields.get("timeout"), &format!("{shown}.timeout"));
    let (skip_auth, timeout) = (skip_auth?.unwrap_or(false), timeout?);
    if skip_auth && !OPEN_PATHS.contains(&path) {
        let problem = format!("{shown}: skip_auth is possible for {} only", OPEN_PATHS.join(", "));
        return Err(reader.problem(Topic::Auth, Some(entry.line), problem));
    }
    let timeout = timeout.filter(|timeout| !timeout.is_zero());
    Ok(is_known.then(|| ApiConfig { path: path.into(), skip_auth, timeout }))
}

fn log<'a>(reader: &mut Reader<'a>, top: Fields<'a>) -> Result<LogConfig, Reported> {
    let fields = reader.fields(top.get("log"), "log", &["error", "audit", "file"])?;
    let error = level(reader, fields, "error");
    let audit = level(reader, fields, "audit");
    let file = reader.filled(fields.get("file"), "log.file");
    Ok(LogConfig { error: error?, audit: audit?, file: file?.map(|path| reader.absolute(&path)) })
}

fn level<'a>(reader: &mut Reader<'a>, fields: Fields<'a>, log: &str) -> Result<i32, Reported> {
    let path = format!("log.{log}");
    let Some(text) = reader.text(fields.get(log), &path)? else { return Ok(0) };
    parse_level(&text).ok_or_else(|| {
        let problem = format!(
            "{path}: {:?} is no log level: use on, off, debug, info, warn, error, LEVEL+N, LEVEL-N or a number",
            &*text
        );
        reader.problem(Topic::Level, Some(text.line), problem)
    })
}

/// A level's name, a name with a signed number added, or a number; empty is `on`.
fn parse_level(text: &str) -> Option<i32> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Some(0);
    }
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let named = |name: &str| LEVELS.iter().find(|(level, _)| *level == name).map(|(_, value)| *value);
    let Some(sign) = text.find(['+', '-']) else { return named(&text) };
    let (name, offset) = text.split_at(sign);
    let base = named(name.trim_end()).filter(|_| !matches!(name.trim_end(), "on" | "off"))?;
    base.checked_add(offset.parse().ok()?)
}

fn keys<'a>(reader: &mut Reader<'a>, top: Fields<'a>) -> Result<Vec<KeyName>, Reported> {
    let node = top.get("keys");
    if let Some(node) = node.filter(|node| matches!(node.value, Value::Map(_))) {
        let problem = "keys is a list of keys to be created; the key store belongs under keystore";
        return Err(reader.problem(Topic::Type, Some(node.line), problem));
    }
    let mut names = Vec::new();
    let mut lines = HashMap::new();
    for item in reader.list(node, "keys")? {
        let Ok(fields) = reader.fields(Some(item), "an entry of keys", &["name"]) else { continue };
        let Ok(text) = reader.text(fields.get("name"), "keys.name") else { continue };
        let line = text.as_ref().map_or(item.line, |text| text.line);
        let text = text.map(|text| text.value.to_string()).unwrap_or_default();
        if let Some(earlier) = lines.insert(text.clone(), line) {
            let problem = format!("keys: the key {text:?} is already in line {earlier}");
            reader.problem(Topic::Keys, Some(line), problem);
            continue;
        }
        match KeyName::parse(&text) {
            Some(name) => names.push(name),
            None => {
                let problem =
                    format!("keys: the name {text:?} is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)");
                reader.problem(Topic::Name, Some(line), problem);
            }
        }
    }
    Ok(names)
}

fn listen_address<'a>(
    reader: &mut Reader<'a>,
    top: Fields<'a>,
    overrides: &Overrides,
) -> Result<std::net::SocketAddr, Reported> {
    let written = reader.filled(top.get("address"), "address")?;
    if let Some(flag) = overrides.addr.as_deref().filter(|flag| !flag.is_empty()) {
        return address::parse(flag, true)
            .map_err(|problem| reader.flag_problem(Topic::Address, format!("--addr: {problem}")));
    }
    let Some(text) = written else { return Ok(address::DEFAULT) };
    address::parse(&text, false).map_err(|problem| reader.problem(Topic::Address, Some(text.line), problem))
}

/// `probe.address`: a listener of its own for probes, without TLS. Only who can reach it protects it.
fn probe_address<'a>(
    reader: &mut Reader<'a>,
    top: Fields<'a>,
) -> Result<Option<std::net::SocketAddr>, Reported> {
    let path = "probe.address";
    let Some(node) = top.get("probe").filter(|node| !node.is_null()) else { return Ok(None) };
    let fields = reader.fields(Some(node), "probe", &["address"])?;
    let Some(text) = reader.filled(fields.get("address"), path)? else {
        return Err(reader.problem(Topic::Address, fields.line, format!("{path} is missing")));
    };
    let address = address::parse(&text, false)
        .map_err(|problem| reader.problem(Topic::Address, Some(text.line), format!("{path}: {problem}")))?;
    if !address.ip().is_loopback() {
        let warning = format!("{path}: {address} answers anybody who can reach it, in plain text");
        reader.warn(text.line, warning);
    }
    Ok(Some(address))
}
