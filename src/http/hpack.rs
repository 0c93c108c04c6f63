//! HPACK (RFC 7541): a decoder with a dynamic table of the default size, and an encoder that uses the static table only.

use std::collections::VecDeque;

/// Size of the dynamic table, as counted by RFC 7541 §4.1. It is the default, so the client may use it at once.
const TABLE_SIZE: usize = 4096;

/// What an entry costs beside its name and value (§4.1).
const ENTRY_OVERHEAD: usize = 32;

/// The block is not HPACK; the connection cannot go on (§2.2 of RFC 9113: COMPRESSION_ERROR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// Decodes the header blocks of one connection, in their order.
#[derive(Default)]
pub struct Decoder {
    entries: VecDeque<Entry>,
    size: usize,
    /// What the client has set the table's size to; `None` is the default.
    limit: Option<usize>,
}

/// Name and value in one piece of memory.
struct Entry {
    text: Box<[u8]>,
    name: usize,
}

impl Entry {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self { text: [name, value].concat().into(), name: name.len() }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.text.split_at(self.name)
    }

    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

impl Decoder {
    /// A decoder for a new connection. It allocates nothing before the client uses the dynamic table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes a whole block and calls `field` for each name and value, in order.
    pub fn decode(&mut self, mut block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), Malformed> {
        let (mut name, mut value) = (Vec::new(), Vec::new());
        let mut may_resize = true;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if !may_resize || size > TABLE_SIZE {
                    return Err(Malformed);
                }
                self.limit = Some(size);
                self.evict(0);
                continue;
            }
            may_resize = false;
            if first & 0x80 != 0 {
                let (name, value) = self.get(integer(&mut block, 7)?)?;
                field(name, value);
                continue;
            }
            let is_indexed = first & 0xc0 == 0x40;
            let index = integer(&mut block, if is_indexed { 6 } else { 4 })?;
            match index {
                0 => string(&mut block, &mut name)?,
                index => {
                    name.clear();
                    name.extend_from_slice(self.get(index)?.0);
                }
            }
            string(&mut block, &mut value)?;
            field(&name, &value);
            if is_indexed {
                self.insert(&name, &value);
            }
        }
        Ok(())
    }

    /// The entry at an index, which counts from 1: first the static table, then the dynamic one from its newest entry.
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Malformed> {
        let index = index.checked_sub(1).ok_or(Malformed)?;
        match STATIC.get(index) {
            Some((name, value)) => Ok((name.as_bytes(), value.as_bytes())),
            None => self.entries.get(index - STATIC.len()).map(Entry::parts).ok_or(Malformed),
        }
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry::new(name, value);
        self.evict(entry.size());
        // An entry that is larger than the table empties it and is not added (§4.4).
        if entry.size() <= self.limit() {
            self.size += entry.size();
            self.entries.push_front(entry);
        }
    }

    /// Drops the oldest entries until `room` more bytes fit.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.limit() {
            let Some(entry) = self.entries.pop_back() else { return };
            self.size -= entry.size();
        }
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(TABLE_SIZE)
    }
}

/// An integer with a prefix of `bits` bits (§5.1). More than 2^28 is refused.
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let (&first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mask = (1usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, after) = rest.split_first().ok_or(Malformed)?;
            rest = after;
            if shift == 28 {
                return Err(Malformed);
            }
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// Reads a string literal (§5.2) into `text`.
fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Malformed> {
    text.clear();
    let is_huffman = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (coded, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if is_huffman {
        return huffman(coded, text);
    }
    text.extend_from_slice(coded);
    Ok(())
}

/// Decodes Huffman-coded text (§5.2, Appendix B).
fn huffman(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut bytes = text.iter();
    // The next bits, left-aligned, and how many of them there are.
    let (mut window, mut have) = (0u64, 0u32);
    loop {
        while have <= 56 {
            let Some(&byte) = bytes.next() else { break };
            window |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let code = (window >> 32) as u32;
        let Some(length) = (5..=30).find(|length| code < CODES.limit[*length as usize]) else {
            // All ones: padding, if it is shorter than a byte.
            return if have < 8 && is_padding(window, have) { Ok(()) } else { Err(Malformed) };
        };
        if length > have {
            return if have < 8 && is_padding(window, have) { Ok(()) } else { Err(Malformed) };
        }
        let place = CODES.offset[length as usize] + ((code - CODES.first[length as usize]) >> (32 - length));
        match CODES.symbols.get(place as usize) {
            Some(symbol @ 0..=255) => out.push(*symbol as u8),
            // The end of the string must not be coded (§5.2).
            _ => return Err(Malformed),
        }
        window <<= length;
        have -= length;
    }
}

/// Whether the first `have` bits are ones.
fn is_padding(window: u64, have: u32) -> bool {
    have == 0 || window >> (64 - have) == (1 << have) - 1
}

/// The Huffman code, which is canonical: codes of one length are consecutive, in the order of the symbols.
struct Codes {
    /// By length: the first code, left-aligned.
    first: [u32; 31],
    /// By length: the end of its codes, left-aligned. Nothing reaches it for the greatest length but padding.
    limit: [u32; 31],
    /// By length: where its symbols begin.
    offset: [u32; 31],
    /// All symbols, by length and then by value; 256 is the end of the string.
    symbols: [u16; 257],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes = Codes { first: [0; 31], limit: [0; 31], offset: [0; 31], symbols: [0; 257] };
    let (mut code, mut count, mut length) = (0u64, 0, 1);
    while length <= 30 {
        codes.first[length] = code as u32;
        codes.offset[length] = count as u32;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[count] = symbol as u16;
                count += 1;
                code += 1 << (32 - length);
            }
            symbol += 1;
        }
        // The codes end at 2^32, which is one more than the last value.
        codes.limit[length] = if code > u32::MAX as u64 { u32::MAX } else { code as u32 };
        length += 1;
    }
    codes
}

/// Lengths of the codes in bits (RFC 7541 Appendix B); the last one is the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The static table (RFC 7541 Appendix A); index 1 comes first.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// Appends the `:status` field.
pub fn push_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => return push_named(8, &decimal(status.into()), out),
    };
    out.push(0x80 | index);
}

/// Appends a field that the client need not remember (§6.2.2). The name is in lower case.
pub fn push_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let known = STATIC.iter().position(|(known, _)| *known == name);
    match known {
        Some(place) => push_named(place + 1, value, out),
        None => {
            out.push(0);
            push_string(name.as_bytes(), out);
            push_string(value, out);
        }
    }
}

/// Appends the `content-length` field.
pub fn push_length(length: usize, out: &mut Vec<u8>) {
    push_named(28, &decimal(length), out);
}

fn push_named(index: usize, value: &[u8], out: &mut Vec<u8>) {
    push_integer(index, 4, 0, out);
    push_string(value, out);
}

fn push_string(text: &[u8], out: &mut Vec<u8>) {
    push_integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

fn push_integer(value: usize, bits: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = (1 << bits) - 1;
    if value < mask {
        return out.push(flags | value as u8);
    }
    out.push(flags | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn decimal(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::encode::decode_hex;
    use proptest::prelude::*;

    fn decode(decoder: &mut Decoder, hex: &str) -> Result<String, Malformed> {
        let mut text = String::new();
        decoder.decode(&decode_hex(&hex.replace(' ', "")).unwrap(), |name, value| {
            text += &format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        })?;
        Ok(text)
    }

    /// RFC 7541 C.3 and C.4: three requests on one connection, without and with Huffman coding.
    #[test]
    fn the_examples_of_requests_are_decoded() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let huffman = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        let fields = [
            ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
            ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
            ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n",
        ];
        for blocks in [plain, huffman] {
            let mut decoder = Decoder::new();
            for (block, fields) in blocks.iter().zip(fields) {
                assert_eq!(decode(&mut decoder, block).unwrap(), fields);
            }
            assert_eq!((decoder.size, decoder.entries.len()), (164, 3));
        }
    }

    /// RFC 7541 C.6: responses with Huffman coding and a table of 256 bytes, from which entries are evicted.
    #[test]
    fn the_examples_with_eviction_are_decoded() {
        let mut decoder = Decoder { limit: Some(256), ..Decoder::new() };
        let first = decode(&mut decoder, "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3").unwrap();
        assert_eq!(
            first,
            ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\nlocation: https://www.example.com\n"
        );
        let second = decode(&mut decoder, "4883 640e ffc1 c0bf").unwrap();
        assert!(
            second.starts_with(":status: 307\n") && second.ends_with("location: https://www.example.com\n")
        );
        let third = decode(&mut decoder, "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07").unwrap();
        assert!(third.contains("set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n"));
        assert_eq!((decoder.size, decoder.entries.len()), (215, 3));
    }

    #[test]
    fn what_is_not_hpack_is_refused() {
        for (hex, why) in [
            ("80", "index 0"),
            ("be", "an index beyond the tables"),
            ("ff ff ff ff ff ff 0f", "an integer that overflows"),
            ("00 01 61", "no value"),
            ("00 05 61", "a name that is cut off"),
            ("3f e2 1f", "a table larger than allowed"),
            ("82 20", "a resize after a field"),
            ("00 81 ff 00", "padding of a whole byte"),
            ("00 81 00 00", "padding of zeros"),
            ("00 84 ff ff ff ff 00", "the end of the string, coded"),
        ] {
            assert_eq!(decode(&mut Decoder::new(), hex), Err(Malformed), "{why}");
        }
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::new();
        decoder.insert(b"a", b"b");
        decoder.insert(b"a", &[b'x'; 5000]);
        assert_eq!((decoder.size, decoder.entries.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(status in 100u16..600, value in proptest::collection::vec(any::<u8>(), 0..300), length: u32) {
            let mut block = Vec::new();
            push_status(status, &mut block);
            push_length(length as usize, &mut block);
            push_field("content-type", &value, &mut block);
            push_field("x-other", &value, &mut block);
            let mut fields = Vec::new();
            Decoder::new().decode(&block, |name, value| fields.push((name.to_vec(), value.to_vec()))).unwrap();
            prop_assert_eq!(&fields[0].1, &decimal(status.into()));
            prop_assert_eq!(&fields[1].1, &decimal(length as usize));
            prop_assert_eq!(&fields[2], &(b"content-type".to_vec(), value.clone()));
            prop_assert_eq!(&fields[3], &(b"x-other".to_vec(), value));
        }

        #[test]
        fn any_blocks_are_decoded_or_refused_and_the_table_stays_small(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..20),
        ) {
            let mut decoder = Decoder::new();
            for block in blocks {
                if decoder.decode(&block, |_, _| ()).is_err() {
                    break;
                }
                prop_assert!(decoder.size <= TABLE_SIZE);
                prop_assert_eq!(decoder.size, decoder.entries.iter().map(Entry::size).sum::<usize>());
            }
        }
    }
}
