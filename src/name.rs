//! Checked names: of keys and policies, of clients, and the patterns by which they are listed.

use std::fmt;

/// Longest name in bytes.
pub const MAX_NAME: usize = 80;

/// Whether `text` is a valid name of a key, policy or identity: 1 to 80 bytes of `0-9 A-Z a-z _ -`, `-` neither first
/// nor last, not the single `_` (`server-api` §4.1).
pub fn is_valid_name(text: &[u8]) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text != b"_"
        && text[0] != b'-'
        && text[text.len() - 1] != b'-'
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether `text` is a valid listing pattern: empty, `*`, or like a name with an optional `*` as its last byte
/// (`server-api` §4.2).
pub fn is_valid_pattern(text: &[u8]) -> bool {
    if text.is_empty() || text == b"*" {
        return true;
    }
    let (stem, starred) = match text {
        [stem @ .., b'*'] => (stem, true),
        stem => (stem, false),
    };
    text.len() <= MAX_NAME
        && text != b"_"
        && stem[0] != b'-'
        && (starred || stem[stem.len() - 1] != b'-')
        && stem.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The checked name of a key. It is safe as a file name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct KeyName(Box<str>);

impl KeyName {
    /// `None` unless `text` is a valid name.
    pub fn parse(text: &str) -> Option<Self> {
        is_valid_name(text.as_bytes()).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who a client is: the SHA-256 of its public key's DER form, shown as 64 lower-case hexadecimal digits
/// (`crypto-formats` §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 32]);

impl Identity {
    /// From the hash itself.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// From 64 hexadecimal digits of either case; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        let long = "a".repeat(80);
        for name in
            ["my-key", "abc123", "0", "123ABC321", "_0", "__", "0-Z", "my_key-0", "a--b", "_-___---_", &long]
        {
            assert!(KeyName::parse(name).is_some(), "{name}");
        }
        let too_long = "a".repeat(81);
        for name in [
            "", "_", "-", "--", "-a", "a-", "my.key", "a b", "a/b", "a/", "..", "a*", "a:b", "a+b", "a~b",
            "a@b", "hel<lo", "☰", "Εmacs", "a\n", "a\0", &too_long,
        ] {
            assert!(KeyName::parse(name).is_none(), "{name}");
        }
    }

    #[test]
    fn listing_patterns_follow_the_rule() {
        let long = "a".repeat(80);
        let starred = "a".repeat(79) + "*";
        for pattern in ["", "*", "a", "my-key", "my*", "_*", "_-*", "a-*", "_x", &starred, &long] {
            assert!(is_valid_pattern(pattern.as_bytes()), "{pattern}");
        }
        let too_long = "a".repeat(80) + "*";
        for pattern in [
            "_", "-", "-x", "x-", "-*", "*a", "**", "a**", "a*b", "*-*", "a.b", "a b", "a/b", ".h", &too_long,
        ] {
            assert!(!is_valid_pattern(pattern.as_bytes()), "{pattern}");
        }
    }

    #[test]
    fn an_identity_is_printed_in_lower_case() {
        let text = "3ECFCDF38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22";
        assert_eq!(Identity::parse(text).unwrap().to_string(), text.to_lowercase());
        assert!(Identity::parse(&text[1..]).is_none());
        assert!(Identity::parse(&text.replace('3', "g")).is_none());
    }
}
