//! The chunked coding of a body (RFC 9112 §7.1), read byte by byte where it is framing and in pieces where it is data.

/// Longest extension of a chunk; extensions are read over.
const MAX_EXTENSION: usize = 256;

/// Hexadecimal digits of a chunk's size at most: sizes up to 2^32 are far beyond any body that is read.
const MAX_DIGITS: u8 = 8;

/// Chunks of one body at most. A client that sends a million bytes one by one costs far more than it should.
const MAX_CHUNKS: u32 = 65_536;

/// Where in the coding the next byte belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size { digits: u8 },
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    LastCr,
    LastLf,
    End,
}

/// A reader of one chunked body.
#[derive(Clone, Copy, Debug)]
pub struct Chunked {
    state: State,
    size: u64,
    extension: usize,
    chunks: u32,
}

/// What the next bytes of the input are.
#[derive(PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// Data of the body.
    Data(&'a [u8]),
    /// The body is complete.
    End,
    /// More input is needed.
    Hungry,
    /// Not the chunked coding.
    Malformed,
}

impl Chunked {
    /// At the beginning of a body.
    pub fn new() -> Self {
        Self { state: State::Size { digits: 0 }, size: 0, extension: 0, chunks: 0 }
    }

    /// Takes the next piece off `input`.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Piece<'a> {
        loop {
            if self.state == State::End {
                return Piece::End;
            }
            let Some((&byte, rest)) = input.split_first() else { return Piece::Hungry };
            if self.state == State::Data {
                let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(length);
                *input = rest;
                self.size -= length as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Piece::Data(data);
            }
            *input = rest;
            if self.step(byte).is_none() {
                return Piece::Malformed;
            }
        }
    }

    fn step(&mut self, byte: u8) -> Option<()> {
        self.state = match (self.state, byte) {
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                self.size = self.size << 4 | u64::from(digit);
                (digits < MAX_DIGITS).then_some(State::Size { digits: digits + 1 })?
            }
            (State::Size { digits: 1.. }, b'\r') => State::SizeEnd,
            (State::Size { digits: 1.. }, b';') => State::Extension,
            (State::Extension, b'\r') => State::SizeEnd,
            (State::Extension, b' '..=b'~' | b'\t') if self.extension < MAX_EXTENSION => {
                self.extension += 1;
                State::Extension
            }
            (State::SizeEnd, b'\n') if self.size == 0 => State::LastCr,
            (State::SizeEnd, b'\n') if self.chunks < MAX_CHUNKS => {
                self.chunks += 1;
                self.extension = 0;
                State::Data
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { digits: 0 },
            // No trailer fields: nobody here would read them, and they are a way to smuggle (RFC 9112 §7.1.2).
            (State::LastCr, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::End,
            _ => return None,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a body that arrives in two parts; `None` if it is malformed or incomplete.
    fn read(bytes: &[u8], cut: usize) -> Option<(Vec<u8>, usize)> {
        let mut reader = Chunked::new();
        let mut body = Vec::new();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let mut left = second.len();
        for mut part in [first, second] {
            loop {
                match reader.next(&mut part) {
                    Piece::Data(data) => body.extend_from_slice(data),
                    Piece::End => {
                        left = left.min(part.len());
                        break;
                    }
                    Piece::Hungry => break,
                    Piece::Malformed => return None,
                }
            }
        }
        (reader.state == State::End).then_some((body, left))
    }

    #[test]
    fn a_body_of_chunks_is_read_and_what_follows_is_left() {
        let (body, left) = read(b"5;name=\"x y\"\r\nHello\r\n00001\r\n!\r\n0\r\n\r\nGET", 9).unwrap();
        assert_eq!((&body[..], left), (&b"Hello!"[..], 3));
    }

    #[test]
    fn what_is_not_the_chunked_coding_is_refused() {
        for bytes in [
            &b"\r\n0\r\n\r\n"[..],
            b"g\r\n",
            b"+5\r\nHello\r\n0\r\n\r\n",
            b"0x5\r\nHello",
            b"5\nHello\r\n0\r\n\r\n",
            b"5 \r\nHello",
            b"5\r\nHello0\r\n\r\n",
            b"5\r\nHelloX\r\n",
            b"5\r\nHello\n0\r\n\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"100000000\r\n",
            b"0000000001\r\nx\r\n0\r\n\r\n",
            b"1;\x01\r\nx",
            b"-1\r\n",
        ] {
            assert_eq!(read(bytes, 0), None, "{}", bytes.escape_ascii());
        }
        let long = [b"1;", &[b'x'; 300][..], b"\r\n"].concat();
        assert_eq!(read(&long, 0), None);
        let many = [&b"1\r\nx\r\n".repeat(70_000)[..], b"0\r\n\r\n"].concat();
        assert_eq!(read(&many, 0), None);
    }

    proptest! {
        #[test]
        fn bodies_round_trip(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8), cut in 0usize..300,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n\r\nrest");
            prop_assert_eq!(read(&wire, cut).map(|(body, _)| body), Some(chunks.concat()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes, 10);
        }
    }
}
