//! One request on its way through a connection.

use super::{FREE_BODY, MAX_DRAIN, STREAM_WINDOW};
use crate::{
    crypto::SecretBytes,
    http::{Body, BodyBudget, Head, Millis, NEVER, Reply},
};

/// What a stream is doing.
pub enum Phase<T> {
    /// Reading its body.
    Body(T),
    /// Refused before its body has come; the reply waits for the body's end.
    Refused(Reply),
    /// Its answer is being made elsewhere.
    Waiting,
    /// Sending the reply's body.
    Sending {
        /// The whole body.
        data: SecretBytes,
        /// How much of it is sent.
        sent: usize,
    },
    /// Reset while its answer was being made; it is here only to be counted.
    Orphan,
}

/// A stream that is not closed.
pub struct Stream<T> {
    pub id: u32,
    pub phase: Phase<T>,
    pub head: Head,
    pub body: Body,
    pub body_limit: usize,
    /// Value of `content-length`.
    pub expected: Option<u64>,
    /// Bytes of the body that have come.
    pub received: u64,
    /// The peer may send more.
    pub is_open: bool,
    /// What the peer may still send.
    pub may_receive: i64,
    /// What may be sent to the peer.
    pub window: i64,
    /// Window that was given beyond the first one.
    pub granted: usize,
    /// Bytes taken out of the common budget.
    pub taken: usize,
    pub deadline: Millis,
}

impl<T> Stream<T> {
    /// A stream whose head is complete. It is taken for one that waits until somebody decides otherwise.
    pub fn new(id: u32, head: Head, window: i64, is_open: bool) -> Self {
        Self {
            id,
            phase: Phase::Waiting,
            head,
            body: Body::default(),
            body_limit: 0,
            expected: None,
            received: 0,
            is_open,
            may_receive: i64::from(STREAM_WINDOW),
            window,
            granted: 0,
            taken: 0,
            deadline: NEVER,
        }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    pub fn is_orphan(&self) -> bool {
        matches!(self.phase, Phase::Orphan)
    }

    /// Whether more of the body is to come and to be kept or read over.
    pub fn reads_body(&self) -> bool {
        self.is_open && matches!(self.phase, Phase::Body(_))
    }

    /// Makes sure that `more` bytes of the body are within the common budget.
    pub fn take_budget(&mut self, budget: &BodyBudget, more: usize) -> bool {
        let needed = (self.body.bytes.len() + more).min(self.body_limit);
        if needed <= FREE_BODY || needed <= self.taken {
            return true;
        }
        // In steps, so that the budget is asked a few times for a body and not for each frame.
        let step = needed.next_power_of_two().min(self.body_limit).max(needed) - self.taken;
        let has_room = budget.take(step);
        self.taken += if has_room { step } else { 0 };
        has_room
    }

    /// Adds to the body; `true` if there is more than the service wants to see, so that it can answer at once.
    pub fn is_satisfied_by(&mut self, data: &[u8]) -> bool {
        if self.body_limit == 0 {
            return self.received > MAX_DRAIN;
        }
        let room = self.body_limit - self.body.bytes.len();
        self.body.bytes.extend(&data[..data.len().min(room)]);
        self.body.overflow = data.len() > room;
        self.body.overflow
    }
}
