//! What the peer sends of its requests: heads, bodies, and the window that it is given for them.

use super::{
    Block, Code, Fault, GRANT, H2, HEAD_TIME, LOW_WINDOW, MAX_BLOCK, MAX_BLOCK_FRAMES, MAX_GRANTED,
    MAX_REFUSED, MAX_STREAMS, REFUSAL_TIME,
    frame::{self, Frame, flag},
    request::Fields,
    stream::{Phase, Stream},
};
use crate::{
    crypto::SecretBytes,
    http::{Admit, Millis, NEVER, Reply, Service, hpack},
};

impl<T> H2<T> {
    pub(super) fn on_headers<S: Service<Ticket = T>>(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
        service: &mut S,
    ) -> Result<(), Fault> {
        if frame.stream.is_multiple_of(2) {
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

    pub(super) fn on_continuation<S: Service<Ticket = T>>(
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
    pub(super) fn on_block<S: Service<Ticket = T>>(
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
    pub(super) fn on_trailer<S: Service<Ticket = T>>(
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

    pub(super) fn admit<S: Service<Ticket = T>>(
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

    pub(super) fn serve<S: Service<Ticket = T>>(
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

    pub(super) fn on_data<S: Service<Ticket = T>>(
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
    pub(super) fn refuse(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) {
        if let Phase::Refused(reply) = &mut self.streams[place].phase {
            let mut reply = std::mem::replace(reply, Reply::empty(0));
            self.respond(now, place, &mut reply, out);
        }
    }

    /// The request is complete.
    pub(super) fn end_of_body<S: Service<Ticket = T>>(
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
    pub(super) fn grant(&mut self, place: usize, out: &mut Vec<u8>) {
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
    pub(super) fn feed_starved(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_starved) {
            (0..self.streams.len()).for_each(|place| self.grant(place, out));
        }
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
