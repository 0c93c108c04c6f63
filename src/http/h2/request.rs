//! The fields of a request, checked as they are decoded (RFC 9113 §8.2, §8.3).

use crate::http::{Head, head::has_bad_escape};

/// Most bytes of a field list, counted with 32 for each field (§6.5.2).
pub const MAX_LIST: usize = 16 << 10;

/// Most fields.
const MAX_FIELDS: usize = 64;

/// Reads the fields of one block into a [`Head`].
#[derive(Default)]
pub struct Fields {
    method: bool,
    scheme: bool,
    path: bool,
    authority: bool,
    seen_regular: bool,
    /// Breaks a rule of the protocol.
    pub is_malformed: bool,
    /// More or longer fields than are read.
    pub is_too_large: bool,
    /// Value of `content-length`.
    pub length: Option<u64>,
    size: usize,
    count: usize,
}

impl Fields {
    /// Takes one field.
    pub fn push(&mut self, name: &[u8], value: &[u8], head: &mut Head) {
        self.size = self.size.saturating_add(name.len() + value.len() + 32);
        self.count += 1;
        if self.size > MAX_LIST || self.count > MAX_FIELDS {
            self.is_too_large = true;
            return;
        }
        if self.is_malformed {
            return;
        }
        let is_fine = match name {
            [b':', ..] => self.push_pseudo(name, value, head),
            name => self.push_regular(name, value, head),
        };
        self.is_malformed |= !is_fine;
    }

    /// Whether these can be the fields of a request.
    pub fn is_request(&self) -> bool {
        !self.is_malformed && self.method && self.scheme && self.path
    }

    /// Whether these can be trailer fields: no pseudo-header fields (§8.1).
    pub fn is_trailer(&self) -> bool {
        !self.is_malformed && !self.method && !self.scheme && !self.path && !self.authority
    }

    fn push_pseudo(&mut self, name: &[u8], value: &[u8], head: &mut Head) -> bool {
        let seen = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":path" => &mut self.path,
            b":authority" => &mut self.authority,
            _ => return false,
        };
        // Each at most once, and all of them before the others.
        if std::mem::replace(seen, true) || self.seen_regular || !is_value(value) {
            return false;
        }
        match name {
            b":method" => {
                head.set_method(value);
                !value.is_empty() && value.iter().all(|b| is_token(*b))
            }
            b":path" => {
                head.set_target(value);
                let is_path = value.starts_with(b"/") || value == b"*";
                is_path && value.iter().all(u8::is_ascii_graphic) && !has_bad_escape(value)
            }
            b":authority" => {
                head.push_field(b"host", value);
                true
            }
            _ => true,
        }
    }

    fn push_regular(&mut self, name: &[u8], value: &[u8], head: &mut Head) -> bool {
        self.seen_regular = true;
        let is_name = !name.is_empty() && name.iter().all(|b| is_token(*b) && !b.is_ascii_uppercase());
        if !is_name || !is_value(value) {
            return false;
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return false;
            }
            b"te" => return value == b"trailers",
            b"content-length" => {
                let digits = std::str::from_utf8(value).ok().filter(|_| value.iter().all(u8::is_ascii_digit));
                let length = digits.and_then(|digits| digits.parse().ok());
                if length.is_none() || self.length.is_some() {
                    return false;
                }
                self.length = length;
            }
            _ => {}
        }
        head.push_field(name, value);
        true
    }
}

/// Characters of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// No NUL, CR or LF, and no white space at the ends (§8.2.1).
fn is_value(value: &[u8]) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
        && !is_blank(value.first())
        && !is_blank(value.last())
}
