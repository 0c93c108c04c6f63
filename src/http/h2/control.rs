//! Frames about the connection and about streams as a whole (RFC 9113 §6.3 to §6.9).

use super::{
    Code, Fault, H2,
    frame::{self, Frame, flag, kind},
};
use crate::http::Millis;

impl<T> H2<T> {
    pub(super) fn on_priority(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
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

    pub(super) fn on_reset(&mut self, now: Millis, frame: Frame<'_>) -> Result<(), Fault> {
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

    pub(super) fn on_settings(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.calm.note_noise();
        if frame.stream != 0 {
            return Err(Fault::Connection(Code::Protocol));
        }
        let is_ack = frame.has(flag::ACK);
        if !frame.payload.len().is_multiple_of(6) || (is_ack && !frame.payload.is_empty()) {
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
    pub(super) fn set_initial_window(&mut self, window: i64) -> Result<(), Fault> {
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

    pub(super) fn on_ping(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
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

    pub(super) fn on_window_update(
        &mut self,
        now: Millis,
        frame: Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
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
}
