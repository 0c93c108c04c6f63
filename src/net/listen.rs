//! The accept thread: takes connections, keeps to the ceiling, deals them out to the workers.

use std::{
    io,
    net::TcpListener,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Hub, worker::Worker};
use crate::sys::{epoll::Waker, network::wait_readable};

/// How long to wait before accepting again when there is no room for a connection.
const PAUSE_MS: i32 = 20;

/// How often at most the log says that there is no room.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Starts the thread. It ends, and closes the listener, when `stop` is raised.
pub(super) fn start(
    listener: TcpListener,
    hub: Arc<Hub>,
    workers: Vec<Arc<Worker>>,
    stop: Arc<Waker>,
) -> io::Result<JoinHandle<()>> {
    super::spawn("kes-listen", move || {
        let mut acceptor = Acceptor { listener, hub, workers, next: 0, complained: None };
        loop {
            let (_, stopped) = wait_readable(acceptor.listener.as_fd(), stop.as_fd(), -1);
            if stopped {
                return;
            }
            if let Err(error) = acceptor.accept_all() {
                acceptor.complain(&error);
                // `stop` is watched twice: the listener stays readable and would end the wait at once.
                if wait_readable(stop.as_fd(), stop.as_fd(), PAUSE_MS).0 {
                    return;
                }
            }
        }
    })
}

struct Acceptor {
    listener: TcpListener,
    hub: Arc<Hub>,
    workers: Vec<Arc<Worker>>,
    next: usize,
    complained: Option<Instant>,
}

impl Acceptor {
    /// Accepts until nobody waits any more. An error means that there is no room for another connection now.
    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            if self.hub.open.load(Ordering::Relaxed) >= self.hub.limits.connections {
                return Err(io::Error::other("too many open connections"));
            }
            match self.listener.accept() {
                Ok((socket, remote)) => {
                    let worker = &self.workers[self.next % self.workers.len()];
                    self.next = self.next.wrapping_add(1);
                    // A connection that cannot be watched is closed by being dropped.
                    let _ = worker.adopt(socket, remote);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(()),
                    // Errors of the connection that was about to be accepted (accept(2)).
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return Err(error),
                    _ => {}
                },
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            self.hub.api.log().warn(&format!("cannot accept connections: {error}; clients wait"));
        }
    }
}
