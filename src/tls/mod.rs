//! TLS: settings of both sides, who the client is, API keys, private keys and certificates. Knows nothing of HTTP.

pub mod certificate;
pub mod client;
#[cfg(target_arch = "x86_64")]
mod curve25519;
pub mod forwarded;
pub mod identity;
pub mod key;
pub mod pem;
pub mod server;
pub mod verify;
pub mod x509;

pub use identity::{ApiKey, peer_of};
pub use server::{Loaded, development, load};

#[cfg(test)]
mod testing;
