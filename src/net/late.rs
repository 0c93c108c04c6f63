//! What reaches a connection from other threads: late answers, and pieces of replies that go on.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::conn::Conn;
use crate::{
    api::{Respond, internal_error},
    feed::Listen,
    http::Reply,
};

/// Most pieces of one reply that wait for the connection; more are lost.
const MAX_WAITING: usize = 256;

/// Something that came from another thread, for a stream of the connection.
pub(super) enum Late {
    /// The answer.
    Answer(Reply),
    /// A piece of a reply that goes on.
    Piece(Arc<[u8]>, Arc<Listener>),
}

/// Takes one late answer to its connection.
pub(super) struct Responder {
    conn: Weak<Conn>,
    stream: u32,
    answered: bool,
}

impl Responder {
    pub(super) fn new(conn: Weak<Conn>, stream: u32) -> Self {
        Self { conn, stream, answered: false }
    }

    fn answer(&mut self, reply: Reply) {
        self.answered = true;
        if let Some(conn) = self.conn.upgrade() {
            conn.deliver(self.stream, Late::Answer(reply));
        }
    }
}

impl Respond for Responder {
    fn respond(mut self: Box<Self>, reply: Reply) {
        self.answer(reply);
    }

    fn is_wanted(&self) -> bool {
        self.conn.upgrade().is_some_and(|conn| conn.is_waiting(self.stream))
    }
}

impl Drop for Responder {
    /// Every request is answered once, also one whose job was dropped or has panicked.
    fn drop(&mut self) {
        if !self.answered {
            self.answer(internal_error());
        }
    }
}

/// Takes pieces of a reply that goes on to its connection, and counts those that are lost because the client does not
/// take them. Never waits.
pub(super) struct Listener {
    conn: Weak<Conn>,
    stream: u32,
    waiting: AtomicUsize,
    lost: Arc<AtomicU64>,
    this: Weak<Self>,
}

impl Listener {
    pub(super) fn new(conn: Weak<Conn>, stream: u32, lost: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { conn, stream, waiting: AtomicUsize::new(0), lost, this: this.clone() })
    }

    /// The connection has looked at a piece, and lost it or not.
    pub(super) fn taken(&self, is_kept: bool) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if !is_kept {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Listen for Listener {
    fn tell(&self, piece: &Arc<[u8]>) {
        let (Some(conn), Some(this)) = (self.conn.upgrade(), self.this.upgrade()) else { return };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return self.taken(false);
        }
        conn.deliver(self.stream, Late::Piece(Arc::clone(piece), this));
    }

    fn end(&self) {
        if let Some(conn) = self.conn.upgrade() {
            conn.cut();
        }
    }
}
