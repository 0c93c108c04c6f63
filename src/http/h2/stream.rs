//! One request on its way: its windows, its deadline and how far it has come.

use super::limits::{DISCARD_LIMIT, INITIAL_WINDOW};
use crate::crypto::SecretBytes;
use crate::http::{Head, MAX_TAIL, Millis, NEVER, Reply};

/// A stream that is not closed.
pub(super) struct Stream<T> {
    pub id: u32,
    pub opened: Millis,
    pub deadline: Millis,
    /// How long the service gave the request; 0 for no limit.
    pub timeout: Millis,
    /// The peer has sent END_STREAM.
    pub ended: bool,
    /// A reply to HEAD has no body.
    pub without_body: bool,
    /// What `content-length` said.
    pub length: Option<u64>,
    /// Body bytes that came.
    pub received: u64,
    /// Bytes that the peer may still send.
    pub credit: usize,
    /// Bytes that the peer was allowed beyond the initial window for a body that is kept.
    pub granted: usize,
    /// Bytes that may still be sent; negative after the peer made its initial window smaller.
    pub window: i64,
    pub state: State<T>,
}

pub(super) enum State<T> {
    /// The body is being read.
    Gathering(Gathering<T>),
    /// Refused by its head; the reply waits for the end of the body.
    Refused(Reply),
    /// The service works on the reply.
    Working,
    /// The reply is being sent.
    Sending(Sending),
}

/// A request whose body is being read.
pub(super) struct Gathering<T> {
    pub ticket: T,
    pub head: Head,
    pub body: SecretBytes,
    pub limit: usize,
}

/// A reply that is not sent yet, or not whole.
pub(super) struct Sending {
    pub reply: Reply,
    pub started: bool,
    pub sent: usize,
    pub ended: bool,
}

impl Sending {
    /// Adds to a reply that goes on; `false` if too much is waiting already. A reply that is whole takes nothing.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if self.reply.tail.is_none() {
            return true;
        }
        if self.reply.body.len() - self.sent > MAX_TAIL {
            return false;
        }
        if self.sent > 0 {
            self.reply.body = SecretBytes::from(self.reply.body[self.sent..].to_vec());
            self.sent = 0;
        }
        self.reply.body.extend(bytes);
        true
    }
}

impl<T> Stream<T> {
    pub fn new(id: u32, now: Millis, ended: bool, window: i64) -> Self {
        Self {
            id,
            opened: now,
            deadline: NEVER,
            timeout: 0,
            ended,
            without_body: false,
            length: None,
            received: 0,
            credit: INITIAL_WINDOW,
            granted: 0,
            window,
            state: State::Working,
        }
    }

    /// Body bytes in memory.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Gathering(gathering) => gathering.body.len(),
            _ => 0,
        }
    }

    /// Whether a body is being read that is kept.
    pub fn is_keeping(&self) -> bool {
        matches!(&self.state, State::Gathering(gathering) if gathering.limit > 0)
    }

    /// How many bytes the peer might usefully send beyond those it may send already.
    pub fn need(&self) -> usize {
        self.expected().saturating_sub(self.credit)
    }

    /// How many bytes the peer may and might usefully send.
    pub fn demand(&self) -> usize {
        self.expected().min(self.credit)
    }

    /// Body bytes that are still of interest: to the announced end, or to the first byte too many.
    fn expected(&self) -> usize {
        let State::Gathering(gathering) = &self.state else { return 0 };
        let limit = if gathering.limit == 0 { DISCARD_LIMIT } else { gathering.limit };
        let whole = (limit as u64).saturating_add(1).min(self.length.unwrap_or(u64::MAX));
        usize::try_from(whole.saturating_sub(self.received)).unwrap_or(usize::MAX)
    }
}
