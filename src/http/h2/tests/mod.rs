//! A client for the tests that follow: it builds frames, and reads what the server sends.

mod floods;
mod memory;
mod protocol;
mod random;
mod replies;
mod tails;
mod time;

use super::frame::{self, Code, FrameHead, flag, kind, put_head};
use super::*;
use crate::http::{Admit, Body, hpack};

/// Answers by path; see [`Script::admit`] and [`Script::serve`].
#[derive(Default)]
pub struct Script {
    pub served: Vec<Served>,
    pub admitted: usize,
}

/// A request as the service saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Served {
    pub stream: u32,
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub overflow: bool,
    pub announced: bool,
}

/// A request with more of a body than is waited for when it is refused.
pub fn refused_upload(stream: u32, target: &str) -> Vec<u8> {
    [put(stream, target), data(stream, &[0; 16_000], false), data(stream, &[0; 1_000], false)].concat()
}

pub const TIMEOUT: Millis = 15_000;
pub const LIMIT: usize = 1_000_000;
pub const BIG: usize = 200_000;

impl Service for Script {
    type Ticket = u8;

    fn admit(&mut self, head: &Head) -> Admit<u8> {
        self.admitted += 1;
        match head.target() {
            b"/refuse" => Admit::Refuse(reply(413, b"too much")),
            b"/refuse-big" => Admit::Refuse(reply(413, &[b'r'; BIG])),
            b"/drop" => Admit::Accept { ticket: 0, body_limit: 0, timeout: TIMEOUT },
            b"/small" => Admit::Accept { ticket: 0, body_limit: 10, timeout: TIMEOUT },
            b"/huge" => Admit::Accept { ticket: 0, body_limit: 3 * LIMIT, timeout: TIMEOUT },
            b"/untimed" => Admit::Accept { ticket: 2, body_limit: 0, timeout: 0 },
            b"/later" => Admit::Accept { ticket: 2, body_limit: 10, timeout: TIMEOUT },
            b"/big" => Admit::Accept { ticket: 3, body_limit: LIMIT, timeout: TIMEOUT },
            _ => Admit::Accept { ticket: 0, body_limit: LIMIT, timeout: TIMEOUT },
        }
    }

    fn serve(&mut self, stream: u32, ticket: u8, head: &Head, body: &mut Body) -> Option<Reply> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.served.push(Served {
            stream,
            method: head.method().into(),
            target: text(head.target()),
            fields: head.fields().map(|(n, v)| (text(n), text(v))).collect(),
            body: body.bytes.to_vec(),
            overflow: body.overflow,
            announced: body.announced,
        });
        match ticket {
            2 => None,
            3 => Some(reply(200, &[b'b'; BIG])),
            _ => Some(reply(200, b"fine")),
        }
    }
}

pub fn reply(status: u16, body: &[u8]) -> Reply {
    let extra = Some(("location", "/there/".to_string()));
    Reply {
        status,
        content_type: "text/plain",
        extra,
        body: SecretBytes::from(body.to_vec()),
        close: false,
        tail: None,
    }
}

/// A frame that the server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sent {
    Settings,
    SettingsAck,
    PingAck,
    /// Stream, fields without `date`, END_STREAM.
    Headers(u32, Vec<(String, String)>, bool),
    /// Stream, bytes, END_STREAM.
    Data(u32, Vec<u8>, bool),
    Reset(u32, u8),
    Goaway(u32, u8),
    Window(u32, usize),
}

/// A connection with a client at its other end.
pub struct Peer {
    pub h2: H2<u8>,
    pub script: Script,
    pub now: Millis,
    pub flow: Flow,
    decoder: Decoder,
}

impl Peer {
    /// A connection on which nothing was sent.
    pub fn fresh(budget: Budget) -> Self {
        let h2 = H2::new(budget, 0);
        Self { h2, script: Script::default(), now: 0, flow: Flow::Continue, decoder: Decoder::new() }
    }

    /// A connection after the exchange of settings.
    pub fn new() -> Self {
        Self::with_budget(Budget::new(1 << 30))
    }

    pub fn with_budget(budget: Budget) -> Self {
        let mut peer = Self::fresh(budget);
        assert_eq!(peer.feed(&opening()), [Sent::Settings, Sent::SettingsAck]);
        peer
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Sent> {
        let mut out = Vec::new();
        self.flow = self.h2.feed(self.now, bytes, &mut out, &mut self.script);
        self.h2.check();
        self.read(&out)
    }

    pub fn complete(&mut self, stream: u32, reply: Reply) -> Vec<Sent> {
        let mut out = Vec::new();
        self.flow = self.h2.complete(self.now, stream, reply, &mut out, &mut self.script);
        self.h2.check();
        self.read(&out)
    }

    pub fn expire(&mut self, now: Millis) -> Vec<Sent> {
        self.now = now;
        let mut out = Vec::new();
        self.flow = Protocol::<Script>::expire(&mut self.h2, now, &mut out);
        self.h2.check();
        self.read(&out)
    }

    pub fn shutdown(&mut self) -> Vec<Sent> {
        let mut out = Vec::new();
        self.flow = Protocol::<Script>::shutdown(&mut self.h2, self.now, &mut out);
        self.read(&out)
    }

    pub fn deadline(&self) -> Millis {
        Protocol::<Script>::deadline(&self.h2)
    }

    pub fn is_waiting(&self, stream: u32) -> bool {
        Protocol::<Script>::is_waiting(&self.h2, stream)
    }

    /// The bodies that the service saw, by their length.
    pub fn body_lengths(&self) -> Vec<usize> {
        self.script.served.iter().map(|served| served.body.len()).collect()
    }

    fn read(&mut self, out: &[u8]) -> Vec<Sent> {
        read_frames(out, &mut self.decoder)
    }
}

/// Splits the server's bytes into frames; they must be whole and by the rules.
pub fn read_frames(mut out: &[u8], decoder: &mut Decoder) -> Vec<Sent> {
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::read(out) {
        assert!(head.len <= limits::MAX_FRAME);
        let payload = &out[frame::HEADER..frame::HEADER + head.len];
        out = &out[frame::HEADER + head.len..];
        frames.push(read_frame(head, payload, decoder));
    }
    assert!(out.is_empty());
    frames
}

fn read_frame(head: FrameHead, payload: &[u8], decoder: &mut Decoder) -> Sent {
    let end = head.has(flag::END_STREAM);
    let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    match head.kind {
        kind::SETTINGS if head.has(flag::ACK) => Sent::SettingsAck,
        kind::SETTINGS => Sent::Settings,
        kind::PING => Sent::PingAck,
        kind::DATA => Sent::Data(head.stream, payload.to_vec(), end),
        kind::RST_STREAM => Sent::Reset(head.stream, number(0) as u8),
        kind::GOAWAY => Sent::Goaway(number(0), number(4) as u8),
        kind::WINDOW_UPDATE => Sent::Window(head.stream, number(0) as usize),
        kind::HEADERS => {
            assert!(head.has(flag::END_HEADERS));
            let mut fields = Vec::new();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            decoder.decode(payload, |name, value| fields.push((text(name), text(value)))).unwrap();
            fields.retain(|(name, _)| name != "date");
            Sent::Headers(head.stream, fields, end)
        }
        other => panic!("the server sent a frame of type {other}"),
    }
}

impl<T> H2<T> {
    /// The books balance: what streams hold adds up to what the connection counts.
    pub fn check(&self) {
        let held: usize = self.streams.iter().map(Stream::held).sum();
        let granted: usize = self.streams.iter().map(|stream| stream.granted).sum();
        assert_eq!((held, granted), (self.credit.held, self.credit.granted));
        self.credit.check();
        assert!(self.streams.is_sorted_by(|a, b| a.id < b.id));
        assert!(self.streams.len() + self.orphans.len() <= MAX_STREAMS);
        assert!(self.streams.iter().all(|stream| stream.deadline >= self.soonest));
        assert!(self.remembered.len() <= MAX_REMEMBERED);
    }

    /// Bytes of memory in use, heads at hand left out.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.decoder.capacity()
            + self.heads.capacity() * size_of::<Head>()
            + self.spare_body.capacity()
            + self.streams.capacity() * size_of::<Stream<T>>()
            + (self.orphans.capacity() + self.remembered.capacity()) * size_of::<u32>()
            + self.cut.capacity()
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

/// Preface and empty SETTINGS.
pub fn opening() -> Vec<u8> {
    [frame::PREFACE, &frame(kind::SETTINGS, 0, 0, b"")].concat()
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        hpack::put_literal(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

pub fn request_block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let start = [(":method", "PUT"), (":scheme", "https"), (":path", path), (":authority", "kes:7373")];
    block(&[&start, more].concat())
}

/// HEADERS of a request without a body.
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &request_block(path, &[]))
}

/// HEADERS of a request whose body follows.
pub fn put(stream: u32, path: &str) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, &request_block(path, &[]))
}

pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(kind::DATA, u8::from(end), stream, bytes)
}

pub fn rst(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

pub fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn settings(id: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

pub fn reset(stream: u32, code: Code) -> Sent {
    Sent::Reset(stream, code as u8)
}

pub fn goaway(stream: u32, code: Code) -> Sent {
    Sent::Goaway(stream, code as u8)
}

/// The two frames of a short reply of [`Script`].
pub fn answer(stream: u32, status: &str, body: &str) -> [Sent; 2] {
    [headers(stream, status, body.len(), false), Sent::Data(stream, body.into(), true)]
}

pub fn headers(stream: u32, status: &str, length: usize, end: bool) -> Sent {
    let fields = [
        (":status", status),
        ("content-type", "text/plain"),
        ("content-length", &length.to_string()),
        ("location", "/there/"),
    ];
    Sent::Headers(stream, fields.map(|(n, v)| (n.to_string(), v.to_string())).to_vec(), end)
}

pub fn fine(stream: u32) -> [Sent; 2] {
    answer(stream, "200", "fine")
}
