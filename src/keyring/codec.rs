//! The stored form of a key (`crypto-formats` §1): reader of both forms, writer of the current one.

use super::{Algorithm, KeyVersion};
use crate::{
    crypto::{Secret, SecretBytes},
    text::{
        encode::{base64_into, decode_base64},
        json::{Rest, read_object},
        time::Timestamp,
    },
};

/// The only hash of an HMAC key: SHA-256.
const SHA256: u64 = 1;

/// Deepest nesting of groups, a form that no writer of keys uses, but every protobuf reader must skip.
const MAX_GROUPS: usize = 16;

/// The current form: base64 of a protobuf message. A key without HMAC secret cannot be written; it keeps its old form.
pub fn encode(key: &KeyVersion) -> Option<SecretBytes> {
    let number = match key.algorithm {
        Algorithm::Aes256 => 1,
        Algorithm::ChaCha20 => 2,
    };
    let secret = |bytes: &Secret<32>, number| {
        let mut message = SecretBytes::with_capacity(40);
        put_bytes(&mut message, 1, bytes.expose());
        put_varint(&mut message, 2, number);
        message
    };
    let mut message = SecretBytes::with_capacity(256);
    put_bytes(&mut message, 1, &secret(&key.secret, number));
    put_bytes(&mut message, 2, &secret(key.hmac.as_ref()?, SHA256));
    let mut time = SecretBytes::with_capacity(24);
    put_varint(&mut time, 1, key.created_at.seconds.cast_unsigned());
    put_varint(&mut time, 2, key.created_at.nanos.into());
    put_bytes(&mut message, 3, &time);
    if !key.created_by.is_empty() {
        put_bytes(&mut message, 4, key.created_by.as_bytes());
    }
    let mut text = SecretBytes::with_capacity(message.len() / 3 * 4 + 4);
    base64_into(&message, &mut text);
    Some(text)
}

/// Reads a stored value of either form. The error says what is wrong, without any key material.
pub fn decode(value: &[u8]) -> Result<KeyVersion, String> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() {
        return decode_json(value);
    }
    let message = decode_base64(value).ok_or("stored key is neither JSON nor base64")?;
    decode_message(&message).map_err(str::to_owned)
}

fn decode_json(value: &[u8]) -> Result<KeyVersion, String> {
    let names = ["bytes", "algorithm", "created_at", "created_by"];
    let [bytes, algorithm, created_at, created_by] = read_object(value, names, Rest::Refused)?;
    let bytes = bytes.bytes().ok_or("stored key: 'bytes' is not base64")?;
    let algorithm = match algorithm.text() {
        Some("") => Algorithm::Aes256,
        name => name.and_then(Algorithm::parse).ok_or("stored key: unknown algorithm")?,
    };
    let created_at = match created_at {
        crate::text::json::Member::Absent => Timestamp::ZERO,
        time => time.text().and_then(Timestamp::parse).ok_or("stored key: 'created_at' is not a time")?,
    };
    Ok(KeyVersion {
        algorithm,
        secret: Secret::from_slice(&bytes).ok_or("stored key is not 32 bytes long")?,
        hmac: None,
        created_at,
        created_by: created_by.text().ok_or("stored key: 'created_by' is not text")?.to_owned(),
    })
}

/// A secret and its number (algorithm or hash), both perhaps still missing.
#[derive(Default)]
struct Part {
    bytes: SecretBytes,
    number: u64,
}

impl Part {
    /// A repeated message merges into the earlier one.
    fn merge(&mut self, message: &[u8]) -> Result<(), &'static str> {
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => self.bytes = SecretBytes::from(bytes.to_vec()),
                (2, Value::Varint(value)) => self.number = value & 0xffff_ffff,
                _ => {}
            }
        }
        Ok(())
    }
}

fn decode_message(message: &[u8]) -> Result<KeyVersion, &'static str> {
    let (mut secret, mut hmac) = (None, None);
    let (mut seconds, mut nanos) = (0, 0);
    let mut created_by = "";
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(part)) => secret.get_or_insert_with(Part::default).merge(part)?,
            (2, Value::Bytes(part)) => hmac.get_or_insert_with(Part::default).merge(part)?,
            (3, Value::Bytes(time)) => merge_time(time, &mut seconds, &mut nanos)?,
            (4, Value::Bytes(text)) => {
                created_by = std::str::from_utf8(text).map_err(|_| "stored key: creator is not UTF-8")?;
            }
            _ => {}
        }
    }
    let secret = secret.ok_or("stored key has no secret")?;
    let hmac = hmac.ok_or("stored key has no HMAC secret")?;
    let algorithm = match secret.number {
        1 => Algorithm::Aes256,
        2 => Algorithm::ChaCha20,
        _ => return Err("stored key: unknown algorithm"),
    };
    if hmac.number != SHA256 {
        return Err("stored key: unknown hash");
    }
    Ok(KeyVersion {
        algorithm,
        secret: Secret::from_slice(&secret.bytes).ok_or("stored key is not 32 bytes long")?,
        hmac: Some(Secret::from_slice(&hmac.bytes).ok_or("stored HMAC key is not 32 bytes long")?),
        created_at: timestamp(seconds, nanos),
        created_by: created_by.to_owned(),
    })
}

fn merge_time(message: &[u8], seconds: &mut i64, nanos: &mut i32) -> Result<(), &'static str> {
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Varint(value)) => *seconds = value.cast_signed(),
            // An int32 is the low half of its varint.
            (2, Value::Varint(value)) => *nanos = (value as u32).cast_signed(),
            _ => {}
        }
    }
    Ok(())
}

/// Nanoseconds out of range carry over into the seconds.
fn timestamp(seconds: i64, nanos: i32) -> Timestamp {
    let seconds = seconds.saturating_add(i64::from(nanos.div_euclid(1_000_000_000)));
    Timestamp { seconds, nanos: nanos.rem_euclid(1_000_000_000).unsigned_abs(), offset_minutes: 0 }
}

/// One field's value. Fixed-size values are skipped: no field of a key has one.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Skipped,
}

const TRUNCATED: &str = "stored key is truncated";
const MALFORMED: &str = "stored key is no protobuf message";

/// The fields of a protobuf message, one by one (protobuf.dev, "Encoding").
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire) = self.tag()?;
        let value = match wire {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.bytes()?),
            wire => self.skip(number, wire, 0).map(|()| Value::Skipped)?,
        };
        Ok(Some((number, value)))
    }

    fn tag(&mut self) -> Result<(u64, u64), &'static str> {
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 || number >= 1 << 29 { Err(MALFORMED) } else { Ok((number, tag & 7)) }
    }

    fn skip(&mut self, number: u64, wire: u64, depth: usize) -> Result<(), &'static str> {
        match wire {
            0 => self.varint().map(|_| ()),
            1 => self.take(8).map(|_| ()),
            2 => self.bytes().map(|_| ()),
            5 => self.take(4).map(|_| ()),
            3 if depth < MAX_GROUPS => loop {
                let (inner, wire) = self.tag()?;
                match wire {
                    4 if inner == number => return Ok(()),
                    4 => return Err(MALFORMED),
                    wire => self.skip(inner, wire, depth + 1)?,
                }
            },
            _ => Err(MALFORMED),
        }
    }

    /// At most ten bytes, however many of them are needed; bits beyond the 64th must be zero.
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            if place == 9 && byte > 1 {
                return Err(MALFORMED);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }

    fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn put_bytes(message: &mut SecretBytes, number: u8, bytes: &[u8]) {
    message.extend(&[number << 3 | 2]);
    put_raw_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

/// Zero is the default and is left out.
fn put_varint(message: &mut SecretBytes, number: u8, value: u64) {
    if value != 0 {
        message.extend(&[number << 3]);
        put_raw_varint(message, value);
    }
}

fn put_raw_varint(message: &mut SecretBytes, mut value: u64) {
    while value >= 0x80 {
        message.extend(&[value as u8 | 0x80]);
        value >>= 7;
    }
    message.extend(&[value as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip(
            secret: [u8; 32], hmac: [u8; 32], is_aes: bool, seconds: i64, nanos in 0u32..1_000_000_000, by in "\\PC{0,70}",
        ) {
            let key = KeyVersion {
                algorithm: if is_aes { Algorithm::Aes256 } else { Algorithm::ChaCha20 },
                secret: Secret::from_slice(&secret).unwrap(),
                hmac: Secret::from_slice(&hmac),
                created_at: Timestamp { seconds, nanos, offset_minutes: 0 },
                created_by: by,
            };
            let stored = encode(&key).unwrap();
            let read = decode(&stored).unwrap();
            prop_assert_eq!(read.secret.expose(), &secret);
            let read_hmac = read.hmac.unwrap();
            prop_assert_eq!(read_hmac.expose(), &hmac);
            prop_assert_eq!((read.algorithm, read.created_at, read.created_by), (key.algorithm, key.created_at, key.created_by));
        }

        #[test]
        fn any_value_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode_message(&bytes);
        }

        #[test]
        fn a_cut_message_is_never_a_key(cut in 0usize..72) {
            // The last field that matters is the HMAC key, which ends at byte 76.
            let key = KeyVersion::generate("me").unwrap();
            let message = decode_base64(&encode(&key).unwrap()).unwrap();
            prop_assert!(decode_message(&message[..cut]).is_err());
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_groups_are_bounded() {
        let key = KeyVersion::generate("me").unwrap();
        let message = decode_base64(&encode(&key).unwrap()).unwrap();
        let unknown = [&b"\x28\x07\x31abcdefgh\x3d1234\x42\x02xy\x4b\x08\x01\x4c"[..], &message].concat();
        assert_eq!(decode_message(&unknown).unwrap().secret.expose(), key.secret.expose());
        assert!(decode_message(&[0x4b; 1000]).is_err());
    }
}
