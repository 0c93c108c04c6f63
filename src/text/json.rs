//! JSON text as Go writes it (`server-api` §3.1), and JSON objects as Go reads them (§3.3): member names without regard
//! to case, the last of equal members counts, unknown members are skipped, `null` is like an absent member.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::{crypto::SecretBytes, text::encode::base64_into};

/// What may follow the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Anything; it is not looked at.
    Ignored,
    /// White space only.
    Refused,
}

/// One member's value. It may be a secret, so it is not printed.
#[derive(Default)]
pub enum Member<'a> {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// Text without escapes: a part of the input.
    Borrowed(&'a str),
    /// Text with escapes, unescaped; wiped on drop.
    Owned(Zeroizing<String>),
    /// An array of numbers from 0 to 255.
    Bytes(SecretBytes),
    /// Anything else.
    Wrong,
}

impl std::fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Borrowed(_) | Self::Owned(_) => "Text(..)",
            Self::Bytes(_) => "Bytes(..)",
            Self::Wrong => "Wrong",
        })
    }
}

impl Member<'_> {
    /// The text; empty if absent, `None` if it is no text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Absent => Some(""),
            Self::Borrowed(text) => Some(text),
            Self::Owned(text) => Some(text),
            Self::Bytes(_) | Self::Wrong => None,
        }
    }

    /// Bytes given as base64 text or as an array; empty if absent, `None` if it is neither.
    pub fn bytes(self) -> Option<SecretBytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            other => super::encode::decode_base64(other.text()?.as_bytes()),
        }
    }
}

/// Reads one object and returns the members called `names`. `null` is an empty object. The error is the parser's text,
/// without any of the input.
pub fn read_object<'a, const N: usize>(
    input: &'a [u8],
    names: [&str; N],
    rest: Rest,
) -> Result<[Member<'a>; N], String> {
    let mut deserializer = serde_json::Deserializer::from_slice(input);
    let members = deserializer.deserialize_any(Members(names)).map_err(|error| describe(&error))?;
    if rest == Rest::Refused {
        deserializer.end().map_err(|error| describe(&error))?;
    }
    Ok(members)
}

/// serde_json's messages for wrong types quote the value, which may be a secret; only the place is told.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input",
        serde_json::error::Category::Data => "JSON value of a wrong type",
        _ => "invalid JSON",
    };
    format!("{kind} at line {} column {}", error.line(), error.column())
}

struct Members<'n, const N: usize>([&'n str; N]);

impl<'a, const N: usize> Visitor<'a> for Members<'_, N> {
    type Value = [Member<'a>; N];

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(std::array::from_fn(|_| Member::Absent))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = std::array::from_fn(|_| Member::Absent);
        while let Some(place) = map.next_key_seed(NameIn(&self.0))? {
            match place {
                Some(place) => members[place] = map.next_value_seed(MemberSeed)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// Which of the names a member's name is.
struct NameIn<'n>(&'n [&'n str]);

impl<'a> DeserializeSeed<'a> for NameIn<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIn<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| name.eq_ignore_ascii_case(text)))
    }
}

struct MemberSeed;

impl<'a> DeserializeSeed<'a> for MemberSeed {
    type Value = Member<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for MemberSeed {
    type Value = Member<'a>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Member::Absent)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Member::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Member::Owned(Zeroizing::new(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Member::Wrong)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Member::Wrong)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Member::Wrong)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Member::Wrong)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = SecretBytes::new();
        while let Some(byte) = seq.next_element::<u8>()? {
            bytes.extend(&[byte]);
        }
        Ok(Member::Bytes(bytes))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Member::Wrong)
    }
}

/// Writes one JSON object member by member, into memory that is wiped.
pub struct Object(SecretBytes);

impl Object {
    /// An object with room for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let mut text = SecretBytes::with_capacity(capacity + 8);
        text.extend(b"{");
        Self(text)
    }

    /// A member with a text.
    pub fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        push_string(value.as_bytes(), &mut self.0);
        self
    }

    /// A member with bytes as base64.
    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.0.extend(b"\"");
        base64_into(value, &mut self.0);
        self.0.extend(b"\"");
        self
    }

    /// A member with JSON that is finished already: a number, a truth value, an object.
    pub fn raw(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.0.extend(value);
        self
    }

    /// A member with a list of texts.
    pub fn list<'a>(mut self, name: &str, values: impl Iterator<Item = &'a str>) -> Self {
        self.name(name);
        self.0.extend(b"[");
        for (place, value) in values.enumerate() {
            if place > 0 {
                self.0.extend(b",");
            }
            push_string(value.as_bytes(), &mut self.0);
        }
        self.0.extend(b"]");
        self
    }

    /// The closed object.
    pub fn end(mut self) -> SecretBytes {
        self.0.extend(b"}");
        self.0
    }

    /// The closed object and a line feed.
    pub fn line(self) -> SecretBytes {
        let mut text = self.end();
        text.extend(b"\n");
        text
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.extend(b",");
        }
        push_string(name.as_bytes(), &mut self.0);
        self.0.extend(b":");
    }
}

/// Appends `text` as a quoted JSON string. Bytes that are not UTF-8 become U+FFFD, one for each.
pub fn push_string(text: &[u8], out: &mut SecretBytes) {
    out.extend(b"\"");
    for piece in text.utf8_chunks() {
        let mut rest = piece.valid();
        // What needs no escape, mostly all of it, goes in one piece.
        while let Some((plain, escape)) = rest.find(needs_escape).map(|at| rest.split_at(at)) {
            out.extend(plain.as_bytes());
            let mut after = escape.chars();
            after.by_ref().take(1).for_each(|c| push_escape(c, out));
            rest = after.as_str();
        }
        out.extend(rest.as_bytes());
        piece.invalid().iter().for_each(|_| out.extend(b"\\ufffd"));
    }
    out.extend(b"\"");
}

fn needs_escape(c: char) -> bool {
    matches!(c, '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}')
}

fn push_escape(c: char, out: &mut SecretBytes) {
    let short = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        _ => return out.extend(format!("\\u{:04x}", c as u32).as_bytes()),
    };
    out.extend(short.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn string(text: &[u8]) -> String {
        let mut out = SecretBytes::new();
        push_string(text, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(
            string(b"a<b>&'\"\\\n\r\t\x08\x0c\x01\x7f"),
            "\"a\\u003cb\\u003e\\u0026'\\\"\\\\\\n\\r\\t\\b\\f\\u0001\x7f\""
        );
        assert_eq!(string("é\u{2028}☰".as_bytes()), "\"é\\u2028☰\"");
        assert_eq!(string(b"\xff\xfe"), "\"\\ufffd\\ufffd\"");
    }

    #[test]
    fn objects_are_read_as_go_reads_them() {
        let read = |text: &'static str| read_object(text.as_bytes(), ["key", "other"], Rest::Ignored);
        let first = |text| {
            read(text)
                .unwrap()
                .map(|member| member.bytes().map(|bytes| bytes.to_vec()))
                .into_iter()
                .next()
                .unwrap()
        };
        assert_eq!(first("{\"KEY\":\"SGVsbG8=\"} trailing"), Some(b"Hello".to_vec()));
        assert_eq!(
            first("{\"key\":\"AAAA\",\"Key\":\"SGVsbG8=\"}"),
            Some(b"Hello".to_vec()),
            "the last counts"
        );
        assert_eq!(first("{\"key\":\"SGVs\\nbG8=\"}"), Some(b"Hello".to_vec()));
        assert_eq!(first("{\"key\":[1,2,255]}"), Some(vec![1, 2, 255]));
        assert_eq!(first("{\"x\":{\"key\":[{}]}}"), Some(vec![]), "unknown members are skipped");
        assert_eq!(first("null"), Some(vec![]));
        assert_eq!(first(" {\"key\":null}"), Some(vec![]));
        assert_eq!(first("{\"key\":5}"), None);
        assert_eq!(first("{\"key\":{}}"), None);
        for text in ["", "[]", "\"x\"", "123", "{", "{\"key\":[256]}", "\u{feff}{}", "{'key':1}"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read_object(b"{} \n", ["key"], Rest::Refused).is_ok());
        assert!(read_object(b"{} x", ["key"], Rest::Refused).is_err());
    }

    #[test]
    fn an_error_shows_nothing_of_the_input() {
        let error = read_object(b"\"secret\"", ["key"], Rest::Ignored).unwrap_err();
        assert!(!error.contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read_object(&bytes, ["key"], Rest::Ignored);
        }

        #[test]
        fn what_is_written_can_be_read(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&string(text.as_bytes())).unwrap(), text);
        }
    }
}
