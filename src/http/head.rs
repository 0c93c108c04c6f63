//! A request's head, the same for both protocols: one flat buffer and the places of its parts.

use std::ops::Range;

/// The request line and the header fields of one request. Reused from request to request without new allocations.
#[derive(Default)]
pub struct Head {
    buffer: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<(Range<usize>, Range<usize>)>,
}

impl Head {
    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        (self.method, self.target) = (0..0, 0..0);
        self.fields.clear();
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity() + self.fields.capacity() * size_of::<(Range<usize>, Range<usize>)>()
    }

    /// Keeps the method and the target alone if the head takes more than `limit` bytes.
    pub fn forget_fields(&mut self, limit: usize) {
        if self.capacity() > limit {
            let mut kept = Self::new();
            kept.set_method(self.method().as_bytes());
            kept.set_target(self.target());
            *self = kept;
        }
    }

    /// Sets the method, as sent.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = self.store(method);
    }

    /// Sets the request target (`:path`), as sent.
    pub fn set_target(&mut self, target: &[u8]) {
        self.target = self.store(target);
    }

    /// Adds a header field. HTTP/2's `:authority` is added as `host`.
    pub fn push_field(&mut self, name: &[u8], value: &[u8]) {
        let field = (self.store(name), self.store(value));
        self.fields.push(field);
    }

    /// The method, as sent. It is a token of RFC 9110, so ASCII.
    pub fn method(&self) -> &str {
        std::str::from_utf8(&self.buffer[self.method.clone()]).unwrap_or("")
    }

    /// The request target, as sent: path and query, not decoded.
    pub fn target(&self) -> &[u8] {
        &self.buffer[self.target.clone()]
    }

    /// All header fields in the order in which they came.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(name, value)| (&self.buffer[name.clone()], &self.buffer[value.clone()]))
    }

    /// The values of the fields called `name`, compared without regard to case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    fn store(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }
}

/// Whether a `%` of the path is not followed by two hexadecimal digits (RFC 3986 §2.1).
pub(super) fn has_bad_escape(target: &[u8]) -> bool {
    let path = target.split(|b| *b == b'?').next().unwrap_or(target);
    let escapes = path.iter().enumerate().filter(|(_, b)| **b == b'%');
    escapes.map(|(place, _)| path.get(place + 1..place + 3)).any(|digits| match digits {
        Some(digits) => !digits.iter().all(u8::is_ascii_hexdigit),
        None => true,
    })
}
