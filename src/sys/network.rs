//! What sockets can do beyond the standard library.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::checked;

/// Sets how many connections may wait to be accepted; the standard library's 128 is little for a MinIO that dials
/// hundreds at once. The kernel caps it at `net.core.somaxconn`.
pub fn set_backlog(listener: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers; listening again on a listening socket only changes its backlog (listen(2)).
    checked(unsafe { libc::listen(listener.as_raw_fd(), backlog) }).map(|_| ())
}

/// Sends what there is to send at once, however little (TCP_NODELAY). Connections take it over from their listener.
pub fn set_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// Takes a connection; waits for one if the listener blocks. Its socket does not; that spares the call to make it so.
pub fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut storage = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes at most `length` bytes of an address into `storage`.
    let fd = unsafe { libc::accept4(listener.as_raw_fd(), storage.as_mut_ptr().cast(), &mut length, flags) };
    let fd = checked(fd)?;
    // SAFETY: `fd` was just made and belongs to nobody else.
    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    // SAFETY: all bytes are initialised, by zeros and by the kernel, and the family tells which address it is.
    let remote = unsafe { socket_address(storage.as_ptr().cast()) };
    Ok((socket, remote.ok_or(io::ErrorKind::Unsupported)?))
}

/// Lets the kernel ask after a peer that says nothing: a connection to one that has vanished ends after about two minutes.
pub fn keep_alive(socket: BorrowedFd<'_>) -> io::Result<()> {
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 60),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 15),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 4),
    ];
    options.into_iter().try_for_each(|(level, option, value)| set_option(socket, level, option, value))
}

fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is an integer of `length` bytes that lives until the call returns.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) })
        .map(|_| ())
}

/// Makes a listening socket refuse connections; who waits to accept one gets an error.
pub fn stop_listening(listener: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RD) }).map(|_| ())
}

/// The addresses of the interfaces that are up, without link-local and multicast ones.
pub fn interface_addresses() -> Vec<IpAddr> {
    let mut list = std::ptr::null_mut();
    // SAFETY: getifaddrs writes a pointer to a list that freeifaddrs below gives back.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Vec::new();
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` points to a valid element of the list, which is not freed before the loop ends.
        let interface = unsafe { &*next };
        next = interface.ifa_next;
        if interface.ifa_flags & libc::IFF_UP as libc::c_uint == 0 || interface.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: `ifa_addr` is not null and points to an address of the family that it names.
        addresses.extend(unsafe { socket_address(interface.ifa_addr) }.map(|address| address.ip()));
    }
    // SAFETY: `list` came from getifaddrs and no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    addresses.retain(|address| match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_multicast(),
    });
    addresses
}

/// The IP address and port in a `sockaddr`, `None` for other families.
///
/// # Safety
/// `socket` must point to a socket address of the family that it names.
unsafe fn socket_address(socket: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: promised by the caller; the casts follow the family.
    unsafe {
        match i32::from((*socket).sa_family) {
            libc::AF_INET => {
                let v4 = &*socket.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some((ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = &*socket.cast::<libc::sockaddr_in6>();
                Some((Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port)).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn connections_are_accepted_with_their_address_until_the_listener_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_nodelay(listener.as_fd()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, remote) = accept(&listener).unwrap();
        assert!(socket.nodelay().unwrap(), "taken over from the listener");
        assert_eq!(remote, client.local_addr().unwrap());
        let error = std::io::Read::read(&mut socket, &mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        stop_listening(listener.as_fd()).unwrap();
        assert!(accept(&listener).is_err());
    }

    #[test]
    fn the_loopback_interface_is_listed() {
        assert!(interface_addresses().iter().any(IpAddr::is_loopback));
    }
}
