//! Replies as HTTP/1.1 bytes (RFC 9112 §4, §6), appended to the output in one go.

use crate::http::{Reply, date};

/// What the reply must say about the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// Nothing: it stays open.
    Open,
    /// `keep-alive`, for a client of HTTP/1.0.
    KeepAlive,
    /// `close`.
    Close,
}

/// How the client is to find the end of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// `Content-Length`.
    Whole,
    /// As [`Extent::Whole`], but nothing of it is sent: the request was a HEAD.
    HeadOnly,
    /// In chunks, as many as come.
    Chunks,
    /// By the end of the connection, for a client of HTTP/1.0.
    ToTheEnd,
}

/// Appends a reply.
pub fn write(reply: &Reply, connection: Connection, extent: Extent, out: &mut Vec<u8>) {
    // More than any head needs, so that the output grows once.
    out.reserve(reply.body.len() + 256);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(reply.status.into(), out);
    out.push(b' ');
    out.extend_from_slice(reason(reply.status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(&date::now());
    if !reply.content_type.is_empty() {
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(reply.content_type.as_bytes());
    }
    if let Some((name, value)) = &reply.extra {
        out.extend_from_slice(b"\r\n");
        push_name(name, out);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    match extent {
        Extent::Whole | Extent::HeadOnly => {
            out.extend_from_slice(b"\r\nContent-Length: ");
            push_number(reply.body.len(), out);
        }
        Extent::Chunks => out.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
        Extent::ToTheEnd => {}
    }
    out.extend_from_slice(match connection {
        Connection::Open => b"",
        Connection::KeepAlive => b"\r\nConnection: keep-alive",
        Connection::Close => b"\r\nConnection: close",
    });
    out.extend_from_slice(b"\r\n\r\n");
    match extent {
        Extent::Whole => out.extend_from_slice(&reply.body),
        Extent::HeadOnly => {}
        Extent::Chunks | Extent::ToTheEnd => push_piece(&reply.body, extent, out),
    }
}

/// Appends a further piece of a body that comes in pieces.
pub fn push_piece(piece: &[u8], extent: Extent, out: &mut Vec<u8>) {
    if extent != Extent::Chunks {
        return out.extend_from_slice(piece);
    }
    // An empty chunk would be the end.
    if !piece.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
}

/// Ends a body that comes in pieces.
pub fn push_end(extent: Extent, out: &mut Vec<u8>) {
    if extent == Extent::Chunks {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// The reason phrase of a status code (RFC 9110 §15).
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Header names are written as Go writes them: each word begins with a capital letter.
fn push_name(name: &str, out: &mut Vec<u8>) {
    let mut is_first = true;
    for byte in name.bytes() {
        out.push(if is_first { byte.to_ascii_uppercase() } else { byte });
        is_first = byte == b'-';
    }
}

fn push_number(number: usize, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut left = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 1_048_576, usize::MAX] {
            let mut out = Vec::new();
            push_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn names_begin_with_capital_letters() {
        let mut out = Vec::new();
        push_name("x-content-type-options", &mut out);
        assert_eq!(out, b"X-Content-Type-Options");
    }
}
