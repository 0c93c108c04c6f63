//! What a service manager tells the process, and is told by it: inherited listeners (`LISTEN_FDS`, sd_listen_fds(3)) and
//! notices (`NOTIFY_SOCKET`, sd_notify(3)).

use std::{
    ffi::OsStr,
    io,
    net::TcpListener,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
};

use super::checked;

/// The first descriptor that a service manager hands over.
const FIRST: RawFd = 3;

/// A listener that was handed over, with its name (`FileDescriptorName=`; empty if it has none).
#[derive(Debug)]
pub struct Inherited {
    /// The name.
    pub name: String,
    /// The socket.
    pub listener: TcpListener,
}

/// The listeners that the service manager has handed over. To be called once, before the process opens anything. Fails
/// if one of them is no TCP socket that listens.
pub fn listeners() -> io::Result<Vec<Inherited>> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Ok(Vec::new());
    }
    let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0).clamp(0, 64);
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':');
    (FIRST..FIRST + count)
        .map(|fd| {
            let name = names.next().unwrap_or_default().to_owned();
            let is_listening = option(fd, libc::SO_ACCEPTCONN).is_ok_and(|on| on != 0);
            let is_tcp =
                option(fd, libc::SO_DOMAIN).is_ok_and(|it| it == libc::AF_INET || it == libc::AF_INET6);
            if !is_listening || !is_tcp {
                let text = format!("LISTEN_FDS: descriptor {fd} is no TCP socket that listens");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            // SAFETY: `fd` is open, as the call above has shown, and by the protocol of sd_listen_fds(3) it belongs to this
            // process, which takes it here once.
            let owned = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: no pointers; the descriptor is open. It must not be inherited further.
            checked(unsafe { libc::fcntl(owned.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
            let listener = TcpListener::from(owned);
            Ok(Inherited { name, listener })
        })
        .collect()
}

fn option(fd: RawFd, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`; a closed descriptor is an error.
    let done =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut length) };
    checked(done).map(|_| value)
}

/// Tells the service manager something, such as `READY=1`; nothing happens if there is none.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

/// Microseconds of the clock that a service manager compares reloads by (CLOCK_MONOTONIC).
pub fn monotonic_micros() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on() {
        let first = monotonic_micros();
        assert!(first > 0 && monotonic_micros() >= first);
    }

    #[test]
    fn options_of_sockets_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(option(listener.as_raw_fd(), libc::SO_ACCEPTCONN).unwrap(), 1);
        assert_eq!(option(listener.as_raw_fd(), libc::SO_DOMAIN).unwrap(), libc::AF_INET);
        assert!(option(-1, libc::SO_ACCEPTCONN).is_err());
    }
}
