//! From the command line and the configuration file to everything that a server is made of.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{ServerArgs, banner, sandbox::Sandbox};
use crate::{
    api::{Proxies, State},
    audit::AuditFile,
    config::{self, Config, KeyStoreConfig, Overrides, SealConfig},
    console,
    keyring::{KeyVersion, Keyring},
    keystore::{KeyStore, StoreError, fs::FsStore, mem::MemStore},
    metrics::Metrics,
    tls,
};

/// Everything that one reading of the configuration makes.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// TLS as its files say.
    pub tls: tls::Loaded,
    /// Keys and their store.
    pub keyring: Arc<Keyring>,
    /// The store itself, if it is of files: what it knows of its seal goes on in the next one.
    pub file_store: Option<Arc<FsStore>>,
    /// The file system of the key directory.
    device: Option<u64>,
    /// The open file for audit events, until somebody takes it.
    pub audit_file: Option<AuditFile>,
    /// When it was made.
    pub made: Instant,
    /// Lines about the key store: how it is sealed, for the banner; then what the operator should do, for the log too.
    pub store_notices: Vec<String>,
    /// The admin's API key, in development mode only.
    pub api_key: Option<tls::identity::ApiKey>,
}

impl Setup {
    /// Reads the configuration and opens what it names. Nothing is created but the key directory, its seal file and the
    /// file for audit events. `running` is what a server that is to be reloaded runs with: nothing is opened if some of it
    /// is out of reach of its sandbox, and no new store is made where its own was.
    pub fn read(
        args: &ServerArgs,
        running: Option<(&Self, &Sandbox)>,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let file = config_file(args)?;
        let (config, tls) = read_config(args, &file, running.map(|(_, sandbox)| sandbox))?;
        if let Some((running, _)) = running {
            running.check_place(&config.keystore)?;
        }
        let store = open_store(&config.keystore, running.and_then(|(setup, _)| setup.file_store.as_deref()))?;
        Self::with(config, tls, store, None, metrics)
    }

    /// Keys in memory, a fresh certificate and a fresh admin (`server-api` §8.8).
    pub fn development(args: &ServerArgs, metrics: &Metrics) -> Result<Self, String> {
        let api_key = tls::identity::ApiKey::generate()?;
        let config = Config::development(args.addr.as_deref(), api_key.identity())?;
        let addresses: Vec<IpAddr> = banner::reachable(config.address).iter().map(SocketAddr::ip).collect();
        let tls = tls::development(&addresses)?;
        let store = OpenStore::in_memory();
        Self::with(config, tls, store, Some(api_key), metrics)
    }

    fn with(
        config: Config,
        tls: tls::Loaded,
        opened: OpenStore,
        api_key: Option<tls::identity::ApiKey>,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let audit_file = config.log.file.as_deref().map(AuditFile::open).transpose()?;
        metrics.store.sealed.set(opened.is_sealed.into());
        let keyring = Arc::new(Keyring::new(opened.store, config.cache, Arc::clone(&metrics.store)));
        let device = device_of(&config.keystore);
        let (made, store_notices, file_store) = (Instant::now(), opened.notices, opened.file_store);
        Ok(Self { config, tls, keyring, file_store, device, audit_file, made, store_notices, api_key })
    }

    /// If the key directory is the one that the server uses, it must be there, and its seal file too: a reload while it is
    /// not mounted must not make a new, empty store.
    fn check_place(&self, new: &KeyStoreConfig) -> Result<(), String> {
        let KeyStoreConfig::Fs { path: used, .. } = &self.config.keystore else { return Ok(()) };
        let KeyStoreConfig::Fs { shown, path, seal } = new else { return Ok(()) };
        if path != used {
            return Ok(());
        }
        match device_of(new) {
            None => return Err(format!("key directory '{shown}' is not there any more: is it mounted?")),
            found if found != self.device => {
                return Err(format!(
                    "key directory '{shown}' is on another file system than before: is it mounted? (if it was moved there on \
                     purpose, restart the server)"
                ));
            }
            _ => {}
        }
        match seal {
            SealConfig::On { file, .. }
                if self.file_store.as_ref().is_some_and(|store| store.is_sealed()) && !file.exists() =>
            {
                Err(format!("seal file '{}' is not there any more", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes the keys of the `keys:` section that do not exist yet (`server-api` §6.5).
    pub fn create_predefined_keys(&self) -> Result<(), String> {
        for name in &self.config.keys {
            let key = KeyVersion::generate(&self.config.policies.admin)
                .ok_or("no random bytes to make keys from")?;
            match self.keyring.create(name, &key) {
                Ok(()) | Err(StoreError::KeyExists) => {}
                Err(error) => return Err(format!("failed to create key '{name}': {error}")),
            }
        }
        Ok(())
    }

    /// What the API needs of all this.
    pub fn state(&self) -> State {
        let tls = &self.config.tls;
        let proxies = Proxies {
            identities: tls.proxies.clone(),
            header: tls.proxy_header.clone(),
            trust: self.tls.trust.clone(),
        };
        State::new(self.config.policies.clone(), Arc::clone(&self.keyring), proxies, &self.config.api)
    }

    /// Reads the TLS files again.
    pub fn load_tls(&self) -> Result<tls::Loaded, String> {
        load_tls(&self.config)
    }
}

/// The file system of the key directory; `None` if that is not there.
fn device_of(config: &KeyStoreConfig) -> Option<u64> {
    let KeyStoreConfig::Fs { path, .. } = config else { return None };
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|data| data.dev())
}

fn load_tls(config: &Config) -> Result<tls::Loaded, String> {
    tls::load(&config.tls, config.api.iter().any(|api| api.skip_auth))
}

/// Reads the configuration, under the flags that beat it.
pub fn load_config(args: &ServerArgs, file: &Path) -> Result<Config, String> {
    let overrides = Overrides {
        addr: args.addr.clone(),
        auth: args.auth.clone(),
        key: args.key.clone(),
        cert: args.cert.clone(),
        strict: args.strict,
    };
    config::load(file, &overrides, &|name| std::env::var(name).ok())
        .map_err(|errors| errors.join("\nError: "))
}

/// Reads the configuration and the TLS files, and prints what is odd about them.
pub fn read_config(
    args: &ServerArgs,
    file: &Path,
    sandbox: Option<&Sandbox>,
) -> Result<(Config, tls::Loaded), String> {
    let config = load_config(args, file)?;
    // An unknown field is often the cause of what comes next.
    warn(&config.warnings);
    if config.tls.auth_weakened {
        console::error("Warning: --auth off overrides tls.auth: client certificates are not verified\n");
    }
    sandbox.map_or(Ok(()), |sandbox| sandbox.check(&config, file))?;
    let loaded = load_tls(&config).map_err(|error| {
        let missing = [&config.tls.cert, &config.tls.key].into_iter().find(|path| !path.exists());
        missing.map_or(error.clone(), |path| format!("{error}: {}", config::missing_file_hint(path, file)))
    })?;
    warn(&loaded.warnings);
    Ok((config, loaded))
}

/// Prints what is odd.
pub fn warn(warnings: &[String]) {
    warnings.iter().for_each(|warning| console::error(&format!("Warning: {warning}\n")));
}

/// The configuration file: the flag, `$KES_CONFIG`, `./config.yml`, `/etc/kes/config.yml`.
pub fn config_file(args: &ServerArgs) -> Result<PathBuf, String> {
    find_config(args.config.as_deref())
}

/// The configuration of a command that works without a server, and the file that it is from. What is odd about it is
/// printed; TLS files are not looked at.
pub fn offline_config(file: Option<&Path>) -> Result<(PathBuf, Config), String> {
    let file = find_config(file)?;
    let config = config::load(&file, &Overrides::default(), &|name| std::env::var(name).ok())
        .map_err(|errors| errors.join("\nError: "))?;
    warn(&config.warnings);
    Ok((file, config))
}

fn find_config(given: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(file) = given {
        return Ok(file.to_owned());
    }
    if let Some(file) = std::env::var_os("KES_CONFIG").filter(|file| !file.is_empty()) {
        return Ok(file.into());
    }
    ["config.yml", "/etc/kes/config.yml"].iter().map(PathBuf::from).find(|file| file.exists()).ok_or_else(
        || {
            "no configuration: --config is not given, KES_CONFIG is not set, and neither ./config.yml nor \
         /etc/kes/config.yml exists"
                .into()
        },
    )
}

/// A key store, and what to say about it.
pub struct OpenStore {
    store: Arc<dyn KeyStore>,
    file_store: Option<Arc<FsStore>>,
    notices: Vec<String>,
    is_sealed: bool,
}

impl OpenStore {
    fn in_memory() -> Self {
        let store = Arc::new(MemStore::new());
        Self { store, file_store: None, notices: Vec::new(), is_sealed: false }
    }
}

/// Opens the key store of a configuration, in the place of `previous` if there is one.
pub fn open_store(config: &KeyStoreConfig, previous: Option<&FsStore>) -> Result<OpenStore, String> {
    match config {
        KeyStoreConfig::Memory => Ok(OpenStore::in_memory()),
        KeyStoreConfig::Fs { shown, path, seal } => {
            let store = Arc::new(FsStore::reopen(path, shown, seal, previous)?);
            let mut notices = vec![store.sealing()];
            notices.extend_from_slice(store.notices());
            let is_sealed = store.is_sealed();
            let file_store = Some(Arc::clone(&store));
            Ok(OpenStore { store, file_store, notices, is_sealed })
        }
    }
}
