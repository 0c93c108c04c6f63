//! The accept thread: takes connections, keeps to the ceiling, deals them out to the workers.

use std::{
    io,
    net::TcpListener,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Door, Hub, worker::Worker};
use crate::sys::epoll::{Epoll, Event, Interest, Waker};

/// How long to wait before accepting again when there is no room for a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// How often at most the log says that there is no room.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Starts the thread. It ends, and gives the listener up, when the end was called for.
pub(super) fn start(
    listener: super::Listener,
    door: Door,
    hub: Arc<Hub>,
    workers: Vec<Arc<Worker>>,
) -> io::Result<(End, JoinHandle<()>)> {
    let socket = Arc::new(listener.socket);
    let (end, wait) = match listener.is_shared {
        false => (End::Shutdown(Arc::clone(&socket)), None),
        true => {
            socket.set_nonblocking(true)?;
            let (epoll, waker) = (Epoll::new()?, Arc::new(Waker::new()?));
            epoll.add(socket.as_fd(), 0, Interest::Read)?;
            epoll.add(waker.as_fd(), 1, Interest::Read)?;
            (End::Wake(waker), Some(epoll))
        }
    };
    let thread = super::spawn("kes-listen", move || {
        let mut acceptor = Acceptor { socket, wait, door, hub, workers, next: 0, complained: None };
        while !acceptor.hub.stopping.load(Ordering::Acquire) {
            if let Err(error) = acceptor.accept() {
                acceptor.complain(&error);
                std::thread::sleep(PAUSE);
            }
        }
    })?;
    Ok((end, thread))
}

/// How to end the wait of an accept thread for a connection.
pub(super) enum End {
    /// The socket stops listening, so that it refuses connections at once.
    Shutdown(Arc<TcpListener>),
    /// The socket is also somebody else's, who goes on listening: the thread is woken.
    Wake(Arc<Waker>),
}

impl End {
    /// Ends the wait. `stopping` must have been set.
    pub(super) fn call(&self) {
        match self {
            Self::Shutdown(socket) => {
                let _ = crate::sys::network::stop_listening(socket.as_fd());
            }
            Self::Wake(waker) => waker.wake(),
        }
    }
}

struct Acceptor {
    socket: Arc<TcpListener>,
    /// Where to wait before accepting, if accepting itself does not wait.
    wait: Option<Epoll>,
    door: Door,
    hub: Arc<Hub>,
    workers: Vec<Arc<Worker>>,
    next: usize,
    complained: Option<Instant>,
}

impl Acceptor {
    /// Waits for a connection and hands it on. An error means that there is no room for another one now.
    fn accept(&mut self) -> io::Result<()> {
        if self.hub.open.load(Ordering::Relaxed) >= self.hub.limits.connections {
            return Err(io::Error::other("too many open connections"));
        }
        if self.door == Door::Probe && self.hub.probes.load(Ordering::Relaxed) >= self.hub.limits.probes {
            return Err(io::Error::other("too many open connections for probes"));
        }
        if let Some(epoll) = &self.wait {
            epoll.wait(&mut [Event::empty(); 2], -1)?;
            if self.hub.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
        }
        match crate::sys::network::accept(&self.socket) {
            Ok((socket, remote)) => {
                let worker = &self.workers[self.next % self.workers.len()];
                self.next = self.next.wrapping_add(1);
                // A connection that cannot be watched is closed by being dropped.
                let _ = worker.adopt(socket, remote, self.door);
                Ok(())
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Err(error),
                // All else is about the connection that was to be accepted (accept(2)), or the end.
                _ => Ok(()),
            },
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            self.hub.api.log().warn(&format!("cannot accept connections: {error}; clients wait"));
        }
    }
}
