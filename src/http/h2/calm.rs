//! Limits against peers that keep the server busy without asking for anything.

use super::{Code, Fault};
use crate::http::Millis;

/// Frames in one period that ask for nothing, counted anew after each request.
const MAX_NOISE: u32 = 5_000;

/// Streams in one period that are reset, by whichever side, if there are more of them than requests: rapid reset
/// (CVE-2023-44487) and its mirror image.
const MAX_RESETS: u32 = 200;

/// Length of a period.
const PERIOD: Millis = 10_000;

/// What a peer has done in the present period.
#[derive(Default)]
pub struct Calm {
    noise: u32,
    resets: u32,
    requests: u32,
    since: Millis,
}

impl Calm {
    /// A frame that is no part of a request.
    pub fn note_noise(&mut self) {
        self.noise += 1;
    }

    /// A stream was reset.
    pub fn note_reset(&mut self) {
        self.resets += 1;
    }

    /// A request was answered.
    pub fn note_request(&mut self) {
        self.requests = self.requests.saturating_add(1);
        self.noise = 0;
    }

    /// An error if the peer has gone too far.
    pub fn check(&mut self, now: Millis) -> Result<(), Fault> {
        if self.noise > MAX_NOISE || (self.resets > MAX_RESETS && self.resets > self.requests) {
            return Err(Fault::Connection(Code::EnhanceYourCalm));
        }
        if now.saturating_sub(self.since) >= PERIOD {
            *self = Self { since: now, ..Self::default() };
        }
        Ok(())
    }
}

/// The last few streams that this side has reset.
#[derive(Default)]
pub struct Recent {
    streams: Vec<u32>,
    next: usize,
}

impl Recent {
    const SIZE: usize = 64;

    /// Remembers a stream, and forgets the one that was remembered longest.
    pub fn push(&mut self, stream: u32) {
        if self.streams.len() < Self::SIZE {
            return self.streams.push(stream);
        }
        self.streams[self.next] = stream;
        self.next = (self.next + 1) % Self::SIZE;
    }

    /// Whether a stream is remembered.
    pub fn contains(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }
}
