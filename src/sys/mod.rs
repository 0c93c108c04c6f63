//! Every system call that the standard library lacks, and all unsafe code of the program.
//! Each function is a thin safe wrapper; `-1` becomes an [`std::io::Error`] in one place.

pub mod command;
pub mod epoll;
pub mod fault;
pub mod file;
mod heap;
pub mod landlock;
pub mod memory;
pub mod network;
pub mod process;
pub mod random;
pub mod seccomp;
pub mod service;
pub mod signals;
pub mod swap;
pub mod tty;

use std::io;

/// Turns the `-1` of a system call into the error that the system noted.
fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
