//! Frames of HTTP/2 (RFC 9113 §4, §6): the header of nine bytes, and the frames that the server writes.

/// Bytes of a frame's header.
pub const HEADER: usize = 9;

/// Largest payload that is accepted: the protocol's default (§4.2).
pub const MAX_PAYLOAD: usize = 16_384;

/// Types of frames (§6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 1;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 1;
    /// Of HEADERS and CONTINUATION.
    pub const END_HEADERS: u8 = 4;
    /// Of DATA and HEADERS.
    pub const PADDED: u8 = 8;
    /// Of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// Error codes (§7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    None = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// One frame of the peer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Takes a whole frame off `input`: `Ok(None)` if it is not whole yet, an error if it is too large.
pub fn take<'a>(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Code> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [a, b, c, kind, flags, stream @ ..] = *header;
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if length > MAX_PAYLOAD {
        return Err(Code::FrameSize);
    }
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    *input = rest;
    // The highest bit is reserved (§4.1).
    Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload }))
}

/// Appends the header of a frame.
pub fn push_header(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends RST_STREAM.
pub fn push_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    push_header(4, kind::RST_STREAM, 0, stream, out);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// Appends WINDOW_UPDATE.
pub fn push_window_update(stream: u32, bytes: u32, out: &mut Vec<u8>) {
    push_header(4, kind::WINDOW_UPDATE, 0, stream, out);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Appends GOAWAY.
pub fn push_goaway(last_stream: u32, code: Code, out: &mut Vec<u8>) {
    push_header(8, kind::GOAWAY, 0, 0, out);
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

/// The four bytes of a number, `None` unless there are exactly four.
pub fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?))
}
