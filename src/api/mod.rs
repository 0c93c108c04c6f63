//! Answers requests: route, authentication, policy, handler. Knows HTTP's messages, policies and the keyring; no sockets.
//!
//! The order of all checks is the original's (`server-api` §2.2): what a client is told depends on it.

mod identity;
mod key;
mod logs;
mod policy;
mod proxy;
mod reply;
mod route;
mod status;
#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

pub use proxy::{Client, Proxies};
pub use reply::ApiError;
use route::{Action, Auth, ROUTES, Route, Target};

use crate::{
    audit::{AuditEvent, AuditFile, AuditLog},
    config::{ApiConfig, LogConfig},
    feed::Listen,
    http::{Admit, Body, Budget, Head, Reply, Service},
    keyring::Keyring,
    log::{DEBUG, ERROR, INFO, Logger},
    metrics::Metrics,
    name::Identity,
    policy::{Decision, PolicySet},
    sys::fault,
    text::time::Timestamp,
};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from.
pub const COMMIT: &str = match option_env!("KES_COMMIT") {
    Some(commit) => commit,
    None => "<unknown>",
};

/// Of a method that is refused, so much is quoted.
const MAX_METHOD: usize = 64;

/// Bytes in memory of requests that wait for their keys.
const MAX_WAITING: usize = 64 << 20;

const NO_CERTIFICATE: ApiError = ApiError::new(400, "tls: client certificate is required");
const SEVERAL_CERTIFICATES: ApiError = ApiError::new(400, "tls: received more than one client certificate");
const NOT_ALLOWED: ApiError = ApiError::new(403, "not authorized: insufficient permissions");
const BUSY: ApiError = ApiError::new(503, "server is busy");
const INTERNAL: ApiError = ApiError::new(500, "internal server error");

/// Who is at the other end of a connection, found out once after the handshake (`server-api` §1.3, §1.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Exactly one certificate that is not a CA's.
    Known(Identity),
    /// No such certificate.
    NoCertificate,
    /// More than one.
    SeveralCertificates,
}

impl Peer {
    /// The identity, if there is exactly one certificate.
    pub fn identity(self) -> Option<Identity> {
        match self {
            Self::Known(identity) => Some(identity),
            _ => None,
        }
    }
}

/// Something to do on a thread that may block.
pub type Job = Box<dyn FnOnce() + Send>;

/// What the API needs of the connection that a request came from.
pub trait Connection {
    /// Who the client is.
    fn peer(&self) -> Peer;

    /// The client's address.
    fn address(&self) -> IpAddr;

    /// The one who takes the late answer for `stream`. Dropping it unanswered answers 500.
    fn responder(&self, stream: u32) -> Box<dyn Respond>;

    /// The one who takes pieces of the reply for `stream`, if it goes on ([`Reply::tail`]). Pieces that the client does
    /// not take are counted in `lost`.
    fn listener(&self, stream: u32, lost: Arc<AtomicU64>) -> Arc<dyn Listen>;

    /// Hands `job` to the bounded pool for blocking work; gives it back if the queue is full (answer 503 then).
    fn submit(&self, job: Job) -> Result<(), Job>;
}

/// Takes the answer to one request that is answered later.
pub trait Respond: Send {
    /// Sends the reply. Nothing happens if the client is gone.
    fn respond(self: Box<Self>, reply: Reply);

    /// Whether the client still waits; late jobs are dropped when it does not.
    fn is_wanted(&self) -> bool;
}

/// The reply to a request that nobody has answered.
pub fn internal_error() -> Reply {
    INTERNAL.reply()
}

/// What one configuration means for the API. It is replaced as a whole.
pub struct State {
    policies: PolicySet,
    keyring: Arc<Keyring>,
    proxies: Proxies,
    /// For each of [`ROUTES`]: who may call it and its time in milliseconds.
    settings: [(Auth, u64); ROUTES.len()],
}

impl State {
    /// The state of a configuration with these policies, keys, TLS proxies and `api:` entries.
    pub fn new(policies: PolicySet, keyring: Arc<Keyring>, proxies: Proxies, api: &[ApiConfig]) -> Self {
        let settings = std::array::from_fn(|index| {
            let route = &ROUTES[index];
            let entry = api.iter().find(|entry| entry.path == route.path);
            let skips = entry.is_some_and(|entry| entry.skip_auth) && route.auth == Auth::Standard;
            let timeout = entry.and_then(|entry| entry.timeout);
            let millis = timeout.map_or(route.timeout * 1_000, |timeout| {
                u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX / 2).max(1)
            });
            (if skips { Auth::Own } else { route.auth }, millis)
        });
        Self { policies, keyring, proxies, settings }
    }

    /// Whether `caller` may call the route of `action`.
    fn allows(&self, action: Action, caller: Option<&Identity>) -> bool {
        ROUTES.iter().zip(&self.settings).filter(|(route, _)| route.action == action).all(
            |(route, (auth, _))| {
                let decide = |caller| self.policies.decide(caller, route.path.as_bytes());
                *auth != Auth::Standard
                    || caller.is_some_and(|caller| matches!(decide(caller), Decision::Allow))
            },
        )
    }
}

/// The API of one server: the present state, and what survives a reload.
pub struct Api {
    state: RwLock<Arc<State>>,
    log: Logger,
    audit: AuditLog,
    metrics: Arc<Metrics>,
    /// For what requests hold while they wait for their keys.
    waiting: Budget,
    started: Timestamp,
}

impl Api {
    /// An API that starts now.
    pub fn new(state: State, log: &LogConfig, audit: Option<AuditFile>, metrics: Arc<Metrics>) -> Self {
        Self {
            state: RwLock::new(Arc::new(state)),
            log: Logger::new(log.error),
            audit: AuditLog::new(log.audit, audit),
            metrics,
            waiting: Budget::new(MAX_WAITING),
            started: Timestamp::now(),
        }
    }

    /// Uses `state` for all requests that come from now on, and ends the log streams of those who may not follow them any
    /// more.
    pub fn swap(&self, state: State) {
        let state = Arc::new(state);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&state);
        for (feed, action) in [(self.audit.feed(), Action::AuditLog), (self.log.feed(), Action::ErrorLog)] {
            feed.keep(|caller| state.allows(action, caller));
        }
    }

    /// Uses these levels and this file for all events from now on.
    pub fn set_logs(&self, log: &LogConfig, audit: Option<AuditFile>) {
        self.log.set_level(log.error);
        self.audit.set(log.audit, audit);
    }

    /// The error log.
    pub fn log(&self) -> &Logger {
        &self.log
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn metrics_text(&self) -> String {
        self.metrics.text(self.audit.feed(), self.log.feed())
    }

    /// Whether `identity` is the admin, in a policy or a TLS proxy.
    pub fn knows(&self, identity: &Identity) -> bool {
        let state = self.state();
        state.policies.knows(identity) || state.proxies.identities.contains(identity)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers the requests of one connection.
pub struct Session<'a> {
    api: &'a Arc<Api>,
    connection: &'a dyn Connection,
    is_for_probes: bool,
}

impl<'a> Session<'a> {
    /// Answers requests that come over `connection`.
    pub fn new(api: &'a Arc<Api>, connection: &'a dyn Connection) -> Self {
        Self { api, connection, is_for_probes: false }
    }

    /// Answers requests over the listener for probes: a few routes that tell how the server is, to anybody.
    pub fn for_probes(api: &'a Arc<Api>, connection: &'a dyn Connection) -> Self {
        Self { api, connection, is_for_probes: true }
    }
}

/// What is known of a request that was let in, until its body has come.
pub struct Ticket {
    state: Arc<State>,
    route: &'static Route,
    caller: Option<Identity>,
    address: IpAddr,
    /// The percent-decoded path, if it differs from the one in the head.
    decoded: Option<Vec<u8>>,
    started: Instant,
}

impl Service for Session<'_> {
    type Ticket = Ticket;

    fn admit(&mut self, head: &Head) -> Admit<Ticket> {
        let (index, path) = match route::find(head.target()) {
            Target::Route(index, path) => (index, path),
            Target::Redirect(to) if !self.is_for_probes => {
                return Admit::Refuse(reply::redirect(head.method(), to));
            }
            _ => return Admit::Refuse(reply::not_found()),
        };
        let route = &ROUTES[index];
        if self.is_for_probes && !route.is_for_probes() {
            return Admit::Refuse(reply::not_found());
        }
        if !route.accepts(head.method()) {
            return Admit::Refuse(wrong_method(head.method(), route.method));
        }
        let state = self.api.state();
        let (auth, timeout) = state.settings[index];
        let auth = if self.is_for_probes { Auth::None } else { auth };
        let (caller, address) = match self.authenticate(&state, auth, &path, head) {
            Ok(client) => client,
            Err(error) => return Admit::Refuse(error.reply()),
        };
        let decoded = match path {
            std::borrow::Cow::Owned(decoded) => Some(decoded),
            std::borrow::Cow::Borrowed(_) => None,
        };
        let ticket = Ticket { state, route, caller, address, decoded, started: Instant::now() };
        Admit::Accept { ticket, body_limit: route.max_body, timeout }
    }

    fn serve(&mut self, stream: u32, mut ticket: Ticket, head: &Head, body: &mut Body) -> Option<Reply> {
        let path = ticket.decoded.take().unwrap_or_else(|| path_of(head.target()).to_vec());
        let origin = Origin {
            method: if head.method() == "POST" { "POST" } else { ticket.route.method },
            resource: ticket.route.path.len(),
            path,
            address: ticket.address,
            caller: ticket.caller,
        };
        let record =
            Record { api: Arc::clone(self.api), route: ticket.route, origin, started: ticket.started };
        if record.route.is_counted {
            self.api.metrics.begin();
        }
        let call = Call { state: &ticket.state, connection: self.connection, stream, record: &record };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            fault::point("handler", record.route.path);
            dispatch(&call, body)
        }));
        match outcome {
            Ok(Outcome::Now(result)) => Some(record.finish(result)),
            Ok(Outcome::Later(begin)) => begin(record).map(|(record, error)| record.finish(Err(error))),
            Err(_) => Some(record.panicked()),
        }
    }
}

impl Session<'_> {
    /// Who calls and from where, if he may (`server-api` §1.3, §5). `path` is percent-decoded.
    fn authenticate(
        &self,
        state: &State,
        auth: Auth,
        path: &[u8],
        head: &Head,
    ) -> Result<(Option<Identity>, IpAddr), ApiError> {
        let sender = Client { peer: self.connection.peer(), address: self.connection.address() };
        if auth == Auth::None {
            return Ok((None, sender.address));
        }
        let client = state.proxies.client(sender, head);
        if auth == Auth::Own {
            let Ok(client) = client else { return Ok((None, sender.address)) };
            return Ok((client.peer.identity(), client.address));
        }
        let (error, cause) = match &client {
            Err(error) => (error.clone(), error.text()),
            Ok(client) => match client.peer {
                Peer::NoCertificate => (NO_CERTIFICATE, NO_CERTIFICATE.text()),
                Peer::SeveralCertificates => (SEVERAL_CERTIFICATES, SEVERAL_CERTIFICATES.text()),
                Peer::Known(identity) => match state.policies.decide(&identity, path) {
                    Decision::Allow => return Ok((Some(identity), client.address)),
                    Decision::UnknownIdentity => (NOT_ALLOWED, "access denied: identity not found".into()),
                    Decision::Rejected(index) => {
                        let name = &state.policies.policies[index].name;
                        (NOT_ALLOWED, format!("access denied: rejected by policy '{name}'"))
                    }
                },
            },
        };
        if self.api.log.is_on(DEBUG) {
            let client = client.unwrap_or(sender);
            let origin = Origin {
                method: "",
                resource: 0,
                path: path.to_vec(),
                address: client.address,
                caller: client.peer.identity(),
            };
            origin.log(&self.api.log, DEBUG, &cause, head.method());
        }
        Err(error)
    }
}

fn wrong_method(method: &str, expected: &'static str) -> Reply {
    // Anybody may send this; the longest method that is registered has 16 bytes.
    let shown = &method.as_bytes()[..method.len().min(MAX_METHOD)];
    let error = ApiError::quoting(405, "received method '", shown, &format!("' expected '{expected}'"));
    // The original sends `Accept` where `Allow` belongs; clients may rely on it.
    Reply { extra: Some(("accept", expected.into())), ..error.reply() }
}

fn path_of(target: &[u8]) -> &[u8] {
    target.split(|b| *b == b'?').next().unwrap_or(target)
}

/// Where a request comes from, for logs and handlers.
pub(crate) struct Origin {
    method: &'static str,
    path: Vec<u8>,
    /// Where in the path the resource begins.
    resource: usize,
    address: IpAddr,
    caller: Option<Identity>,
}

impl Origin {
    /// What follows the route in the path, percent-decoded.
    fn resource(&self) -> &[u8] {
        self.path.get(self.resource..).unwrap_or(&[])
    }

    /// The caller's identity; empty if he has none.
    fn identity(&self) -> String {
        self.caller.map_or(String::new(), |identity| identity.to_string())
    }

    fn log(&self, log: &Logger, level: i32, message: &str, method: &str) {
        let identity = if self.caller.is_some() { self.identity() } else { "<unknown>".into() };
        let path = String::from_utf8_lossy(&self.path);
        let ip = self.address.to_string();
        let attributes =
            [("req.method", method), ("req.path", &*path), ("req.ip", &*ip), ("req.identity", &*identity)];
        log.log(level, message, &attributes);
    }
}

/// One request that was let in, until it is answered: whoever answers it records what came of it, once.
pub(crate) struct Record {
    api: Arc<Api>,
    route: &'static Route,
    origin: Origin,
    started: Instant,
}

impl Record {
    /// Counts and logs the outcome, and turns it into the reply.
    fn finish(self, result: Result<Reply, ApiError>) -> Reply {
        let time = self.started.elapsed();
        let reply = result.unwrap_or_else(|error| error.reply());
        if self.route.is_counted {
            self.api.metrics.end(reply.status, time);
        }
        if reply.status == 200 {
            self.audit(time);
        }
        reply
    }

    /// Notes that the client was gone before anything was done.
    fn abandon(self) {
        if self.route.is_counted {
            self.api.metrics.abandon();
        }
    }

    /// A line in the error log about this request.
    fn log(&self, level: i32, message: &str) {
        self.origin.log(&self.api.log, level, message, self.origin.method);
    }

    fn error(&self, message: &str) {
        self.log(ERROR, message);
    }

    fn panicked(self) -> Reply {
        self.api.metrics.panics.add();
        self.log(INFO, "panic while serving the request");
        self.finish(Err(INTERNAL))
    }

    fn audit(&self, time: Duration) {
        let done = match self.route.action {
            Action::CreateKey | Action::ImportKey => "created",
            Action::DeleteKey => "deleted",
            _ => return,
        };
        let name = String::from_utf8_lossy(self.origin.resource());
        let event = AuditEvent {
            message: &format!("secret key '{name}' {done}"),
            method: self.origin.method,
            path: &String::from_utf8_lossy(&self.origin.path),
            ip: &self.origin.address.to_string(),
            identity: &self.origin.identity(),
            status: 200,
            time,
        };
        self.api.audit.write(&event, &self.api.log);
    }
}

/// What a handler gets.
struct Call<'c, 'r> {
    state: &'r Arc<State>,
    connection: &'c dyn Connection,
    stream: u32,
    record: &'r Record,
}

/// Begins a late answer. Whoever cannot begin gives the record back with the error.
type Begin<'c> = Box<dyn FnOnce(Record) -> Option<(Record, ApiError)> + 'c>;

/// What a handler gives.
enum Outcome<'c> {
    /// The answer.
    Now(Result<Reply, ApiError>),
    /// The answer comes from another thread.
    Later(Begin<'c>),
}

impl<'c, 'r> Call<'c, 'r> {
    fn resource(&self) -> &'r [u8] {
        self.record.origin.resource()
    }

    /// Runs `work` on a thread that may block, and answers with what it returns.
    fn later(&self, work: impl FnOnce(&Record) -> Result<Reply, ApiError> + Send + 'static) -> Outcome<'c> {
        let (connection, stream) = (self.connection, self.stream);
        Outcome::Later(Box::new(move |record| {
            let responder = connection.responder(stream);
            // The record comes back if the job cannot be handed over.
            let place = Arc::new(std::sync::Mutex::new(Some((record, responder))));
            let taken = Arc::clone(&place);
            let job = move || {
                let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some((record, responder)) = taken {
                    answer(record, responder, work);
                }
            };
            drop(connection.submit(Box::new(job)).err()?);
            let (record, responder) = place.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            // The stream is answered at once by the caller, so that nobody waits for this one.
            responder.respond(internal_error());
            Some((record, BUSY))
        }))
    }
}

/// Does the work of one late request, unless nobody waits for it any more.
fn answer(
    record: Record,
    responder: Box<dyn Respond>,
    work: impl FnOnce(&Record) -> Result<Reply, ApiError>,
) {
    if !responder.is_wanted() {
        return record.abandon();
    }
    let work = || {
        fault::point("job", record.route.path);
        work(&record)
    };
    let reply = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => record.finish(result),
        Err(_) => record.panicked(),
    };
    responder.respond(reply);
}

fn dispatch<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    match call.record.route.action {
        Action::Version => Outcome::Now(Ok(status::version())),
        Action::Ready => status::ready(call),
        Action::Status => status::status(call),
        Action::Metrics => Outcome::Now(Ok(status::metrics(call))),
        Action::Routes => Outcome::Now(Ok(status::routes(call))),
        Action::CreateKey => key::create(call),
        Action::ImportKey => key::import(call, body),
        Action::DescribeKey => key::describe(call),
        Action::ListKeys => key::list(call),
        Action::DeleteKey => key::delete(call),
        Action::Encrypt => key::encrypt(call, body),
        Action::Generate => key::generate(call, body),
        Action::Decrypt => key::decrypt(call, body),
        Action::Hmac => key::hmac(call, body),
        Action::DescribePolicy => Outcome::Now(policy::describe(call)),
        Action::ReadPolicy => Outcome::Now(policy::read(call)),
        Action::ListPolicies => Outcome::Now(policy::list(call)),
        Action::DescribeIdentity => Outcome::Now(identity::describe(call)),
        Action::ListIdentities => Outcome::Now(identity::list(call)),
        Action::DescribeSelf => Outcome::Now(identity::describe_self(call)),
        Action::ErrorLog => Outcome::Now(logs::follow(call, call.record.api.log.feed())),
        Action::AuditLog => Outcome::Now(logs::follow(call, call.record.api.audit.feed())),
    }
}
