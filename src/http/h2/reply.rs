//! The sending side: replies as HEADERS and DATA frames, within the peer's windows.

use std::io::Write;

use super::{
    H2,
    frame::{Code, HEADER, flag, kind, put_head, put_reset},
    limits::{MAX_EXTRA, MAX_FRAME, MAX_OUTPUT, MAX_QUEUED, OUTPUT_RETRY, SEND_TIMEOUT},
    stream::{Sending, State},
};
use crate::http::{Millis, NEVER, Reply, date, hpack};

/// Places in the static table of HPACK.
mod index {
    pub const STATUS: usize = 8;
    pub const CONTENT_LENGTH: usize = 28;
    pub const CONTENT_TYPE: usize = 31;
    pub const DATE: usize = 33;
}

impl<T> H2<T> {
    /// Sends `reply` on stream number `index`, as much of it as possible now.
    pub(super) fn answer(&mut self, index: usize, reply: Reply, now: Millis, out: &mut Vec<u8>) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let id = stream.id;
        stream.deadline = match stream.timeout {
            0 if reply.tail.is_some() => NEVER,
            0 => now.saturating_add(SEND_TIMEOUT),
            timeout => now.saturating_add(timeout),
        };
        let deadline = stream.deadline;
        stream.state = State::Sending(Sending { reply, started: false, sent: 0, ended: false });
        if self.send(index, now, out) {
            return;
        }
        self.soonest = self.soonest.min(deadline);
        let others = self.streams.iter().filter(|other| other.id != id);
        if others.map(Self::queued).fold(0, usize::saturating_add) > MAX_QUEUED {
            put_reset(out, id, Code::EnhanceYourCalm);
            self.remove(index, now, true);
        }
    }

    /// Sends what the windows allow on all streams, the oldest first.
    pub(super) fn flush(&mut self, now: Millis, out: &mut Vec<u8>) {
        let mut index = 0;
        while let Some(stream) = self.streams.get(index) {
            let sending = matches!(stream.state, State::Sending(_));
            if !(sending && self.send(index, now, out)) {
                index += 1;
            }
        }
    }

    /// Sends what the windows allow on stream number `index`; `true` if that was all and the stream is gone.
    pub(super) fn send(&mut self, index: usize, now: Millis, out: &mut Vec<u8>) -> bool {
        let Some(stream) = self.streams.get_mut(index) else { return false };
        let State::Sending(sending) = &mut stream.state else { return false };
        let body: &[u8] = &sending.reply.body;
        if !sending.started && out.len() < MAX_OUTPUT {
            sending.started = true;
            let resize = std::mem::take(&mut self.table_size_due);
            put_reply_head(out, stream.id, &sending.reply, stream.without_body, resize);
            sending.ended = stream.without_body;
        }
        while sending.started && !sending.ended && out.len() < MAX_OUTPUT {
            let goes_on = sending.reply.tail.is_some();
            let rest = body.get(sending.sent..).unwrap_or_default();
            if rest.is_empty() && goes_on {
                return false;
            }
            // An empty body is an empty frame, which waits for an open window like any other: a peer that has closed its
            // window is not ready for the end either, and its streams go on counting.
            let window = usize::try_from(stream.window.min(self.window)).unwrap_or(0);
            if window == 0 {
                return false;
            }
            let piece = &rest[..rest.len().min(window).min(MAX_FRAME)];
            sending.ended = piece.len() == rest.len() && !goes_on;
            let flags = if sending.ended { flag::END_STREAM } else { 0 };
            put_head(out, piece.len(), kind::DATA, flags, stream.id);
            out.extend_from_slice(piece);
            sending.sent += piece.len();
            stream.window -= piece.len() as i64;
            self.window -= piece.len() as i64;
        }
        if !sending.ended {
            self.retry_at = self.retry_at.min(now + OUTPUT_RETRY);
            return false;
        }
        let early = !stream.ended;
        if early {
            // RFC 9113 §8.1: the reply is whole, the rest of the request is not wanted.
            put_reset(out, stream.id, Code::No);
        }
        self.flood.completed();
        self.remove(index, now, early);
        true
    }

    /// Tells the client that its body is welcome.
    pub(super) fn put_continue(&mut self, id: u32, out: &mut Vec<u8>) {
        let start = out.len();
        put_head(out, 0, kind::HEADERS, flag::END_HEADERS, id);
        if std::mem::take(&mut self.table_size_due) {
            hpack::put_table_size(out, 0);
        }
        hpack::put_named(out, index::STATUS, b"100");
        patch_length(out, start);
    }
}

fn put_reply_head(out: &mut Vec<u8>, id: u32, reply: &Reply, is_all: bool, resize: bool) {
    let start = out.len();
    let end_stream = if is_all { flag::END_STREAM } else { 0 };
    put_head(out, 0, kind::HEADERS, flag::END_HEADERS | end_stream, id);
    if resize {
        hpack::put_table_size(out, 0);
    }
    let mut digits = [0; 20];
    match reply.status {
        200 => hpack::put_indexed(out, index::STATUS),
        status => hpack::put_named(out, index::STATUS, decimal(&mut digits, usize::from(status))),
    }
    hpack::put_named(out, index::DATE, &date::now());
    if !reply.content_type.is_empty() {
        hpack::put_named(out, index::CONTENT_TYPE, reply.content_type.as_bytes());
    }
    if reply.tail.is_none() {
        hpack::put_named(out, index::CONTENT_LENGTH, decimal(&mut digits, reply.body.len()));
    }
    if let Some((name, value)) = reply.extra.as_ref().filter(|(_, value)| value.len() <= MAX_EXTRA) {
        hpack::put_literal(out, name.as_bytes(), value.as_bytes());
    }
    patch_length(out, start);
}

/// Writes the length of the frame that began at `start` and ends here.
fn patch_length(out: &mut [u8], start: usize) {
    let len = out.len().saturating_sub(start + HEADER);
    debug_assert!(len <= MAX_FRAME);
    if let Some(place) = out.get_mut(start..start + 3) {
        place.copy_from_slice(&(len as u32).to_be_bytes()[1..]);
    }
}

fn decimal(digits: &mut [u8; 20], value: usize) -> &[u8] {
    let mut rest = &mut digits[..];
    // 20 digits hold every u64, so this cannot fail.
    let _ = write!(rest, "{value}");
    let left = rest.len();
    &digits[..20 - left]
}
