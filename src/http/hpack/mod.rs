//! HPACK (RFC 7541): a decoder of header blocks with its tables, and what a sender needs that indexes nothing.
//! Knows fields as pairs of bytes; nothing of frames or of what a name means.

#![forbid(unsafe_code)]

mod huffman;
mod table;
#[cfg(test)]
mod tests;

use table::{Dynamic, STATIC};

/// The size of the dynamic table that a peer may use: the default of SETTINGS_HEADER_TABLE_SIZE, which is not changed.
pub const TABLE_LIMIT: usize = 4096;
/// What RFC 7541 §4.1 adds to the size of each entry.
pub const ENTRY_OVERHEAD: usize = 32;
/// Capacity above which the memory for literal fields is given back when a connection rests.
const SCRATCH_KEPT: usize = 512;

/// The block breaks a rule of RFC 7541; the tables of both sides may differ now, so the connection must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompressionError;

/// Decodes the header blocks of one connection, in their order.
pub struct Decoder {
    table: Dynamic,
    /// How big the table may be; the peer moves it below [`TABLE_LIMIT`].
    limit: usize,
    /// Name and value of the literal field at hand.
    scratch: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: Dynamic::default(), limit: TABLE_LIMIT, scratch: Vec::new() }
    }
}

impl Decoder {
    /// A decoder with an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one complete block and hands each field to `sink` as name and value.
    ///
    /// # Errors
    /// [`CompressionError`] if the block is malformed; some fields may have been handed out before.
    pub fn decode(
        &mut self,
        block: &[u8],
        mut sink: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), CompressionError> {
        let mut rest = block;
        let mut at_start = true;
        while let Some(&first) = rest.first() {
            if first & 0xe0 == 0x20 {
                self.resize(&mut rest, at_start)?;
                continue;
            }
            at_start = false;
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value) = self.field(index)?;
                sink(name, value);
                continue;
            }
            let indexed = first & 0x40 != 0;
            let name_len = self.literal(&mut rest, if indexed { 6 } else { 4 })?;
            let (name, value) = self.scratch.split_at_checked(name_len).ok_or(CompressionError)?;
            sink(name, value);
            if indexed {
                self.table.insert(name, value, self.limit);
            }
        }
        Ok(())
    }

    /// Gives back memory that is not needed between requests.
    pub fn release(&mut self) {
        self.table.release();
        self.release_scratch();
    }

    /// Gives back memory that is not needed between blocks.
    pub fn release_scratch(&mut self) {
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
    }

    /// Bytes of memory in use beside the structure itself.
    pub fn capacity(&self) -> usize {
        self.table.capacity() + self.scratch.capacity()
    }

    /// A change of the table's size, allowed only before the first field (RFC 7541 §4.2).
    fn resize(&mut self, rest: &mut &[u8], at_start: bool) -> Result<(), CompressionError> {
        let limit = integer(rest, 5)?;
        if !at_start || limit > TABLE_LIMIT {
            return Err(CompressionError);
        }
        self.limit = limit;
        self.table.shrink(limit);
        Ok(())
    }

    fn field(&self, index: usize) -> Result<(&[u8], &[u8]), CompressionError> {
        let nth = index.checked_sub(1).ok_or(CompressionError)?;
        match STATIC.get(nth) {
            Some(&field) => Ok(field),
            None => self.table.get(nth - STATIC.len()).ok_or(CompressionError),
        }
    }

    /// Reads a literal field into the scratch memory; returns the length of its name. The name is copied even where it
    /// comes from the table, because storing the field may drop the entry it came from.
    fn literal(&mut self, rest: &mut &[u8], prefix: u32) -> Result<usize, CompressionError> {
        let index = integer(rest, prefix)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let read = self.literal_into(rest, index, &mut scratch);
        self.scratch = scratch;
        read
    }

    fn literal_into(
        &self,
        rest: &mut &[u8],
        index: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, CompressionError> {
        match index {
            0 => string(rest, scratch)?,
            _ => scratch.extend_from_slice(self.field(index)?.0),
        }
        let name_len = scratch.len();
        string(rest, scratch)?;
        Ok(name_len)
    }
}

/// Reads an integer with a prefix of `prefix` bits (RFC 7541 §5.1). Everything that a block may hold is far below
/// 2^28, so more than four further bytes are refused.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, CompressionError> {
    let (&first, mut tail) = rest.split_first().ok_or(CompressionError)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        *rest = tail;
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let (&byte, after) = tail.split_first().ok_or(CompressionError)?;
        tail = after;
        value += (usize::from(byte) & 0x7f) << shift;
        if byte & 0x80 == 0 {
            *rest = tail;
            return Ok(value);
        }
    }
    Err(CompressionError)
}

/// Reads a string (RFC 7541 §5.2) and appends it to `out`.
fn string(rest: &mut &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(len).ok_or(CompressionError)?;
    *rest = tail;
    if coded {
        return huffman::decode(text, out).ok_or(CompressionError);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Appends an integer with a prefix of `prefix` bits, `flags` being the bits above the prefix.
fn put_integer(out: &mut Vec<u8>, prefix: u32, flags: u8, value: usize) {
    let mask = (1usize << prefix) - 1;
    if value < mask {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Appends a literal field that is not to be indexed and whose name is entry `name_index` of the static table.
pub fn put_named(out: &mut Vec<u8>, name_index: usize, value: &[u8]) {
    put_integer(out, 4, 0, name_index);
    put_integer(out, 7, 0, value.len());
    out.extend_from_slice(value);
}

/// Appends a literal field that is not to be indexed.
pub fn put_literal(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    put_integer(out, 7, 0, name.len());
    out.extend_from_slice(name);
    put_integer(out, 7, 0, value.len());
    out.extend_from_slice(value);
}

/// Appends the field that is entry `index` of the static table.
pub fn put_indexed(out: &mut Vec<u8>, index: usize) {
    put_integer(out, 7, 0x80, index);
}

/// Appends the announcement that this side's table has `size` bytes from now on (RFC 7541 §6.3).
pub fn put_table_size(out: &mut Vec<u8>, size: usize) {
    put_integer(out, 5, 0x20, size);
}
