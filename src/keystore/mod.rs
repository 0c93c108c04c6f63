//! Where keys rest: a store of opaque bytes under checked names. Knows nothing of what the bytes mean.

pub mod fs;
pub mod mem;
pub mod upkeep;

use std::{fmt, time::Duration};

use crate::{crypto::SecretBytes, name::KeyName};

/// A place for opaque bytes. Calls may block on a disk or a network; all may be made from several threads at once.
pub trait KeyStore: Send + Sync {
    /// What the banner says, such as `Filesystem: ./keys`.
    fn describe(&self) -> String;

    /// Asks whether the store can be used, and how long the answer took.
    fn status(&self) -> Result<Duration, StoreError>;

    /// Stores a value under a name that has none. Returns only after the value is durable. Never overwrites.
    fn create(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError>;

    /// The value stored under a name.
    fn get(&self, name: &KeyName) -> Result<SecretBytes, StoreError>;

    /// Removes a name and its value, durably.
    fn delete(&self, name: &KeyName) -> Result<(), StoreError>;

    /// Removes what a crash has left behind. It may take its time, and does no harm when it is not done.
    fn tidy(&self) {}

    /// All names that start with `prefix`, sorted bytewise.
    fn list(&self, prefix: &str) -> Result<Vec<KeyName>, StoreError>;
}

/// Why a store did not do what was asked. The texts are for the log, not for the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// There is a value under this name already.
    KeyExists,
    /// There is no value under this name.
    KeyNotFound,
    /// The store cannot be reached; it may be back later.
    Unreachable(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyExists => f.write_str("key already exists"),
            Self::KeyNotFound => f.write_str("key does not exist"),
            Self::Unreachable(cause) => write!(f, "key store is not reachable: {cause}"),
            Self::Failed(cause) => f.write_str(cause),
        }
    }
}
