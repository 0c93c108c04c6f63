//! Signals are blocked in every thread and taken one by one by the main thread: no handler, nothing asynchronous.

use std::{io, time::Duration};

use super::checked;

/// A signal that the server acts on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGINT or SIGTERM: stop.
    Stop,
}

/// Blocks the signals for this thread and all threads made by it later. To be called before any thread is made.
pub fn block() -> io::Result<()> {
    let set = watched();
    // SAFETY: `set` is initialised and lives until the call returns; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Waits for the next signal, `None` after `timeout`.
pub fn wait(timeout: Duration) -> Option<Signal> {
    let set = watched();
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: `set` and `time` live until the call returns; no information about the signal is asked for.
    match checked(unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &time) }) {
        Ok(libc::SIGHUP) => Some(Signal::Reload),
        Ok(_) => Some(Signal::Stop),
        Err(_) => None,
    }
}

fn watched() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset adds valid signal numbers to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}
