//! HTTP/1.1 and HTTP/2 as state machines over bytes: bytes in, requests out, replies in, bytes out.
//! Knows nothing of sockets, TLS, threads or routes; time comes in as milliseconds.

pub mod date;
pub mod h1;
pub mod h2;
pub mod head;
pub mod hpack;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

pub use head::Head;

use crate::crypto::SecretBytes;

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;

/// No deadline.
pub const NEVER: Millis = Millis::MAX;

/// What the service thinks of a request of which only the head is known.
pub enum Admit<T> {
    /// Answer this now; the body, if there is one, is not wanted.
    Refuse(Reply),
    /// Go on: read the body up to `body_limit` bytes, then call [`Service::serve`] with the ticket. With a limit of 0
    /// the body is read and thrown away.
    Accept {
        /// The service's own notes about the request.
        ticket: T,
        /// Most bytes of the body that the service wants to see.
        body_limit: usize,
        /// How long the whole request may take from now until its reply is complete; 0 for no limit.
        timeout: Millis,
    },
}

/// The body of a request, as much of it as the service wanted.
#[derive(Default)]
pub struct Body {
    /// At most `body_limit` bytes. The service may take the buffer; what it leaves is wiped.
    pub bytes: SecretBytes,
    /// The body was longer than `body_limit`.
    pub overflow: bool,
    /// The head announced a body: chunked or a length above 0 (HTTP/1.1), no END_STREAM (HTTP/2).
    pub announced: bool,
}

/// The one who answers requests.
pub trait Service {
    /// What the service notes about a request between its head and its body.
    type Ticket: Send;

    /// Looks at the head before the body is read.
    fn admit(&mut self, head: &Head) -> Admit<Self::Ticket>;

    /// Answers the request, or returns `None` and answers later through [`Protocol::complete`] with the same `stream`. Of a
    /// big head only method and target are left: it need not be kept while the body comes.
    fn serve(&mut self, stream: u32, ticket: Self::Ticket, head: &Head, body: &mut Body) -> Option<Reply>;
}

/// A complete answer. The body may hold key material, so it is wiped after it is sent.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Value of `Content-Type`; empty for none.
    pub content_type: &'static str,
    /// One more header: lower-case name (as HTTP/2 wants it) and value. HTTP/1.1 writes the name in canonical case.
    pub extra: Option<(&'static str, String)>,
    /// The whole body, unless there is a [`Reply::tail`]. `Content-Length` is sent.
    pub body: SecretBytes,
    /// Close an HTTP/1.1 connection after this reply. HTTP/2 ignores it.
    pub close: bool,
    /// The body is only the beginning: [`Protocol::append`] adds to it, and it ends with the connection, at the request's
    /// deadline or at shutdown. `Content-Length` is not sent then. The value is dropped when the stream ends, so that
    /// whoever made it learns that nobody listens any more.
    pub tail: Option<Tail>,
}

/// See [`Reply::tail`].
pub type Tail = Box<dyn std::any::Any + Send>;

impl Reply {
    /// A reply without content type and body.
    pub fn empty(status: u16) -> Self {
        Self { status, content_type: "", extra: None, body: SecretBytes::new(), close: false, tail: None }
    }
}

/// What the owner of the connection does after a call of [`Protocol`]. Whatever it is, `out` is sent first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Go on reading.
    Continue,
    /// Read nothing more until [`Protocol::complete`] was called.
    Pause,
    /// Send what is in `out`, then close the connection. The peer has sent all that it wanted to.
    Close,
    /// As [`Flow::Close`], but the peer may still be sending: read on for a moment, so that it gets the reply and not a
    /// reset (RFC 9112 §9.6).
    Linger,
}

impl Flow {
    /// Whether the connection ends.
    pub fn ends(self) -> bool {
        matches!(self, Self::Close | Self::Linger)
    }
}

/// Most bytes that wait for a client in a reply that goes on; more are lost.
pub const MAX_TAIL: usize = 64 << 10;

/// One connection's side of a protocol.
pub trait Protocol<S: Service> {
    /// Takes received bytes (all of them; what cannot be used yet is kept inside), calls `service`, appends to `out`.
    fn feed(&mut self, now: Millis, input: &[u8], out: &mut Vec<u8>, service: &mut S) -> Flow;

    /// Answers a request for which [`Service::serve`] returned `None`. A stream that is gone is ignored.
    fn complete(
        &mut self,
        now: Millis,
        stream: u32,
        reply: Reply,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Flow;

    /// Adds `bytes` to a reply with a [`Reply::tail`]; `false` if too much is waiting to be taken by the client, so that
    /// `bytes` are lost. A stream that is gone takes everything.
    fn append(&mut self, now: Millis, stream: u32, bytes: &[u8], out: &mut Vec<u8>) -> bool;

    /// Whether somebody still waits for the answer of `stream`.
    fn is_waiting(&self, stream: u32) -> bool;

    /// When [`Protocol::expire`] is to be called if nothing else happens; [`NEVER`] for never. It may change with each
    /// call of the other methods. Being called early is harmless.
    fn deadline(&self) -> Millis;

    /// Does what is due at `now`: ends streams and connections that took too long.
    fn expire(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow;

    /// Begins an orderly end: no new requests (GOAWAY, `Connection: close`), running ones are answered. Returns
    /// [`Flow::Close`] once nothing is running.
    fn shutdown(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow;
}

/// A bound on the memory that something, like request bodies, may take over all connections together.
#[derive(Clone)]
pub struct Budget(Arc<(AtomicUsize, usize)>);

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(0), limit)))
    }

    /// Takes `bytes` out of the budget; `false` if they are not there.
    pub fn take(&self, bytes: usize) -> bool {
        let (used, limit) = &*self.0;
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| sum <= limit)
        })
        .is_ok()
    }

    /// Takes `bytes` until what is returned is dropped; `None` if they are not there.
    pub fn lend(&self, bytes: usize) -> Option<Share> {
        self.take(bytes).then(|| Share { budget: self.clone(), bytes })
    }

    /// Gives back `bytes` that were taken.
    pub fn give_back(&self, bytes: usize) {
        self.0.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// A part of a [`Budget`], given back when it is dropped.
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
