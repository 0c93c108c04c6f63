//! Every limit of a connection, and the count of what a peer does without getting anywhere.

use super::{Fault, frame::Code};
use crate::http::Millis;

/// Requests that may run at once on one connection (SETTINGS_MAX_CONCURRENT_STREAMS), jobs of dead streams included.
pub const MAX_STREAMS: usize = 250;
/// The longest frame that is taken: the default of SETTINGS_MAX_FRAME_SIZE. Longer ones are not sent either.
pub const MAX_FRAME: usize = 16_384;
/// Decoded size of a header list as RFC 9113 §6.5.2 counts it (SETTINGS_MAX_HEADER_LIST_SIZE). More is answered 431.
pub const MAX_HEADER_LIST: usize = 16 * 1024;
/// Header fields of one request, pseudo-header fields included. More is answered 431.
pub const MAX_FIELDS: usize = 64;
/// Bytes of a request target. More is answered 414.
pub const MAX_TARGET: usize = 1024;
/// CONTINUATION frames of one header block.
pub const MAX_CONTINUATIONS: u32 = 8;
/// Bytes of one header block as sent, over all its frames.
pub const MAX_BLOCK: usize = 32 * 1024;

/// Bytes of the body of a refused request that are read over before the reply goes out all the same. Less than a
/// stream's first window.
pub const REFUSED_LIMIT: u64 = 16 << 10;

/// What a peer may send on a stream, and on a connection, before it is given more: the values that RFC 9113 §6.9.2
/// starts with. Larger bodies get more window when their first part is there, within the limits below. A larger initial
/// window would be given to every stream at once and could not be taken back.
pub const INITIAL_WINDOW: usize = 65_535;
/// A stream with less window than this gets more.
pub const LOW_STREAM_WINDOW: usize = 32 * 1024;
/// A connection with less window than this gets more.
pub const LOW_CONNECTION_WINDOW: usize = 16 * 1024;
/// Most connection window that a peer is given at a time.
pub const WINDOW_STEP: usize = 512 * 1024;
/// The smallest piece of the common budget that is worth taking.
pub const SMALLEST_STEP: usize = 16 * 1024;
/// Bytes of request bodies that one connection may hold in unfinished requests. Beyond them only the oldest unfinished
/// request is given window.
pub const CONNECTION_BODIES: usize = 2_000_000;
/// Bytes of an unwanted body that are read and thrown away before the request is answered without waiting for its end.
pub const DISCARD_LIMIT: usize = 256 * 1024;
/// Bytes of replies that may wait for the peer's window on one connection.
pub const MAX_QUEUED: usize = 4 * 1024 * 1024;
/// Bytes waiting to be written above which no further reply data is produced.
pub const MAX_OUTPUT: usize = 2 * 1024 * 1024;
/// Longest value of a reply's extra header field; a longer one is left out, so that a head fits in one frame.
pub const MAX_EXTRA: usize = 8 * 1024;

/// From the start of the connection to the client's first SETTINGS frame.
pub const OPENING_TIMEOUT: Millis = 5_000;
/// From the first byte of a header block, or of a frame other than DATA, to its last.
pub const HEAD_TIMEOUT: Millis = 5_000;
/// For the body of a request that has no timeout of its own.
pub const BODY_TIMEOUT: Millis = 30_000;
/// For taking the reply to a request that has no timeout of its own.
pub const SEND_TIMEOUT: Millis = 30_000;
/// Without open streams a connection is closed after this time.
pub const IDLE_TIMEOUT: Millis = 90_000;
/// Without open streams a connection gives its memory back after this time.
pub const REST_AFTER: Millis = 5_000;
/// How soon a connection that got nothing from the common body budget asks again.
pub const BUDGET_RETRY: Millis = 100;
/// How soon a connection that stopped at [`MAX_OUTPUT`] goes on if nothing else happens.
pub const OUTPUT_RETRY: Millis = 10;

/// Streams reset soon after they began, by the peer or for its mistakes, in one window. A completed request makes up for
/// one.
pub const MAX_RESETS: u32 = 200;
/// A stream that lived longer than this may be reset without being counted: its client gave up waiting.
pub const RAPID: Millis = 1_000;
/// Frames that further no request, in one window.
pub const MAX_NOISE: u32 = 5_000;
/// How many such frames a completed request makes up for.
pub const NOISE_PER_REQUEST: u32 = 100;
/// The window over which the two are counted.
pub const FLOOD_WINDOW: Millis = 10_000;

/// Streams that this side reset and whose late frames are to be ignored.
pub const MAX_REMEMBERED: usize = 256;
/// Heads kept for further requests.
pub const SPARE_HEADS: usize = 16;
/// The biggest head kept for further requests, or with all its fields until the body has come.
pub const SPARE_HEAD: usize = 2 * 1024;
/// The biggest body buffer kept for further requests.
pub const SPARE_BODY: usize = 2 * 1024;

/// Counts what a peer does without getting anywhere.
#[derive(Default)]
pub(super) struct Flood {
    since: Millis,
    resets: u32,
    noise: u32,
}

impl Flood {
    /// A stream was reset soon after it began.
    pub fn reset(&mut self, now: Millis) -> Result<(), Fault> {
        self.roll(now);
        self.resets += 1;
        allowed(self.resets <= MAX_RESETS)
    }

    /// A frame came that furthers no request.
    pub fn noise(&mut self, now: Millis) -> Result<(), Fault> {
        self.roll(now);
        self.noise += 1;
        allowed(self.noise <= MAX_NOISE)
    }

    /// A request was answered.
    pub fn completed(&mut self) {
        self.resets = self.resets.saturating_sub(1);
        self.noise = self.noise.saturating_sub(NOISE_PER_REQUEST);
    }

    fn roll(&mut self, now: Millis) {
        if now.saturating_sub(self.since) >= FLOOD_WINDOW {
            *self = Self { since: now, resets: 0, noise: 0 };
        }
    }
}

fn allowed(yes: bool) -> Result<(), Fault> {
    if yes { Ok(()) } else { Err(Fault::Connection(Code::EnhanceYourCalm)) }
}
