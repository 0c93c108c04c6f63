//! A server's side of HTTP/2 (RFC 9113) as a state machine: bytes in, requests out, replies in, bytes out. It reads
//! whole small bodies and sends whole replies; there is no push, no priority, no upgrade.
//!
//! Each frame is acted on when it is complete and at once, so the output does not depend on how the input is cut.
//!
//! A service that returned `None` must call [`Protocol::complete`] once for each such request, also for one whose stream
//! is gone: until then the job counts as a running request.

#![forbid(unsafe_code)]

mod fields;
pub mod frame;
mod input;
pub mod limits;
mod reply;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;

use frame::{Code, setting};
use limits::{
    IDLE_TIMEOUT, INITIAL_WINDOW, MAX_HEADER_LIST, MAX_REMEMBERED, MAX_STREAMS, OPENING_TIMEOUT, RAPID,
    REST_AFTER,
};
use request::Block;
use stream::{Sending, State, Stream};

use super::{Budget, Flow, Head, Millis, NEVER, Protocol, Reply, Service, hpack::Decoder};
use crate::crypto::SecretBytes;

/// One connection that speaks HTTP/2. `T` is the service's ticket.
pub struct H2<T> {
    decoder: Decoder,
    /// The head at hand.
    head: Head,
    /// Memory for further heads.
    heads: Vec<Head>,
    /// Memory for a further small body.
    spare_body: SecretBytes,
    /// Open streams, ordered by their number, the oldest first.
    streams: Vec<Stream<T>>,
    /// Streams that are gone while the service still works for them.
    orphans: Vec<u32>,
    /// The last streams that this side reset: their late frames are ignored.
    remembered: VecDeque<u32>,
    /// The highest stream that the peer has opened.
    last_stream: u32,
    /// Streams that the peer has opened and that were not refused at once.
    opened: u64,
    /// How much of the client's preface has come.
    preface: usize,
    /// A frame that has not come whole.
    cut: SecretBytes,
    cut_deadline: Millis,
    block: Option<Box<Block>>,
    credit: window::Credit,
    /// Bytes that may be sent on all streams together.
    window: i64,
    /// The peer's SETTINGS_INITIAL_WINDOW_SIZE.
    initial_window: i64,
    /// The peer wants a smaller table than the default and is to be told that it is not used at all.
    table_size_due: bool,
    flood: limits::Flood,
    /// SETTINGS were sent.
    greeted: bool,
    /// When the peer's SETTINGS must have come; [`NEVER`] once they have.
    opening_deadline: Millis,
    /// No stream has a deadline before this.
    soonest: Millis,
    /// When to try again what memory did not allow.
    retry_at: Millis,
    /// Since when no stream is open, if none is.
    idle_since: Millis,
    /// Memory was given back since a stream was open.
    rested: bool,
    /// GOAWAY was sent: new streams are refused.
    draining: bool,
    /// GOAWAY was sent or came: the connection ends with its last stream.
    leaving: bool,
    closed: bool,
}

/// What went wrong with the peer's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// RFC 9113 §5.4.1: the connection ends.
    Connection(Code),
    /// RFC 9113 §5.4.2: this stream ends.
    Stream(u32, Code),
}

/// What a call of [`Protocol::feed`] brings along.
struct Turn<'a, S> {
    now: Millis,
    out: &'a mut Vec<u8>,
    service: &'a mut S,
}

impl<T> H2<T> {
    /// Whether no request is under way.
    pub fn is_unused(&self) -> bool {
        self.streams.is_empty() && self.orphans.is_empty()
    }

    /// Open streams, and all streams that the peer has opened.
    pub fn streams(&self) -> (usize, u64) {
        (self.streams.len(), self.opened)
    }

    /// A connection that begins at `now`, ahead of the client's preface. Bodies take their memory from `budget`.
    pub fn new(budget: Budget, now: Millis) -> Self {
        Self {
            decoder: Decoder::new(),
            head: Head::new(),
            heads: Vec::new(),
            spare_body: SecretBytes::new(),
            streams: Vec::new(),
            orphans: Vec::new(),
            remembered: VecDeque::new(),
            last_stream: 0,
            opened: 0,
            preface: 0,
            cut: SecretBytes::new(),
            cut_deadline: NEVER,
            block: None,
            credit: window::Credit::new(budget),
            window: INITIAL_WINDOW as i64,
            initial_window: INITIAL_WINDOW as i64,
            table_size_due: false,
            flood: limits::Flood::default(),
            greeted: false,
            opening_deadline: now.saturating_add(OPENING_TIMEOUT),
            soonest: NEVER,
            retry_at: NEVER,
            idle_since: now,
            rested: true,
            draining: false,
            leaving: false,
            closed: false,
        }
    }
}

impl<T: Send, S: Service<Ticket = T>> Protocol<S> for H2<T> {
    fn feed(&mut self, now: Millis, input: &[u8], out: &mut Vec<u8>, service: &mut S) -> Flow {
        if self.closed {
            return Flow::Close;
        }
        self.catch_up(now, out);
        let mut turn = Turn { now, out, service };
        if let Err(code) = self.take_input(input, &mut turn) {
            self.close(code, out);
        }
        self.flow()
    }

    fn complete(
        &mut self,
        now: Millis,
        stream: u32,
        reply: Reply,
        out: &mut Vec<u8>,
        _service: &mut S,
    ) -> Flow {
        if self.closed {
            return Flow::Close;
        }
        self.catch_up(now, out);
        if let Some(place) = self.orphans.iter().position(|&orphan| orphan == stream) {
            self.orphans.swap_remove(place);
        } else if let Some(index) = self.find_working(stream) {
            self.answer(index, reply, now, out);
        }
        self.flow()
    }

    fn append(&mut self, now: Millis, stream: u32, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if self.closed {
            return true;
        }
        self.catch_up(now, out);
        let Some(index) = self.find(stream) else { return true };
        let Some(State::Sending(sending)) = self.streams.get_mut(index).map(|stream| &mut stream.state)
        else {
            return true;
        };
        if !sending.append(bytes) {
            return false;
        }
        self.send(index, now, out);
        true
    }

    fn is_waiting(&self, stream: u32) -> bool {
        !self.closed && self.find_working(stream).is_some()
    }

    fn deadline(&self) -> Millis {
        if self.closed {
            return NEVER;
        }
        let block = self.block.as_ref().map_or(NEVER, |block| block.deadline);
        let calm = match (self.streams.is_empty(), self.rested) {
            (false, _) => self.soonest,
            (true, false) => self.idle_since.saturating_add(REST_AFTER),
            (true, true) => self.idle_since.saturating_add(IDLE_TIMEOUT),
        };
        calm.min(block).min(self.cut_deadline).min(self.opening_deadline).min(self.retry_at)
    }

    fn expire(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow {
        if self.closed {
            return Flow::Close;
        }
        self.catch_up(now, out);
        let block_deadline = self.block.as_ref().map_or(NEVER, |block| block.deadline);
        if now >= self.opening_deadline {
            self.close(Code::SettingsTimeout, out);
        } else if now >= block_deadline || now >= self.cut_deadline {
            self.close(Code::EnhanceYourCalm, out);
        } else if self.streams.is_empty() && now >= self.idle_since.saturating_add(IDLE_TIMEOUT) {
            self.close(Code::No, out);
        } else if self.streams.is_empty() && now >= self.idle_since.saturating_add(REST_AFTER) {
            self.rest();
        }
        self.flow()
    }

    fn shutdown(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow {
        if self.closed {
            return Flow::Close;
        }
        self.catch_up(now, out);
        if !self.draining {
            self.draining = true;
            self.leaving = true;
            frame::put_goaway(out, self.last_stream, Code::No);
            for stream in &mut self.streams {
                if let State::Sending(sending) = &mut stream.state {
                    sending.reply.tail = None;
                }
            }
            self.flush(now, out);
        }
        self.flow()
    }
}

/// Streams and the connection as a whole.
impl<T> H2<T> {
    fn find(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    fn find_working(&self, id: u32) -> Option<usize> {
        let index = self.find(id)?;
        matches!(self.streams.get(index)?.state, State::Working).then_some(index)
    }

    /// Whether the peer has not opened this stream, or never can.
    fn is_idle(&self, id: u32) -> bool {
        id > self.last_stream || id.is_multiple_of(2)
    }

    /// Bytes in memory of replies that are not sent or not whole.
    pub fn unsent(&self) -> usize {
        self.streams.iter().map(Self::queued).sum()
    }

    /// Bytes in memory of all that a peer makes this side keep, but for the bodies of requests, which have a budget of their
    /// own.
    pub fn held(&self) -> usize {
        let heads = self.streams.iter().map(|stream| match &stream.state {
            State::Gathering(gathering) => gathering.head.capacity(),
            _ => 0,
        });
        let spare = self.heads.iter().map(Head::capacity);
        self.unsent()
            + heads.chain(spare).sum::<usize>()
            + self.head.capacity()
            + self.streams.capacity() * size_of::<Stream<T>>()
            + self.decoder.capacity()
            + self.block.as_ref().map_or(0, |block| block.len())
            + self.cut.capacity()
    }

    /// Reply bytes that a stream keeps in memory.
    fn queued(stream: &Stream<T>) -> usize {
        match &stream.state {
            State::Sending(Sending { reply, .. }) | State::Refused(reply) => {
                reply.body.len() + reply.extra.as_ref().map_or(0, |(_, value)| value.len())
            }
            State::Gathering(_) | State::Working => 0,
        }
    }

    /// Resets a stream for what the peer did.
    fn reset(&mut self, id: u32, code: Code, now: Millis, out: &mut Vec<u8>) -> Result<(), Fault> {
        frame::put_reset(out, id, code);
        let opened = match self.find(id) {
            Some(index) => self.remove(index, now, true),
            None => {
                self.remember(id);
                now
            }
        };
        self.balance(now, out);
        self.count_reset(opened, now)
    }

    fn count_reset(&mut self, opened: Millis, now: Millis) -> Result<(), Fault> {
        if now.saturating_sub(opened) > RAPID {
            return Ok(());
        }
        self.flood.reset(now)
    }

    /// Forgets stream number `index`; `remember` if its late frames are to be ignored. Returns when it was opened.
    fn remove(&mut self, index: usize, now: Millis, remember: bool) -> Millis {
        let gathering = self.stop_gathering(index);
        if index >= self.streams.len() {
            return now;
        }
        let stream = self.streams.remove(index);
        match (gathering, &stream.state) {
            (Some(gathering), _) => self.keep_head(gathering.head),
            (None, State::Working) => self.orphans.push(stream.id),
            _ => {}
        }
        if remember {
            self.remember(stream.id);
        }
        if self.streams.is_empty() {
            (self.idle_since, self.rested, self.soonest) = (now, false, NEVER);
        }
        stream.opened
    }

    fn remember(&mut self, id: u32) {
        if self.remembered.contains(&id) {
            return;
        }
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(id);
    }

    /// Sends SETTINGS if that was not done, ends streams whose time is over, and tries again what had to wait.
    fn catch_up(&mut self, now: Millis, out: &mut Vec<u8>) {
        if !self.greeted {
            self.greeted = true;
            frame::put_settings(
                out,
                &[
                    (setting::MAX_CONCURRENT_STREAMS, MAX_STREAMS as u32),
                    (setting::INITIAL_WINDOW_SIZE, INITIAL_WINDOW as u32),
                    (setting::MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST as u32),
                ],
            );
        }
        if now >= self.soonest {
            self.end_late_streams(now, out);
        }
        if self.retry_at != NEVER {
            self.retry_at = NEVER;
            self.balance(now, out);
            self.flush(now, out);
        }
    }

    fn end_late_streams(&mut self, now: Millis, out: &mut Vec<u8>) {
        let mut index = 0;
        while let Some(stream) = self.streams.get(index) {
            if stream.deadline > now {
                index += 1;
                continue;
            }
            frame::put_reset(out, stream.id, Code::Internal);
            self.remove(index, now, true);
        }
        self.soonest = self.streams.iter().map(|stream| stream.deadline).min().unwrap_or(NEVER);
        self.balance(now, out);
    }

    fn close(&mut self, code: Code, out: &mut Vec<u8>) {
        frame::put_goaway(out, self.last_stream, code);
        self.closed = true;
    }

    fn flow(&mut self) -> Flow {
        self.closed |= self.has_left();
        if self.closed { Flow::Close } else { Flow::Continue }
    }

    /// No new streams are welcome and the last one is gone.
    fn has_left(&self) -> bool {
        self.leaving && self.streams.is_empty()
    }

    /// Gives back the memory that only requests need.
    fn rest(&mut self) {
        self.rested = true;
        self.decoder.release();
        self.head = Head::new();
        self.heads = Vec::new();
        self.spare_body = SecretBytes::new();
        self.streams = Vec::new();
        self.orphans.shrink_to_fit();
        self.remembered = VecDeque::new();
    }
}
