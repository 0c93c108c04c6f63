//! A worker: one thread, one epoll instance, and the connections that it keeps until they end.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Instant,
};

use super::{
    Door, GRACE, Hub,
    conn::{Conn, Scratch},
};
use crate::sys::epoll::{Epoll, Event, Interest, Waker};

/// How often deadlines are looked at while there are connections.
const TICK_MS: i32 = 250;

/// Token of the waker; connections count from 0 and never get there.
const WAKER: u64 = u64::MAX;

/// What other threads see of a worker.
pub(super) struct Worker {
    pub(super) epoll: Epoll,
    hub: Arc<Hub>,
    waker: Waker,
    table: Mutex<Table>,
}

/// Starts a worker's thread.
pub(super) fn start(hub: Arc<Hub>) -> io::Result<(Arc<Worker>, JoinHandle<()>)> {
    let (epoll, waker) = (Epoll::new()?, Waker::new()?);
    epoll.add(waker.as_fd(), WAKER, Interest::Read)?;
    let worker = Arc::new(Worker { epoll, hub, waker, table: Mutex::default() });
    let thread = super::spawn("kes-worker", {
        let worker = Arc::clone(&worker);
        move || worker.run()
    })?;
    Ok((worker, thread))
}

impl Worker {
    /// Takes over a new connection.
    pub(super) fn adopt(
        self: &Arc<Self>,
        socket: TcpStream,
        remote: SocketAddr,
        door: Door,
    ) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let conn = {
            let mut table = self.table();
            let token = table.reserve();
            let conn = Conn::new(socket, remote, door, token, Arc::clone(&self.hub), Arc::clone(self));
            table.put(token, Arc::clone(&conn));
            conn
        };
        self.hub.count(door);
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
            self.hub.forget(conn.door());
        }
    }

    /// Makes the thread look at `stopping`.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    fn run(&self) {
        let mut events = [Event::empty(); 256];
        let mut scratch = Scratch::new();
        let mut last_tick = self.hub.now();
        let mut stop_at = None;
        loop {
            let timeout = if stop_at.is_some() { 10 } else { TICK_MS };
            let ready = self.epoll.wait(&mut events, timeout).unwrap_or(&[]);
            // Before the events: what has come in time is in time, however long the work on the others takes.
            let now = self.hub.now();
            for event in ready {
                if event.token() == WAKER {
                    self.waker.lower();
                } else if let Some(conn) = self.find(event.token()) {
                    guard(&conn, |conn| conn.on_event(event.is_broken(), &mut scratch));
                }
            }
            if now - last_tick >= TICK_MS as u64 {
                last_tick = now;
                self.expire(now);
            }
            if !self.hub.stopping.load(Ordering::Acquire) {
                continue;
            }
            let deadline = *stop_at.get_or_insert_with(|| {
                self.all().iter().for_each(|conn| guard(conn, |conn| conn.shut_down()));
                Instant::now() + GRACE
            });
            if self.table().is_empty() || Instant::now() >= deadline {
                self.all().iter().for_each(|conn| conn.cut());
                return;
            }
        }
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
        // The highest generation is left out, so that no token equals the waker's.
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
