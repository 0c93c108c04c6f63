//! Keys by name: the only door that the API uses. Joins the cache, the codec and the key store.

pub mod cache;
pub mod codec;
pub mod key;
mod legacy;
mod status;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cache::Cache;
pub use key::{Algorithm, KeyVersion};
use status::StatusDesk;
pub use status::{StatusWaiter, StoreStatus};

use crate::{
    crypto::SecretBytes,
    keystore::{KeyStore, StoreError},
    metrics::StoreMetrics,
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
    /// The fetch was given up before the store was asked.
    Abandoned,
}

impl std::fmt::Display for KeyringError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Unreadable(cause) => f.write_str(cause),
            Self::Abandoned => f.write_str("the fetch of the key was given up"),
        }
    }
}

/// One who waits for a key. Called exactly once, on the thread that fetched it.
pub type Waiter = Box<dyn FnOnce(Result<Arc<KeyVersion>, KeyringError>) + Send>;

/// The keys of one server.
pub struct Keyring {
    store: Arc<dyn KeyStore>,
    cache: Cache,
    status: StatusDesk,
    offline: AtomicBool,
    metrics: Arc<StoreMetrics>,
}

impl Keyring {
    /// A keyring over `store` with an empty cache. What it does is counted in `metrics`.
    pub fn new(store: Arc<dyn KeyStore>, expiry: CacheExpiry, metrics: Arc<StoreMetrics>) -> Self {
        metrics.offline.set(0);
        let (cache, status) = (Cache::new(expiry), StatusDesk::default());
        Self { store, cache, status, offline: AtomicBool::new(false), metrics }
    }

    /// The cached key, without any I/O. Marks it as used.
    pub fn cached(&self, name: &KeyName) -> Option<Arc<KeyVersion>> {
        let key = self.cache.get(name);
        if key.is_some() {
            self.metrics.hits.add();
        }
        key
    }

    /// Registers `waiter` for a key that is not cached. Returns `true` if the caller must now have [`Keyring::fetch`]
    /// called (on a thread that may block), `false` if a fetch of this name is under way and will call the waiter.
    pub fn wait_for(&self, name: &KeyName, waiter: Waiter) -> bool {
        self.metrics.misses.add();
        self.cache.wait_for(name, waiter)
    }

    /// Reads the key from the store, puts it into the cache and calls everyone who waits for it. Blocks.
    pub fn fetch(&self, name: &KeyName) {
        // Should the store panic, whoever waits is told all the same.
        let guard = Told { keyring: self, name };
        // The key may have come into the cache after the caller looked there.
        let read = || self.cache.get(name).map_or_else(|| self.read(name).map(Arc::new), Ok);
        while self.cache.finish(name, &read()) {}
        std::mem::forget(guard);
    }

    /// Gives up a fetch that [`Keyring::wait_for`] asked for: everyone who waits gets an error.
    pub fn abandon(&self, name: &KeyName) {
        while self.cache.finish(name, &Err(KeyringError::Abandoned)) {}
    }

    /// Stores a new key durably. Blocks. The cache is not touched (`server-api` §6.1).
    pub fn create(&self, name: &KeyName, key: &KeyVersion) -> Result<(), StoreError> {
        let value =
            codec::encode(key).ok_or_else(|| StoreError::Failed("a key without HMAC secret".into()))?;
        self.timed(|store| store.create(name, &value))
    }

    /// Deletes a key and drops it from the cache, also when the store does not have it. Blocks.
    pub fn delete(&self, name: &KeyName) -> Result<(), StoreError> {
        let result = self.timed(|store| store.delete(name));
        if matches!(result, Ok(()) | Err(StoreError::KeyNotFound)) {
            self.cache.remove(name);
        }
        result
    }

    /// Drops a key from the cache: somebody else has deleted it.
    pub fn forget(&self, name: &KeyName) {
        self.cache.remove(name);
    }

    /// All names that start with `prefix`, sorted. Blocks.
    pub fn list(&self, prefix: &str) -> Result<Vec<KeyName>, StoreError> {
        self.timed(|store| store.list(prefix))
    }

    /// Registers `waiter` for the store's status. Returns `true` if the caller must now have [`Keyring::ask_store`] called
    /// (on a thread that may block). While the offline flag is up the waiter is told at once that the store is not
    /// reachable; that is also what [`Keyring::give_up_status`] makes of a store that does not answer.
    pub fn wait_for_status(&self, waiter: StatusWaiter) -> bool {
        if self.offline.load(Ordering::Relaxed) {
            waiter(Some(Err(StoreError::Unreachable("keystore is offline".into()))));
            return false;
        }
        self.status.wait(waiter)
    }

    /// Removes what a crash has left in the store. Blocks, for as long as it takes to list the store.
    pub fn tidy(&self) {
        self.store.tidy();
    }

    /// Asks the store for its status and tells all who wait. Blocks.
    pub fn ask_store(&self) {
        let ask = || self.timed(|store| store.status());
        let status = catch_unwind(AssertUnwindSafe(ask));
        let status = status.unwrap_or_else(|_| Err(StoreError::Failed("the store panicked".into())));
        self.status.finish(&Some(status));
    }

    /// Tells all who wait for the status that nobody could be asked to ask the store.
    pub fn abandon_status(&self) {
        self.status.finish(&None);
    }

    /// Tells those who have waited too long for the status that the store is not reachable. To be called at least once a
    /// second.
    pub fn give_up_status(&self) {
        self.status.give_up();
    }

    /// As if the store had been silent for too long.
    #[cfg(test)]
    pub fn age_status(&self) {
        self.status.age();
        self.give_up_status();
    }

    /// Checks the store, whatever the offline flag says, and sets or clears that; to be called every 10 s. The result is as
    /// with [`Keyring::wait_for_status`].
    pub fn check_store(self: &Arc<Self>) -> bool {
        let keyring = Arc::clone(self);
        self.status.wait(Box::new(move |status| {
            // Too much to do says nothing about the store; the next round asks again.
            let Some(status) = status else { return };
            keyring.offline.store(status.is_err(), Ordering::Relaxed);
            keyring.metrics.offline.set(status.is_err().into());
        }))
    }

    /// Does the cache sweeps that are due, `elapsed` after the keyring was made. To be called at least once a second.
    pub fn sweep(&self, elapsed: Duration) {
        self.cache.sweep(elapsed, self.offline.load(Ordering::Relaxed));
    }

    /// The store's own description.
    pub fn describe_store(&self) -> String {
        self.store.describe()
    }

    fn read(&self, name: &KeyName) -> Result<KeyVersion, KeyringError> {
        let value: SecretBytes = self.timed(|store| store.get(name)).map_err(KeyringError::Store)?;
        codec::decode(&value).map_err(|cause| KeyringError::Unreadable(format!("key '{name}': {cause}")))
    }
}

impl Keyring {
    /// Calls the store, and counts how long that took and whether it worked.
    fn timed<T>(&self, call: impl FnOnce(&dyn KeyStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = call(&*self.store);
        self.metrics.latency.observe(start.elapsed());
        if matches!(result, Err(StoreError::Unreachable(_) | StoreError::Failed(_))) {
            self.metrics.errors.add();
        }
        result
    }
}

/// Answers those who wait for a fetch that panics.
struct Told<'a> {
    keyring: &'a Keyring,
    name: &'a KeyName,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.keyring.abandon(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::mem::TroubledStore;
    use std::sync::mpsc;

    const NO_EXPIRY: CacheExpiry =
        CacheExpiry { any: Duration::ZERO, unused: Duration::ZERO, offline: Duration::ZERO };

    fn name(text: &str) -> KeyName {
        KeyName::parse(text).unwrap()
    }

    fn keyring() -> (Arc<TroubledStore>, Arc<Keyring>) {
        let store = Arc::new(TroubledStore::new());
        let keyring = Keyring::new(Arc::clone(&store) as Arc<dyn KeyStore>, NO_EXPIRY, Arc::default());
        keyring.create(&name("a"), &KeyVersion::generate("me").unwrap()).unwrap();
        keyring.create(&name("b"), &KeyVersion::generate("me").unwrap()).unwrap();
        (store, Arc::new(keyring))
    }

    #[test]
    fn many_misses_of_one_name_make_one_fetch() {
        let (store, keyring) = keyring();
        let (told, results) = mpsc::channel();
        store.hold();
        let mut fetching = None;
        for _ in 0..64 {
            let told = told.clone();
            if keyring.wait_for(&name("a"), Box::new(move |result| told.send(result.is_ok()).unwrap())) {
                assert!(fetching.is_none());
                let keyring = Arc::clone(&keyring);
                fetching = Some(std::thread::spawn(move || keyring.fetch(&name("a"))));
            }
        }
        store.await_held(1);
        // Another name is not held up by bookkeeping of this one.
        assert!(keyring.wait_for(&name("b"), Box::new(|_| ())));
        store.release();
        fetching.unwrap().join().unwrap();
        assert_eq!(results.iter().take(64).filter(|ok| *ok).count(), 64);
        assert_eq!(store.gets(), 1);
        assert!(keyring.cached(&name("a")).is_some());
    }

    #[test]
    fn a_failed_fetch_is_told_and_not_kept() {
        let (store, keyring) = keyring();
        store.fail_with(Some(StoreError::Unreachable("gone".into())));
        let (told, result) = mpsc::channel();
        assert!(keyring.wait_for(&name("a"), Box::new(move |result| told.send(result.err()).unwrap())));
        keyring.fetch(&name("a"));
        let gone = KeyringError::Store(StoreError::Unreachable("gone".into()));
        assert_eq!(result.recv().unwrap(), Some(gone));
        assert!(keyring.cached(&name("a")).is_none());
        assert!(keyring.wait_for(&name("a"), Box::new(|_| ())), "the next one fetches again");
    }

    #[test]
    fn an_abandoned_fetch_tells_everyone_who_waits() {
        let (_, keyring) = keyring();
        let (told, result) = mpsc::channel();
        assert!(keyring.wait_for(&name("a"), Box::new(move |result| told.send(result.is_err()).unwrap())));
        keyring.abandon(&name("a"));
        assert!(result.recv().unwrap());
    }

    #[test]
    fn a_key_that_the_store_does_not_have_leaves_the_cache_when_it_is_deleted() {
        let (store, keyring) = keyring();
        keyring.wait_for(&name("a"), Box::new(|_| ()));
        keyring.fetch(&name("a"));
        assert!(keyring.cached(&name("a")).is_some());
        store.fail_with(Some(StoreError::KeyNotFound));
        assert_eq!(keyring.delete(&name("a")), Err(StoreError::KeyNotFound));
        assert!(keyring.cached(&name("a")).is_none());
    }

    #[test]
    fn while_offline_the_status_is_known_without_asking() {
        let (store, keyring) = keyring();
        let status = || {
            let (told, status) = mpsc::channel();
            if keyring.wait_for_status(Box::new(move |status| told.send(status.unwrap()).unwrap())) {
                keyring.ask_store();
            }
            status.recv().unwrap()
        };
        let check = || {
            assert!(keyring.check_store());
            keyring.ask_store();
        };
        store.fail_with(Some(StoreError::Unreachable("gone".into())));
        check();
        store.fail_with(None);
        assert_eq!(status(), Err(StoreError::Unreachable("keystore is offline".into())));
        check();
        assert!(status().is_ok());
    }
}
