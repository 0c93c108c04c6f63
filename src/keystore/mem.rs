//! Keys in memory, for `--dev` and tests.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{KeyStore, StoreError};
use crate::{crypto::SecretBytes, name::KeyName};

/// Keys in memory. They are gone when the process ends.
#[derive(Default)]
pub struct MemStore {
    values: RwLock<BTreeMap<KeyName, SecretBytes>>,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl KeyStore for MemStore {
    fn describe(&self) -> String {
        "In memory: keys are lost when the server stops".into()
    }

    fn status(&self) -> Result<Duration, StoreError> {
        Ok(Duration::ZERO)
    }

    fn create(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        use std::collections::btree_map::Entry;
        match self.values.write().unwrap_or_else(PoisonError::into_inner).entry(name.clone()) {
            Entry::Occupied(_) => Err(StoreError::KeyExists),
            Entry::Vacant(entry) => {
                entry.insert(copy(value));
                Ok(())
            }
        }
    }

    fn get(&self, name: &KeyName) -> Result<SecretBytes, StoreError> {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        values.get(name).map(|value| copy(value)).ok_or(StoreError::KeyNotFound)
    }

    fn delete(&self, name: &KeyName) -> Result<(), StoreError> {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.remove(name).map(drop).ok_or(StoreError::KeyNotFound)
    }

    fn list(&self, prefix: &str) -> Result<Vec<KeyName>, StoreError> {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        Ok(values.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect())
    }
}

/// A store in memory for tests of other rooms: it fails, waits and counts as it is told.
#[derive(Default)]
pub struct TroubledStore {
    inner: MemStore,
    trouble: Mutex<Trouble>,
    changed: Condvar,
    gets: AtomicUsize,
}

#[derive(Default)]
struct Trouble {
    error: Option<StoreError>,
    delay: Duration,
    is_held: bool,
    waiting: usize,
}

impl TroubledStore {
    /// An empty store without troubles.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on each call fails with this error; `None` ends that.
    pub fn fail_with(&self, error: Option<StoreError>) {
        self.trouble().error = error;
    }

    /// From now on each call takes this much longer.
    pub fn delay_by(&self, delay: Duration) {
        self.trouble().delay = delay;
    }

    /// From now on calls wait until [`TroubledStore::release`].
    pub fn hold(&self) {
        self.trouble().is_held = true;
    }

    /// Lets all calls go on that wait, and those to come.
    pub fn release(&self) {
        self.trouble().is_held = false;
        self.changed.notify_all();
    }

    /// Blocks until at least `count` calls wait at [`TroubledStore::hold`].
    pub fn await_held(&self, count: usize) {
        let mut trouble = self.trouble();
        while trouble.waiting < count {
            trouble = self.changed.wait(trouble).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many times a value was asked for, with or without success.
    pub fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Result<(), StoreError> {
        let mut trouble = self.trouble();
        trouble.waiting = trouble.waiting.saturating_add(1);
        self.changed.notify_all();
        while trouble.is_held {
            trouble = self.changed.wait(trouble).unwrap_or_else(PoisonError::into_inner);
        }
        trouble.waiting = trouble.waiting.saturating_sub(1);
        let (delay, error) = (trouble.delay, trouble.error.clone());
        drop(trouble);
        std::thread::sleep(delay);
        error.map_or(Ok(()), Err)
    }
}

impl KeyStore for TroubledStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn status(&self) -> Result<Duration, StoreError> {
        self.enter()?;
        self.inner.status()
    }

    fn create(&self, name: &KeyName, value: &[u8]) -> Result<(), StoreError> {
        self.enter()?;
        self.inner.create(name, value)
    }

    fn get(&self, name: &KeyName) -> Result<SecretBytes, StoreError> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.enter()?;
        self.inner.get(name)
    }

    fn delete(&self, name: &KeyName) -> Result<(), StoreError> {
        self.enter()?;
        self.inner.delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<KeyName>, StoreError> {
        self.enter()?;
        self.inner.list(prefix)
    }
}

fn copy(value: &[u8]) -> SecretBytes {
    let mut copy = SecretBytes::with_capacity(value.len());
    copy.extend(value);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> KeyName {
        KeyName::parse(text).unwrap()
    }

    #[test]
    fn a_store_in_memory_keeps_the_contract() {
        let store = MemStore::new();
        let key = name("my-key");
        assert_eq!(store.get(&key).unwrap_err(), StoreError::KeyNotFound);
        store.create(&key, b"one").unwrap();
        assert_eq!(store.create(&key, b"two"), Err(StoreError::KeyExists));
        assert_eq!(&store.get(&key).unwrap()[..], b"one");
        for other in ["my-a", "other", "my_b"] {
            store.create(&name(other), b"x").unwrap();
        }
        assert_eq!(store.list("my").unwrap(), [name("my-a"), name("my-key"), name("my_b")]);
        store.delete(&key).unwrap();
        assert_eq!(store.delete(&key), Err(StoreError::KeyNotFound));
        assert!(store.status().is_ok());
    }

    #[test]
    fn a_troubled_store_fails_and_counts_as_told() {
        let store = TroubledStore::new();
        store.create(&name("a"), b"1").unwrap();
        let error = StoreError::Unreachable("gone".into());
        store.fail_with(Some(error.clone()));
        assert_eq!(store.get(&name("a")).unwrap_err(), error);
        assert_eq!(store.status().unwrap_err(), error);
        store.fail_with(None);
        store.get(&name("a")).unwrap();
        assert_eq!(store.gets(), 2);
    }

    #[test]
    fn a_held_call_waits_until_it_is_released() {
        let store = TroubledStore::new();
        store.hold();
        std::thread::scope(|scope| {
            let call = scope.spawn(|| store.create(&name("a"), b"1"));
            store.await_held(1);
            assert_eq!(store.inner.list("").unwrap(), [], "the call has not gone through");
            store.release();
            call.join().unwrap().unwrap();
        });
        assert_eq!(store.list("").unwrap(), [name("a")]);
    }
}
