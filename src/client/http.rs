//! One request and its reply over a byte stream (RFC 9112), from the client's side. Knows nothing of sockets.

use std::io::{self, Read, Write};

use crate::crypto::SecretBytes;

/// Largest head of a reply in bytes.
const MAX_HEAD: usize = 16 << 10;

/// Most header fields of a reply.
const MAX_FIELDS: usize = 64;

/// What is read at once, in bytes.
const PIECE: usize = 16 << 10;

/// A request. The head is written by [`send`].
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'static str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// What is sent with it; JSON.
    pub body: Option<&'a [u8]>,
    /// Whether doing it twice is the same as doing it once.
    pub is_repeatable: bool,
}

/// A reply whose body is still to be read, as [`Read`].
#[derive(Debug)]
pub struct Reply<S> {
    /// The status code.
    pub status: u16,
    stream: S,
    /// Bytes that were read and not yet taken.
    pending: SecretBytes,
    at: usize,
    rest: Rest,
}

/// How much of the body is to come (RFC 9112, section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// So many bytes.
    Length(u64),
    /// So many bytes of the current chunk; `None` before the first.
    Chunk(Option<u64>),
    /// All until the connection ends.
    Open,
}

/// Sends a request to the server called `host`, the only one on this connection.
pub fn send(stream: &mut impl Write, host: &str, request: &Request<'_>) -> io::Result<()> {
    let mut message = SecretBytes::with_capacity(512 + request.body.map_or(0, <[u8]>::len));
    let Request { method, target, body, .. } = request;
    message.extend(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
    message.extend(b"Accept: application/json, text/plain\r\nUser-Agent: kes\r\nConnection: close\r\n");
    if let Some(body) = body {
        message.extend(b"Content-Type: application/json\r\n");
        message.extend(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        message.extend(body);
    } else if *method == "GET" {
        message.extend(b"\r\n");
    } else {
        message.extend(b"Content-Length: 0\r\n\r\n");
    }
    stream.write_all(&message)?;
    stream.flush()
}

impl<S: Read> Reply<S> {
    /// Reads the head of a reply. Interim replies (1xx) are passed over.
    pub fn read(stream: S) -> io::Result<Self> {
        let mut reply = Self { status: 0, stream, pending: SecretBytes::new(), at: 0, rest: Rest::Open };
        loop {
            let Some((status, rest, length)) = parse_head(reply.unread())? else {
                if reply.unread().len() >= MAX_HEAD {
                    return Err(malformed("its head is too long"));
                }
                if reply.fill()? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            };
            reply.at += length;
            if !(100..200).contains(&status) {
                reply.status = status;
                reply.rest = rest;
                return Ok(reply);
            }
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub fn body(&mut self, limit: usize) -> io::Result<SecretBytes> {
        let mut body = SecretBytes::new();
        let mut piece = SecretBytes::from(vec![0; PIECE]);
        loop {
            match self.read_some(&mut piece)? {
                0 => return Ok(body),
                n if body.len() + n > limit => return Err(malformed("its body is too long")),
                n => body.extend(piece.get(..n).unwrap_or(&[])),
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.pending.get(self.at..).unwrap_or(&[])
    }

    /// Reads more; 0 at the end of the connection.
    fn fill(&mut self) -> io::Result<usize> {
        if self.at == self.pending.len() {
            self.pending.clear();
            self.at = 0;
        }
        let mut piece = SecretBytes::from(vec![0; PIECE]);
        loop {
            match self.stream.read(&mut piece) {
                Ok(n) => {
                    self.pending.extend(piece.get(..n).unwrap_or(&[]));
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of the body; 0 at its end.
    fn read_some(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = match self.rest {
            Rest::Length(left) => left,
            Rest::Open => u64::MAX,
            Rest::Chunk(Some(left)) if left > 0 => left,
            Rest::Chunk(before) => {
                let size = self.next_chunk(before.is_some())?;
                self.rest = if size == 0 { Rest::Length(0) } else { Rest::Chunk(Some(size)) };
                size
            }
        };
        if left == 0 || out.is_empty() {
            return Ok(0);
        }
        if self.unread().is_empty() && self.fill()? == 0 {
            return if self.rest == Rest::Open { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let wanted = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.unread().len().min(wanted);
        if let (Some(to), Some(from)) = (out.get_mut(..n), self.unread().get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        match &mut self.rest {
            Rest::Length(left) | Rest::Chunk(Some(left)) => *left -= n as u64,
            Rest::Chunk(None) | Rest::Open => {}
        }
        Ok(n)
    }

    /// The size of the next chunk; 0 for the last one, whose trailer is of no interest.
    fn next_chunk(&mut self, is_after_another: bool) -> io::Result<u64> {
        if is_after_another && !self.line()?.is_empty() {
            return Err(malformed("a chunk has not the length that it says"));
        }
        let line = self.line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or(&[]).trim_ascii();
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| malformed("the length of a chunk is no number"))
    }

    /// A line of the chunked coding, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.unread().iter().position(|byte| *byte == b'\n') {
                let line = self.unread().get(..end).unwrap_or(&[]).trim_ascii_end().to_vec();
                self.at += end + 1;
                return Ok(line);
            }
            if self.unread().len() > MAX_HEAD {
                return Err(malformed("a line of the chunked coding is too long"));
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<S> Reply<S> {
    /// What it is read from.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: Read> Read for Reply<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_some(out)
    }
}

/// Status, form of the body and length of a head; `None` while it is not complete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(u16, Rest, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(malformed("its head is no HTTP")),
    };
    let values = |name: &'static str| {
        head.headers
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    let status = head.code.unwrap_or(0);
    let rest = if (100..200).contains(&status) || matches!(status, 204 | 304) {
        Rest::Length(0)
    } else if let Some(coding) = values("transfer-encoding").next_back() {
        match coding.eq_ignore_ascii_case(b"chunked") {
            true => Rest::Chunk(None),
            false => return Err(malformed("its transfer coding is unknown")),
        }
    } else {
        let mut lengths = values("content-length").map(|value| {
            let text = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
            text.and_then(|text| text.trim().parse().ok()).ok_or_else(|| malformed("its length is no number"))
        });
        match lengths.next().transpose()? {
            Some(length) => Rest::Length(length),
            None => Rest::Open,
        }
    };
    Ok(Some((status, rest, length)))
}

fn malformed(cause: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed reply: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands out its bytes in pieces.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(self.1).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read(text: &str) -> Result<(u16, String), String> {
        let mut results = [1, 7, 1 << 20].map(|size| {
            let mut reply = Reply::read(Pieces(text.as_bytes(), size)).map_err(|error| error.to_string())?;
            let body = reply.body(100).map_err(|error| error.to_string())?;
            Ok((reply.status, String::from_utf8(body.to_vec()).unwrap()))
        });
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        std::mem::replace(&mut results[0], Err(String::new()))
    }

    #[test]
    fn bodies_of_every_form_are_read() {
        let ok = |status, body: &str| Ok((status, body.to_owned()));
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHelloMore",
            "HTTP/1.1 200 OK\r\n\r\nHello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nHel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello",
        ] {
            assert_eq!(read(text), ok(200, "Hello"), "{text}");
        }
        assert_eq!(read("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), ok(404, ""));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), ok(204, ""));
    }

    #[test]
    fn what_is_cut_off_too_long_or_no_http_is_an_error() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(101));
        let head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD));
        for (text, cause) in [
            ("", "unexpected end of file"),
            ("HTTP/1.1 200 OK\r\n", "unexpected end of file"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nHello", "unexpected end of file"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n", "unexpected end of file"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello!\r\n",
                "malformed reply: a chunk",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "malformed reply: the length of a",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nHello\r\n", "malformed reply"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "malformed reply: its transfer coding"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed reply: its length"),
            ("\u{16}\u{3}\u{1} hello hello hello", "malformed reply: its head is no HTTP"),
            (&long, "malformed reply: its body is too long"),
            (&head, "malformed reply: its head is too long"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(cause), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_has_a_length_unless_it_is_a_get() {
        let sent = |method, body| {
            let mut out = Vec::new();
            let request = Request { method, target: "/v1/x", body, is_repeatable: true };
            send(&mut out, "host:1", &request).unwrap();
            String::from_utf8(out).unwrap()
        };
        let get = sent("GET", None);
        assert!(get.starts_with("GET /v1/x HTTP/1.1\r\nHost: host:1\r\n") && get.ends_with("close\r\n\r\n"));
        assert!(sent("PUT", None).ends_with("\r\nContent-Length: 0\r\n\r\n"));
        assert!(sent("PUT", Some(b"{}")).ends_with("\r\nContent-Length: 2\r\n\r\n{}"));
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_reader_panic(
            bytes in "(HTTP/1.1 200 OK\r\n|Transfer-Encoding: chunked\r\n|Content-Length: 4\r\n|\r\n|[0-9a-f]{1,20}|[a-z;+]){0,20}",
            size in 1usize..9,
        ) {
            if let Ok(mut reply) = Reply::read(Pieces(bytes.as_bytes(), size)) {
                let _ = reply.body(1000);
            }
        }
    }
}
