//! The server's configuration, checked. Every default is in this room and nowhere else.
//!
//! [`load`] reads a file, [`parse`] a text: [`yaml`] makes a tree that knows its lines, [`read`] takes typed values out
//! of it, and the other modules read one section each.

mod address;
mod keystore;
mod policies;
mod read;
mod sections;
#[cfg(test)]
mod tests;
mod unlock;
mod yaml;

use std::{
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    crypto::SecretBytes,
    keyring::CacheExpiry,
    name::{Identity, KeyName},
    policy::PolicySet,
    seal::Source,
};

/// A whole configuration. Nothing in it needs to be checked again.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; `--addr` has already been applied.
    pub address: SocketAddr,
    /// Where probes are answered in plain HTTP, if anywhere.
    pub probe: Option<SocketAddr>,
    /// TLS settings; `--auth`, `--key`, `--cert` have already been applied.
    pub tls: TlsConfig,
    /// Admin and policies.
    pub policies: PolicySet,
    /// Cache expiry.
    pub cache: CacheExpiry,
    /// Per-route settings: known paths only.
    pub api: Vec<ApiConfig>,
    /// Levels of the two logs.
    pub log: LogConfig,
    /// Keys to be created at start.
    pub keys: Vec<KeyName>,
    /// The one key store.
    pub keystore: KeyStoreConfig,
    /// The server gives up what it does not need once it has started.
    pub sandbox: bool,
    /// Lines for the operator: unknown fields, odd patterns and the like, each as `FILE:LINE: text`.
    pub warnings: Vec<String>,
}

impl Config {
    /// What `--dev` uses: keys in memory, one admin, no policies. The TLS settings are not used.
    pub fn development(addr: Option<&str>, admin: Identity) -> Result<Self, String> {
        let address = addr.filter(|addr| !addr.is_empty()).map(|addr| address::parse(addr, true)).transpose();
        Ok(Self {
            address: address.map_err(|error| format!("--addr: {error}"))?.unwrap_or(address::DEFAULT),
            probe: None,
            tls: TlsConfig::default(),
            policies: PolicySet::new(admin.to_string(), Vec::new()),
            cache: sections::DEFAULT_CACHE,
            api: Vec::new(),
            log: LogConfig { error: 0, audit: 0, file: None },
            keys: Vec::new(),
            keystore: KeyStoreConfig::Memory,
            sandbox: true,
            warnings: Vec::new(),
        })
    }
}

/// `tls:`
#[derive(Debug, Default)]
pub struct TlsConfig {
    /// Absolute path of the private key.
    pub key: PathBuf,
    /// Absolute path of the certificate chain.
    pub cert: PathBuf,
    /// Password of an encrypted private key.
    pub password: Option<SecretBytes>,
    /// Client certificates must chain to a known root.
    pub verify_clients: bool,
    /// `tls.auth` was `on` and the flag `--auth off` beat it.
    pub auth_weakened: bool,
    /// Absolute path of a file or directory of further roots.
    pub ca: Option<PathBuf>,
    /// Identities of trusted TLS proxies.
    pub proxies: Vec<Identity>,
    /// The header in which a proxy forwards the client certificate; empty if there are no proxies.
    pub proxy_header: String,
}

/// One entry of `api:`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiConfig {
    /// The route's path.
    pub path: String,
    /// No client identity is needed.
    pub skip_auth: bool,
    /// Instead of the built-in timeout.
    pub timeout: Option<Duration>,
}

/// `log:` Levels are -4 debug, 0 info, 4 warn, 8 error, 9 off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Of the error log.
    pub error: i32,
    /// Of the audit log; its events are at 0.
    pub audit: i32,
    /// Where audit events are also appended as lines of JSON (absolute).
    pub file: Option<PathBuf>,
}

/// `keystore:`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyStoreConfig {
    /// Files in a directory.
    Fs {
        /// The directory as written, for messages.
        shown: String,
        /// The directory, absolute.
        path: PathBuf,
        /// Whether and how values are sealed.
        seal: SealConfig,
    },
    /// In memory (`--dev`).
    Memory,
}

/// `keystore.fs.seal`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SealConfig {
    /// Plain values on purpose (`seal: off`).
    Off,
    /// Sealed under the root keys of this file (absolute; default: the key directory's path with `.seal` appended).
    On {
        /// The seal file.
        file: PathBuf,
        /// What opens the seal file itself.
        unlock: Source,
    },
}

/// What the command line says instead of the file.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// `--addr`
    pub addr: Option<String>,
    /// `--auth`
    pub auth: Option<String>,
    /// `--key`
    pub key: Option<String>,
    /// `--cert`
    pub cert: Option<String>,
    /// `--strict`: unknown fields are errors.
    pub strict: bool,
}

/// Paths that may be given under `api:`, which are those of all routes (`server-api` §2.1).
pub const API_PATHS: [&str; 22] = [
    "/v1/api",
    "/v1/identity/describe/",
    "/v1/identity/list/",
    "/v1/identity/self/describe",
    "/v1/key/create/",
    "/v1/key/decrypt/",
    "/v1/key/delete/",
    "/v1/key/describe/",
    "/v1/key/encrypt/",
    "/v1/key/generate/",
    "/v1/key/hmac/",
    "/v1/key/import/",
    "/v1/key/list/",
    "/v1/log/audit",
    "/v1/log/error",
    "/v1/metrics",
    "/v1/policy/describe/",
    "/v1/policy/list/",
    "/v1/policy/read/",
    "/v1/ready",
    "/v1/status",
    "/version",
];

/// Paths that may have `skip_auth: true`.
pub const OPEN_PATHS: [&str; 4] = ["/v1/ready", "/v1/status", "/v1/metrics", "/v1/api"];

/// Largest configuration file in bytes.
const MAX_FILE: usize = 1 << 20;

/// Reads and checks the configuration file. `env` looks up environment variables. Relative paths in the file and in
/// `overrides` are taken from the process's working directory.
///
/// Each error is a finished line, `FILE:LINE: text` where a line is known; all problems are reported at once, and if
/// there are any, the warnings after them, because an unknown field is often the cause.
pub fn load(
    path: &Path,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let shown = path.display().to_string();
    let text = read_file(path).map_err(|(line, problem)| vec![read::located(&shown, line, problem)])?;
    let base = std::env::current_dir()
        .map_err(|error| vec![format!("{shown}: the working directory is not known: {error}")])?;
    parse(&text, &shown, &base, overrides, env)
}

/// Checks the text of a configuration file that messages call `shown`; relative paths are taken from `base`. Otherwise
/// as [`load`]. No file is touched, except that the name of a service as port may be looked up, and a host name of
/// `--addr` is resolved.
pub fn parse(
    text: &str,
    shown: &str,
    base: &Path,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let document = yaml::read(text).map_err(|problems| {
        let lines = problems.into_iter();
        lines.map(|problem| read::located(shown, Some(problem.line), problem.text)).collect::<Vec<_>>()
    })?;
    let mut reader = read::Reader::new(shown, base, env, overrides.strict);
    if let Some(line) = document.second {
        reader.warn(line, "only the first document of the file is read");
    }
    let config = sections::read(&mut reader, &document.root, overrides);
    let warnings = reader.finish()?;
    // Without a problem there is a configuration: `Reported` is only made by recording one.
    config.map(|config| Config { warnings, ..config }).map_err(|_| Vec::new())
}

/// Reads the value of `keystore.fs.seal.unlock` alone, as YAML on one line. Relative paths are taken from `base`.
pub fn parse_unlock(
    text: &str,
    base: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Source, Vec<String>> {
    let document = yaml::read(text)
        .map_err(|problems| problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>())?;
    let mut reader = read::Reader::new("--to", base, env, true);
    let source = unlock::unlock(&mut reader, Some(&document.root));
    reader.finish()?;
    source.map_err(|_| Vec::new())
}

/// What to say about a file of the configuration that is not there: the absolute path that was tried, and whether the
/// file lies beside the configuration file, where people often expect it to be looked for.
pub fn missing_file_hint(path: &Path, config_path: &Path) -> String {
    let tried = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let tried_text = format!("tried {}", tried.display());
    let config_path = std::path::absolute(config_path).unwrap_or_else(|_| config_path.to_path_buf());
    let (Some(directory), Ok(current)) = (config_path.parent(), std::env::current_dir()) else {
        return tried_text;
    };
    let as_written = tried.strip_prefix(&current).ok();
    let mut beside = as_written.into_iter().chain(tried.file_name().map(Path::new));
    match beside.find(|name| directory != current && directory.join(name).exists()) {
        Some(name) => format!(
            "{tried_text}; there is {}, but relative paths start at the working directory",
            directory.join(name).display()
        ),
        None => tried_text,
    }
}

/// The whole file as text; the error has the line if it is known.
fn read_file(path: &Path) -> Result<Zeroizing<String>, (Option<usize>, String)> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(|error| (None, format!("cannot open: {error}")))?;
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| (None, format!("cannot read: {error}")))?;
    if bytes.len() > MAX_FILE {
        return Err((None, format!("the file is larger than {MAX_FILE} bytes")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.into())),
        Err(error) => {
            let newlines = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
            Err((Some(newlines + 1), "the text is not UTF-8".into()))
        }
    }
}
