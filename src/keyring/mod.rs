//! Keys by name: the only door that the API uses. Joins the cache, the codec and the key store.

pub mod cache;
pub mod codec;
pub mod key;

use std::{sync::Arc, time::Duration};

pub use key::{Algorithm, KeyVersion};

use crate::{
    keystore::{KeyStore, StoreError},
    name::KeyName,
};

/// How long keys stay in the cache; zero switches that sweep off (`server-api` §6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheExpiry {
    /// All entries are dropped this often.
    pub any: Duration,
    /// Entries not used for about this long are dropped.
    pub unused: Duration,
    /// All entries are dropped this often while the store is not reachable.
    pub offline: Duration,
}

/// Why a key operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyringError {
    /// The store says so.
    Store(StoreError),
    /// The stored value is no key; the text says why, for the log.
    Unreadable(String),
}

/// One who waits for a key. Called exactly once, on the thread that fetched it.
pub type Waiter = Box<dyn FnOnce(Result<Arc<KeyVersion>, KeyringError>) + Send>;

/// The keys of one server.
pub struct Keyring {}

impl Keyring {
    /// A keyring over `store` with an empty cache.
    pub fn new(_store: Arc<dyn KeyStore>, _expiry: CacheExpiry) -> Self {
        todo!()
    }

    /// The cached key, without any I/O. Marks it as used.
    pub fn cached(&self, _name: &KeyName) -> Option<Arc<KeyVersion>> {
        todo!()
    }

    /// Registers `waiter` for a key that is not cached. Returns `true` if the caller must now have [`Keyring::fetch`]
    /// called (on a thread that may block), `false` if a fetch of this name is under way and will call the waiter.
    pub fn wait_for(&self, _name: &KeyName, _waiter: Waiter) -> bool {
        todo!()
    }

    /// Reads the key from the store, puts it into the cache and calls everyone who waits for it. Blocks.
    pub fn fetch(&self, _name: &KeyName) {
        todo!()
    }

    /// Stores a new key durably. Blocks. The cache is not touched (`server-api` §6.1).
    pub fn create(&self, _name: &KeyName, _key: &KeyVersion) -> Result<(), StoreError> {
        todo!()
    }

    /// Deletes a key and drops it from the cache, also when the store does not have it. Blocks.
    pub fn delete(&self, _name: &KeyName) -> Result<(), StoreError> {
        todo!()
    }

    /// All names that start with `prefix`, sorted. Blocks.
    pub fn list(&self, _prefix: &str) -> Result<Vec<KeyName>, StoreError> {
        todo!()
    }

    /// Asks the store for its status; answers `Unreachable` at once while the offline flag is up. Blocks.
    pub fn status(&self) -> Result<Duration, StoreError> {
        todo!()
    }

    /// Checks the store and sets or clears the offline flag; to be called every 10 s. Blocks.
    pub fn check_store(&self) {
        todo!()
    }

    /// Does the cache sweeps that are due, `elapsed` after the keyring was made. To be called at least once a second.
    pub fn sweep(&self, _elapsed: Duration) {
        todo!()
    }

    /// The store's own description.
    pub fn describe_store(&self) -> String {
        todo!()
    }
}
