//! A worker: one thread, one epoll instance, the listeners, and the connections that it keeps until they end.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use super::{
    Door, GRACE, Hub,
    conn::{Conn, Scratch},
    listen::Gate,
};
use crate::{
    http::Millis,
    sys::epoll::{Epoll, Event, Interest, Waker},
};

/// How often deadlines are looked at while there are connections.
const TICK_MS: i32 = 250;

/// How long a worker takes no connections after it has found no room for one.
const PAUSE_MS: i32 = 20;

/// How many connections a worker takes before it looks after those that it has.
const BATCH: usize = 16;

/// How often a worker looks whether something has come, and lets other threads go first, before it goes to sleep.
const LOOKS: usize = 2;

/// Token of the waker; connections count from 0 and never get there.
const WAKER: u64 = u64::MAX;

/// Tokens of the listeners are this and the ones above; connections do not get there, either.
const GATES: u64 = (u32::MAX as u64) << 32;

/// What other threads see of a worker.
pub(super) struct Worker {
    pub(super) epoll: Epoll,
    hub: Arc<Hub>,
    waker: Waker,
    table: Mutex<Table>,
    /// How many connections it has.
    pub(super) load: AtomicUsize,
}

/// Starts the threads of all workers, which take connections through `gates`.
pub(super) fn start(hub: &Arc<Hub>, gates: &[Arc<Gate>]) -> io::Result<Vec<(Arc<Worker>, JoinHandle<()>)>> {
    let all: Arc<[_]> = (0..hub.limits.workers)
        .map(|_| Worker::new(Arc::clone(hub)).map(Arc::new))
        .collect::<io::Result<_>>()?;
    let run = |worker: &Arc<Worker>| {
        let gates = gates.iter().map(|gate| Entrance { gate: Arc::clone(gate), is_watched: false }).collect();
        let mut entrances =
            Entrances { worker: Arc::clone(worker), all: Arc::clone(&all), gates, again: None };
        entrances.open()?;
        let thread = super::spawn("kes-worker", move || entrances.worker.clone().run(entrances))?;
        Ok((Arc::clone(worker), thread))
    };
    all.iter().map(run).collect()
}

/// The listeners, as one worker watches them.
struct Entrances {
    worker: Arc<Worker>,
    /// All workers, this one among them.
    all: Arc<[Arc<Worker>]>,
    gates: Vec<Entrance>,
    /// When to watch all of them again, if one was found with no room behind it.
    again: Option<Millis>,
}

struct Entrance {
    gate: Arc<Gate>,
    is_watched: bool,
}

impl Entrances {
    /// Watches all of them.
    fn open(&mut self) -> io::Result<()> {
        self.again = None;
        for (token, entrance) in (GATES..).zip(&mut self.gates).filter(|(_, entrance)| !entrance.is_watched) {
            self.worker.epoll.add(entrance.gate.as_fd(), token, Interest::Connections)?;
            entrance.is_watched = true;
        }
        Ok(())
    }

    /// Watches again those that were left alone.
    fn reopen(&mut self) {
        if let Err(error) = self.open() {
            self.gates.iter().for_each(|entrance| entrance.gate.complain(&error, &self.worker.hub));
            self.again = Some(self.worker.hub.now() + PAUSE_MS as u64);
        }
    }

    /// Watches none of them.
    fn close(&mut self) {
        self.again = None;
        for entrance in self.gates.iter_mut().filter(|entrance| entrance.is_watched) {
            entrance.is_watched = false;
            let _ = self.worker.epoll.remove(entrance.gate.as_fd());
        }
    }

    /// Takes connections at the listener of `token`; without room for them, leaves it alone for a while.
    fn admit(&mut self, token: u64) {
        let Some(entrance) = self.gates.get_mut((token - GATES) as usize) else { return };
        for _ in 0..BATCH {
            match entrance.gate.accept(&self.worker.hub) {
                // A connection that cannot be watched is closed by being dropped.
                Ok(Some((socket, remote))) => {
                    drop(keeper(&self.worker, &self.all).adopt(socket, remote, entrance.gate.door()));
                }
                Ok(None) => return,
                Err(error) => {
                    entrance.gate.complain(&error, &self.worker.hub);
                    entrance.is_watched = self.worker.epoll.remove(entrance.gate.as_fd()).is_err();
                    self.again = Some(self.worker.hub.now() + PAUSE_MS as u64);
                    return;
                }
            }
        }
    }
}

/// Who gets a connection that `taker` has taken.
fn keeper<'a>(taker: &'a Arc<Worker>, all: &'a [Arc<Worker>]) -> &'a Arc<Worker> {
    let load = |worker: &Arc<Worker>| worker.load.load(Ordering::Relaxed);
    // To hand it over costs more than to keep it, but long-lived connections must not all be with one worker: the kernel
    // wakes the same one as long as it has nothing to do.
    let uneven = 1 + load(taker) / 4;
    match all.iter().min_by_key(|worker| load(worker)) {
        Some(least) if load(least) + uneven <= load(taker) => least,
        _ => taker,
    }
}

impl Worker {
    fn new(hub: Arc<Hub>) -> io::Result<Self> {
        let (epoll, waker) = (Epoll::new()?, Waker::new()?);
        epoll.add(waker.as_fd(), WAKER, Interest::Read)?;
        Ok(Self { epoll, hub, waker, table: Mutex::default(), load: AtomicUsize::new(0) })
    }

    /// Takes over a new connection, for which there is a place.
    fn adopt(self: &Arc<Self>, socket: TcpStream, remote: SocketAddr, door: Door) -> io::Result<()> {
        let metrics = &self.hub.api.metrics().net;
        let conn = {
            let mut table = self.table();
            if table.is_closed {
                self.hub.leave(door);
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.load.fetch_add(1, Ordering::Relaxed);
            metrics.accepted.add();
            metrics.open.change(1);
            let token = table.reserve();
            let conn = Conn::new(socket, remote, door, token, Arc::clone(&self.hub), Arc::clone(self));
            table.put(token, Arc::clone(&conn));
            conn
        };
        let watched = conn.watch();
        if watched.is_err() {
            self.remove(conn.token());
        }
        watched
    }

    /// Forgets a connection; it is closed when nobody holds it any more.
    pub(super) fn remove(&self, token: u64) {
        let removed = self.table().take(token);
        if let Some(conn) = removed {
            self.load.fetch_sub(1, Ordering::Relaxed);
            self.hub.api.metrics().net.open.change(-1);
            self.hub.leave(conn.door());
        }
    }

    /// Makes the thread look at `stopping`.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    fn run(&self, mut entrances: Entrances) {
        let mut events = [Event::empty(); 256];
        let mut scratch = Scratch::new();
        let mut last_tick = self.hub.now();
        let mut stop_at = None;
        loop {
            let timeout = match (stop_at, entrances.again) {
                (Some(_), _) => 10,
                (_, Some(_)) => PAUSE_MS,
                _ => TICK_MS,
            };
            let ready = self.await_events(&mut events, timeout);
            // Before the events: what has come in time is in time, however long the work on the others takes.
            let now = self.hub.now();
            for event in ready {
                if event.token() == WAKER {
                    self.waker.lower();
                } else if event.token() >= GATES {
                    // As with connections, a panic costs the one thing that it was about.
                    let _ = catch_unwind(AssertUnwindSafe(|| entrances.admit(event.token())));
                } else if let Some(conn) = self.find(event.token()) {
                    guard(&conn, |conn| conn.on_event(now, event.is_broken(), &mut scratch));
                }
            }
            if now - last_tick >= TICK_MS as u64 {
                last_tick = now;
                self.expire(now);
            }
            if !self.hub.stopping.load(Ordering::Acquire) {
                if entrances.again.is_some_and(|again| again <= now) {
                    entrances.reopen();
                }
                continue;
            }
            entrances.close();
            let deadline = *stop_at.get_or_insert_with(|| {
                self.table().is_closed = true;
                self.all().iter().for_each(|conn| guard(conn, |conn| conn.shut_down()));
                Instant::now() + GRACE
            });
            if self.table().is_empty() || Instant::now() >= deadline {
                self.all().iter().for_each(|conn| conn.cut());
                return;
            }
        }
    }

    /// Waits up to `timeout` milliseconds for events. To sleep and be woken costs more than to look again, and while others
    /// have their turn more than one event may come.
    fn await_events<'a>(&self, events: &'a mut [Event], timeout: i32) -> &'a [Event] {
        for _ in 0..LOOKS {
            let count = self.epoll.wait(events, 0).map_or(0, <[_]>::len);
            if count > 0 {
                return &events[..count];
            }
            std::thread::yield_now();
        }
        self.epoll.wait(events, timeout).unwrap_or(&[])
    }

    /// Ends what has taken too long; when there is little room left, also connections that do nothing.
    fn expire(&self, now: u64) {
        let crowded = self.hub.is_crowded();
        let due: Vec<_> =
            self.table().iter().filter(|conn| crowded || conn.deadline() <= now).cloned().collect();
        for conn in due {
            guard(&conn, |conn| if conn.deadline() <= now { conn.expire() } else { conn.make_room(now) });
        }
    }

    fn find(&self, token: u64) -> Option<Arc<Conn>> {
        self.table().get(token)
    }

    fn all(&self) -> Vec<Arc<Conn>> {
        self.table().iter().cloned().collect()
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one step of a connection; a panic costs that connection and nothing else.
fn guard(conn: &Arc<Conn>, step: impl FnOnce(&Conn)) {
    if catch_unwind(AssertUnwindSafe(|| step(conn))).is_err() {
        conn.cut();
    }
}

/// Connections by token. A token is an index and the number of times that its place was used, so that an event of a
/// closed connection never reaches its successor.
#[derive(Default)]
struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    /// No more are taken.
    is_closed: bool,
}

#[derive(Default)]
struct Place {
    generation: u32,
    conn: Option<Arc<Conn>>,
}

impl Table {
    /// The token of a free place.
    fn reserve(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        u64::from(self.places[index as usize].generation) << 32 | u64::from(index)
    }

    fn put(&mut self, token: u64, conn: Arc<Conn>) {
        self.places[token as u32 as usize].conn = Some(conn);
    }

    fn get(&self, token: u64) -> Option<Arc<Conn>> {
        let place = self.places.get(token as u32 as usize)?;
        (u64::from(place.generation) == token >> 32).then(|| place.conn.clone())?
    }

    fn take(&mut self, token: u64) -> Option<Arc<Conn>> {
        let place = self.places.get_mut(token as u32 as usize)?;
        if u64::from(place.generation) != token >> 32 {
            return None;
        }
        let conn = place.conn.take()?;
        // The highest generation is left out, so that no token equals the waker's or a listener's.
        place.generation = if place.generation >= u32::MAX - 1 { 0 } else { place.generation + 1 };
        self.free.push(token as u32);
        Some(conn)
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Conn>> {
        self.places.iter().filter_map(|place| place.conn.as_ref())
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
