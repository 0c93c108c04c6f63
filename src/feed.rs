//! Hands events to whoever listens to a log stream, at once and without waiting for anybody (`server-api` §7.5).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::name::Identity;

/// Most listeners of one feed. Each of them costs the one who publishes an event a little time.
const MAX_LISTENERS: usize = 64;

/// One who wants to be told of events.
pub trait Listen: Send + Sync {
    /// Takes one event, a finished line. Must not wait; an event that cannot be taken is lost.
    fn tell(&self, event: &Arc<[u8]>);

    /// Nothing more comes.
    fn end(&self);
}

/// A listener and who it is, if that is known.
struct Entry {
    id: u64,
    caller: Option<Identity>,
    listener: Arc<dyn Listen>,
}

/// One stream of events and those who listen to it.
#[derive(Default)]
pub struct Feed {
    listeners: Mutex<Vec<Entry>>,
    /// Their number, for a look without the lock.
    count: AtomicUsize,
    next: AtomicU64,
    told: AtomicU64,
    lost: Arc<AtomicU64>,
}

impl Feed {
    /// Adds a listener, until the subscription is dropped; `None` if there are too many.
    pub fn subscribe(
        self: &Arc<Self>,
        listener: Arc<dyn Listen>,
        caller: Option<Identity>,
    ) -> Option<Subscription> {
        let mut listeners = self.listeners();
        if listeners.len() >= MAX_LISTENERS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        listeners.push(Entry { id, caller, listener });
        self.count.store(listeners.len(), Ordering::Relaxed);
        Some(Subscription { feed: Arc::clone(self), id })
    }

    /// Tells everyone the event that `make` makes; without listeners it is not even made.
    pub fn publish(&self, make: impl FnOnce() -> Vec<u8>) {
        if self.listening() == 0 {
            return;
        }
        let event: Arc<[u8]> = make().into();
        // Outside the lock: telling one may end the subscription of another.
        let listeners: Vec<_> = self.listeners().iter().map(|entry| Arc::clone(&entry.listener)).collect();
        for listener in listeners {
            self.told.fetch_add(1, Ordering::Relaxed);
            listener.tell(&event);
        }
    }

    /// Ends the streams of all those who may not listen any more.
    pub fn keep(&self, may_listen: impl Fn(Option<&Identity>) -> bool) {
        let ended: Vec<_> = {
            let mut listeners = self.listeners();
            let ended = listeners.extract_if(.., |entry| !may_listen(entry.caller.as_ref())).collect();
            self.count.store(listeners.len(), Ordering::Relaxed);
            ended
        };
        // Outside the lock, as each of them ends its subscription.
        ended.iter().for_each(|entry| entry.listener.end());
    }

    /// How many listen.
    pub fn listening(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Events times listeners so far.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Counts the events that listeners have lost.
    pub fn lost(&self) -> &Arc<AtomicU64> {
        &self.lost
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({} listeners)", self.listening())
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut listeners = self.feed.listeners();
        listeners.retain(|entry| entry.id != self.id);
        self.feed.count.store(listeners.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Ear(Mutex<Vec<Arc<[u8]>>>);

    impl Listen for Ear {
        fn tell(&self, event: &Arc<[u8]>) {
            self.0.lock().unwrap().push(Arc::clone(event));
        }

        fn end(&self) {}
    }

    #[test]
    fn events_reach_those_who_listen_and_nobody_else() {
        let feed = Arc::new(Feed::default());
        feed.publish(|| panic!("nobody listens"));
        let (first, second) = (Arc::new(Ear::default()), Arc::new(Ear::default()));
        let subscription = feed.subscribe(Arc::clone(&first) as _, None).unwrap();
        let _other = feed.subscribe(Arc::clone(&second) as _, None).unwrap();
        feed.publish(|| b"one".to_vec());
        drop(subscription);
        feed.publish(|| b"two".to_vec());
        assert_eq!(first.0.lock().unwrap().len(), 1);
        assert_eq!(second.0.lock().unwrap().len(), 2);
        assert_eq!((feed.told(), feed.listening()), (3, 1));
    }

    #[test]
    fn the_number_of_listeners_is_bounded() {
        let feed = Arc::new(Feed::default());
        let all: Vec<_> =
            (0..MAX_LISTENERS).map(|_| feed.subscribe(Arc::new(Ear::default()), None).unwrap()).collect();
        assert!(feed.subscribe(Arc::new(Ear::default()), None).is_none());
        drop(all);
        assert!(feed.subscribe(Arc::new(Ear::default()), None).is_some());
    }
}
