//! The head of an HTTP/1.1 request: httparse splits it into tokens, the law is here (RFC 9112, stricter where it allows
//! a choice, because what two programs read differently is how requests are smuggled).

use crate::http::{Head, head::has_bad_escape};

/// Most bytes of a head, request line included.
pub const MAX_HEAD: usize = 16 << 10;

/// Most header fields.
const MAX_FIELDS: usize = 64;

/// Longest request target.
const MAX_TARGET: usize = 8 << 10;

/// How the body is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What the head says about the connection and the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// How the body is delimited.
    pub framing: Framing,
    /// The connection stays open after the reply.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// HTTP/1.0.
    pub is_old: bool,
}

/// Why a head is refused: the status and the text after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// What follows the standard reason in the body; empty for none.
    pub detail: &'static str,
}

const fn bad(detail: &'static str) -> Refusal {
    Refusal { status: 400, detail }
}

/// The head is larger than [`MAX_HEAD`] (RFC 6585 §5).
pub const TOO_LARGE: Refusal = Refusal { status: 431, detail: "" };

/// Where the head ends in `input`: behind its empty line. An error as soon as a line end is not CR LF, or a NUL comes:
/// a bare LF or CR is read differently by different programs (RFC 9112 §2.2).
pub fn find_end(input: &[u8], searched: usize) -> Result<Option<usize>, Refusal> {
    // The last three bytes that were searched may be the beginning of the end.
    let start = searched.saturating_sub(3);
    let mut place = start;
    while let Some(found) = input[place..].iter().position(|b| matches!(b, b'\r' | b'\n' | 0)) {
        place += found;
        match (input[place], input.get(place + 1)) {
            (b'\r', Some(b'\n')) => {}
            (b'\r', None) => break,
            (b'\n', _) if place > 0 && input[place - 1] == b'\r' => {}
            _ => return Err(bad("")),
        }
        if input[place..].starts_with(b"\r\n\r\n") {
            return Ok(Some(place + 4));
        }
        place += 1;
    }
    Ok(None)
}

/// Reads a whole head into `head`.
pub fn parse(input: &[u8], head: &mut Head) -> Result<Facts, Refusal> {
    head.clear();
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(input) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(httparse::Error::HeaderName) => return Err(bad("invalid header name")),
        Err(httparse::Error::Version) => return Err(version(input)),
        _ => return Err(bad("")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(bad(""));
    };
    head.set_method(method.as_bytes());
    head.set_target(origin_form(method, target.as_bytes())?);
    for field in request.headers.iter() {
        head.push_field(field.name.as_bytes(), field.value);
    }
    facts(head, minor == 0)
}

/// httparse knows 1.0 and 1.1 only; another version is 505 (RFC 9110 §15.6.6).
fn version(input: &[u8]) -> Refusal {
    let line = input.split(|b| *b == b'\r').next().unwrap_or(&[]);
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    match words[..] {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal { status: 505, detail: "" }
        }
        [_, _, _] => bad("malformed HTTP version"),
        _ => bad(""),
    }
}

/// The path and query of a target: origin form, or absolute form without its scheme and host (RFC 9112 §3.2). `*` is
/// for OPTIONS only.
fn origin_form<'a>(method: &str, target: &'a [u8]) -> Result<&'a [u8], Refusal> {
    if target.len() > MAX_TARGET {
        return Err(TOO_LARGE);
    }
    if !target.iter().all(|b| b.is_ascii_graphic()) {
        return Err(bad(""));
    }
    if target == b"*" {
        return if method == "OPTIONS" { Ok(target) } else { Err(bad("")) };
    }
    let origin = if target.starts_with(b"/") {
        target
    } else {
        let lower = target.get(..8).map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
        let skipped = if lower.starts_with(b"https://") {
            8
        } else if lower.starts_with(b"http://") {
            7
        } else {
            return Err(bad(""));
        };
        match target[skipped..].iter().position(|b| *b == b'/') {
            Some(slash) => &target[skipped + slash..],
            None => b"/",
        }
    };
    if has_bad_escape(origin) { Err(bad("")) } else { Ok(origin) }
}

fn facts(head: &Head, is_old: bool) -> Result<Facts, Refusal> {
    let mut hosts = head.values("host");
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(bad("too many Host headers")),
        (None, _) if !is_old => return Err(bad("missing required Host header")),
        _ => {}
    }
    let framing = framing(head, is_old)?;
    let mut keep_alive = !is_old;
    for option in head.values("connection").flat_map(|value| value.split(|b| *b == b',')) {
        let option = option.trim_ascii();
        if option.eq_ignore_ascii_case(b"close") {
            return finish(head, framing, false, is_old);
        }
        keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    finish(head, framing, keep_alive, is_old)
}

fn finish(head: &Head, framing: Framing, keep_alive: bool, is_old: bool) -> Result<Facts, Refusal> {
    let mut expects_continue = false;
    for expected in head.values("expect") {
        if !expected.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal { status: 417, detail: "" });
        }
        // An HTTP/1.0 client does not know the interim reply (RFC 9110 §10.1.1).
        expects_continue = !is_old;
    }
    Ok(Facts { framing, keep_alive, expects_continue, is_old })
}

fn framing(head: &Head, is_old: bool) -> Result<Framing, Refusal> {
    let mut lengths = head.values("content-length");
    let length = lengths.next();
    // Two lengths, even equal ones, are never sent by a sane client (RFC 9112 §6.3 allows to refuse them).
    if lengths.next().is_some() {
        return Err(bad("too many Content-Length headers"));
    }
    let mut codings = head.values("transfer-encoding");
    if let Some(coding) = codings.next() {
        if is_old || length.is_some() || codings.next().is_some() {
            return Err(bad(""));
        }
        return match coding.eq_ignore_ascii_case(b"chunked") {
            true => Ok(Framing::Chunked),
            false => Err(Refusal { status: 501, detail: "Unsupported transfer encoding" }),
        };
    }
    let Some(digits) = length else { return Ok(Framing::Length(0)) };
    if digits.is_empty() || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad("bad Content-Length"));
    }
    let value = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    value.map(Framing::Length).ok_or(bad("bad Content-Length"))
}
