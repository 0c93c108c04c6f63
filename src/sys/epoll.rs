//! Readiness of many sockets (epoll, level-triggered) and a way to wake who waits for it.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::checked;

/// What a descriptor is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Nothing but errors and the end of the connection in both directions, which epoll always reports.
    Errors,
    /// Bytes to read.
    Read,
    /// Room to write.
    Write,
    /// Connections to accept, of which each is told to one of the instances that watch the listener.
    Connections,
}

impl Interest {
    fn bits(self) -> u32 {
        (match self {
            Self::Errors => 0,
            Self::Read => libc::EPOLLIN,
            Self::Write => libc::EPOLLOUT,
            Self::Connections => libc::EPOLLIN | libc::EPOLLEXCLUSIVE,
        }) as u32
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// A place for [`Epoll::wait`] to fill.
    pub const fn empty() -> Self {
        Self(libc::epoll_event { events: 0, u64: 0 })
    }

    /// The token that the descriptor was added with.
    pub fn token(&self) -> u64 {
        self.0.u64
    }

    /// The connection has failed or ended in both directions.
    pub fn is_broken(&self) -> bool {
        self.0.events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0
    }
}

/// An epoll instance. Descriptors leave it also by being closed.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new instance; fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd`; events carry `token`.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what a watched descriptor is watched for.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Ceases to watch `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::Errors)
    }

    /// Waits up to `timeout_ms` (negative: for ever) and returns the events, none after a signal or the time.
    pub fn wait<'a>(&self, events: &'a mut [Event], timeout_ms: i32) -> io::Result<&'a [Event]> {
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: `Event` is a transparent `epoll_event`, and the kernel writes at most `room` of them.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), room, timeout_ms) };
        match checked(n) {
            Ok(n) => Ok(&events[..n as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }

    fn control(&self, op: i32, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: both descriptors are open for the call, and `event` lives until it returns.
        checked(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), &mut event) }).map(|_| ())
    }
}

/// A counter that makes an [`Epoll::wait`] return.
pub struct Waker(OwnedFd);

impl Waker {
    /// A new waker; fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = checked(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: `fd` was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever waits. A waker that is already raised stays raised.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: the eight bytes of `one` are read during the call.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Lowers the waker.
    pub fn lower(&self) {
        let mut count = 0u64;
        // SAFETY: at most the eight bytes of `count` are written during the call.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl std::os::fd::AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_waker_ends_the_wait_until_it_is_lowered() {
        let (epoll, waker) = (Epoll::new().unwrap(), Waker::new().unwrap());
        epoll.add(waker.as_fd(), 7, Interest::Read).unwrap();
        let mut events = [Event::empty(); 4];
        assert!(epoll.wait(&mut events, 0).unwrap().is_empty());
        waker.wake();
        waker.wake();
        let ready = epoll.wait(&mut events, -1).unwrap();
        assert_eq!((ready.len(), ready[0].token(), ready[0].is_broken()), (1, 7, false));
        waker.lower();
        assert!(epoll.wait(&mut events, 0).unwrap().is_empty());
    }

    #[test]
    fn an_interest_can_be_changed() {
        let (epoll, waker) = (Epoll::new().unwrap(), Waker::new().unwrap());
        epoll.add(waker.as_fd(), 1, Interest::Errors).unwrap();
        waker.wake();
        let mut events = [Event::empty(); 4];
        assert!(epoll.wait(&mut events, 0).unwrap().is_empty());
        epoll.modify(waker.as_fd(), 1, Interest::Read).unwrap();
        assert_eq!(epoll.wait(&mut events, 0).unwrap().len(), 1);
    }
}
