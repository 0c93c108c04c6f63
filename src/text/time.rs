//! Points in time as RFC 3339 text, and as stored in keys.

/// A point in time with nanoseconds and the offset it was written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; may be negative.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
    /// Minutes east of Greenwich; 0 is shown as `Z`.
    pub offset_minutes: i16,
}

impl Timestamp {
    /// The zero time of Go: `0001-01-01T00:00:00Z`.
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0, offset_minutes: 0 };

    /// The present, in UTC.
    pub fn now() -> Self {
        todo!()
    }

    /// Reads RFC 3339 text as Go's `time.Time` does; `None` if it is no such text.
    pub fn parse(_text: &str) -> Option<Self> {
        todo!()
    }
}

/// RFC 3339 with as many digits of the fraction as needed (`server-api` §3.1).
impl std::fmt::Display for Timestamp {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
