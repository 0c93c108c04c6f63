//! From the fields of a header block to a [`Head`]: the rules of RFC 9113 §8.2 and §8.3.

use super::limits::{MAX_FIELDS, MAX_HEADER_LIST, MAX_TARGET};
use crate::http::Head;
use crate::http::hpack::ENTRY_OVERHEAD;

/// What a header block is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// A request, or trailers, by the rules.
    Good,
    /// Against the rules: the stream is reset.
    Malformed,
    /// Well-formed as far as it was looked at, but answered with this status.
    Refused(u16),
}

/// Takes the fields of one block as they are decoded.
pub(super) struct Fields<'a> {
    head: &'a mut Head,
    trailers: bool,
    size: usize,
    count: usize,
    malformed: bool,
    regular: bool,
    method: bool,
    scheme: bool,
    authority: bool,
    target: Target,
    /// Value of `content-length`.
    pub length: Option<u64>,
    /// `expect: 100-continue`.
    pub expects_continue: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Missing,
    Present,
    TooLong,
}

impl<'a> Fields<'a> {
    /// For a request, whose head goes to `head`; for trailers, which are checked and dropped.
    pub fn new(head: &'a mut Head, trailers: bool) -> Self {
        head.clear();
        Self {
            head,
            trailers,
            size: 0,
            count: 0,
            malformed: false,
            regular: false,
            method: false,
            scheme: false,
            authority: false,
            target: Target::Missing,
            length: None,
            expects_continue: false,
        }
    }

    /// Takes one field. After too many nothing is looked at any more, so that a small block cannot make much work.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.size = self.size.saturating_add(name.len() + value.len() + ENTRY_OVERHEAD);
        self.count = self.count.saturating_add(1);
        if self.malformed || self.is_too_large() {
            return;
        }
        let fine = is_value(value)
            && match name {
                [b':', pseudo @ ..] => self.pseudo(pseudo, value),
                _ => self.regular(name, value),
            };
        self.malformed = !fine;
    }

    /// The verdict, after the last field.
    pub fn finish(&mut self) -> Verdict {
        if self.malformed {
            return Verdict::Malformed;
        }
        if self.is_too_large() {
            return Verdict::Refused(431);
        }
        if self.trailers {
            return Verdict::Good;
        }
        if self.head.method() == "CONNECT" {
            return self.finish_connect();
        }
        if !self.method || !self.scheme || self.target == Target::Missing {
            return Verdict::Malformed;
        }
        if self.target == Target::TooLong {
            return Verdict::Refused(414);
        }
        if !is_target(self.head.target(), self.head.method() == "OPTIONS") {
            return Verdict::Malformed;
        }
        Verdict::Good
    }

    /// RFC 9113 §8.5: only an authority, which becomes the target as in HTTP/1.1.
    fn finish_connect(&mut self) -> Verdict {
        if self.scheme || self.target != Target::Missing || !self.authority {
            return Verdict::Malformed;
        }
        let host = self.head.values("host").next().unwrap_or_default().to_vec();
        if host.len() > MAX_TARGET {
            return Verdict::Refused(414);
        }
        self.head.set_target(&host);
        Verdict::Good
    }

    fn is_too_large(&self) -> bool {
        self.size > MAX_HEADER_LIST || self.count > MAX_FIELDS
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> bool {
        if self.regular || self.trailers || value.is_empty() {
            return false;
        }
        match name {
            b"method" => {
                self.head.set_method(value);
                !std::mem::replace(&mut self.method, true) && all(value, TOKEN)
            }
            b"scheme" => !std::mem::replace(&mut self.scheme, true),
            b"authority" => {
                self.head.push_field(b"host", value);
                !std::mem::replace(&mut self.authority, true) && !value.contains(&b'@')
            }
            b"path" if value.len() > MAX_TARGET => {
                std::mem::replace(&mut self.target, Target::TooLong) == Target::Missing
            }
            b"path" => {
                self.head.set_target(value);
                std::mem::replace(&mut self.target, Target::Present) == Target::Missing
            }
            _ => false,
        }
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.regular = true;
        if name.is_empty() || !all(name, NAME) {
            return false;
        }
        match name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                return false;
            }
            b"te" if value != b"trailers" => return false,
            _ if self.trailers => return true,
            b"content-length" => return self.content_length(name, value),
            b"host" => return self.host(value),
            b"expect" => self.expects_continue = value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        self.head.push_field(name, value);
        true
    }

    /// Digits only; a second one must say the same.
    fn content_length(&mut self, name: &[u8], value: &[u8]) -> bool {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let parsed = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
        let Some(length) = parsed else { return false };
        match self.length.replace(length) {
            Some(before) => before == length,
            None => {
                self.head.push_field(name, value);
                true
            }
        }
    }

    /// One host, the same as `:authority` if both are there (RFC 9113 §8.3.1).
    fn host(&mut self, value: &[u8]) -> bool {
        if let Some(before) = self.head.values("host").next() {
            return self.authority && before.eq_ignore_ascii_case(value);
        }
        self.head.push_field(b"host", value);
        true
    }
}

/// A path in origin form with its percent escapes whole, or `*` where that is allowed.
fn is_target(target: &[u8], asterisk: bool) -> bool {
    if target == b"*" {
        return asterisk;
    }
    if target.first() != Some(&b'/') || !all(target, GRAPHIC) {
        return false;
    }
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    path.split(|&b| b == b'%')
        .skip(1)
        .all(|rest| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit()))
}

/// No control characters but tabs, no blanks at the ends (RFC 9113 §8.2.1, RFC 9110 §5.5).
fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !blank(value.first()) && !blank(value.last()) && all(value, VALUE)
}

/// A byte of a token (RFC 9110 §5.6.2).
const TOKEN: u8 = 1;
/// A byte of a token that is no upper-case letter.
const NAME: u8 = 2;
/// A byte of a field value.
const VALUE: u8 = 4;
/// A printable byte other than a space.
const GRAPHIC: u8 = 8;

/// Which of the classes above each byte belongs to.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0u8;
    loop {
        let token = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        let mut class = 0;
        if token {
            class |= TOKEN;
        }
        if token && !byte.is_ascii_uppercase() {
            class |= NAME;
        }
        if byte == b'\t' || !byte.is_ascii_control() {
            class |= VALUE;
        }
        if byte.is_ascii_graphic() {
            class |= GRAPHIC;
        }
        classes[byte as usize] = class;
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

/// Whether all `bytes` are of `class`.
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |so_far, &byte| so_far & CLASSES[usize::from(byte)]) != 0
}
