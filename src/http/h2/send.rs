//! Replies on their way to the peer, as fast as its windows allow (RFC 9113 §5.2, §8.1).

use super::{
    Code, H2,
    frame::{self, flag, kind},
    stream::Phase,
};
use crate::{
    crypto::SecretBytes,
    http::{Millis, Reply, date, hpack},
};

impl<T> H2<T> {
    /// Writes the head of a reply and as much of its body as the windows allow.
    pub(super) fn respond(&mut self, now: Millis, place: usize, reply: &mut Reply, out: &mut Vec<u8>) {
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
    pub(super) fn pump(&mut self, now: Millis, place: usize, out: &mut Vec<u8>) -> bool {
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

    pub(super) fn pump_all(&mut self, now: Millis, out: &mut Vec<u8>) {
        let mut place = 0;
        while place < self.streams.len() {
            if !self.pump(now, place, out) {
                place += 1;
            }
        }
    }
}
