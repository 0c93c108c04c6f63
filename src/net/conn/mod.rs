//! One connection: the socket, its TLS state, its protocol, and when to give up on it.
//!
//! Everything that changes is behind one lock. The worker takes it when the socket is ready. Late answers come from other
//! threads: they are put into a list, and whoever holds the lock takes them from there, so that nobody ever waits for the
//! lock of a connection while it holds another one.

mod input;
mod output;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Door, Hub,
    late::{Late, Listener, Responder},
    wire::Wire,
    worker::Worker,
};
use crate::{
    api::{Connection, Job, Peer, Respond, Session, Ticket},
    feed::Listen,
    http::{Budget, Flow, Millis, NEVER, Protocol, Reply, h1::H1, h2::H2},
    name::Identity,
    sys::{epoll::Interest, network},
};

/// A handshake must be complete this long after the connection was accepted.
const HANDSHAKE: Millis = 5_000;

/// As much as this may wait for a peer without counting towards what may wait for all of them.
const SMALL: usize = 16 << 10;

/// A peer that takes nothing of what is sent to it is cut after this long.
const STALLED: Millis = 15_000;

/// What a protocol wants to do this soon may be done at once.
const SOON: Millis = 10;

/// How long a closed connection goes on reading, so that the peer gets the last reply instead of a reset.
const LINGER: Millis = 1_000;

/// How long a connection must have been silent before it makes room for others when there are too many.
const SILENT: Millis = 10_000;

/// How long a handshake may take when there are too many connections.
const HURRY: Millis = 1_000;

/// Buffers of one worker, used by one connection after the other.
pub(super) struct Scratch {
    received: Box<[u8]>,
    plain: Box<[u8]>,
    out: Vec<u8>,
}

impl Scratch {
    /// Buffers for a worker.
    pub(super) fn new() -> Self {
        Self { received: vec![0; 32 << 10].into(), plain: vec![0; 16 << 10].into(), out: Vec::new() }
    }
}

/// A connection, shared by its worker and the late answers.
pub(super) struct Conn {
    socket: TcpStream,
    remote: SocketAddr,
    token: u64,
    hub: Arc<Hub>,
    worker: Arc<Worker>,
    this: Weak<Self>,
    peer: OnceLock<Peer>,
    deadline: AtomicU64,
    door: Door,
    /// A reply goes on or has gone on: the peer may take its time to read it.
    patient: AtomicBool,
    late: Mutex<Vec<(u32, Late)>>,
    inner: Mutex<Inner>,
}

struct Inner {
    wire: Wire,
    speaks: Speaks,
    stage: Stage,
    interest: Interest,
    /// When the peer has sent something last.
    heard: Millis,
    /// When to give up, apart from what the protocol says.
    give_up: Millis,
    /// The protocol wants nothing more until a late answer has come.
    paused: bool,
    /// What the protocol has written while the socket was full: it makes no more when this grows.
    backlog: Vec<u8>,
    /// Bytes that the wire has taken and the socket has not.
    waiting: usize,
    /// Bytes taken out of the budget for replies.
    charged: usize,
    /// The peer has said that it sends nothing more.
    ended: bool,
    /// The peer may still be sending when everything is sent to it.
    lingers: bool,
    counted: Option<Option<Identity>>,
    /// Streams of HTTP/2 that the metrics know of: open ones, and all.
    streams: (usize, u64),
}

impl Inner {
    /// Bytes in memory that are to be sent; of a stranger, also what his requests take.
    fn unsent(&self) -> usize {
        let queued = match &self.speaks {
            Speaks::H2(h2) if self.is_known() => h2.unsent(),
            Speaks::H2(h2) => h2.held(),
            Speaks::H1(_) | Speaks::Nothing => 0,
        };
        let waiting = if self.wire.wants_write() { self.waiting } else { 0 };
        waiting + self.backlog.len() + queued
    }

    /// Whether the client is one that a policy knows.
    fn is_known(&self) -> bool {
        matches!(self.counted, Some(Some(_)))
    }

    /// Gives `out` to the wire, and wipes it.
    fn put(&mut self, out: &mut Vec<u8>) {
        self.waiting += out.len();
        self.wire.put(out);
    }
}

enum Speaks {
    Nothing,
    H1(Box<H1<Ticket>>),
    H2(Box<H2<Ticket>>),
}

impl Speaks {
    fn feed(&mut self, now: Millis, bytes: &[u8], out: &mut Vec<u8>, session: &mut Session) -> Flow {
        match self {
            Self::Nothing => Flow::Close,
            Self::H1(h1) => h1.feed(now, bytes, out, session),
            Self::H2(h2) => h2.feed(now, bytes, out, session),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Nothing more is read; what is left is sent, then the connection lingers.
    Finishing,
    /// All is sent; what still comes in is thrown away.
    Lingering,
    Closed,
}

impl Conn {
    /// A connection that was just accepted. Nothing is allocated for TLS before the first byte has come.
    pub(super) fn new(
        socket: TcpStream,
        remote: SocketAddr,
        door: Door,
        token: u64,
        hub: Arc<Hub>,
        worker: Arc<Worker>,
    ) -> Arc<Self> {
        let now = hub.now();
        let (wire, speaks, give_up) = match door {
            Door::Api => (Wire::Untouched, Speaks::Nothing, now + HANDSHAKE),
            Door::Probe => {
                let h1 = H1::new(hub.budget.clone(), now);
                (Wire::Plain(Vec::new()), Speaks::H1(Box::new(h1)), NEVER)
            }
        };
        Arc::new_cyclic(|this| Self {
            socket,
            remote,
            token,
            worker,
            this: this.clone(),
            peer: OnceLock::new(),
            deadline: AtomicU64::new(now + HANDSHAKE),
            door,
            patient: AtomicBool::new(false),
            late: Mutex::default(),
            inner: Mutex::new(Inner {
                wire,
                speaks,
                stage: Stage::Open,
                interest: Interest::Read,
                heard: now,
                give_up,
                paused: false,
                backlog: Vec::new(),
                waiting: 0,
                charged: 0,
                ended: false,
                lingers: false,
                counted: None,
                streams: (0, 0),
            }),
            hub,
        })
    }

    /// The connection's place in its worker's table.
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// The listener that it came through.
    pub(super) fn door(&self) -> Door {
        self.door
    }

    /// Begins to watch the socket.
    pub(super) fn watch(&self) -> io::Result<()> {
        self.worker.epoll.add(self.socket.as_fd(), self.token, Interest::Read)
    }

    /// When [`Conn::expire`] is to be called.
    pub(super) fn deadline(&self) -> Millis {
        self.deadline.load(Ordering::Relaxed)
    }

    /// The socket was ready at `now` for what it is watched for.
    pub(super) fn on_event(&self, now: Millis, broken: bool, scratch: &mut Scratch) {
        self.with(|inner| {
            if broken || inner.stage == Stage::Closed {
                return self.close(inner);
            }
            if inner.wire.wants_write() {
                while self.flush(inner) && inner.stage == Stage::Open && self.go_on(inner) {}
                if inner.interest == Interest::Write {
                    return;
                }
            }
            if inner.paused && inner.stage == Stage::Open {
                // Bytes are waiting, but nothing is read before the late answer is out.
                return self.set_interest(inner, Interest::Errors);
            }
            self.read(inner, now, scratch);
        });
    }

    /// Something took too long.
    pub(super) fn expire(&self) {
        self.with(|inner| {
            let now = self.hub.now();
            if now >= inner.give_up {
                if inner.stage == Stage::Open && matches!(inner.speaks, Speaks::Nothing) {
                    self.log_handshake("timed out");
                }
                return self.close(inner);
            }
            self.step(inner, |speaks, out, _| match speaks {
                Speaks::Nothing => Flow::Continue,
                Speaks::H1(h1) => Protocol::<Session>::expire(&mut **h1, now, out),
                Speaks::H2(h2) => Protocol::<Session>::expire(&mut **h2, now, out),
            });
        });
    }

    /// There are too many connections: this one ends if its handshake takes long, or if it has been silent for a while
    /// and does nothing.
    pub(super) fn make_room(&self, now: Millis) {
        self.with(|inner| {
            if inner.stage != Stage::Open {
                return;
            }
            let is_unused = match &inner.speaks {
                Speaks::Nothing => {
                    // A handshake began when it was given its deadline.
                    let began = inner.give_up.saturating_sub(HANDSHAKE);
                    if now.saturating_sub(began) >= HURRY {
                        self.log_handshake("too slow while there are too many connections");
                        self.close(inner);
                    }
                    return;
                }
                Speaks::H1(h1) => h1.is_unused(),
                Speaks::H2(h2) => h2.is_unused(),
            };
            if is_unused && now.saturating_sub(inner.heard) >= SILENT {
                self.shut_down_locked(inner);
            }
        });
    }

    /// The server stops: no new requests, running ones are answered.
    pub(super) fn shut_down(&self) {
        self.with(|inner| self.shut_down_locked(inner));
    }

    /// Ends the connection at once, whatever it was doing.
    pub(super) fn cut(&self) {
        // A panic may have poisoned the lock; what is inside is not used any more, only dropped.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.close(&mut inner);
        self.take_note(&mut inner);
    }

    fn shut_down_locked(&self, inner: &mut Inner) {
        let now = self.hub.now();
        self.step(inner, |speaks, out, _| match speaks {
            Speaks::Nothing => Flow::Close,
            Speaks::H1(h1) => Protocol::<Session>::shutdown(&mut **h1, now, out),
            Speaks::H2(h2) => Protocol::<Session>::shutdown(&mut **h2, now, out),
        });
    }

    /// Takes the lock, does one thing, and then whatever late answers have come in the meantime.
    fn with(&self, act: impl FnOnce(&mut Inner)) {
        let Ok(mut inner) = self.inner.lock() else {
            return self.cut();
        };
        act(&mut inner);
        self.take_note(&mut inner);
        drop(inner);
        self.take_late();
    }

    /// Completes late answers as long as there are any and nobody else holds the lock. Who holds it comes here after
    /// giving it back, so no answer is left behind.
    fn take_late(&self) {
        while !self.late().is_empty() {
            let mut inner = match self.inner.try_lock() {
                Ok(inner) => inner,
                Err(TryLockError::WouldBlock) => return,
                Err(TryLockError::Poisoned(inner)) => {
                    drop(inner);
                    return self.cut();
                }
            };
            // The list is given back first: to complete one answer may bring the next.
            let taken = std::mem::take(&mut *self.late());
            for (stream, late) in taken {
                match late {
                    Late::Answer(reply) => self.complete(&mut inner, stream, reply),
                    Late::Piece(piece, from) => from.taken(self.append(&mut inner, stream, &piece)),
                }
            }
            self.take_note(&mut inner);
        }
    }

    fn complete(&self, inner: &mut Inner, stream: u32, reply: Reply) {
        let now = self.hub.now();
        inner.paused = false;
        self.step(inner, |speaks, out, session| match speaks {
            Speaks::Nothing => Flow::Continue,
            Speaks::H1(h1) => h1.complete(now, stream, reply, out, session),
            Speaks::H2(h2) => h2.complete(now, stream, reply, out, session),
        });
    }

    /// Sends a piece of a reply that goes on; `false` if the peer has too much waiting to take it.
    fn append(&self, inner: &mut Inner, stream: u32, piece: &[u8]) -> bool {
        let (now, mut is_kept) = (self.hub.now(), true);
        self.step(inner, |speaks, out, _| {
            is_kept = match speaks {
                Speaks::Nothing => true,
                Speaks::H1(h1) => Protocol::<Session>::append(&mut **h1, now, stream, piece, out),
                Speaks::H2(h2) => Protocol::<Session>::append(&mut **h2, now, stream, piece, out),
            };
            Flow::Continue
        });
        is_kept
    }

    /// Something for `stream` from another thread. Does not wait.
    pub(super) fn deliver(&self, stream: u32, late: Late) {
        self.late().push((stream, late));
        self.take_late();
    }

    /// Whether the peer still waits for the answer of `stream`.
    pub(super) fn is_waiting(&self, stream: u32) -> bool {
        // A connection that is busy just now is taken for one that waits.
        let Ok(inner) = self.inner.try_lock() else { return true };
        let is_waiting = match &inner.speaks {
            Speaks::Nothing => false,
            Speaks::H1(h1) => Protocol::<Session>::is_waiting(&**h1, stream),
            Speaks::H2(h2) => Protocol::<Session>::is_waiting(&**h2, stream),
        };
        drop(inner);
        // Somebody may have come in vain while the lock was held here.
        self.take_late();
        is_waiting
    }

    /// Lets the protocol do one thing and sends what it has to say.
    fn step(&self, inner: &mut Inner, act: impl FnOnce(&mut Speaks, &mut Vec<u8>, &mut Session) -> Flow) {
        if inner.stage != Stage::Open {
            return;
        }
        let mut out = std::mem::take(&mut inner.backlog);
        let mut session = match self.door {
            Door::Api => Session::new(&self.hub.api, self),
            Door::Probe => Session::for_probes(&self.hub.api, self),
        };
        let flow = act(&mut inner.speaks, &mut out, &mut session);
        self.apply(inner, flow, &mut out);
    }

    fn set_interest(&self, inner: &mut Inner, interest: Interest) {
        if inner.interest != interest && inner.stage != Stage::Closed {
            inner.interest = interest;
            if self.worker.epoll.modify(self.socket.as_fd(), self.token, interest).is_err() {
                self.close(inner);
            }
        }
    }

    /// Before the lock is given back: notes the deadline, what waits to be sent, and what the metrics want to know.
    fn take_note(&self, inner: &mut Inner) {
        self.charge(inner);
        self.count_streams(inner);
        let protocol = match &inner.speaks {
            Speaks::Nothing => NEVER,
            Speaks::H1(h1) => Protocol::<Session>::deadline(&**h1),
            Speaks::H2(h2) => Protocol::<Session>::deadline(&**h2),
        };
        self.deadline.store(inner.give_up.min(protocol), Ordering::Relaxed);
    }

    fn count_streams(&self, inner: &mut Inner) {
        let streams = match &inner.speaks {
            Speaks::Nothing => (0, inner.streams.1),
            Speaks::H1(_) => (0, 0),
            Speaks::H2(h2) => h2.streams(),
        };
        if streams != inner.streams {
            let (metrics, (open, all)) = (&self.hub.api.metrics().net, inner.streams);
            metrics.open_streams.change(streams.0 as i64 - open as i64);
            metrics.streams.add_all(streams.1.saturating_sub(all));
            inner.streams = streams;
        }
    }

    /// Takes what waits for this peer out of what may wait for all like it; a peer that finds too little left is cut.
    fn charge(&self, inner: &mut Inner) {
        let unsent = inner.unsent();
        let due = if unsent > SMALL { unsent } else { 0 };
        let budget = self.budget(inner);
        if due > inner.charged && !budget.take(due - inner.charged) {
            self.log_cut();
            return self.close(inner);
        }
        if due < inner.charged {
            budget.give_back(inner.charged - due);
        }
        inner.charged = due;
    }

    fn budget(&self, inner: &Inner) -> &Budget {
        self.hub.replies(self.door, inner.is_known())
    }

    fn late(&self) -> MutexGuard<'_, Vec<(u32, Late)>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection for Conn {
    fn peer(&self) -> Peer {
        self.peer.get().copied().unwrap_or(Peer::NoCertificate)
    }

    fn address(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }

    fn responder(&self, stream: u32) -> Box<dyn Respond> {
        Box::new(Responder::new(self.this.clone(), stream))
    }

    fn listener(&self, stream: u32, lost: Arc<AtomicU64>) -> Arc<dyn Listen> {
        self.patient.store(true, Ordering::Relaxed);
        // Nothing may be sent for days; without this a client that has vanished would hold its place for ever.
        let _ = network::keep_alive(self.socket.as_fd());
        Listener::new(self.this.clone(), stream, lost)
    }

    fn submit(&self, job: Job) -> Result<(), Job> {
        self.hub.blocking.submit(job)
    }
}
