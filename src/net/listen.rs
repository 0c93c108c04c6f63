//! How connections come in: every worker watches every listener, and one that waits takes the connection. That spares the
//! hand-over from a thread of its own, a twentieth of what a new connection costs (`docs/performance.md`).

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Door, Hub};
use crate::sys::network;

/// How often at most the log says that there is no room.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// A listener, as the workers share it.
pub(super) struct Gate {
    socket: TcpListener,
    door: Door,
    is_shared: bool,
    complained: Mutex<Option<Instant>>,
}

impl Gate {
    /// Makes `listener` ready for workers that must not wait.
    pub(super) fn new(listener: super::Listener, door: Door) -> io::Result<Self> {
        let super::Listener { socket, is_shared } = listener;
        socket.set_nonblocking(true)?;
        network::set_nodelay(socket.as_fd())?;
        Ok(Self { socket, door, is_shared, complained: Mutex::default() })
    }

    /// What comes through it.
    pub(super) fn door(&self) -> Door {
        self.door
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes a connection, for which there is a place in `hub` then; `None` if nobody waits for one. An error means that
    /// there is no room for another one now.
    pub(super) fn accept(&self, hub: &Hub) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        if hub.stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
        hub.enter(self.door)?;
        let accepted = network::accept(&self.socket);
        if accepted.is_err() {
            hub.leave(self.door);
        }
        match accepted {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Err(error),
                // Nobody is there; or it is about the connection that was to be accepted (accept(2)), or the end.
                _ => Ok(None),
            },
        }
    }

    /// Says in the log that nobody comes in just now.
    pub(super) fn complain(&self, error: &io::Error, hub: &Hub) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
        if is_due {
            *complained = Some(Instant::now());
        }
        drop(complained);
        if is_due {
            hub.api.log().warn(&format!("cannot accept connections: {error}; clients wait"));
        }
    }

    /// Refuses connections from now on, unless the socket is also somebody else's, who goes on listening.
    pub(super) fn shut(&self) {
        if !self.is_shared {
            let _ = network::stop_listening(self.socket.as_fd());
        }
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
