//! HTTP/1.1 as a server speaks it (RFC 9112): strict heads, bodies of known length or in chunks, keep-alive, pipelining,
//! `Expect: 100-continue`. One request at a time is read, answered, and only then the next one looked at.

#![forbid(unsafe_code)]

mod chunked;
mod parse;
#[cfg(test)]
mod tests;
mod write;

use chunked::{Chunked, Piece};
use parse::{Facts, Framing, MAX_HEAD, Refusal, TOO_LARGE};
use write::{Connection, Extent};

use crate::{
    crypto::SecretBytes,
    http::{Admit, Body, Budget, Flow, Head, MAX_TAIL, Millis, NEVER, Protocol, Reply, Service, Tail},
};

/// A head must be complete this long after its first byte, and the first one after the connection was made.
const HEAD_TIME: Millis = 5_000;

/// An idle connection is closed after this long.
const IDLE_TIME: Millis = 90_000;

/// Most bytes of a body that nobody wants and that are read all the same, to keep the connection.
const MAX_DRAIN: u64 = 256 << 10;

/// The unwanted rest of a body must come within this time.
const DRAIN_TIME: Millis = 15_000;

/// Bodies up to this size are not taken out of the common budget.
const FREE_BODY: usize = 16 << 10;

/// What may be kept while a reply is pending; a client that pipelines more is read no further.
const MAX_PENDING: usize = 64 << 10;

/// Buffers larger than this are given back when the connection is idle.
const IDLE_BUFFER: usize = 1024;

/// A head with more memory than this is not kept for the next request.
const IDLE_HEAD: usize = 2048;

/// One connection's side of HTTP/1.1.
pub struct H1<T> {
    budget: Budget,
    /// Received and not used yet.
    input: SecretBytes,
    /// How much of `input` was searched for the end of the head.
    searched: usize,
    head: Head,
    facts: Facts,
    body: Body,
    body_limit: usize,
    /// Bytes taken out of the budget.
    taken: usize,
    state: State<T>,
    /// The number of the request under way, for late replies.
    stream: u32,
    deadline: Millis,
    closing: bool,
}

enum State<T> {
    /// Waiting for a head, or in the middle of one.
    Head,
    /// Reading a body that the service wants.
    Body { ticket: T, left: Left },
    /// The service answers later. The rest of the body comes after that.
    Pending { left: Option<Left> },
    /// A reply that goes on is being sent; the connection ends with it.
    Streaming { extent: Extent, _tail: Tail },
    /// Reading over the rest of a body after the reply.
    Drain { left: Left, allowance: u64 },
    /// Nothing more is read.
    Closed {
        /// The client may still be sending.
        lingers: bool,
    },
}

/// What is left of a body.
#[derive(Clone, Copy)]
enum Left {
    Bytes(u64),
    Chunks(Chunked),
}

impl Left {
    fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(bytes) => Self::Bytes(bytes),
            Framing::Chunked => Self::Chunks(Chunked::new()),
        }
    }

    /// Takes the next piece of the body off `input`.
    fn next<'a>(&mut self, input: &mut &'a [u8]) -> Piece<'a> {
        match self {
            Self::Bytes(0) => Piece::End,
            Self::Bytes(_) if input.is_empty() => Piece::Hungry,
            Self::Bytes(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(length);
                *input = rest;
                *left -= length as u64;
                Piece::Data(data)
            }
            Self::Chunks(chunks) => chunks.next(input),
        }
    }

    /// Whether it is known to be too much to read over.
    fn is_long(&self) -> bool {
        matches!(self, Self::Bytes(left) if *left > MAX_DRAIN)
    }
}

/// What came of one step.
#[derive(PartialEq, Eq)]
enum Step {
    /// Something was done; there may be more to do.
    Again,
    /// Nothing can be done before more bytes, or a late reply, have come.
    Wait,
}

impl<T> H1<T> {
    /// A fresh connection. Bodies are counted against `budget`.
    pub fn new(budget: Budget, now: Millis) -> Self {
        Self {
            budget,
            input: SecretBytes::new(),
            searched: 0,
            head: Head::new(),
            facts: Facts {
                framing: Framing::Length(0),
                keep_alive: true,
                expects_continue: false,
                is_old: false,
            },
            body: Body::default(),
            body_limit: 0,
            taken: 0,
            state: State::Head,
            stream: 0,
            deadline: now + HEAD_TIME,
            closing: false,
        }
    }

    /// Whether no request is under way and none has begun.
    pub fn is_unused(&self) -> bool {
        matches!(self.state, State::Head) && self.input.is_empty()
    }

    /// Works through what has been received.
    fn run<S: Service<Ticket = T>>(&mut self, now: Millis, out: &mut Vec<u8>, service: &mut S) -> Flow {
        // The input is looked at in place and cut once at the end.
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while self.step(now, &mut rest, out, service) == Step::Again {}
        if rest.len() == input.len() {
            self.input = input;
        } else {
            self.keep(rest);
        }
        self.flow()
    }

    /// Keeps what could not be used yet. After the end it is not kept, but it shows that the client goes on sending.
    fn keep(&mut self, rest: &[u8]) {
        match &mut self.state {
            State::Closed { lingers } => *lingers |= !rest.is_empty(),
            _ => self.input.extend(rest),
        }
    }

    fn flow(&self) -> Flow {
        match self.state {
            State::Closed { lingers: false } => Flow::Close,
            State::Closed { lingers: true } => Flow::Linger,
            State::Pending { .. } => Flow::Pause,
            _ => Flow::Continue,
        }
    }

    fn step<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Step {
        match &self.state {
            State::Head => self.read_head(now, input, out, service),
            State::Body { .. } => self.read_body(now, input, out, service),
            State::Drain { .. } => self.drain(now, input),
            State::Pending { .. } | State::Streaming { .. } | State::Closed { .. } => Step::Wait,
        }
    }

    fn read_head<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Step {
        if self.searched == 0 {
            // One empty line before a request is left over from a careless client (RFC 9112 §2.2).
            if let Some(rest) = input.strip_prefix(b"\r\n") {
                *input = rest;
            }
        }
        if input.is_empty() || *input == b"\r" {
            return Step::Wait;
        }
        if self.closing {
            return self.close(true);
        }
        if self.searched == 0 {
            self.deadline = self.deadline.min(now + HEAD_TIME);
        }
        let end = match parse::find_end(input, self.searched) {
            Ok(Some(end)) if end <= MAX_HEAD => end,
            Ok(None) if input.len() < MAX_HEAD => {
                self.searched = input.len();
                return Step::Wait;
            }
            Ok(_) => return self.refuse(TOO_LARGE, out),
            Err(refusal) => return self.refuse(refusal, out),
        };
        self.searched = 0;
        let (head, rest) = input.split_at(end);
        *input = rest;
        match parse::parse(head, &mut self.head) {
            Ok(facts) => self.facts = facts,
            Err(refusal) => return self.refuse(refusal, out),
        }
        self.stream = self.stream.wrapping_add(1);
        self.admit(now, input, out, service)
    }

    /// The head is complete: asks the service what it thinks of it.
    fn admit<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        input: &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Step {
        let left = Left::of(self.facts.framing);
        let has_body = !matches!(left, Left::Bytes(0));
        if self.head.target() == b"*" {
            return self.reply(now, Reply::empty(200), Some(left), out);
        }
        match service.admit(&self.head) {
            Admit::Refuse(reply) => {
                // The client has been told not to send its body, and may send it all the same: nobody knows.
                if has_body && self.facts.expects_continue {
                    self.facts.keep_alive = false;
                }
                self.reply(now, reply, Some(left), out)
            }
            Admit::Accept { ticket, body_limit, timeout } => {
                self.deadline = if timeout == 0 { NEVER } else { now + timeout };
                self.body.announced = has_body;
                self.body_limit = body_limit;
                if has_body && body_limit > 0 && self.facts.expects_continue && input.is_empty() {
                    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                if has_body && body_limit == 0 {
                    if self.facts.expects_continue {
                        self.facts.keep_alive = false;
                    }
                    return self.serve(now, ticket, Some(left), out, service);
                }
                self.state = State::Body { ticket, left };
                Step::Again
            }
        }
    }

    fn read_body<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Step {
        let State::Body { left, .. } = &mut self.state else { return Step::Wait };
        let mut is_complete = false;
        while !is_complete {
            match left.next(input) {
                Piece::Data(data) => {
                    let room = self.body_limit - self.body.bytes.len();
                    let wanted = &data[..data.len().min(room)];
                    let length = self.body.bytes.len() + wanted.len();
                    if length > FREE_BODY && length > self.taken {
                        // In steps, so that the budget is asked a few times for a body and not for each piece.
                        let more = (length.next_power_of_two()).min(self.body_limit).max(length) - self.taken;
                        if !self.budget.take(more) {
                            return self.refuse(Refusal { status: 503, detail: "" }, out);
                        }
                        self.taken += more;
                    }
                    self.body.bytes.extend(wanted);
                    if data.len() > room {
                        self.body.overflow = true;
                        is_complete = true;
                    }
                }
                Piece::End => is_complete = true,
                Piece::Hungry => return Step::Wait,
                Piece::Malformed => return self.refuse(Refusal { status: 400, detail: "" }, out),
            }
        }
        let State::Body { ticket, left } = std::mem::replace(&mut self.state, State::Head) else {
            return Step::Wait;
        };
        let left = self.body.overflow.then_some(left);
        self.serve(now, ticket, left, out, service)
    }

    fn serve<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        ticket: T,
        left: Option<Left>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Step {
        let reply = service.serve(self.stream, ticket, &self.head, &mut self.body);
        self.forget_body();
        match reply {
            Some(reply) => self.reply(now, reply, left, out),
            None => {
                self.state = State::Pending { left };
                Step::Wait
            }
        }
    }

    /// Writes a reply and goes on to the next request, by way of what is left of the body.
    fn reply(&mut self, now: Millis, mut reply: Reply, left: Option<Left>, out: &mut Vec<u8>) -> Step {
        if let Some(tail) = reply.tail.take() {
            return self.begin_stream(&reply, tail, out);
        }
        let left = left.filter(|left| !matches!(left, Left::Bytes(0)));
        let is_too_long = left.is_some_and(|left| left.is_long());
        let close = self.closing || reply.close || !self.facts.keep_alive || is_too_long;
        let connection = match (close, self.facts.is_old) {
            (true, _) => Connection::Close,
            (false, true) => Connection::KeepAlive,
            (false, false) => Connection::Open,
        };
        let extent = if self.head.method() == "HEAD" { Extent::HeadOnly } else { Extent::Whole };
        write::write(&reply, connection, extent, out);
        if close {
            return self.close(left.is_some());
        }
        match left {
            Some(left) => {
                self.deadline = now + DRAIN_TIME;
                self.state = State::Drain { left, allowance: MAX_DRAIN };
            }
            None => self.rest(now),
        }
        Step::Again
    }

    /// Writes the beginning of a reply that goes on. The deadline stays the request's.
    fn begin_stream(&mut self, reply: &Reply, tail: Tail, out: &mut Vec<u8>) -> Step {
        let extent = if self.facts.is_old { Extent::ToTheEnd } else { Extent::Chunks };
        write::write(reply, Connection::Close, extent, out);
        if self.closing {
            write::push_end(extent, out);
            return self.close(true);
        }
        self.state = State::Streaming { extent, _tail: tail };
        Step::Wait
    }

    /// Ends a reply that goes on, if there is one, and the connection with it.
    fn end_stream(&mut self, out: &mut Vec<u8>) {
        if let State::Streaming { extent, .. } = self.state {
            write::push_end(extent, out);
            self.close(true);
        }
    }

    fn drain(&mut self, now: Millis, input: &mut &[u8]) -> Step {
        let State::Drain { left, allowance } = &mut self.state else { return Step::Wait };
        loop {
            match left.next(input) {
                Piece::Data(data) => match allowance.checked_sub(data.len() as u64) {
                    Some(rest) => *allowance = rest,
                    None => return self.close(true),
                },
                Piece::End => break,
                Piece::Hungry => return Step::Wait,
                Piece::Malformed => return self.close(true),
            }
        }
        self.rest(now);
        Step::Again
    }

    /// Between two requests.
    fn rest(&mut self, now: Millis) {
        self.state = State::Head;
        self.deadline = now + IDLE_TIME;
        if self.head.capacity() > IDLE_HEAD {
            self.head = Head::new();
        }
    }

    /// Answers with a plain error and closes: what follows cannot be told apart any more.
    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Step {
        let Refusal { status, detail } = refusal;
        let mut reply = Reply::empty(status);
        if status != 417 {
            let reason = write::reason(status);
            let text = match (status, detail) {
                (501, detail) => detail.to_owned(),
                (_, "") => format!("{status} {reason}"),
                (_, detail) => format!("{status} {reason}: {detail}"),
            };
            reply.content_type = "text/plain; charset=utf-8";
            reply.body = SecretBytes::from(text.into_bytes());
        }
        write::write(&reply, Connection::Close, Extent::Whole, out);
        self.close(true)
    }

    fn close(&mut self, lingers: bool) -> Step {
        self.state = State::Closed { lingers };
        self.deadline = NEVER;
        self.forget_body();
        Step::Wait
    }

    fn forget_body(&mut self) {
        self.body.bytes.clear();
        // What is given back must not stay in use.
        if self.body.bytes.capacity() > IDLE_BUFFER {
            self.body.bytes = SecretBytes::new();
        }
        self.body.overflow = false;
        self.budget.give_back(std::mem::take(&mut self.taken));
    }
}

impl<T, S: Service<Ticket = T>> Protocol<S> for H1<T> {
    fn feed(&mut self, now: Millis, input: &[u8], out: &mut Vec<u8>, service: &mut S) -> Flow {
        if matches!(self.state, State::Closed { .. }) {
            return self.flow();
        }
        if matches!(self.state, State::Pending { .. } | State::Streaming { .. }) {
            if self.input.len() + input.len() > MAX_PENDING {
                self.close(true);
                return self.flow();
            }
            self.input.extend(input);
            return self.flow();
        }
        if !self.input.is_empty() {
            self.input.extend(input);
            return self.run(now, out, service);
        }
        // Nothing is waiting, as nearly always: what has come is looked at where it is.
        let mut rest = input;
        while self.step(now, &mut rest, out, service) == Step::Again {}
        self.keep(rest);
        if self.input.is_empty() && self.input.capacity() > IDLE_BUFFER {
            self.input = SecretBytes::new();
        }
        self.flow()
    }

    fn complete(
        &mut self,
        now: Millis,
        stream: u32,
        reply: Reply,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Flow {
        let State::Pending { left } = self.state else { return self.flow() };
        if stream != self.stream {
            return self.flow();
        }
        self.reply(now, reply, left, out);
        self.run(now, out, service)
    }

    fn append(&mut self, _now: Millis, stream: u32, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        let State::Streaming { extent, .. } = self.state else { return true };
        if stream == self.stream {
            if out.len() > MAX_TAIL {
                return false;
            }
            write::push_piece(bytes, extent, out);
        }
        true
    }

    fn is_waiting(&self, stream: u32) -> bool {
        matches!(self.state, State::Pending { .. }) && stream == self.stream
    }

    fn deadline(&self) -> Millis {
        self.deadline
    }

    fn expire(&mut self, now: Millis, out: &mut Vec<u8>) -> Flow {
        if now >= self.deadline {
            self.end_stream(out);
            self.close(false);
        }
        self.flow()
    }

    fn shutdown(&mut self, _now: Millis, out: &mut Vec<u8>) -> Flow {
        self.closing = true;
        self.end_stream(out);
        if matches!(self.state, State::Head | State::Drain { .. }) {
            self.close(false);
        }
        self.flow()
    }
}

impl<T> Drop for H1<T> {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}
