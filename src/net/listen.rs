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

/// How long to wait before accepting again when there is no room for a connection.
const PAUSE: Duration = Duration::from_millis(20);

/// How often at most the log says that there is no room.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Starts the thread. It ends, and closes the listener, when [`stop`] was called.
pub(super) fn start(
    listener: Arc<TcpListener>,
    door: Door,
    hub: Arc<Hub>,
    workers: Vec<Arc<Worker>>,
) -> io::Result<JoinHandle<()>> {
    super::spawn("kes-listen", move || {
        let mut acceptor = Acceptor { listener, door, hub, workers, next: 0, complained: None };
        while !acceptor.hub.stopping.load(Ordering::Acquire) {
            if let Err(error) = acceptor.accept() {
                acceptor.complain(&error);
                std::thread::sleep(PAUSE);
            }
        }
    })
}

/// Ends the wait of the accept thread for a connection. `stopping` must have been set.
pub(super) fn stop(listener: &TcpListener) {
    // A listener that does not listen any more refuses connections at once.
    let _ = crate::sys::network::stop_listening(listener.as_fd());
}

struct Acceptor {
    listener: Arc<TcpListener>,
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
        match crate::sys::network::accept(&self.listener) {
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
