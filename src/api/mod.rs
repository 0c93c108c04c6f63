//! Answers requests: route, authentication, policy, handler. Knows HTTP's messages, policies and the keyring; no sockets.

use std::net::IpAddr;

use crate::{http::Reply, name::Identity};

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
