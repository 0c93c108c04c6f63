//! The receiving side: header blocks and bodies become requests.

use super::{
    Fault, H2, Turn,
    fields::{Fields, Verdict},
    frame::{Code, FrameHead, flag, put_reset},
    input::depends_on,
    limits::{
        BODY_TIMEOUT, DISCARD_LIMIT, HEAD_TIMEOUT, LOW_STREAM_WINDOW, MAX_BLOCK, MAX_CONTINUATIONS,
        MAX_STREAMS, REFUSED_LIMIT, SPARE_BODY, SPARE_HEAD, SPARE_HEADS,
    },
    stream::{Gathering, State, Stream},
};
use crate::crypto::SecretBytes;
use crate::http::{Admit, Body, Head, Millis, NEVER, Reply, Service};

/// A header block of which frames are missing.
pub(super) struct Block {
    pub start: BlockStart,
    bytes: Vec<u8>,
    continuations: u32,
    pub deadline: Millis,
}

/// What a HEADERS frame says beside its fields.
#[derive(Clone, Copy)]
pub(super) struct BlockStart {
    pub stream: u32,
    end_stream: bool,
    depends_on_itself: bool,
}

impl Block {
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl<T> H2<T> {
    /// HEADERS (RFC 9113 §6.2).
    pub(super) fn on_headers<S: Service<Ticket = T>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let id = frame.stream;
        if id.is_multiple_of(2) {
            return Err(Fault::Connection(Code::Protocol));
        }
        if id <= self.last_stream && self.find(id).is_none() && !self.remembered.contains(&id) {
            return Err(Fault::Connection(Code::StreamClosed));
        }
        let mut fragment = unpadded(frame, payload)?;
        let mut depends_on_itself = false;
        if frame.has(flag::PRIORITY) {
            let (priority, rest) = fragment.split_at_checked(5).ok_or(Fault::Connection(Code::FrameSize))?;
            depends_on_itself = depends_on(priority, id);
            fragment = rest;
        }
        let start = BlockStart { stream: id, end_stream: frame.has(flag::END_STREAM), depends_on_itself };
        if frame.has(flag::END_HEADERS) {
            return self.on_block(start, fragment, turn);
        }
        let deadline = turn.now.saturating_add(HEAD_TIMEOUT);
        self.block = Some(Box::new(Block { start, bytes: fragment.to_vec(), continuations: 0, deadline }));
        Ok(())
    }

    /// CONTINUATION (RFC 9113 §6.10); that it belongs to the open block is checked before.
    pub(super) fn on_continuation<S: Service<Ticket = T>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let mut block = self.block.take().ok_or(Fault::Connection(Code::Protocol))?;
        block.continuations += 1;
        if block.continuations > MAX_CONTINUATIONS || block.bytes.len() + payload.len() > MAX_BLOCK {
            return Err(Fault::Connection(Code::EnhanceYourCalm));
        }
        block.bytes.extend_from_slice(payload);
        if frame.has(flag::END_HEADERS) {
            return self.on_block(block.start, &block.bytes, turn);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A complete header block: a new request or trailers.
    fn on_block<S: Service<Ticket = T>>(
        &mut self,
        start: BlockStart,
        block: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let done = self.take_block(start, block, turn);
        // The connection may hold this for long, and there may be many.
        self.decoder.release_scratch();
        if self.head.capacity() > SPARE_HEAD {
            self.head = Head::new();
        }
        done
    }

    fn take_block<S: Service<Ticket = T>>(
        &mut self,
        start: BlockStart,
        block: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let index = self.find(start.stream);
        let is_new = start.stream > self.last_stream;
        self.last_stream = self.last_stream.max(start.stream);
        let mut fields = Fields::new(&mut self.head, !is_new);
        // Every block is decoded, also one that nobody wants: it may change the table.
        self.decoder
            .decode(block, |name, value| fields.add(name, value))
            .map_err(|_| Fault::Connection(Code::Compression))?;
        let verdict = fields.finish();
        let (length, expects_continue) = (fields.length, fields.expects_continue);
        if !is_new {
            let Some(index) = index else { return self.flood.noise(turn.now) };
            return self.on_trailers(index, start, verdict, turn);
        }
        if self.draining {
            put_reset(turn.out, start.stream, Code::RefusedStream);
            self.remember(start.stream);
            return self.flood.noise(turn.now);
        }
        if self.streams.len() + self.orphans.len() >= MAX_STREAMS {
            return Err(Fault::Stream(start.stream, Code::RefusedStream));
        }
        let length_is_wrong = start.end_stream && length.is_some_and(|length| length > 0);
        if start.depends_on_itself || verdict == Verdict::Malformed || length_is_wrong {
            return Err(Fault::Stream(start.stream, Code::Protocol));
        }
        let mut stream = Stream::new(start.stream, turn.now, start.end_stream, self.initial_window);
        stream.without_body = self.head.method() == "HEAD";
        stream.length = length;
        self.streams.push(stream);
        self.opened += 1;
        if let Verdict::Refused(status) = verdict {
            self.answer(self.streams.len() - 1, Reply::empty(status), turn.now, turn.out);
            return Ok(());
        }
        self.admit(expects_continue, turn);
        Ok(())
    }

    /// Asks the service about the request whose head is in `self.head` and whose stream is the newest.
    fn admit<S: Service<Ticket = T>>(&mut self, expects_continue: bool, turn: &mut Turn<'_, S>) {
        let (ticket, limit, timeout) = match turn.service.admit(&self.head) {
            Admit::Accept { ticket, body_limit, timeout } => (ticket, body_limit, timeout),
            Admit::Refuse(reply) => return self.refuse(reply, expects_continue, turn),
        };
        let index = self.streams.len().saturating_sub(1);
        let Some(stream) = self.streams.last_mut() else { return };
        stream.timeout = timeout;
        // Who waits for a go-ahead to send what nobody wants is answered instead.
        let is_waiting = expects_continue && limit == 0;
        if stream.ended || is_waiting {
            let head = std::mem::take(&mut self.head);
            let body = Body { announced: is_waiting, ..Body::default() };
            self.serve(index, ticket, &head, body, turn);
            self.head = head;
            return;
        }
        stream.deadline = turn.now.saturating_add(if timeout == 0 { BODY_TIMEOUT } else { timeout });
        self.soonest = self.soonest.min(stream.deadline);
        let mut head = std::mem::replace(&mut self.head, self.heads.pop().unwrap_or_default());
        head.forget_fields(SPARE_HEAD);
        stream.state = State::Gathering(Gathering { ticket, head, body: SecretBytes::new(), limit });
        let id = stream.id;
        if expects_continue {
            self.put_continue(id, turn.out);
        }
        self.balance(turn.now, turn.out);
    }

    /// The newest stream is refused. A body that is on its way is let come, if it is small: most are, and a client that
    /// has sent its whole request needs no RST_STREAM after the reply.
    fn refuse<S: Service<Ticket = T>>(
        &mut self,
        reply: Reply,
        expects_continue: bool,
        turn: &mut Turn<'_, S>,
    ) {
        let index = self.streams.len().saturating_sub(1);
        let Some(stream) = self.streams.last_mut() else { return };
        if stream.ended || expects_continue {
            return self.answer(index, reply, turn.now, turn.out);
        }
        stream.deadline = turn.now.saturating_add(BODY_TIMEOUT);
        self.soonest = self.soonest.min(stream.deadline);
        stream.state = State::Refused(reply);
    }

    /// Trailers end a body; what they say is not used.
    fn on_trailers<S: Service<Ticket = T>>(
        &mut self,
        index: usize,
        start: BlockStart,
        verdict: Verdict,
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        if stream.ended {
            return Err(Fault::Stream(stream.id, Code::StreamClosed));
        }
        if verdict != Verdict::Good || !start.end_stream || start.depends_on_itself {
            return Err(Fault::Stream(stream.id, Code::Protocol));
        }
        stream.ended = true;
        let done = self.on_body(index, turn);
        self.balance(turn.now, turn.out);
        done
    }

    /// DATA (RFC 9113 §6.1).
    pub(super) fn on_data<S: Service<Ticket = T>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        if frame.stream == 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        let open = self.credit.open.checked_sub(payload.len());
        self.credit.open = open.ok_or(Fault::Connection(Code::FlowControl))?;
        let data = unpadded(frame, payload)?;
        let end = frame.has(flag::END_STREAM);
        if data.is_empty() && !end {
            self.flood.noise(turn.now)?;
        }
        let taken = match self.find(frame.stream) {
            Some(index) => self.take_data(index, payload.len(), data, end, turn),
            None => self.on_stray_data(frame.stream, turn.now),
        };
        self.balance(turn.now, turn.out);
        taken
    }

    /// DATA for a stream that is not open.
    fn on_stray_data(&mut self, id: u32, now: Millis) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::Connection(Code::Protocol));
        }
        if self.remembered.contains(&id) {
            return self.flood.noise(now);
        }
        Err(Fault::Stream(id, Code::StreamClosed))
    }

    fn take_data<S: Service<Ticket = T>>(
        &mut self,
        index: usize,
        cost: usize,
        data: &[u8],
        end: bool,
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        if stream.ended {
            return Err(Fault::Stream(stream.id, Code::StreamClosed));
        }
        let credit = stream.credit.checked_sub(cost);
        stream.credit = credit.ok_or(Fault::Stream(stream.id, Code::FlowControl))?;
        stream.received = stream.received.saturating_add(data.len() as u64);
        stream.ended = end;
        if stream.length.is_some_and(|length| stream.received > length) {
            return Err(Fault::Stream(stream.id, Code::Protocol));
        }
        if let State::Gathering(gathering) = &mut stream.state {
            let room = gathering.limit.saturating_sub(gathering.body.len());
            let kept = &data[..data.len().min(room)];
            if gathering.body.capacity() == 0 && kept.len() <= self.spare_body.capacity() {
                gathering.body = std::mem::take(&mut self.spare_body);
            }
            gathering.body.extend(kept);
            self.credit.held += kept.len();
        }
        self.on_body(index, turn)
    }

    /// Serves the request if its body is whole or nothing more of it is wanted.
    fn on_body<S: Service<Ticket = T>>(&mut self, index: usize, turn: &mut Turn<'_, S>) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        if stream.ended && stream.length.is_some_and(|length| stream.received != length) {
            return Err(Fault::Stream(stream.id, Code::Protocol));
        }
        if let State::Refused(reply) = &mut stream.state {
            if stream.ended || stream.received > REFUSED_LIMIT {
                let reply = std::mem::replace(reply, Reply::empty(0));
                self.answer(index, reply, turn.now, turn.out);
            }
            return Ok(());
        }
        let State::Gathering(gathering) = &stream.state else { return Ok(()) };
        let limit = gathering.limit;
        let wanted = if limit == 0 { DISCARD_LIMIT } else { limit };
        let overflow = stream.received > wanted as u64;
        if !stream.ended && !overflow {
            if stream.credit < LOW_STREAM_WINDOW {
                self.widen_stream(index, turn.out);
            }
            return Ok(());
        }
        let Some(gathering) = self.stop_gathering(index) else { return Ok(()) };
        let Gathering { ticket, head, body, .. } = gathering;
        let body = Body { bytes: body, overflow: overflow && limit > 0, announced: true };
        self.serve(index, ticket, &head, body, turn);
        self.keep_head(head);
        Ok(())
    }

    /// Takes the request out of stream number `index`, which works on it from now on, and counts its body as gone.
    pub(super) fn stop_gathering(&mut self, index: usize) -> Option<Gathering<T>> {
        let stream = self.streams.get_mut(index)?;
        if !matches!(stream.state, State::Gathering(_)) {
            return None;
        }
        self.credit.held -= stream.held();
        self.credit.granted -= std::mem::take(&mut stream.granted);
        match std::mem::replace(&mut stream.state, State::Working) {
            State::Gathering(gathering) => Some(gathering),
            _ => None,
        }
    }

    fn serve<S: Service<Ticket = T>>(
        &mut self,
        index: usize,
        ticket: T,
        head: &Head,
        mut body: Body,
        turn: &mut Turn<'_, S>,
    ) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        stream.deadline =
            if stream.timeout == 0 { NEVER } else { stream.opened.saturating_add(stream.timeout) };
        self.soonest = self.soonest.min(stream.deadline);
        let reply = turn.service.serve(stream.id, ticket, head, &mut body);
        if (1..=SPARE_BODY).contains(&body.bytes.capacity()) {
            body.bytes.clear();
            self.spare_body = body.bytes;
        }
        if let Some(reply) = reply {
            self.answer(index, reply, turn.now, turn.out);
        }
    }

    /// Keeps the memory of a head for a further request.
    pub(super) fn keep_head(&mut self, head: Head) {
        if self.heads.len() < SPARE_HEADS && head.capacity() <= SPARE_HEAD {
            self.heads.push(head);
        }
    }
}

/// The payload without its padding (RFC 9113 §6.1).
fn unpadded(frame: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    if !frame.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Fault::Connection(Code::FrameSize))?;
    let len = rest.len().checked_sub(usize::from(padding)).ok_or(Fault::Connection(Code::Protocol))?;
    Ok(&rest[..len])
}
