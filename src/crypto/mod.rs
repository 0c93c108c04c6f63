//! Cryptography behind the program's own names: sealing with one-time keys, HMAC, random bytes, wiped memory.
//! Knows bytes and keys; no names, routes or files.

pub mod secret;

pub use secret::{Secret, SecretBytes};
