//! The static table (RFC 7541 Appendix A) and the dynamic one.

use std::collections::VecDeque;

use super::ENTRY_OVERHEAD;

/// The static table; its first entry has the index 1.
pub(super) static STATIC: [(&[u8], &[u8]); 61] = [
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

/// Fields that were seen before on this connection, the newest first. Takes no memory until the first one comes.
#[derive(Default)]
pub(super) struct Dynamic {
    /// The entries' bytes, oldest first, each name before its value; what lies before the oldest entry is dead.
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Sum of the entries' sizes as RFC 7541 §4.1 counts them.
    pub size: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    name: u16,
    value: u16,
}

impl Entry {
    fn size(self) -> usize {
        usize::from(self.name) + usize::from(self.value) + ENTRY_OVERHEAD
    }
}

impl Dynamic {
    /// Entry number `nth`, the newest being 0.
    pub fn get(&self, nth: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(self.entries.len().checked_sub(nth)?.checked_sub(1)?)?;
        let rest = self.bytes.get(entry.start as usize..)?;
        let (name, rest) = rest.split_at_checked(usize::from(entry.name))?;
        Some((name, rest.get(..usize::from(entry.value))?))
    }

    /// Adds an entry and drops old ones until the table is at most `limit` big. One that does not fit at all empties
    /// the table (RFC 7541 §4.4).
    pub fn insert(&mut self, name: &[u8], value: &[u8], limit: usize) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.shrink(limit.saturating_sub(size));
        let (Ok(name_len), Ok(value_len)) = (u16::try_from(name.len()), u16::try_from(value.len())) else {
            return;
        };
        if size > limit {
            return;
        }
        self.close_gap();
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_back(Entry { start, name: name_len, value: value_len });
        self.size += size;
    }

    /// Drops the oldest entries until the table is at most `limit` big.
    pub fn shrink(&mut self, limit: usize) {
        while self.size > limit {
            let Some(entry) = self.entries.pop_front() else { return };
            self.size -= entry.size();
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Gives back memory that holds nothing.
    pub fn release(&mut self) {
        self.close_gap();
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    /// Bytes of memory in use.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Moves the entries to the front once half of the bytes are dead.
    fn close_gap(&mut self) {
        let dead = self.entries.front().map_or(self.bytes.len(), |entry| entry.start as usize);
        if dead == 0 || dead * 2 < self.bytes.len() {
            return;
        }
        self.bytes.drain(..dead);
        for entry in &mut self.entries {
            entry.start -= dead as u32;
        }
    }
}
