//! `kes server`: builds everything that one configuration asks for, starts the server, and answers signals.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Failure, ServerArgs};
use crate::{
    api::{Api, State},
    config::{self, Config, KeyStoreConfig, Overrides},
    keyring::{KeyVersion, Keyring},
    keystore::{KeyStore, StoreError, fs::FsStore, mem::MemStore},
    net::{Limits, Server},
    sys::{self, signals::Signal},
    tls,
};

/// How often the key store is asked whether it is there (`server-api` §6.3).
const CHECK_STORE_EVERY: Duration = Duration::from_secs(10);

/// How often the certificate files are read again (`server-api` §1.6).
const RELOAD_TLS_EVERY: Duration = Duration::from_secs(15 * 60);

/// Below this limit of locked memory the server would run out of it while it starts.
const ENOUGH_LOCKED: u64 = 128 << 20;

/// Runs the server until it is told to stop, or only looks at everything (`--check`).
pub fn run(args: &ServerArgs) -> Result<ExitCode, Failure> {
    let done = if args.check.is_some() { check(args) } else { serve(args) };
    done.map(|()| ExitCode::SUCCESS).map_err(Failure::new)
}

/// Looks at the configuration and the files that it names, and with `--check=connect` also opens the key store.
fn check(args: &ServerArgs) -> Result<(), String> {
    let file = config_file(args)?;
    let (config, loaded) = read_config(args, &file)?;
    let warnings = config.warnings.len() + loaded.warnings.len();
    if args.strict && warnings > 0 {
        return Err(format!("{}: {warnings} warnings, which --strict takes for errors", file.display()));
    }
    if args.check.as_deref() == Some("connect") {
        open_store(&config.keystore)?;
    }
    say(&format!("{}: ok\n", file.display()));
    Ok(())
}

fn serve(args: &ServerArgs) -> Result<(), String> {
    if args.dev && args.config.is_some() {
        return Err("--config cannot be used with --dev. See 'kes server --help'".into());
    }
    sys::memory::limit_heaps();
    sys::memory::forbid_dumps().map_err(|error| format!("failed to forbid core dumps: {error}"))?;
    let locked = lock_memory(args.mlock)?;
    sys::signals::block().map_err(|error| format!("failed to block signals: {error}"))?;
    let limits = Limits::for_machine(sys::memory::raise_descriptor_limit());

    let setup = if args.dev { Setup::development(args)? } else { Setup::read(args)? };
    let listener = Server::bind(setup.address)
        .map_err(|error| format!("listen tcp {}: bind: {error}", setup.address))?;
    setup.create_predefined_keys()?;
    let api = Arc::new(Api::new(setup.state(), setup.log));
    for notice in setup.store_notices.iter().skip(1) {
        api.log().warn(notice);
    }
    let server = Server::start(listener, Arc::clone(&setup.tls), Arc::clone(&api), limits)
        .map_err(|error| format!("failed to start the server's threads: {error}"))?;
    let running = Running { args: args.clone(), server, api, setup, locked, limits };
    running.announce("=> Server is up and running...");
    running.serve();
    Ok(())
}

/// Locks all memory: with the flag or not at all, without it only where it cannot do harm.
fn lock_memory(demanded: bool) -> Result<bool, String> {
    let possible = sys::memory::may_lock_all();
    if !demanded {
        return Ok(possible && sys::memory::lock_all().is_ok());
    }
    let limit = sys::memory::lock_limit();
    let cause = match limit {
        Some(limit) if !possible && limit < ENOUGH_LOCKED => "not permitted".to_string(),
        _ => match sys::memory::lock_all() {
            Ok(()) => return Ok(true),
            Err(error) => error.to_string(),
        },
    };
    let limit = limit.map_or("unlimited".into(), |bytes| format!("{} KiB", bytes >> 10));
    Err(format!(
        "failed to lock memory: {cause}: give the program CAP_IPC_LOCK (setcap cap_ipc_lock=+ep $(readlink -f $(which \
         kes))) or raise RLIMIT_MEMLOCK, which is {limit} (ulimit -l, or LimitMEMLOCK= in a systemd unit)"
    ))
}

/// Everything that one reading of the configuration makes.
struct Setup {
    address: SocketAddr,
    config: Config,
    tls: Arc<rustls::ServerConfig>,
    keyring: Arc<Keyring>,
    log: config::LogConfig,
    made: Instant,
    /// Lines about the key store: how it is sealed, for the banner; then what the operator should do, for the log too.
    store_notices: Vec<String>,
    /// The admin's API key, in development mode only.
    api_key: Option<tls::identity::ApiKey>,
}

impl Setup {
    /// Reads the configuration and opens what it names. Nothing is created but the key directory and its seal file.
    fn read(args: &ServerArgs) -> Result<Self, String> {
        let file = config_file(args)?;
        let (config, loaded) = read_config(args, &file)?;
        let (store, store_notices) = open_store(&config.keystore)?;
        Ok(Self::with(config, loaded.config, store, store_notices, None))
    }

    fn with(
        config: Config,
        tls: Arc<rustls::ServerConfig>,
        store: Arc<dyn KeyStore>,
        store_notices: Vec<String>,
        api_key: Option<tls::identity::ApiKey>,
    ) -> Self {
        let keyring = Arc::new(Keyring::new(store, config.cache));
        Self {
            address: config.address,
            log: config.log,
            config,
            tls,
            keyring,
            made: Instant::now(),
            store_notices,
            api_key,
        }
    }

    /// Keys in memory, a fresh certificate and a fresh admin (`server-api` §8.8).
    fn development(args: &ServerArgs) -> Result<Self, String> {
        let api_key = tls::identity::ApiKey::generate()?;
        let config = Config::development(args.addr.as_deref(), api_key.identity())?;
        let addresses: Vec<IpAddr> = reachable(config.address).iter().map(SocketAddr::ip).collect();
        let loaded = tls::development(&addresses)?;
        let store = Arc::new(MemStore::new());
        Ok(Self::with(config, loaded.config, store, Vec::new(), Some(api_key)))
    }

    /// Makes the keys of the `keys:` section that do not exist yet (`server-api` §6.5).
    fn create_predefined_keys(&self) -> Result<(), String> {
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
    fn state(&self) -> State {
        State::new(self.config.policies.clone(), Arc::clone(&self.keyring), &self.config.api)
    }

    /// Does what is due by the clock: cache sweeps, and now and then a look at the key store.
    fn tick(&self, server: &Server, last_check: &mut Instant) {
        self.keyring.sweep(self.made.elapsed());
        if last_check.elapsed() >= CHECK_STORE_EVERY {
            *last_check = Instant::now();
            let keyring = Arc::clone(&self.keyring);
            // A full queue says enough about the store's health; the next round asks again.
            let _ = server.submit(Box::new(move || keyring.check_store()));
        }
    }
}

/// Reads the configuration and the TLS files, and prints what is odd about them.
fn read_config(args: &ServerArgs, file: &Path) -> Result<(Config, tls::Loaded), String> {
    let overrides = Overrides {
        addr: args.addr.clone(),
        auth: args.auth.clone(),
        key: args.key.clone(),
        cert: args.cert.clone(),
        strict: args.strict,
    };
    let config = config::load(file, &overrides, &|name| std::env::var(name).ok())
        .map_err(|errors| errors.join("\nError: "))?;
    if !config.tls.proxies.is_empty() {
        return Err("'tls.proxy' is not supported by this build".into());
    }
    if config.tls.auth_weakened {
        eprintln!("Warning: --auth off overrides tls.auth: client certificates are not verified");
    }
    let skip_auth = config.api.iter().any(|api| api.skip_auth);
    let loaded = tls::load(&config.tls, skip_auth).map_err(|error| {
        let missing = [&config.tls.cert, &config.tls.key].into_iter().find(|path| !path.exists());
        missing.map_or(error.clone(), |path| format!("{error}: {}", config::missing_file_hint(path, file)))
    })?;
    for warning in config.warnings.iter().chain(&loaded.warnings) {
        eprintln!("Warning: {warning}");
    }
    Ok((config, loaded))
}

/// The configuration file: the flag, `$KES_CONFIG`, `./config.yml`, `/etc/kes/config.yml`.
fn config_file(args: &ServerArgs) -> Result<PathBuf, String> {
    if let Some(file) = &args.config {
        return Ok(file.clone());
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

fn open_store(config: &KeyStoreConfig) -> Result<(Arc<dyn KeyStore>, Vec<String>), String> {
    match config {
        KeyStoreConfig::Memory => Ok((Arc::new(MemStore::new()), Vec::new())),
        KeyStoreConfig::Fs { shown, path, seal } => {
            let store = FsStore::open(path, shown, seal)?;
            let mut notices = vec![store.sealing()];
            notices.extend_from_slice(store.notices());
            Ok((Arc::new(store), notices))
        }
    }
}

/// A server that runs, and what it was made from.
struct Running {
    args: ServerArgs,
    server: Server,
    api: Arc<Api>,
    setup: Setup,
    locked: bool,
    limits: Limits,
}

impl Running {
    /// Answers signals and the clock until the server is to stop.
    fn serve(mut self) {
        let (mut last_check, mut last_tls) = (Instant::now(), Instant::now());
        loop {
            match sys::signals::wait(Duration::from_secs(1)) {
                Some(Signal::Stop) => break,
                Some(Signal::Reload) if self.args.dev => {}
                Some(Signal::Reload) => self.reload(),
                None => {}
            }
            self.setup.tick(&self.server, &mut last_check);
            if last_tls.elapsed() >= RELOAD_TLS_EVERY {
                last_tls = Instant::now();
                self.refresh_tls();
            }
        }
        self.server.stop();
        say("\n=> Stopping server... Goodbye.\n");
    }

    /// Reads the whole configuration again; any failure leaves everything as it was (`config` §9).
    fn reload(&mut self) {
        eprintln!("SIGHUP signal received. Reloading configuration...");
        let setup = match Setup::read(&self.args) {
            Ok(setup) => setup,
            Err(error) => return eprintln!("Failed to reload server config: {error}"),
        };
        if let Err(error) = setup.create_predefined_keys() {
            return eprintln!("Failed to update server configuration: {error}");
        }
        if setup.address != self.setup.address {
            eprintln!("Warning: the new address {} is used after a restart", setup.address);
        }
        self.server.set_tls(Arc::clone(&setup.tls));
        self.api.swap(setup.state(), setup.log);
        self.setup = setup;
        self.announce("=> Reloading configuration after SIGHUP signal completed.");
    }

    /// Reads the certificate, key and CA files of the running configuration again, and nothing else.
    fn refresh_tls(&mut self) {
        if self.args.dev {
            return;
        }
        let skip_auth = self.setup.config.api.iter().any(|api| api.skip_auth);
        match tls::load(&self.setup.config.tls, skip_auth) {
            Ok(loaded) => {
                self.server.set_tls(Arc::clone(&loaded.config));
                self.setup.tls = loaded.config;
            }
            Err(error) => eprintln!("Failed to reload TLS configuration: {error}"),
        }
    }

    /// Prints the banner, unless the server is to be quiet.
    fn announce(&self, last_line: &str) {
        if self.args.quiet {
            return;
        }
        let config = &self.setup.config;
        let mut banner = Banner(String::new());
        banner.line("Version", &format!("{}  commit={}", crate::api::VERSION, crate::api::COMMIT));
        banner.line("Runtime", &format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH));
        banner.line("License", "Apache-2.0  https://www.apache.org/licenses/LICENSE-2.0");
        banner.gap();
        banner.line("KMS", &self.setup.keyring.describe_store());
        for (i, notice) in self.setup.store_notices.iter().enumerate() {
            banner.line(if i == 0 { "Seal" } else { "" }, notice);
        }
        for (i, address) in reachable(self.server.address()).iter().enumerate() {
            banner.line(if i == 0 { "API" } else { "" }, &format!("· https://{address}"));
        }
        banner.gap();
        if let Some(api_key) = &self.setup.api_key {
            banner.line("API Key", &api_key.to_text());
        }
        let admin = &config.policies.admin;
        let is_hex = admin.bytes().all(|b| b.is_ascii_hexdigit());
        banner.line("Admin", if is_hex { admin } else { "<disabled>" });
        banner.line("Auth", if config.tls.verify_clients { "verify" } else { "skip verify" });
        banner.line("Logs", &format!("error=stderr level={}", crate::log::level_name(config.log.error)));
        if config.log.audit <= crate::log::INFO {
            banner.line("", &format!("audit=stdout level={}", crate::log::level_name(config.log.audit)));
        }
        if self.locked {
            banner.line("MLock", "enabled");
        }
        let Limits { workers, blocking_threads, queue, connections, .. } = self.limits;
        banner.line("Limits", &format!("{connections} connections, {workers} workers, {blocking_threads} blocking threads, {queue} queued jobs"));
        say(&format!("{}\n{last_line}\n\n", banner.0));
    }
}

/// Lines of a label, padded to 12 columns, and a text.
struct Banner(String);

impl Banner {
    fn line(&mut self, label: &str, text: &str) {
        self.0 += &format!("{label:<12}{text}\n");
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

/// The addresses at which the server can be reached: its own, or those of all interfaces (IPv6 only without IPv4).
fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    let all = sys::network::interface_addresses();
    let has_v4 = all.iter().any(IpAddr::is_ipv4);
    all.into_iter()
        .filter(|ip| ip.is_ipv4() == has_v4)
        .map(|ip| SocketAddr::new(ip, address.port()))
        .collect()
}

/// Prints to stdout; a stdout that is closed does not matter to the server.
fn say(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
