//! The two older forms of a ciphertext (`crypto-formats` §2.3, §2.4), turned into the native one.

use crate::{
    crypto::aead::{IV, NONCE},
    text::json::{Rest, read_object},
};

/// The native form of a legacy ciphertext; `None` if the input is of neither legacy form.
pub fn to_native(ciphertext: &[u8]) -> Option<Vec<u8>> {
    match ciphertext.first()? {
        0x95 => from_array(ciphertext),
        b'{' => from_json(ciphertext),
        _ => None,
    }
}

/// MessagePack: an array of five: algorithm, key id, iv, nonce, sealed data.
fn from_array(ciphertext: &[u8]) -> Option<Vec<u8>> {
    let mut rest = ciphertext.get(1..)?;
    let algorithm = take_text(&mut rest)?;
    take_text(&mut rest)?;
    let (iv, nonce, sealed) = (take_binary(&mut rest)?, take_binary(&mut rest)?, take_binary(&mut rest)?);
    let is_known =
        matches!(algorithm, b"AES256" | b"AES256-GCM_SHA256" | b"ChaCha20" | b"XCHACHA20-POLY1305");
    (rest.is_empty() && is_known).then_some(())?;
    join(sealed, iv, nonce)
}

fn from_json(ciphertext: &[u8]) -> Option<Vec<u8>> {
    let names = ["aead", "id", "iv", "nonce", "bytes"];
    let [aead, id, iv, nonce, bytes] = read_object(ciphertext, names, Rest::Refused).ok()?;
    let is_known = matches!(aead.text()?, "AES-256-GCM-HMAC-SHA-256" | "ChaCha20Poly1305");
    id.text()?;
    is_known.then_some(())?;
    join(&bytes.bytes()?, &iv.bytes()?, &nonce.bytes()?)
}

fn join(sealed: &[u8], iv: &[u8], nonce: &[u8]) -> Option<Vec<u8>> {
    (iv.len() == IV && nonce.len() == NONCE).then(|| [sealed, iv, nonce].concat())
}

/// A MessagePack text of any header.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&header, after) = rest.split_first()?;
    *rest = after;
    let length = match header {
        0xa0..=0xbf => usize::from(header & 0x1f),
        0xd9..=0xdb => take_length(rest, 1 << (header - 0xd9))?,
        _ => return None,
    };
    take(rest, length)
}

/// MessagePack binary data of any header.
fn take_binary<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (&header, after) = rest.split_first()?;
    *rest = after;
    if !matches!(header, 0xc4..=0xc6) {
        return None;
    }
    let length = take_length(rest, 1 << (header - 0xc4))?;
    take(rest, length)
}

/// A big-endian length of 1, 2 or 4 bytes.
fn take_length(rest: &mut &[u8], bytes: usize) -> Option<usize> {
    let digits = take(rest, bytes)?;
    Some(digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_converted_or_left(mut bytes in proptest::collection::vec(any::<u8>(), 1..120), json: bool) {
            bytes[0] = if json { b'{' } else { 0x95 };
            let _ = to_native(&bytes);
        }

        #[test]
        fn an_array_is_converted(sealed in proptest::collection::vec(any::<u8>(), 16..300), id in "[a-z]{0,40}") {
            let mut array = b"\x95\xa6AES256\xd9".to_vec();
            array.push(id.len() as u8);
            array.extend(id.bytes());
            array.extend([0xc4, 16].iter().chain(&[1; 16]).chain(&[0xc5, 0, 12]).chain(&[2; 12]));
            array.extend([0xc6, 0, 0, (sealed.len() >> 8) as u8, sealed.len() as u8]);
            array.extend(&sealed);
            let native = [&sealed[..], &[1; 16], &[2; 12]].concat();
            prop_assert_eq!(to_native(&array), Some(native));
            array.push(0);
            prop_assert_eq!(to_native(&array), None);
        }
    }
}
