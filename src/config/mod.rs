//! The server's configuration, checked. Every default is here and nowhere else.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    crypto::SecretBytes,
    keyring::CacheExpiry,
    name::{Identity, KeyName},
    policy::PolicySet,
};

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
#[derive(Debug)]
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
