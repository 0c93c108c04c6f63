//! `kes server`: starts the server that one configuration asks for, and answers signals and the clock.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Failure, ServerArgs,
    args::Args,
    banner, print_config,
    sandbox::Sandbox,
    setup::{Setup, config_file, load_config, open_store, read_config, warn},
    table::{Command, Takes, flag},
};
use crate::{
    api::Api,
    console,
    metrics::Metrics,
    net::{Limits, Listener, Listeners, Server},
    sys::{self, service, signals::Signal},
    text::time::Timestamp,
    tls,
};

/// How often the key store is asked whether it is there (`server-api` §6.3).
const CHECK_STORE_EVERY: Duration = Duration::from_secs(10);

/// How often the certificate files are read again (`server-api` §1.6).
const REFRESH_TLS_EVERY: Duration = Duration::from_secs(15 * 60);

/// How long an ending process waits for whoever reads its output.
const FLUSH: Duration = Duration::from_secs(1);

/// Below this limit of locked memory the server would run out of it while it starts.
const ENOUGH_LOCKED: u64 = 128 << 20;

/// The name by which a service manager hands over the listener for probes (`FileDescriptorName=`).
const PROBE: &str = "probe";

/// `kes server`.
pub static SERVER: Command = Command {
    name: "server",
    summary: "Start a KES server.",
    about: "Starts a KES server with the given configuration file. Without --config it takes the file named by\n\
            KES_CONFIG, else ./config.yml, else /etc/kes/config.yml.\n",
    flags: &[
        flag("addr", Takes::Value("[IP]:PORT"), "Listen there instead of where the configuration says."),
        flag("config", Takes::Value("FILE"), "Read the configuration from FILE."),
        flag(
            "auth",
            Takes::Value("on|off"),
            "Verify client certificates, or take any: stronger than tls.auth.",
        ),
        flag("key", Takes::Value("FILE"), "The TLS private key: stronger than tls.key."),
        flag("cert", Takes::Value("FILE"), "The TLS certificate: stronger than tls.cert."),
        flag("mlock", Takes::Nothing, "Lock all memory, or refuse to start."),
        flag("dev", Takes::Nothing, "Try it out: keys in memory, a fresh certificate and admin."),
        flag("quiet", Takes::Nothing, "Do not print the banner.").short(&['q']),
        flag(
            "check",
            Takes::Optional("connect"),
            "Check the configuration and the files it names, and exit.\n'connect' also opens the key store.",
        ),
        flag("strict", Takes::Nothing, "With --check: treat warnings as errors."),
        flag(
            "print-config",
            Takes::Optional("json"),
            "Print the configuration with its defaults and without secrets, and exit.",
        ),
    ],
    examples: &["kes server --config config.yml --auth off", "kes server --check --config config.yml"],
    run,
    ..Command::GROUP
};

/// Runs the server until it is told to stop, or only looks at everything (`--check`).
fn run(args: &Args) -> Result<ExitCode, Failure> {
    let text = |long: &str| args.text(long).map(|value| value.map(str::to_owned));
    let wanted = text("check")?;
    if let Some(kind) = wanted.as_deref().filter(|kind| !matches!(*kind, "" | "connect")) {
        return Err(args.invalid("check", kind.as_ref(), "only 'connect' is possible"));
    }
    let form = text("print-config")?;
    if let Some(form) = form.as_deref().filter(|form| !matches!(*form, "" | "json")) {
        return Err(args.invalid("print-config", form.as_ref(), "only 'json' is possible"));
    }
    let args = ServerArgs {
        addr: text("addr")?,
        config: args.value("config").map(PathBuf::from),
        dev: args.is_on("dev"),
        key: text("key")?,
        cert: text("cert")?,
        auth: text("auth")?,
        mlock: args.is_on("mlock"),
        quiet: args.is_on("quiet"),
        check: wanted,
        strict: args.is_on("strict"),
    };
    if let Some(form) = form {
        let config = load_config(&args, &config_file(&args)?)?;
        warn(&config.warnings);
        print_config::print(&config, form == "json")?;
        return Ok(ExitCode::SUCCESS);
    }
    let done = if args.check.is_some() { check(&args) } else { serve(&args) };
    console::flush(FLUSH);
    done.map(|()| ExitCode::SUCCESS).map_err(Failure::new)
}

/// Looks at the configuration and the files that it names, and with `--check=connect` also opens the key store.
fn check(args: &ServerArgs) -> Result<(), String> {
    let file = config_file(args)?;
    let (config, loaded) = read_config(args, &file, None)?;
    let warnings = config.warnings.len() + loaded.warnings.len();
    if args.strict && warnings > 0 {
        return Err(format!("{}: {warnings} warnings, which --strict takes for errors", file.display()));
    }
    if args.check.as_deref() == Some("connect") {
        open_store(&config.keystore, None)?;
    }
    console::print(&format!("{}: ok\n", file.display()));
    Ok(())
}

fn serve(args: &ServerArgs) -> Result<(), String> {
    if args.dev && args.config.is_some() {
        return Err("--config cannot be used with --dev. See 'kes server --help'".into());
    }
    let is_given = |value: &Option<String>, unless: &str| {
        value.as_ref().is_some_and(|value| !value.is_empty() && value != unless)
    };
    let tls = [("auth on", &args.auth, "off"), ("key", &args.key, ""), ("cert", &args.cert, "")];
    if let Some((flag, ..)) = tls.iter().find(|(_, value, unless)| args.dev && is_given(value, unless)) {
        return Err(format!("--{flag} cannot be used with --dev. See 'kes server --help'"));
    }
    // Before anything is opened, which might take the numbers of these.
    let inherited = service::listeners().map_err(|error| error.to_string())?;
    sys::memory::limit_heaps();
    sys::memory::forbid_dumps().map_err(|error| format!("failed to forbid core dumps: {error}"))?;
    let locked = lock_memory(args.mlock)?;
    sys::signals::block().map_err(|error| format!("failed to block signals: {error}"))?;
    let limits = Limits::for_machine(sys::memory::raise_descriptor_limit());

    let metrics = Arc::new(Metrics::new());
    let mut setup =
        if args.dev { Setup::development(args, &metrics)? } else { Setup::read(args, None, &metrics)? };
    let listeners = open_listeners(&setup, inherited)?;
    setup.create_predefined_keys()?;
    // Before there are threads: those that are there already would stay outside.
    let file = if args.dev { None } else { Some(config_file(args)?) };
    let sandbox = Sandbox::enter(&setup.config, file.as_deref());
    console::start().map_err(|error| format!("failed to start the server's threads: {error}"))?;
    metrics.certificate_expiry.set(setup.tls.not_after);
    let audit_file = setup.audit_file.take();
    let api = Arc::new(Api::new(setup.state(), &setup.config.log, audit_file, metrics));
    for notice in setup.store_notices.iter().skip(1) {
        api.log().warn(notice);
    }
    let server = Server::start(listeners, Arc::clone(&setup.tls.config), Arc::clone(&api), limits)
        .map_err(|error| format!("failed to start the server's threads: {error}"))?;
    // The listener stays as it is. A name in --addr is not resolved again, which the sandbox would not allow.
    let addr = args.addr.as_ref().filter(|addr| !addr.is_empty()).map(|_| setup.config.address.to_string());
    let args = ServerArgs { addr, ..args.clone() };
    let running = Running { args, server, api, setup, sandbox, locked, limits };
    running.announce("=> Server is up and running...");
    // In a big store this takes a while, and nobody has to wait for it.
    let keyring = Arc::clone(&running.setup.keyring);
    running.server.submit(Box::new(move || keyring.tidy()));
    running.notify("READY=1\nSTATUS=Serving");
    running.serve();
    Ok(())
}

/// The listeners of the service manager, or those that the configuration names.
fn open_listeners(setup: &Setup, inherited: Vec<service::Inherited>) -> Result<Listeners, String> {
    let (mut probes, mut others): (Vec<_>, Vec<_>) =
        inherited.into_iter().partition(|inherited| inherited.name == PROBE);
    if others.len() > 1 || probes.len() > 1 {
        return Err(format!("LISTEN_FDS: at most one listener for the API and one named '{PROBE}'"));
    }
    let bind = |address: SocketAddr| {
        Server::bind(address)
            .map_err(|error| format!("listen tcp {address}: bind: {}", tls::pem::cause(&error)))
    };
    let shared = |inherited: service::Inherited| Listener { socket: inherited.listener, is_shared: true };
    let api = match others.pop() {
        Some(inherited) => shared(inherited),
        None => bind(setup.config.address)?,
    };
    let probe = match (probes.pop(), setup.config.probe) {
        (Some(inherited), _) => Some(shared(inherited)),
        (None, address) => address.map(bind).transpose()?,
    };
    Ok(Listeners { api, probe })
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

/// A server that runs, and what it was made from.
struct Running {
    args: ServerArgs,
    server: Server,
    api: Arc<Api>,
    setup: Setup,
    sandbox: Sandbox,
    locked: bool,
    limits: Limits,
}

impl Running {
    /// Answers signals and the clock until the server is to stop.
    fn serve(mut self) {
        let (mut last_check, mut last_refresh) = (Instant::now(), Instant::now());
        loop {
            match sys::signals::wait(Duration::from_secs(1)) {
                Some(Signal::Stop) => break,
                Some(Signal::Reload) if self.args.dev => {}
                Some(Signal::Reload) => {
                    self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", service::monotonic_micros()));
                    self.reload();
                    self.notify("READY=1");
                }
                None => {}
            }
            self.tick(&mut last_check);
            if last_refresh.elapsed() >= REFRESH_TLS_EVERY && !self.args.dev {
                last_refresh = Instant::now();
                self.refresh_tls();
            }
        }
        self.notify("STOPPING=1\nSTATUS=Stopping");
        self.server.stop();
        console::print("\n=> Stopping server... Goodbye.\n");
    }

    /// Does what is due by the clock: cache sweeps, and now and then a look at the key store.
    fn tick(&self, last_check: &mut Instant) {
        self.setup.keyring.sweep(self.setup.made.elapsed());
        self.setup.keyring.give_up_status();
        if last_check.elapsed() >= CHECK_STORE_EVERY {
            *last_check = Instant::now();
            let keyring = Arc::clone(&self.setup.keyring);
            if keyring.check_store() && !self.server.submit(Box::new(move || keyring.ask_store())) {
                self.setup.keyring.abandon_status();
            }
        }
    }

    /// Reads the whole configuration again; any failure leaves everything as it was (`config` §9).
    fn reload(&mut self) {
        console::error("SIGHUP signal received. Reloading configuration...\n");
        let metrics = self.api.metrics();
        let made = Setup::read(&self.args, Some((&self.setup, &self.sandbox)), metrics)
            .map_err(|error| format!("Failed to reload server config: {error}"))
            .and_then(|setup| match setup.create_predefined_keys() {
                Ok(()) => Ok(setup),
                Err(error) => Err(format!("Failed to update server configuration: {error}")),
            });
        let mut setup = match made {
            Ok(setup) => setup,
            Err(error) => {
                metrics.failed_reloads.add();
                return console::error(&format!("{error}\n"));
            }
        };
        if setup.config.address != self.setup.config.address {
            let address = setup.config.address;
            console::error(&format!("Warning: the new address {address} is used after a restart\n"));
        }
        if setup.config.probe != self.setup.config.probe {
            console::error("Warning: the new setting of probe.address is used after a restart\n");
        }
        self.use_tls(&setup.tls);
        self.api.swap(setup.state());
        self.api.set_logs(&setup.config.log, setup.audit_file.take());
        self.setup = setup;
        self.api.metrics().reloads.add();
        self.announce("=> Reloading configuration after SIGHUP signal completed.");
    }

    /// Reads the certificate, key and CA files of the running configuration again, and nothing else.
    fn refresh_tls(&mut self) {
        let loaded = match self.setup.load_tls() {
            Ok(loaded) => loaded,
            Err(error) => {
                self.api.log().error(&format!("failed to reload TLS configuration: {error}"));
                return console::error(&format!("Failed to reload TLS configuration: {error}\n"));
            }
        };
        for warning in loaded.warnings.iter().filter(|new| !self.setup.tls.warnings.contains(new)) {
            self.api.log().warn(warning);
        }
        if loaded.digest == self.setup.tls.digest {
            // The sessions that clients may resume go on.
            self.setup.tls.warnings = loaded.warnings;
            return;
        }
        let end = Timestamp { seconds: loaded.not_after, nanos: 0, offset_minutes: 0 };
        self.api.log().info(&format!("TLS files have changed and are in use: certificate valid until {end}"));
        self.use_tls(&loaded);
        self.setup.tls = loaded;
        // It knows the roots that certificates of a TLS proxy are verified against.
        self.api.swap(self.setup.state());
    }

    fn use_tls(&self, loaded: &tls::Loaded) {
        self.server.set_tls(Arc::clone(&loaded.config));
        self.api.metrics().certificate_expiry.set(loaded.not_after);
    }

    /// Tells the service manager, if there is one; the server runs on without being heard.
    fn notify(&self, state: &str) {
        if let Err(error) = service::notify(state) {
            self.api.log().warn(&format!("cannot notify the service manager: {error}"));
        }
    }

    /// Prints the banner, unless the server is to be quiet.
    fn announce(&self, last_line: &str) {
        if !self.args.quiet {
            let addresses: Vec<_> = self.server.addresses().collect();
            console::print(&banner::text(
                &self.setup,
                &addresses,
                self.locked,
                self.sandbox.account(),
                &self.limits,
                last_line,
            ));
        }
    }
}
