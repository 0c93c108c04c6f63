//! What is fuzzed: one function for each parser that meets bytes of somebody else. The fuzzer calls them with what it
//! makes up (`fuzz_targets`), `tests/corpora.rs` with every file of the corpora and with random bytes. Each must return;
//! where more than that can be said of the result, it is asserted here.

use std::path::Path;

use kes::{
    config,
    crypto::{Secret, SecretBytes},
    http::{Admit, Body, Budget, Head, Protocol, Reply, Service, h1::H1, h2::H2, hpack},
    keyring::{Algorithm, KeyVersion, codec},
    name::KeyName,
    seal::{self, KeyFile, file::SealFile},
    text::json::{self, Rest},
    tls::{ApiKey, forwarded, key::PrivateKey, pem, x509::Certificate},
};

/// A function under test: the name of its target and of its corpus, and itself.
pub type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub const ENTRIES: &[Entry] = &[
    ("api_key", api_key),
    ("certificate", certificate),
    ("ciphertext", ciphertext),
    ("config", config),
    ("forwarded", forwarded),
    ("h1", h1),
    ("h2", h2),
    ("hpack", hpack),
    ("json", json),
    ("key_file", key_file),
    ("pem", pem),
    ("private_key", private_key),
    ("seal_file", seal_file),
    ("stored_key", stored_key),
];

/// The text of an API key; what is read is written in one form that is read again.
pub fn api_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(key) = ApiKey::parse(text) else { return };
    let again = ApiKey::parse(&key.to_text()).expect("what is written is read");
    assert_eq!(key.identity(), again.identity());
}

/// A client's certificate in DER form.
pub fn certificate(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        assert!(certificate.public_key.len() < data.len());
        let _ = certificate.is_valid_at(0);
    }
}

/// A ciphertext of either form, which a key that never made it must refuse.
pub fn ciphertext(data: &[u8]) {
    let secret = Secret::from_slice(&[7; 32]).expect("32 bytes");
    let key = KeyVersion::import(Algorithm::Aes256, secret, "").expect("a key");
    assert!(key.decrypt(data, b"").is_err());
}

/// A configuration file; each problem is one line that names the file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let overrides = config::Overrides::default();
    if let Err(problems) = config::parse(text, "fuzz.yml", Path::new("/"), &overrides, &|_| None) {
        assert!(!problems.is_empty());
        assert!(problems.iter().all(|problem| problem.starts_with("fuzz.yml")), "{problems:?}");
    }
}

/// The header in which a TLS proxy forwards a client's certificate.
pub fn forwarded(data: &[u8]) {
    if let Some(der) = forwarded::parse(data) {
        assert!(!der.is_empty() && der.len() < data.len());
        let _ = Certificate::parse(&der);
    }
}

/// A connection that speaks HTTP/1.1. How its bytes are cut into pieces must not change the requests in them.
pub fn h1(data: &[u8]) {
    drive(H1::new(Budget::new(1 << 20), 0), data);
    assert_eq!(requests(H1::new(Budget::new(1 << 20), 0), data, data.len()), {
        requests(H1::new(Budget::new(1 << 20), 0), data, 7)
    });
}

/// A connection that speaks HTTP/2, after its preface and empty settings.
pub fn h2(data: &[u8]) {
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut input = vec![opening.len() as u8];
    input.extend_from_slice(opening);
    input.extend_from_slice(data);
    drive(H2::new(Budget::new(1 << 20), 0), &input);
    let input = &input[1..];
    assert_eq!(requests(H2::new(Budget::new(1 << 20), 0), input, input.len()), {
        requests(H2::new(Budget::new(1 << 20), 0), input, 7)
    });
}

/// Header blocks of one connection, cut at the byte 0xfe, also read by another decoder, which must find the same fields.
pub fn hpack(data: &[u8]) {
    let (mut ours, mut theirs) = (hpack::Decoder::new(), loona_hpack::Decoder::new());
    theirs.set_max_allowed_table_size(hpack::TABLE_LIMIT);
    for block in data.split(|byte| *byte == 0xfe) {
        let mut fields = Vec::new();
        let is_read = ours.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec()))).is_ok();
        // After an error the tables may differ, and a connection ends.
        if !is_read {
            return;
        }
        let expected = theirs.decode(block);
        // RFC 7541 §4.2 does not forbid a block of nothing but changes of the table's size.
        if fields.is_empty() && expected == Err(loona_hpack::decoder::DecoderError::SizeUpdateAtEnd) {
            return;
        }
        assert_eq!(expected.as_ref(), Ok(&fields));
    }
}

/// The JSON of a request.
pub fn json(data: &[u8]) {
    let Ok([plain, context]) = json::read_object(data, ["plaintext", "context"], Rest::Ignored) else {
        return;
    };
    for member in [plain, context] {
        let length = member.text().map(str::len);
        if let (Some(bytes), Some(length)) = (member.bytes(), length) {
            assert!(bytes.len() <= length);
        }
    }
    // Another reader agrees that there is an object.
    let first = serde_json::Deserializer::from_slice(data).into_iter::<serde_json::Value>().next();
    if let Some(Ok(value)) = first {
        assert!(value.is_object() || value.is_null(), "{value}");
    }
}

/// A sealed key file, read and opened under keys that never made it.
pub fn key_file(data: &[u8]) {
    let _ = KeyFile::parse(data);
    let root = seal::RootKey::new(Secret::from_slice(&[7; 32]).expect("32 bytes"), 0);
    let keys = seal::RootKeys::new(root, Vec::new()).expect("one root key");
    let name = KeyName::parse("name").expect("a name");
    assert!(seal::Sealer::new(keys).open(&name, data).is_err());
}

/// A PEM file; what is read is written in one form that reads the same.
pub fn pem(data: &[u8]) {
    let _ = pem::parse_certificates(data);
    for block in pem::parse(data).blocks {
        let headers: Vec<_> = block.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let again = pem::parse(&pem::encode(&block.label, &headers, &block.bytes));
        assert_eq!(again.blocks.len(), 1);
        assert_eq!(again.blocks[0].label, block.label);
        assert_eq!(again.blocks[0].bytes[..], block.bytes[..]);
    }
}

/// A private key, encrypted or not; key derivation is bounded, so that a planted file does not hang the start.
pub fn private_key(data: &[u8]) {
    if let Ok(key) = PrivateKey::parse(data, Some(b"password")) {
        let _ = key.signing_key();
    }
    let _ = PrivateKey::parse(data, None);
}

/// A seal file; one that is not locked has one written form.
pub fn seal_file(data: &[u8]) {
    let Ok(file) = SealFile::parse(data) else { return };
    if let Ok(keys) = file.into_root_keys() {
        assert_eq!(&seal::file::write_plain(&keys)[..], data);
    }
}

/// A stored key of either form; the current form of what is read is read again.
pub fn stored_key(data: &[u8]) {
    let Ok(key) = codec::decode(data) else { return };
    if let Some(text) = codec::encode(&key) {
        let again = codec::decode(&text).expect("what is written is read");
        assert_eq!(codec::encode(&again).as_deref(), Some(&text[..]));
    }
}

/// Answers with the body; paths that begin with `/l` are answered late, those with `/r` are refused.
#[derive(Default)]
struct Echo {
    /// Streams that wait for an answer.
    late: Vec<u32>,
    /// Nothing is answered late.
    is_prompt: bool,
    /// Target and body of each request.
    seen: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Service for Echo {
    type Ticket = ();

    fn admit(&mut self, head: &Head) -> Admit<()> {
        match head.target() {
            [b'/', b'r', ..] => Admit::Refuse(Reply::empty(403)),
            [b'/', b'n', ..] => Admit::Accept { ticket: (), body_limit: 0, timeout: 1_000 },
            _ => Admit::Accept { ticket: (), body_limit: 1_000, timeout: 1_000 },
        }
    }

    fn serve(&mut self, stream: u32, (): (), head: &Head, body: &mut Body) -> Option<Reply> {
        self.seen.push((head.target().to_vec(), body.bytes.to_vec()));
        if head.target().starts_with(b"/l") && !self.is_prompt {
            self.late.push(stream);
            return None;
        }
        Some(Reply { body: SecretBytes::from(body.bytes.to_vec()), ..Reply::empty(200) })
    }
}

/// Feeds `input` in pieces whose lengths are in it, with time going on and late answers coming.
fn drive(mut connection: impl Protocol<Echo>, mut input: &[u8]) {
    let (mut service, mut out, mut now) = (Echo::default(), Vec::new(), 0);
    while let Some((&length, rest)) = input.split_first() {
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        now += u64::from(length) * 10;
        let mut flow = connection.feed(now, piece, &mut out, &mut service);
        if length % 3 == 0 {
            for stream in std::mem::take(&mut service.late) {
                flow = connection.complete(now, stream, Reply::empty(200), &mut out, &mut service);
            }
        }
        if now >= connection.deadline() {
            flow = connection.expire(now, &mut out);
        }
        out.clear();
        if flow.ends() {
            return;
        }
    }
    connection.shutdown(now, &mut out);
}

/// The requests in `input` when it comes in pieces of `length` bytes.
fn requests(mut connection: impl Protocol<Echo>, input: &[u8], length: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut service, mut out) = (Echo { is_prompt: true, ..Echo::default() }, Vec::new());
    for piece in input.chunks(length.max(1)) {
        if connection.feed(0, piece, &mut out, &mut service).ends() {
            break;
        }
        out.clear();
    }
    service.seen
}
