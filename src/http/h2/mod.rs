//! HTTP/2 as a server speaks it (RFC 9113): streams, flow control in both directions, and limits for all of it.
//! Whole requests from whole small bodies are answered with whole replies; there is no push and no priority.

mod calm;
mod control;
mod frame;
mod receive;
mod request;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use calm::{Calm, Recent};
use frame::{Code, Frame, flag, kind};
use stream::{Phase, Stream};

use crate::{
    crypto::SecretBytes,
    http::{BodyBudget, Flow, Head, Millis, NEVER, Protocol, Reply, Service, hpack},
};

/// What a client sends first (§3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests under way at once; those that were reset while their answer is being made count too.
const MAX_STREAMS: usize = 250;

/// The window of each stream at its start: the protocol's default. A larger body gets more as it comes.
const STREAM_WINDOW: u32 = 65_535;

/// The connection's window. It is given back at once; what bounds the memory is the windows of the streams.
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How much more window a stream gets at a time.
const GRANT: u32 = 256 << 10;

/// A stream with less window than this gets more.
const LOW_WINDOW: i64 = 32 << 10;

/// What all streams together get beyond their first windows. When it is used up, only the oldest unfinished request
/// gets more: so memory is bounded, and there is always one that can be completed.
const MAX_GRANTED: usize = 2 << 20;

/// Bytes of a body that nobody wants and that are read over.
const MAX_DRAIN: u64 = 256 << 10;

/// A refused request is answered when its body has come, or when this much of it has: most bodies are small, and a
/// client that has sent its request whole needs no RST_STREAM after the reply.
const MAX_REFUSED: u64 = 16 << 10;

/// Bodies up to this size are not taken out of the common budget.
const FREE_BODY: usize = 16 << 10;

/// Frames that one header block may have, and its bytes: a block without end is an attack.
const MAX_BLOCK_FRAMES: u32 = 8;
const MAX_BLOCK: usize = 32 << 10;

/// The preface and the first SETTINGS, and each header block, must be complete after this long.
const HEAD_TIME: Millis = 5_000;

/// A connection without requests is closed after this long.
const IDLE_TIME: Millis = 90_000;

/// What a request that was refused at once may take until its reply is sent.
const REFUSAL_TIME: Millis = 15_000;

/// Buffers larger than this are given back when the connection is idle.
const IDLE_BUFFER: usize = 1024;

/// A breach of the protocol.
enum Fault {
    /// The connection cannot go on (§5.4.1).
    Connection(Code),
    /// The stream cannot go on (§5.4.2).
    Stream(u32, Code),
}

/// How much of the opening has been seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Preface,
    Settings,
    Done,
}

/// A header block that is not complete yet.
struct Block {
    stream: u32,
    ends_stream: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
    frames: u32,
    deadline: Millis,
}

/// One connection's side of HTTP/2.
pub struct H2<T> {
    budget: BodyBudget,
    decoder: hpack::Decoder,
    /// Received and not used yet: less than one frame.
    input: SecretBytes,
    opening: Opening,
    block: Option<Block>,
    /// Sorted by number.
    streams: Vec<Stream<T>>,
    spare: Vec<Head>,
    last_stream: u32,
    /// Streams that were reset by this side: their frames may still be on the way.
    reset: Recent,
    /// What may be sent on the connection.
    window: i64,
    /// What may be sent on a new stream.
    initial_window: i64,
    /// Received on the connection and not given back yet.
    received: u32,
    /// Window given to streams beyond their first one.
    granted: usize,
    /// A stream wanted more window and got none.
    is_starved: bool,
    calm: Calm,
    deadline: Millis,
    idle_since: Millis,
    is_draining: bool,
    is_closed: bool,
}

impl<T> H2<T> {
    /// A fresh connection. Bodies are counted against `budget`.
    pub fn new(budget: BodyBudget, now: Millis) -> Self {
        Self {
            budget,
            decoder: hpack::Decoder::new(),
            input: SecretBytes::new(),
            opening: Opening::Preface,
            block: None,
            streams: Vec::new(),
            spare: Vec::new(),
            last_stream: 0,
            reset: Recent::default(),
            window: i64::from(STREAM_WINDOW),
            initial_window: i64::from(STREAM_WINDOW),
            received: 0,
            granted: 0,
            is_starved: false,
            calm: Calm::default(),
            deadline: now + HEAD_TIME,
            idle_since: now,
            is_draining: false,
            is_closed: false,
        }
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    fn flow(&self) -> Flow {
        let is_done = self.is_draining && self.streams.iter().all(Stream::is_orphan);
        if self.is_closed || is_done { Flow::Close } else { Flow::Continue }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Works through all whole frames of `input`.
    fn run<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) {
        if self.opening == Opening::Preface && !self.read_preface(input, out) {
            return;
        }
        while !self.is_closed {
            let frame = match frame::take(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(code) => return self.fail(code, out),
            };
            let result = self.on_frame(now, frame, out, service);
            if let Err(fault) = result.and_then(|()| self.calm.check(now)) {
                self.on_fault(now, fault, out);
            }
        }
        if self.received >= CONNECTION_WINDOW / 2 && !self.is_closed {
            frame::push_window_update(0, std::mem::take(&mut self.received), out);
        }
    }

    /// Reads the preface and answers with the server's own settings.
    fn read_preface(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> bool {
        let seen = input.len().min(PREFACE.len());
        if input[..seen] != PREFACE[..seen] {
            self.fail(Code::Protocol, out);
            return false;
        }
        let Some(rest) = input.strip_prefix(PREFACE) else { return false };
        *input = rest;
        self.opening = Opening::Settings;
        let settings = [(3u16, MAX_STREAMS as u32), (6, request::MAX_LIST as u32)];
        frame::push_header(settings.len() * 6, kind::SETTINGS, 0, 0, out);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        frame::push_window_update(0, CONNECTION_WINDOW - STREAM_WINDOW, out);
        true
    }

    fn on_frame<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        if self.opening == Opening::Settings {
            if frame.kind != kind::SETTINGS || frame.has(flag::ACK) {
                return Err(Fault::Connection(Code::Protocol));
            }
            self.opening = Opening::Done;
            self.be_idle(now);
        }
        // Nothing may come between the frames of a header block (§6.10).
        if self
            .block
            .as_ref()
            .is_some_and(|block| frame.kind != kind::CONTINUATION || frame.stream != block.stream)
        {
            return Err(Fault::Connection(Code::Protocol));
        }
        match frame.kind {
            kind::DATA => self.on_data(now, frame, out, service),
            kind::HEADERS => self.on_headers(now, frame, out, service),
            kind::CONTINUATION => self.on_continuation(now, frame, out, service),
            kind::PRIORITY => self.on_priority(frame),
            kind::RST_STREAM => self.on_reset(now, frame),
            kind::SETTINGS => self.on_settings(now, frame, out),
            kind::PING => self.on_ping(frame, out),
            kind::GOAWAY if frame.stream == 0 && frame.payload.len() >= 8 => Ok(()),
            kind::GOAWAY if frame.stream == 0 => Err(Fault::Connection(Code::FrameSize)),
            kind::GOAWAY | kind::PUSH_PROMISE => Err(Fault::Connection(Code::Protocol)),
            kind::WINDOW_UPDATE => self.on_window_update(now, frame, out),
            _ => {
                self.calm.note_noise();
                Ok(())
            }
        }
    }

    fn on_fault(&mut self, now: Millis, fault: Fault, out: &mut Vec<u8>) {
        match fault {
            Fault::Connection(code) => self.fail(code, out),
            Fault::Stream(id, code) => {
                self.calm.note_reset();
                self.reset_stream(now, id, code, out);
                // A peer that makes this side reset streams is stopped like one that resets them itself.
                if let Err(Fault::Connection(code)) = self.calm.check(now) {
                    self.fail(code, out);
                }
            }
        }
    }

    fn fail(&mut self, code: Code, out: &mut Vec<u8>) {
        frame::push_goaway(self.last_stream, code, out);
        self.is_closed = true;
    }

    fn reset_stream(&mut self, now: Millis, id: u32, code: Code, out: &mut Vec<u8>) {
        frame::push_reset(id, code, out);
        self.reset.push(id);
        if let Some(place) = self.find(id) {
            self.abandon(now, place, out);
        }
    }

    /// Ends a stream without a reply. If its answer is being made, it goes on counting until that has come.
    fn abandon(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) {
        let stream = &mut self.streams[place];
        if stream.is_waiting() {
            stream.phase = Phase::Orphan;
            return;
        }
        self.remove(now, place, out);
    }

    fn remove(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) {
        let mut stream = self.streams.remove(place);
        self.settle(&mut stream);
        if self.streams.is_empty() {
            self.be_idle(now);
        }
        self.feed_starved(out);
    }

    /// Gives back what a stream's body took.
    fn settle(&mut self, stream: &mut Stream<T>) {
        self.granted -= std::mem::take(&mut stream.granted);
        self.budget.give_back(std::mem::take(&mut stream.taken));
        stream.body.bytes.clear();
    }

    fn be_idle(&mut self, now: Millis) {
        self.idle_since = now;
        self.deadline = self.deadline.min(now + IDLE_TIME);
        self.spare.truncate(1);
        self.streams.shrink_to(4);
    }
}

impl<T, S: Service<Ticket = T>> Protocol<S> for H2<T> {
    fn feed(&mut self, now: Millis, input: &[u8], out: &mut Vec<u8>, service: &mut S) -> Flow {
        if self.is_closed {
            return Flow::Close;
        }
        if self.input.is_empty() {
            let mut rest = input;
            self.run(now, &mut rest, out, service);
            if self.input.capacity() > IDLE_BUFFER && self.streams.is_empty() {
                self.input = SecretBytes::new();
            }
            self.input.extend(rest);
            return self.flow();
        }
        let mut pending = std::mem::take(&mut self.input);
        pending.extend(input);
        let mut rest = &pending[..];
        self.run(now, &mut rest, out, service);
        self.input.extend(rest);
        self.flow()
    }

    fn complete(&mut self, now: Millis, stream: u32, mut reply: Reply, out: &mut Vec<u8>, _: &mut S) -> Flow {
        if self.is_closed {
            return Flow::Close;
        }
        if let Some(place) = self.find(stream) {
            match self.streams[place].phase {
                Phase::Waiting => self.respond(now, place, &mut reply, out),
                Phase::Orphan => self.remove(now, place, out),
                Phase::Body(_) | Phase::Refused(_) | Phase::Sending { .. } => {}
            }
        }
        self.flow()
    }

    fn is_waiting(&self, stream: u32) -> bool {
        self.find(stream).is_some_and(|place| self.streams[place].is_waiting())
    }

    fn deadline(&self) -> Millis {
        self.deadline
    }

    fn expire(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow {
        let is_late = self.block.as_ref().is_some_and(|block| now >= block.deadline);
        if self.is_closed || is_late || (self.opening != Opening::Done && now >= self.idle_since + HEAD_TIME)
        {
            self.is_closed = true;
            return Flow::Close;
        }
        let due: Vec<u32> =
            self.streams.iter().filter(|s| !s.is_orphan() && now >= s.deadline).map(|s| s.id).collect();
        for id in due {
            self.reset_stream(now, id, Code::Internal, out);
        }
        if self.streams.is_empty() && now >= self.idle_since + IDLE_TIME {
            self.fail(Code::None, out);
        }
        let streams = self.streams.iter().filter(|stream| !stream.is_orphan()).map(|stream| stream.deadline);
        let block = self.block.as_ref().map(|block| block.deadline);
        let idle = self.streams.is_empty().then_some(self.idle_since + IDLE_TIME);
        let opening = (self.opening != Opening::Done).then_some(self.idle_since + HEAD_TIME);
        self.deadline = streams.chain(block).chain(idle).chain(opening).min().unwrap_or(NEVER);
        self.flow()
    }

    fn shutdown(&mut self, _: Millis, out: &mut Vec<u8>) -> Flow {
        if !self.is_draining && !self.is_closed {
            self.is_draining = true;
            frame::push_goaway(self.last_stream, Code::None, out);
        }
        self.flow()
    }
}

impl<T> Drop for H2<T> {
    fn drop(&mut self) {
        let taken = self.streams.iter().map(|stream| stream.taken).sum();
        self.budget.give_back(taken);
    }
}
