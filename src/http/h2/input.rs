//! From bytes to frames, and the frames that concern no request.

use super::{
    Fault, H2, Turn,
    frame::{self, Code, FrameHead, flag, kind, number, setting},
    limits::{HEAD_TIMEOUT, MAX_FRAME},
};
use crate::crypto::SecretBytes;
use crate::http::{Millis, NEVER, Service, hpack::TABLE_LIMIT};

impl<T> H2<T> {
    /// Acts on all complete frames of `input` and keeps what is left of it. An error ends the connection.
    pub(super) fn take_input<S: Service<Ticket = T>>(
        &mut self,
        input: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Code> {
        let mut rest = self.take_preface(input)?;
        while !rest.is_empty() && !self.has_left() {
            if !self.cut.is_empty() {
                rest = self.mend_cut(rest, turn)?;
                continue;
            }
            let Some((frame, payload, tail)) = split_frame(rest)? else {
                self.keep_cut(rest, turn.now);
                break;
            };
            self.on_frame(frame, payload, turn)?;
            rest = tail;
        }
        Ok(())
    }

    fn take_preface<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Code> {
        let expected = frame::PREFACE.get(self.preface..).unwrap_or_default();
        let len = expected.len().min(input.len());
        let (start, rest) = input.split_at(len);
        if !expected.starts_with(start) {
            return Err(Code::Protocol);
        }
        self.preface += len;
        Ok(rest)
    }

    /// Keeps the beginning of a frame. Except for DATA, which has the deadline of its request, the rest must come soon.
    fn keep_cut(&mut self, bytes: &[u8], now: Millis) {
        let head = FrameHead::read(bytes);
        self.cut = SecretBytes::with_capacity(head.map_or(frame::HEADER, |head| frame::HEADER + head.len));
        self.cut.extend(bytes);
        self.cut_deadline = match head {
            Some(head) if head.kind == kind::DATA => NEVER,
            _ => now.saturating_add(HEAD_TIMEOUT),
        };
    }

    /// Adds to the cut frame and acts on it if it is whole. Returns the rest of the input.
    fn mend_cut<'a, S: Service<Ticket = T>>(
        &mut self,
        input: &'a [u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<&'a [u8], Code> {
        let wanted = match FrameHead::read(&self.cut) {
            Some(head) => frame::HEADER + head.len,
            None => frame::HEADER,
        };
        let missing = wanted.saturating_sub(self.cut.len());
        let (piece, rest) = input.split_at(missing.min(input.len()));
        self.cut.extend(piece);
        let cut = std::mem::take(&mut self.cut);
        if let Some((frame, payload, _)) = split_frame(&cut)? {
            self.cut_deadline = NEVER;
            self.on_frame(frame, payload, turn)?;
            return Ok(rest);
        }
        if FrameHead::read(&cut).is_some_and(|head| head.kind == kind::DATA) {
            self.cut_deadline = NEVER;
        }
        self.cut = cut;
        Ok(rest)
    }

    fn on_frame<S: Service<Ticket = T>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Code> {
        let fault = match self.dispatch(frame, payload, turn) {
            Err(Fault::Stream(id, code)) => self.reset(id, code, turn.now, turn.out),
            result => result,
        };
        match fault {
            Err(Fault::Connection(code) | Fault::Stream(_, code)) => Err(code),
            Ok(()) => Ok(()),
        }
    }

    fn dispatch<S: Service<Ticket = T>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        turn: &mut Turn<'_, S>,
    ) -> Result<(), Fault> {
        let open = self.block.as_ref().map(|block| block.start.stream);
        let continues = frame.kind == kind::CONTINUATION;
        if continues != open.is_some() || open.is_some_and(|id| id != frame.stream) {
            return Err(Fault::Connection(Code::Protocol));
        }
        let is_opening = frame.kind == kind::SETTINGS && !frame.has(flag::ACK);
        if self.opening_deadline != NEVER && !is_opening {
            return Err(Fault::Connection(Code::Protocol));
        }
        match frame.kind {
            kind::DATA => return self.on_data(frame, payload, turn),
            kind::HEADERS => return self.on_headers(frame, payload, turn),
            kind::CONTINUATION => return self.on_continuation(frame, payload, turn),
            kind::RST_STREAM => return self.on_reset(frame, payload, turn.now, turn.out),
            _ => {}
        }
        self.flood.noise(turn.now)?;
        match frame.kind {
            kind::PRIORITY => self.on_priority(frame, payload),
            kind::SETTINGS => self.on_settings(frame, payload, turn.now, turn.out),
            kind::PUSH_PROMISE => Err(Fault::Connection(Code::Protocol)),
            kind::PING => on_ping(frame, payload, turn.out),
            kind::GOAWAY => self.on_goaway(frame, payload),
            kind::WINDOW_UPDATE => self.on_window_update(frame, payload, turn.now, turn.out),
            _ => Ok(()),
        }
    }

    /// Priorities are not used; only their form is checked.
    fn on_priority(&mut self, frame: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if frame.stream == 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        let fault = |code| match self.is_idle(frame.stream) {
            true => Fault::Connection(code),
            false => Fault::Stream(frame.stream, code),
        };
        match payload.len() {
            5 if depends_on(payload, frame.stream) => Err(fault(Code::Protocol)),
            5 => Ok(()),
            _ => Err(fault(Code::FrameSize)),
        }
    }

    fn on_reset(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if payload.len() != 4 {
            return Err(Fault::Connection(Code::FrameSize));
        }
        if self.is_idle(frame.stream) {
            return Err(Fault::Connection(Code::Protocol));
        }
        let Some(index) = self.find(frame.stream) else { return self.flood.noise(now) };
        let opened = self.remove(index, now, false);
        self.balance(now, out);
        self.count_reset(opened, now)
    }

    fn on_settings(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        if !payload.len().is_multiple_of(6) || (frame.has(flag::ACK) && !payload.is_empty()) {
            return Err(Fault::Connection(Code::FrameSize));
        }
        if frame.has(flag::ACK) {
            return Ok(());
        }
        for one in payload.chunks_exact(6) {
            let &[i0, i1, v0, v1, v2, v3] = one else { continue };
            self.apply(u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        self.opening_deadline = NEVER;
        frame::put_head(out, 0, kind::SETTINGS, flag::ACK, 0);
        self.flush(now, out);
        Ok(())
    }

    fn apply(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            setting::HEADER_TABLE_SIZE if (value as usize) < TABLE_LIMIT => {
                self.table_size_due = true;
            }
            setting::ENABLE_PUSH if value > 1 => return Err(Fault::Connection(Code::Protocol)),
            setting::INITIAL_WINDOW_SIZE => return self.set_initial_window(value),
            setting::MAX_FRAME_SIZE if !(MAX_FRAME as u32..1 << 24).contains(&value) => {
                return Err(Fault::Connection(Code::Protocol));
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9113 §6.9.2: the change applies to the open streams too.
    fn set_initial_window(&mut self, value: u32) -> Result<(), Fault> {
        let change = i64::from(value) - self.initial_window;
        if value > i32::MAX as u32 {
            return Err(Fault::Connection(Code::FlowControl));
        }
        self.initial_window = i64::from(value);
        for stream in &mut self.streams {
            stream.window += change;
            if stream.window > i64::from(i32::MAX) {
                return Err(Fault::Connection(Code::FlowControl));
            }
        }
        Ok(())
    }

    /// The peer opens no further streams, so the connection ends with the last of them.
    fn on_goaway(&mut self, frame: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if frame.stream != 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        if payload.len() < 8 {
            return Err(Fault::Connection(Code::FrameSize));
        }
        self.leaving = true;
        Ok(())
    }

    fn on_window_update(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let increment = number(payload).filter(|_| payload.len() == 4);
        let increment = i64::from(increment.ok_or(Fault::Connection(Code::FrameSize))? & 0x7fff_ffff);
        if frame.stream == 0 {
            self.window += increment;
            if increment == 0 {
                return Err(Fault::Connection(Code::Protocol));
            }
            if self.window > i64::from(i32::MAX) {
                return Err(Fault::Connection(Code::FlowControl));
            }
            self.flush(now, out);
            return Ok(());
        }
        if self.is_idle(frame.stream) {
            return Err(Fault::Connection(Code::Protocol));
        }
        let Some(index) = self.find(frame.stream) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        stream.window += increment;
        if increment == 0 {
            return Err(Fault::Stream(frame.stream, Code::Protocol));
        }
        if stream.window > i64::from(i32::MAX) {
            return Err(Fault::Stream(frame.stream, Code::FlowControl));
        }
        self.send(index, now, out);
        Ok(())
    }
}

fn on_ping(frame: FrameHead, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if frame.stream != 0 {
        return Err(Fault::Connection(Code::Protocol));
    }
    if payload.len() != 8 {
        return Err(Fault::Connection(Code::FrameSize));
    }
    if !frame.has(flag::ACK) {
        frame::put_head(out, 8, kind::PING, flag::ACK, 0);
        out.extend_from_slice(payload);
    }
    Ok(())
}

/// Whether a priority names the stream that it belongs to, which RFC 7540 §5.3.1 forbids.
pub(super) fn depends_on(priority: &[u8], stream: u32) -> bool {
    number(priority).is_some_and(|other| other & 0x7fff_ffff == stream)
}

/// A frame's head and payload and what follows it; `None` if it has not come whole.
type Split<'a> = Option<(FrameHead, &'a [u8], &'a [u8])>;

fn split_frame(bytes: &[u8]) -> Result<Split<'_>, Code> {
    let Some(head) = FrameHead::read(bytes) else { return Ok(None) };
    if head.len > MAX_FRAME {
        return Err(Code::FrameSize);
    }
    let payload = bytes.get(frame::HEADER..frame::HEADER + head.len);
    Ok(payload.map(|payload| (head, payload, bytes.get(frame::HEADER + head.len..).unwrap_or_default())))
}
