//! Keys in memory between uses: a map by name, a mark for use, and one fetch per name at a time.
//! Knows nothing of stores; time is told to it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{CacheExpiry, KeyVersion, KeyringError, Waiter};
use crate::name::KeyName;

/// The keys of a [`super::Keyring`] that are in memory, and the fetches under way.
pub struct Cache {
    entries: RwLock<HashMap<KeyName, Entry>>,
    fetches: Mutex<HashMap<KeyName, Fetch>>,
    expiry: CacheExpiry,
    swept: Mutex<Swept>,
}

struct Entry {
    key: Arc<KeyVersion>,
    used: AtomicBool,
}

/// A fetch that was begun, or is about to be.
#[derive(Default)]
struct Fetch {
    waiters: Vec<Waiter>,
    /// The key was deleted or made anew after the fetch began: its result must not stay in the cache.
    outdated: bool,
    /// Who came after that: they must not get what the fetch finds.
    later: Vec<Waiter>,
}

/// How many sweeps of each kind were done.
#[derive(Default)]
struct Swept {
    any: u128,
    unused: u128,
    offline: u128,
}

impl Cache {
    /// An empty cache.
    pub fn new(expiry: CacheExpiry) -> Self {
        Self { entries: RwLock::default(), fetches: Mutex::default(), expiry, swept: Mutex::default() }
    }

    /// The cached key; marks it as used.
    pub fn get(&self, name: &KeyName) -> Option<Arc<KeyVersion>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(name)?;
        // A store only where it changes something keeps the line shared between the processors.
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(&entry.key))
    }

    /// Adds one who waits for the key; `true` if there was no fetch yet, so that the caller has to see to it.
    pub fn wait_for(&self, name: &KeyName, waiter: Waiter) -> bool {
        let mut fetches = self.fetches();
        if let Some(fetch) = fetches.get_mut(name) {
            if fetch.outdated {
                fetch.later.push(waiter)
            } else {
                fetch.waiters.push(waiter)
            }
            return false;
        }
        fetches.insert(name.clone(), Fetch { waiters: vec![waiter], ..Fetch::default() });
        true
    }

    /// Ends the fetch of `name`: keeps the key and tells all who wait; no lock is held while they are told. `true` if
    /// somebody has come who must not get this result, so that the caller has to fetch again.
    pub fn finish(&self, name: &KeyName, result: &Result<Arc<KeyVersion>, KeyringError>) -> bool {
        let mut fetches = self.fetches();
        let Some(fetch) = fetches.remove(name) else { return false };
        // Still under the lock of the fetches, so that a deletion comes either before this or removes the entry.
        if let (Ok(key), false) = (result, fetch.outdated) {
            let entry = Entry { key: Arc::clone(key), used: AtomicBool::new(true) };
            self.entries.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), entry);
        }
        let again = !fetch.later.is_empty();
        if again {
            fetches.insert(name.clone(), Fetch { waiters: fetch.later, ..Fetch::default() });
        }
        drop(fetches);
        for waiter in fetch.waiters {
            waiter(result.clone());
        }
        again
    }

    /// Drops the key, and lets no fetch under way put it back.
    pub fn remove(&self, name: &KeyName) {
        let mut fetches = self.fetches();
        if let Some(fetch) = fetches.get_mut(name) {
            fetch.outdated = true;
        }
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Does the sweeps that are due `elapsed` after the cache was made (`server-api` §6.2).
    pub fn sweep(&self, elapsed: Duration, is_offline: bool) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let keeps_all = is_offline && !self.expiry.offline.is_zero();
        let any = is_due(&mut swept.any, elapsed, self.expiry.any);
        let unused = is_due(&mut swept.unused, elapsed, self.expiry.unused / 2);
        let offline = is_due(&mut swept.offline, elapsed, self.expiry.offline);
        let drop_all = if keeps_all { offline } else { any };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if drop_all {
            entries.clear();
        } else if unused && !keeps_all {
            entries.retain(|_, entry| std::mem::take(entry.used.get_mut()));
        }
    }

    fn fetches(&self) -> MutexGuard<'_, HashMap<KeyName, Fetch>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a new period has begun since the last time; a period of zero never does.
fn is_due(done: &mut u128, elapsed: Duration, period: Duration) -> bool {
    let Some(now) = elapsed.as_nanos().checked_div(period.as_nanos()) else { return false };
    now > std::mem::replace(done, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache(any: u32, unused: u32, offline: u32) -> Cache {
        Cache::new(CacheExpiry { any: MINUTE * any, unused: MINUTE * unused, offline: MINUTE * offline })
    }

    fn name(text: &str) -> KeyName {
        KeyName::parse(text).unwrap()
    }

    fn put(cache: &Cache, text: &str) {
        assert!(cache.wait_for(&name(text), Box::new(|_| ())));
        cache.finish(&name(text), &Ok(Arc::new(KeyVersion::generate("me").unwrap())));
    }

    #[test]
    fn all_keys_go_after_the_any_expiry() {
        let cache = cache(5, 0, 0);
        put(&cache, "a");
        cache.sweep(MINUTE * 4, false);
        assert!(cache.get(&name("a")).is_some());
        cache.sweep(MINUTE * 5, false);
        assert!(cache.get(&name("a")).is_none());
    }

    #[test]
    fn a_key_that_is_not_used_goes_after_two_half_periods() {
        let cache = cache(0, 2, 0);
        put(&cache, "used");
        put(&cache, "idle");
        cache.sweep(MINUTE, false);
        assert!(cache.get(&name("used")).is_some());
        cache.sweep(MINUTE * 2, false);
        assert!(cache.get(&name("used")).is_some());
        assert!(cache.get(&name("idle")).is_none());
    }

    #[test]
    fn while_the_store_is_away_only_the_offline_expiry_counts() {
        let cache = cache(1, 1, 10);
        put(&cache, "a");
        (1..10).for_each(|minute| cache.sweep(MINUTE * minute, true));
        assert!(cache.get(&name("a")).is_some());
        cache.sweep(MINUTE * 10, true);
        assert!(cache.get(&name("a")).is_none());
    }

    #[test]
    fn without_an_offline_expiry_keys_go_as_usual() {
        let cache = cache(1, 0, 0);
        put(&cache, "a");
        cache.sweep(MINUTE, true);
        assert!(cache.get(&name("a")).is_none());
    }

    #[test]
    fn who_comes_after_a_deletion_does_not_get_the_result_of_an_older_fetch() {
        let cache = cache(0, 0, 0);
        let told = Arc::new(Mutex::new(Vec::new()));
        let waiter = |who: &'static str| -> Waiter {
            let told = Arc::clone(&told);
            Box::new(move |result| told.lock().unwrap().push((who, result.is_ok())))
        };
        assert!(cache.wait_for(&name("a"), waiter("before")));
        cache.remove(&name("a"));
        assert!(!cache.wait_for(&name("a"), waiter("after")));
        assert!(cache.finish(&name("a"), &Ok(Arc::new(KeyVersion::generate("me").unwrap()))));
        assert_eq!(*told.lock().unwrap(), [("before", true)]);
        assert!(!cache.finish(&name("a"), &Err(KeyringError::Abandoned)));
        assert_eq!(told.lock().unwrap()[1], ("after", false));
    }

    #[test]
    fn a_key_deleted_during_its_fetch_does_not_come_back() {
        let cache = cache(0, 0, 0);
        let told = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&told);
        assert!(
            cache.wait_for(&name("a"), Box::new(move |result| tell.store(result.is_ok(), Ordering::Relaxed)))
        );
        cache.remove(&name("a"));
        cache.finish(&name("a"), &Ok(Arc::new(KeyVersion::generate("me").unwrap())));
        assert!(told.load(Ordering::Relaxed), "who waited since before the deletion gets the key");
        assert!(cache.get(&name("a")).is_none());
    }
}
