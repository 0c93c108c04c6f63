//! The stored form of a key (`crypto-formats` §1): reader of both forms, writer of the current one.

use super::KeyVersion;
use crate::crypto::SecretBytes;

/// The current form: base64 of a protobuf message.
pub fn encode(_key: &KeyVersion) -> SecretBytes {
    todo!()
}

/// Reads a stored value of either form. The error says what is wrong, without any key material.
pub fn decode(_value: &[u8]) -> Result<KeyVersion, String> {
    todo!()
}
