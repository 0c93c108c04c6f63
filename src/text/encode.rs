//! base64 as Go's decoder takes it, and hexadecimal digits.

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig},
    },
};

use crate::crypto::SecretBytes;

/// The standard alphabet, padded; padding required, non-zero bits after the last byte tolerated (`crypto-formats` §1.1).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// `bytes` as standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Appends `bytes` as standard base64 with padding to `out`, without a copy elsewhere.
pub fn base64_into(bytes: &[u8], out: &mut SecretBytes) {
    let start = out.len();
    out.grow(bytes.len().div_ceil(3) * 4);
    BASE64.encode_slice(bytes, &mut out[start..]).expect("there is room for all characters");
}

/// Decodes standard base64; CR and LF anywhere are skipped, as Go does. `None` if it is malformed.
pub fn decode_base64(text: &[u8]) -> Option<SecretBytes> {
    let skipped: SecretBytes;
    let text = if text.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        skipped = SecretBytes::from(
            text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<_>>(),
        );
        &skipped[..]
    } else {
        text
    };
    let mut bytes = SecretBytes::from(vec![0; text.len() / 4 * 3 + 3]);
    let n = BASE64.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(n);
    Some(bytes)
}

/// Where Go's decoder says that `text`, which is no base64, goes wrong: the first byte that cannot stand where it
/// stands, or the start of the group of four that the text breaks off in.
pub fn corrupt_at(text: &[u8]) -> usize {
    let mut group = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => group += 1,
            b'=' if group % 4 >= 2 => {
                let padding = 4 - group % 4;
                let mut rest =
                    text.iter().enumerate().skip(at + 1).filter(|(_, b)| !matches!(b, b'\r' | b'\n'));
                let wrong = (1..padding).find_map(|_| match rest.next() {
                    Some((_, b'=')) => None,
                    Some((other, _)) => Some(other - 1),
                    None => Some(text.len()),
                });
                return wrong.or_else(|| rest.next().map(|(other, _)| other)).unwrap_or(text.len());
            }
            _ => return at,
        }
    }
    text.len() - group % 4
}

/// `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Decodes hexadecimal digits of either case; `None` if the number of digits is odd or one is no digit.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_read_as_go_reads_it() {
        assert_eq!(&decode_base64(b"SGVs\r\nbG8=\n").unwrap()[..], b"Hello");
        assert_eq!(&decode_base64(b"SGVsbG9=").unwrap()[..], b"Hello", "trailing bits are tolerated");
        assert_eq!(decode_base64(b"").unwrap().len(), 0);
        for bad in [&b"SGVsbG8"[..], b"-_-_", b"A", b"AAA", b"AA==A", b"AAAA ", b"!!!!", b"=", b"===="] {
            assert!(decode_base64(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn base64_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let text = base64(&bytes);
            prop_assert_eq!(&decode_base64(text.as_bytes()).unwrap()[..], &bytes[..]);
            let mut out = SecretBytes::new();
            base64_into(&bytes, &mut out);
            prop_assert_eq!(&out[..], text.as_bytes());
        }

        #[test]
        fn hex_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode_hex(&hex(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn any_text_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_base64(&bytes);
            let _ = decode_hex(&String::from_utf8_lossy(&bytes));
        }
    }
}
