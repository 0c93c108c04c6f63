//! The `Date` header's value (RFC 9110 §5.6.7), made once a second.

/// Stub.
pub fn now() -> [u8; 29] {
    todo!()
}
