//! What sockets can do beyond the standard library.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use super::checked;

/// Sets how many connections may wait to be accepted; the standard library's 128 is little for a MinIO that dials
/// hundreds at once. The kernel caps it at `net.core.somaxconn`.
pub fn set_backlog(listener: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    // SAFETY: no pointers; listening again on a listening socket only changes its backlog (listen(2)).
    checked(unsafe { libc::listen(listener.as_raw_fd(), backlog) }).map(|_| ())
}

/// Waits until one of two descriptors can be read; whether the first and the second can.
pub fn wait_readable(first: BorrowedFd<'_>, second: BorrowedFd<'_>, timeout_ms: i32) -> (bool, bool) {
    let watch = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut both = [watch(first), watch(second)];
    // SAFETY: `both` is an array of two `pollfd` that lives until the call returns.
    unsafe { libc::poll(both.as_mut_ptr(), 2, timeout_ms) };
    (both[0].revents != 0, both[1].revents != 0)
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
        addresses.extend(unsafe { address(interface.ifa_addr) });
    }
    // SAFETY: `list` came from getifaddrs and no reference into it is left.
    unsafe { libc::freeifaddrs(list) };
    addresses.retain(|address| match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_multicast(),
    });
    addresses
}

/// The IP address in a `sockaddr`, `None` for other families.
///
/// # Safety
/// `socket` must point to a socket address of the family that it names.
unsafe fn address(socket: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: promised by the caller; the casts follow the family.
    unsafe {
        match i32::from((*socket).sa_family) {
            libc::AF_INET => {
                let v4 = &*socket.cast::<libc::sockaddr_in>();
                Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
            }
            libc::AF_INET6 => {
                let v6 = &*socket.cast::<libc::sockaddr_in6>();
                Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_listed() {
        assert!(interface_addresses().iter().any(IpAddr::is_loopback));
    }
}
