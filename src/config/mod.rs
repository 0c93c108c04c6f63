//! The server's configuration, checked. Every default is here and nowhere else.

mod address;
mod keystore;
mod reader;
mod sections;
#[cfg(test)]
mod tests;
mod yaml;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    crypto::SecretBytes,
    keyring::CacheExpiry,
    name::{Identity, KeyName},
    policy::PolicySet,
};

/// The address if none is given.
const DEFAULT_ADDRESS: &str = "0.0.0.0:7373";

/// The cache's expiry if none is given (`config` §4).
const DEFAULT_CACHE: CacheExpiry =
    CacheExpiry { any: Duration::from_secs(300), unused: Duration::from_secs(30), offline: Duration::ZERO };

/// Largest configuration file in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A whole configuration. Nothing in it needs to be checked again.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; `--addr` has already been applied.
    pub address: SocketAddr,
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
    /// Lines for the operator: unknown fields, odd patterns and the like, each as `FILE:LINE: text`.
    pub warnings: Vec<String>,
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

/// `log:` levels: -4 debug, 0 info, 4 warn, 8 error, 9 off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Of the error log.
    pub error: i32,
    /// Of the audit log; its events are at 0.
    pub audit: i32,
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
}

impl Config {
    /// What `--dev` uses: keys in memory, one admin, no policies. The TLS files are not used.
    pub fn development(addr: Option<&str>, admin: Identity) -> Result<Self, String> {
        Ok(Self {
            address: address::parse(addr.unwrap_or(DEFAULT_ADDRESS))?,
            tls: TlsConfig::default(),
            policies: PolicySet::new(admin.to_string(), Vec::new()),
            cache: DEFAULT_CACHE,
            api: Vec::new(),
            log: LogConfig { error: 0, audit: 0 },
            keys: Vec::new(),
            keystore: KeyStoreConfig::Memory,
            warnings: Vec::new(),
        })
    }
}

/// Reads and checks a configuration file. Each error is a line such as `config.yml:7: text`; all of them are reported.
pub fn load(
    path: &Path,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let shown = path.display().to_string();
    let fail = |error: std::io::Error| vec![format!("open {shown}: {}", crate::tls::pem::cause(&error))];
    let base = std::env::current_dir().map_err(fail)?;
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE + 1), &mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE {
        return Err(vec![format!("{shown}: larger than {MAX_FILE} bytes")]);
    }
    let text = zeroize::Zeroizing::new(
        String::from_utf8(text).map_err(|_| vec![format!("{shown}: the file is not UTF-8 text")])?,
    );
    parse(&text, &shown, &base, overrides, env)
}

/// Checks the text of a configuration file that is called `file` in messages. Relative paths begin at `base`.
pub fn parse(
    text: &str,
    file: &str,
    base: &Path,
    overrides: &Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Vec<String>> {
    let at = |(line, text): yaml::LineError| vec![format!("{file}:{line}: {text}")];
    let (root, second) = yaml::parse(text).map_err(at)?;
    let mut reader = reader::Reader::new(file, env);
    if let Some(line) = second {
        reader.warn(line, "only the first document of the file is read");
    }
    sections::read(reader, root, base, overrides)
}
