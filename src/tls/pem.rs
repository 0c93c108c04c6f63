//! PEM files (RFC 7468) with the headers of RFC 1423, read into wiped memory.

use std::{fs::File, io::Read, path::Path};

use crate::{
    crypto::SecretBytes,
    text::encode::{base64_into, decode_base64},
};

/// Largest file that is read, in bytes: enough for any bundle of roots.
const MAX_FILE: usize = 4 << 20;

/// One block.
#[derive(Debug)]
pub struct Block {
    /// What stands after `BEGIN`, such as `CERTIFICATE`.
    pub label: String,
    /// `Name: value` lines before the content.
    pub headers: Vec<(String, String)>,
    /// The decoded content.
    pub bytes: SecretBytes,
}

impl Block {
    /// The value of the first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// All blocks of a file.
#[derive(Debug)]
pub struct Document {
    /// In the order of the file.
    pub blocks: Vec<Block>,
    /// Something other than blank lines follows the last block.
    pub has_trailing_text: bool,
}

/// Finds the blocks in `text`. Text between them is skipped; so is a block that is cut off or not base64.
pub fn parse(text: &[u8]) -> Document {
    let mut document = Document { blocks: Vec::new(), has_trailing_text: false };
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    while let Some(line) = lines.next() {
        let Some(label) = marker(line, b"-----BEGIN ") else {
            document.has_trailing_text |= !line.is_empty();
            continue;
        };
        let mut rest = lines.clone();
        match read_block(label, &mut rest) {
            Some(block) => {
                document.blocks.push(block);
                document.has_trailing_text = false;
                lines = rest;
            }
            None => document.has_trailing_text = true,
        }
    }
    document
}

/// Reads a file of certificates and nothing else into their DER forms. Text before the first block is skipped
/// (`crypto-formats` §5.4, `config` §7).
pub fn parse_certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let document = parse(text);
    if document.blocks.iter().any(|block| block.label != "CERTIFICATE" || !block.headers.is_empty()) {
        return Err("https: unsupported PEM data block");
    }
    if document.blocks.is_empty() || document.has_trailing_text {
        return Err("https: no valid PEM data");
    }
    Ok(document.blocks.iter().map(|block| block.bytes.to_vec()).collect())
}

/// Writes one block with lines of 64 characters.
pub fn encode(label: &str, headers: &[(&str, &str)], bytes: &[u8]) -> SecretBytes {
    let mut text = SecretBytes::with_capacity(bytes.len().saturating_mul(2).saturating_add(256));
    text.extend(format!("-----BEGIN {label}-----\n").as_bytes());
    for (name, value) in headers {
        text.extend(format!("{name}: {value}\n").as_bytes());
    }
    if !headers.is_empty() {
        text.extend(b"\n");
    }
    // 48 bytes make one line.
    for line in bytes.chunks(48) {
        base64_into(line, &mut text);
        text.extend(b"\n");
    }
    text.extend(format!("-----END {label}-----\n").as_bytes());
    text
}

/// Reads a whole file into wiped memory. The error names the file and what went wrong.
pub fn read_file(path: &Path) -> Result<SecretBytes, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("open {shown}: {}", cause(&error)))?;
    let size = file.metadata().map_or(0, |data| usize::try_from(data.len()).unwrap_or(0)).min(MAX_FILE);
    read_all(file, size).map_err(|error| format!("read {shown}: {error}"))
}

/// Reads everything from `input`, at most 4 MiB, into wiped memory.
pub fn read_all(mut input: impl Read, expected: usize) -> Result<SecretBytes, String> {
    let mut bytes = SecretBytes::with_capacity(expected);
    let mut piece = SecretBytes::from(vec![0; 4096]);
    loop {
        match input.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) if bytes.len().saturating_add(n) <= MAX_FILE => bytes.extend(piece.get(..n).unwrap_or(&[])),
            Ok(_) => return Err(format!("more than {MAX_FILE} bytes")),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(cause(&error)),
        }
    }
}

/// What the system says, in lower case and without its number: `no such file or directory`.
pub fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The label of a `-----BEGIN LABEL-----` or `-----END LABEL-----` line.
fn marker<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a str> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    std::str::from_utf8(label).ok()
}

/// Reads up to the END line. It stops at the first line of dashes, so that the search for blocks stays linear.
fn read_block<'a>(label: &str, lines: &mut impl Iterator<Item = &'a [u8]>) -> Option<Block> {
    let mut headers = Vec::new();
    let mut content = SecretBytes::new();
    for line in lines {
        if line.starts_with(b"-----") {
            let bytes = decode_base64(&content)?;
            let block = Block { label: label.to_owned(), headers, bytes };
            return (marker(line, b"-----END ") == Some(label)).then_some(block);
        }
        match line.iter().position(|byte| *byte == b':') {
            Some(colon) if content.is_empty() => {
                let (name, value) = line.split_at(colon);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
                let name = text(name);
                // Written down again, it would end the block.
                if name.starts_with("-----") {
                    return None;
                }
                headers.push((name, text(value.get(1..).unwrap_or(&[]))));
            }
            _ => content.extend(line.trim_ascii_start()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = "-----BEGIN CERTIFICATE-----\nSGVs\nbG8=\n-----END CERTIFICATE-----\n";

    #[test]
    fn text_before_a_block_is_skipped_and_text_after_the_last_is_seen() {
        assert_eq!(parse_certificates(format!("a comment\n\n{HELLO}").as_bytes()).unwrap(), [b"Hello"]);
        assert_eq!(parse_certificates(format!("{HELLO}between\n{HELLO}\n \n").as_bytes()).unwrap().len(), 2);
        assert_eq!(parse_certificates(format!("{HELLO}after\n").as_bytes()), Err("https: no valid PEM data"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "hello\n", "-----BEGIN CERTIFICATE-----\nSGVs\n", &HELLO.replace("SGVs", "S*Vs")] {
            assert_eq!(parse_certificates(text.as_bytes()), Err("https: no valid PEM data"), "{text}");
        }
        let key = HELLO.replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(
            parse_certificates(format!("{HELLO}{key}").as_bytes()),
            Err("https: unsupported PEM data block")
        );
        assert_eq!(
            parse_certificates(HELLO.replace("END CERT", "END DERT").as_bytes()),
            Err("https: no valid PEM data")
        );
    }

    #[test]
    fn a_header_that_looks_like_a_marker_damages_its_block() {
        for header in [" -----a: b", "\u{2003}-----END X-----: b"] {
            let text = format!("-----BEGIN X-----\n{header}\n\nSGVsbG8=\n-----END X-----\n{HELLO}");
            let document = parse(text.as_bytes());
            assert_eq!(document.blocks.len(), 1, "{header}");
            assert_eq!(document.blocks[0].label, "CERTIFICATE");
        }
    }

    #[test]
    fn headers_and_carriage_returns_are_read() {
        let text = "-----BEGIN X-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: A,B\r\n\r\nSGVsbG8=\r\n-----END X-----\r\n";
        let document = parse(text.as_bytes());
        assert_eq!(document.blocks[0].header("DEK-Info"), Some("A,B"));
        assert_eq!(document.blocks[0].header("Proc-Type"), Some("4,ENCRYPTED"));
        assert_eq!(&document.blocks[0].bytes[..], b"Hello");
        assert!(!document.has_trailing_text);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_file(Path::new("no/such.crt")).unwrap_err();
        assert_eq!(error, "open no/such.crt: no such file or directory");
        assert_eq!(read_file(Path::new(".")).unwrap_err(), "read .: is a directory");
    }

    proptest! {
        #[test]
        fn blocks_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300), headers: bool) {
            let headers: &[_] = if headers { &[("Name", "some value")] } else { &[] };
            let text = encode("SOME LABEL", headers, &bytes);
            let document = parse(&text);
            prop_assert_eq!(document.blocks.len(), 1);
            prop_assert_eq!(&document.blocks[0].bytes[..], &bytes[..]);
            prop_assert_eq!(document.blocks[0].header("Name").is_some(), !headers.is_empty());
            prop_assert!(!document.has_trailing_text);
        }

        #[test]
        fn arbitrary_text_never_panics(text in "(-----BEGIN A-----|-----END A-----|[A-Za-z:=]{0,9}|\n){0,40}") {
            let _ = parse(text.as_bytes());
            let _ = parse_certificates(text.as_bytes());
        }
    }
}
