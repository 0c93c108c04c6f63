//! Sockets and threads: who accepts, who waits, who may block, and how much of each there is at most.
//! Knows TLS and the two protocols as state machines; no routes, keys or policies.
//!
//! ```text
//! listen ──▶ worker (epoll) ── accepts, counts, owns many connections ──▶ conn ── tls ── http ── api
//!                                                                          ▲                      │ late
//!                                                                          └──── blocking ◀───────┘
//! ```

mod blocking;
mod conn;
mod late;
mod listen;
#[cfg(test)]
mod tests;
mod wire;
mod worker;

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Peer},
    http::{Budget, Millis},
    name::Identity,
};

/// Every ceiling of the server. The banner shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Threads that serve connections.
    pub workers: usize,
    /// Threads that may block on a disk or a network.
    pub blocking_threads: usize,
    /// Jobs that may wait for such a thread; more are answered 503.
    pub queue: usize,
    /// Open connections.
    pub connections: usize,
    /// Open connections of one identity that a policy or the admin setting knows.
    pub per_identity: usize,
    /// Open connections of all other clients together.
    pub unknown: usize,
    /// Open connections of the listener for probes.
    pub probes: usize,
    /// Bytes of request bodies in memory.
    pub bodies: usize,
    /// Bytes of replies in memory that their clients do not take; a sixteenth of it each for clients that no policy knows
    /// and for the listener for probes.
    pub replies: usize,
}

impl Limits {
    /// Limits for this machine: a worker for each core but at least two, connections by the limit of open files.
    pub fn for_machine(descriptors: u64) -> Self {
        let cores = crate::sys::process::cores();
        // Some descriptors are for files, the listener and the epoll instances.
        let connections =
            usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(64).clamp(64, 20_000);
        Self {
            workers: cores.clamp(2, 64),
            blocking_threads: 16,
            queue: 1024,
            connections,
            per_identity: connections / 4 * 3,
            unknown: (connections / 8).max(16),
            probes: (connections / 8).min(128),
            bodies: 64 << 20,
            replies: 64 << 20,
        }
    }
}

/// Stack of every thread. All of it is locked when memory is locked, so it is small; nothing recurses deeply.
pub const STACK: usize = 256 << 10;

/// How long running requests may go on after a stop (`server-api` §8.6).
pub const GRACE: Duration = Duration::from_secs(1);

/// The listener that a connection came through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    /// TLS and the whole API.
    Api,
    /// Plain HTTP/1.1 and a few routes that tell how the server is.
    Probe,
}

/// What all connections share.
pub(crate) struct Hub {
    api: Arc<Api>,
    limits: Limits,
    tls: RwLock<Arc<rustls::ServerConfig>>,
    blocking: blocking::Pool,
    budget: Budget,
    /// For replies that their clients do not take: of clients that a policy knows, of others, and through the listener for
    /// probes. Who may do nothing is not to use up what others need.
    replies: [Budget; 3],
    open: AtomicUsize,
    /// Those of `open` that came through the listener for probes.
    probes: AtomicUsize,
    by_peer: Mutex<HashMap<Option<Identity>, usize>>,
    stopping: AtomicBool,
    started: Instant,
}

impl Hub {
    /// What may wait for all clients who came through `door` and are known or not.
    fn replies(&self, door: Door, is_known: bool) -> &Budget {
        let [known, strangers, probes] = &self.replies;
        match door {
            Door::Api if is_known => known,
            Door::Api => strangers,
            Door::Probe => probes,
        }
    }

    fn now(&self) -> Millis {
        Millis::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX - 1)
    }

    /// Takes a place for a connection; an error if there is none.
    fn enter(&self, door: Door) -> io::Result<()> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("too many open connections"));
        }
        if door == Door::Probe && self.probes.fetch_add(1, Ordering::Relaxed) >= self.limits.probes {
            self.leave(door);
            return Err(io::Error::other("too many open connections for probes"));
        }
        Ok(())
    }

    /// Gives back the place that [`Hub::enter`] took.
    fn leave(&self, door: Door) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if door == Door::Probe {
            self.probes.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether there are so many connections that idle ones are closed early.
    fn is_crowded(&self) -> bool {
        self.open.load(Ordering::Relaxed) >= self.limits.connections / 10 * 9
    }

    /// Counts one more connection of `peer`; `None` if it has too many. Clients without a policy share one count.
    fn admit(&self, peer: Peer) -> Option<Option<Identity>> {
        let known = match peer {
            Peer::Known(identity) if self.api.knows(&identity) => Some(identity),
            _ => None,
        };
        let limit = if known.is_some() { self.limits.per_identity } else { self.limits.unknown };
        let mut counts = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(known).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(known)
    }

    /// Takes back what [`Hub::admit`] counted.
    fn dismiss(&self, peer: &Option<Identity>) {
        let mut counts = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(peer);
            }
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// It is also a service manager's, which keeps it when the server stops: clients then wait instead of being refused.
    pub is_shared: bool,
}

/// All sockets that listen.
#[derive(Debug)]
pub struct Listeners {
    /// For the API, over TLS.
    pub api: Listener,
    /// For probes, in plain HTTP.
    pub probe: Option<Listener>,
}

/// A running server.
pub struct Server {
    hub: Arc<Hub>,
    gates: Vec<Arc<listen::Gate>>,
    addresses: Vec<SocketAddr>,
    workers: Vec<(Arc<worker::Worker>, JoinHandle<()>)>,
}

impl Server {
    /// Binds `address` without accepting anything yet.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        crate::sys::network::set_backlog(std::os::fd::AsFd::as_fd(&socket), 4096)?;
        Ok(Listener { socket, is_shared: false })
    }

    /// Starts all threads and serves the connections that come in through `listeners`.
    pub fn start(
        listeners: Listeners,
        tls: Arc<rustls::ServerConfig>,
        api: Arc<Api>,
        limits: Limits,
    ) -> io::Result<Self> {
        let metrics = Arc::clone(&api.metrics().net);
        let hub = Arc::new(Hub {
            api,
            limits,
            tls: RwLock::new(tls),
            blocking: blocking::Pool::start(limits.blocking_threads, limits.queue, metrics)?,
            budget: Budget::new(limits.bodies),
            replies: [1, 16, 16].map(|share| Budget::new(limits.replies / share)),
            open: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            by_peer: Mutex::default(),
            stopping: AtomicBool::new(false),
            started: Instant::now(),
        });
        let api = Some((listeners.api, Door::Api));
        let probe = listeners.probe.map(|listener| (listener, Door::Probe));
        let gates = [api, probe].into_iter().flatten();
        let gates: Vec<_> = gates
            .map(|(listener, door)| listen::Gate::new(listener, door).map(Arc::new))
            .collect::<io::Result<_>>()?;
        let addresses = gates.iter().map(|gate| gate.address()).collect::<io::Result<_>>()?;
        let workers = worker::start(&hub, &gates)?;
        Ok(Self { hub, gates, addresses, workers })
    }

    /// Where the server really listens (the ports may have been 0): the API first, then the probes.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied()
    }

    /// Uses `tls` for all handshakes from now on.
    pub fn set_tls(&self, tls: Arc<rustls::ServerConfig>) {
        *self.hub.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// Runs `job` on a thread that may block; `false` if the queue is full.
    pub fn submit(&self, job: crate::api::Job) -> bool {
        self.hub.blocking.submit(job).is_ok()
    }

    /// Closes the listeners at once, lets running requests finish for [`GRACE`], then cuts every connection.
    pub fn stop(mut self) {
        self.hub.stopping.store(true, Ordering::Release);
        self.gates.iter().for_each(|gate| gate.shut());
        self.workers.iter().for_each(|(worker, _)| worker.wake());
        for (_, thread) in self.workers.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A thread with a small stack and a name that tools show.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(run)
}
