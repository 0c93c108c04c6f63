//! HTTP/2 as a server speaks it (RFC 9113): streams, flow control in both directions, and limits for all of it.
//! Whole requests from whole small bodies are answered with whole replies; there is no push and no priority.

mod calm;
mod frame;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use calm::{Calm, Recent};
use frame::{Code, Frame, flag, kind};
use request::Fields;
use stream::{Phase, Stream};

use crate::{
    crypto::SecretBytes,
    http::{Admit, BodyBudget, Flow, Head, Millis, NEVER, Protocol, Reply, Service, date, hpack},
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

    fn on_headers<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        if frame.stream % 2 == 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        let mut block = unpad(&frame)?;
        let mut depends_on_itself = false;
        if frame.has(flag::PRIORITY) {
            let (priority, rest) = block.split_at_checked(5).ok_or(Fault::Connection(Code::FrameSize))?;
            depends_on_itself =
                frame::number(&priority[..4]).map(|id| id & 0x7fff_ffff) == Some(frame.stream);
            block = rest;
        }
        let ends_stream = frame.has(flag::END_STREAM);
        let started = Block {
            stream: frame.stream,
            ends_stream,
            depends_on_itself,
            bytes: Vec::new(),
            frames: 1,
            deadline: now + HEAD_TIME,
        };
        if frame.has(flag::END_HEADERS) {
            return self.on_block(now, &started, block, out, service);
        }
        self.deadline = self.deadline.min(started.deadline);
        self.block = Some(Block { bytes: block.to_vec(), ..started });
        Ok(())
    }

    fn on_continuation<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else { return Err(Fault::Connection(Code::Protocol)) };
        block.frames += 1;
        block.bytes.extend_from_slice(frame.payload);
        if block.frames > MAX_BLOCK_FRAMES || block.bytes.len() > MAX_BLOCK {
            return Err(Fault::Connection(Code::EnhanceYourCalm));
        }
        if !frame.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let bytes = std::mem::take(&mut block.bytes);
        self.on_block(now, &block, &bytes, out, service)
    }

    /// A header block is complete: a request, or the end of one.
    fn on_block<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        block: &Block,
        bytes: &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        let id = block.stream;
        let mut head = self.spare.pop().unwrap_or_default();
        head.clear();
        let mut fields = Fields::default();
        let decoded = self.decoder.decode(bytes, |name, value| fields.push(name, value, &mut head));
        decoded.map_err(|hpack::Malformed| Fault::Connection(Code::Compression))?;

        if id <= self.last_stream {
            self.spare.push(head);
            return self.on_trailer(now, block, &fields, out, service);
        }
        self.last_stream = id;
        if self.is_draining || self.streams.len() >= MAX_STREAMS {
            return Err(Fault::Stream(id, Code::RefusedStream));
        }
        let is_empty = block.ends_stream;
        let is_wrong_length = is_empty && fields.length.is_some_and(|length| length > 0);
        if !fields.is_too_large && (block.depends_on_itself || !fields.is_request() || is_wrong_length) {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        let mut stream = Stream::new(id, head, self.initial_window, !is_empty);
        stream.expected = fields.length;
        stream.deadline = now + REFUSAL_TIME;
        self.streams.push(stream);
        let place = self.streams.len() - 1;
        if fields.is_too_large {
            self.respond(now, place, &mut too_large(), out);
            return Ok(());
        }
        self.admit(now, place, out, service);
        Ok(())
    }

    /// Fields after the body are read over; they end the stream (§8.1).
    fn on_trailer<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        block: &Block,
        fields: &Fields,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        let id = block.stream;
        let Some(place) = self.find(id).filter(|place| !self.streams[*place].is_orphan()) else {
            let is_late = self.reset.contains(id);
            return if is_late { Ok(()) } else { Err(Fault::Connection(Code::StreamClosed)) };
        };
        if !self.streams[place].is_open {
            return Err(Fault::Connection(Code::StreamClosed));
        }
        if !block.ends_stream || block.depends_on_itself || !fields.is_trailer() {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        self.end_of_body(now, place, out, service)
    }

    fn admit<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        place: usize,
        out: &mut Vec<u8>,
        service: &mut S,
    ) {
        let stream = &mut self.streams[place];
        if stream.head.target() == b"*" {
            let status = if stream.head.method() == "OPTIONS" { 200 } else { 400 };
            return self.respond(now, place, &mut Reply::empty(status), out);
        }
        match service.admit(&stream.head) {
            Admit::Refuse(mut reply) if !stream.is_open => self.respond(now, place, &mut reply, out),
            Admit::Refuse(reply) => {
                self.deadline = self.deadline.min(stream.deadline);
                stream.phase = Phase::Refused(reply);
            }
            Admit::Accept { ticket, body_limit, timeout } => {
                stream.deadline = if timeout == 0 { NEVER } else { now.saturating_add(timeout) };
                self.deadline = self.deadline.min(stream.deadline);
                stream.body.announced = stream.is_open;
                stream.body_limit = body_limit;
                stream.phase = Phase::Body(ticket);
                if !stream.is_open {
                    self.serve(now, place, out, service);
                }
            }
        }
    }

    fn serve<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        place: usize,
        out: &mut Vec<u8>,
        service: &mut S,
    ) {
        let stream = &mut self.streams[place];
        let Phase::Body(ticket) = std::mem::replace(&mut stream.phase, Phase::Waiting) else { return };
        let mut body = std::mem::take(&mut stream.body);
        let head = std::mem::take(&mut stream.head);
        let reply = service.serve(stream.id, ticket, &head, &mut body);
        body.bytes.clear();
        self.spare.push(head);
        let granted = std::mem::take(&mut self.streams[place].granted);
        self.granted -= granted;
        self.budget.give_back(std::mem::take(&mut self.streams[place].taken));
        if let Some(mut reply) = reply {
            self.respond(now, place, &mut reply, out);
        } else {
            self.feed_starved(out);
        }
    }

    /// Writes the head of a reply and as much of its body as the windows allow.
    fn respond(&mut self, now: Millis, place: usize, reply: &mut Reply, out: &mut Vec<u8>) {
        let stream = &mut self.streams[place];
        let data = std::mem::take(&mut reply.body);
        let start = out.len();
        frame::push_header(0, 0, 0, 0, out);
        hpack::push_status(reply.status, out);
        hpack::push_field("date", &date::now(), out);
        if !reply.content_type.is_empty() {
            hpack::push_field("content-type", reply.content_type.as_bytes(), out);
        }
        if let Some((name, value)) = &reply.extra {
            hpack::push_field(name, value.as_bytes(), out);
        }
        hpack::push_length(data.len(), out);
        let data = if stream.head.method() == "HEAD" { SecretBytes::new() } else { data };
        let mut header = Vec::with_capacity(frame::HEADER);
        let length = out.len() - start - frame::HEADER;
        frame::push_header(length, kind::HEADERS, flag::END_HEADERS, stream.id, &mut header);
        out[start..start + frame::HEADER].copy_from_slice(&header);
        stream.phase = Phase::Sending { data, sent: 0 };
        self.calm.note_request();
        self.pump(now, place, out);
    }

    /// Sends what the windows allow; a stream that is done is removed. Returns whether it was.
    fn pump(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) -> bool {
        let stream = &mut self.streams[place];
        let Phase::Sending { data, sent } = &mut stream.phase else { return false };
        loop {
            // An empty body ends with an empty frame, which waits for an open window like any other.
            let window = usize::try_from(self.window.min(stream.window)).unwrap_or(0);
            if window == 0 {
                self.deadline = self.deadline.min(stream.deadline);
                return false;
            }
            let length = (data.len() - *sent).min(window).min(frame::MAX_PAYLOAD);
            let is_last = *sent + length == data.len();
            let flags = if is_last { flag::END_STREAM } else { 0 };
            frame::push_header(length, kind::DATA, flags, stream.id, out);
            out.extend_from_slice(&data[*sent..*sent + length]);
            *sent += length;
            self.window -= length as i64;
            stream.window -= length as i64;
            if is_last {
                break;
            }
        }
        // The reply is complete before the request is: the client may stop sending (§8.1).
        if stream.is_open {
            let id = stream.id;
            frame::push_reset(id, Code::None, out);
            self.reset.push(id);
        }
        self.remove(now, place, out);
        true
    }

    fn on_data<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        let id = frame.stream;
        if id == 0 || id > self.last_stream {
            return Err(Fault::Connection(Code::Protocol));
        }
        // The payload is below 2^14, and the sum is given back long before it could overflow.
        self.received = self.received.saturating_add(frame.payload.len() as u32);
        let data = unpad(&frame)?;
        let ends_stream = frame.has(flag::END_STREAM);
        if data.is_empty() && !ends_stream {
            self.calm.note_noise();
        }
        let Some(place) = self.find(id).filter(|place| !self.streams[*place].is_orphan()) else {
            let is_late = self.reset.contains(id);
            return if is_late { Ok(()) } else { Err(Fault::Stream(id, Code::StreamClosed)) };
        };
        let stream = &mut self.streams[place];
        if !stream.is_open {
            return Err(Fault::Stream(id, Code::StreamClosed));
        }
        stream.may_receive -= frame.payload.len() as i64;
        if stream.may_receive < 0 {
            return Err(Fault::Stream(id, Code::FlowControl));
        }
        stream.received += data.len() as u64;
        if stream.expected.is_some_and(|expected| stream.received > expected) {
            return Err(Fault::Stream(id, Code::Protocol));
        }
        if let Phase::Body(_) = stream.phase {
            if !stream.take_budget(&self.budget, data.len()) {
                self.respond(now, place, &mut unavailable(), out);
                return Ok(());
            }
            if stream.is_satisfied_by(data) {
                self.serve(now, place, out, service);
                return Ok(());
            }
        }
        if ends_stream {
            return self.end_of_body(now, place, out, service);
        }
        if stream.received > MAX_REFUSED {
            self.refuse(now, place, out);
            return Ok(());
        }
        self.grant(place, out);
        Ok(())
    }

    /// Answers a request that was refused before its body came.
    fn refuse(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) {
        if let Phase::Refused(reply) = &mut self.streams[place].phase {
            let mut reply = std::mem::replace(reply, Reply::empty(0));
            self.respond(now, place, &mut reply, out);
        }
    }

    /// The request is complete.
    fn end_of_body<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        place: usize,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        let stream = &mut self.streams[place];
        if stream.expected.is_some_and(|expected| stream.received != expected) {
            return Err(Fault::Stream(stream.id, Code::Protocol));
        }
        stream.is_open = false;
        match stream.phase {
            Phase::Body(_) => self.serve(now, place, out, service),
            _ => self.refuse(now, place, out),
        }
        Ok(())
    }

    /// Gives a stream more window if it needs some, and if there is some to give.
    fn grant(&mut self, place: usize, out: &mut Vec<u8>) {
        let is_oldest = !self.streams[..place].iter().any(Stream::reads_body);
        let stream = &mut self.streams[place];
        if !stream.reads_body() || stream.may_receive >= LOW_WINDOW {
            return;
        }
        if !is_oldest && self.granted + GRANT as usize > MAX_GRANTED {
            self.is_starved = true;
            return;
        }
        stream.may_receive += i64::from(GRANT);
        stream.granted += GRANT as usize;
        self.granted += GRANT as usize;
        frame::push_window_update(stream.id, GRANT, out);
    }

    /// Looks again at the streams that got no window, oldest first.
    fn feed_starved(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_starved) {
            (0..self.streams.len()).for_each(|place| self.grant(place, out));
        }
    }

    fn on_priority(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        self.calm.note_noise();
        if frame.stream == 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        if frame.payload.len() != 5 {
            return Err(Fault::Stream(frame.stream, Code::FrameSize));
        }
        match frame::number(&frame.payload[..4]) {
            Some(other) if other & 0x7fff_ffff == frame.stream => {
                Err(Fault::Stream(frame.stream, Code::Protocol))
            }
            _ => Ok(()),
        }
    }

    fn on_reset(&mut self, now: Millis, frame: Frame<'_>) -> Result<(), Fault> {
        if frame.stream == 0 || frame.stream > self.last_stream {
            return Err(Fault::Connection(Code::Protocol));
        }
        if frame.payload.len() != 4 {
            return Err(Fault::Connection(Code::FrameSize));
        }
        match self.find(frame.stream) {
            Some(place) => {
                self.calm.note_reset();
                // Nothing is written for a stream that the peer has given up, not even window for others: the next
                // frame brings that.
                self.abandon(now, place, &mut Vec::new());
            }
            None => self.calm.note_noise(),
        }
        Ok(())
    }

    fn on_settings(&mut self, now: Millis, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.calm.note_noise();
        if frame.stream != 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        let is_ack = frame.has(flag::ACK);
        if frame.payload.len() % 6 != 0 || (is_ack && !frame.payload.is_empty()) {
            return Err(Fault::Connection(Code::FrameSize));
        }
        if is_ack {
            return Ok(());
        }
        for setting in frame.payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = frame::number(&setting[2..]).unwrap_or(0);
            match (name, value) {
                (2, 2..) | (5, ..16_384 | 16_777_216..) => return Err(Fault::Connection(Code::Protocol)),
                (4, 0x8000_0000..) => return Err(Fault::Connection(Code::FlowControl)),
                (4, value) => self.set_initial_window(i64::from(value))?,
                // The encoder uses no dynamic table, and no reply is larger than the default frame.
                _ => {}
            }
        }
        frame::push_header(0, kind::SETTINGS, flag::ACK, 0, out);
        self.pump_all(now, out);
        Ok(())
    }

    /// The windows of all streams move by the difference (§6.9.2).
    fn set_initial_window(&mut self, window: i64) -> Result<(), Fault> {
        let difference = window - self.initial_window;
        self.initial_window = window;
        for stream in &mut self.streams {
            stream.window += difference;
            if stream.window > i64::from(i32::MAX) {
                return Err(Fault::Connection(Code::FlowControl));
            }
        }
        Ok(())
    }

    fn on_ping(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.calm.note_noise();
        if frame.stream != 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        if frame.payload.len() != 8 {
            return Err(Fault::Connection(Code::FrameSize));
        }
        if !frame.has(flag::ACK) {
            frame::push_header(8, kind::PING, flag::ACK, 0, out);
            out.extend_from_slice(frame.payload);
        }
        Ok(())
    }

    fn on_window_update(&mut self, now: Millis, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.calm.note_noise();
        let Some(bytes) = frame::number(frame.payload) else {
            return Err(Fault::Connection(Code::FrameSize));
        };
        let bytes = i64::from(bytes & 0x7fff_ffff);
        if frame.stream == 0 {
            if bytes == 0 {
                return Err(Fault::Connection(Code::Protocol));
            }
            self.window += bytes;
            if self.window > i64::from(i32::MAX) {
                return Err(Fault::Connection(Code::FlowControl));
            }
            self.pump_all(now, out);
            return Ok(());
        }
        if frame.stream > self.last_stream {
            return Err(Fault::Connection(Code::Protocol));
        }
        let Some(place) = self.find(frame.stream) else { return Ok(()) };
        let stream = &mut self.streams[place];
        if bytes == 0 {
            return Err(Fault::Stream(frame.stream, Code::Protocol));
        }
        stream.window += bytes;
        if stream.window > i64::from(i32::MAX) {
            return Err(Fault::Stream(frame.stream, Code::FlowControl));
        }
        self.pump(now, place, out);
        Ok(())
    }

    fn pump_all(&mut self, now: Millis, out: &mut Vec<u8>) {
        let mut place = 0;
        while place < self.streams.len() {
            if !self.pump(now, place, out) {
                place += 1;
            }
        }
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

/// The payload without its padding (§6.1, §6.2).
fn unpad<'a>(frame: &Frame<'a>) -> Result<&'a [u8], Fault> {
    if !frame.has(flag::PADDED) {
        return Ok(frame.payload);
    }
    let (&padding, rest) = frame.payload.split_first().ok_or(Fault::Connection(Code::FrameSize))?;
    let length = rest.len().checked_sub(padding.into()).ok_or(Fault::Connection(Code::Protocol))?;
    Ok(&rest[..length])
}

fn too_large() -> Reply {
    plain(431, "431 Request Header Fields Too Large")
}

fn unavailable() -> Reply {
    plain(503, "503 Service Unavailable")
}

fn plain(status: u16, text: &str) -> Reply {
    let body = SecretBytes::from(text.as_bytes().to_vec());
    Reply { content_type: "text/plain; charset=utf-8", body, ..Reply::empty(status) }
}
