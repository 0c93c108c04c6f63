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

/// A signal that a command acts on which shows something live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ViewSignal {
    /// SIGINT: enough.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGWINCH: the terminal has another size.
    Resize,
}

/// What the server acts on.
const OF_SERVER: [libc::c_int; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];

/// What a live view acts on.
const OF_VIEW: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGWINCH];

/// Blocks the server's signals for this thread and all threads made by it later. To be called before any thread is made.
pub fn block() -> io::Result<()> {
    block_all(&OF_SERVER)
}

/// Waits for the next signal of the server, `None` after `timeout`.
pub fn wait(timeout: Duration) -> Option<Signal> {
    match wait_for(&OF_SERVER, timeout)? {
        libc::SIGHUP => Some(Signal::Reload),
        _ => Some(Signal::Stop),
    }
}

/// As [`block`], the signals of a live view.
pub fn block_for_view() -> io::Result<()> {
    block_all(&OF_VIEW)
}

/// As [`wait`], for a signal of a live view.
pub fn wait_in_view(timeout: Duration) -> Option<ViewSignal> {
    match wait_for(&OF_VIEW, timeout)? {
        libc::SIGINT => Some(ViewSignal::Interrupt),
        libc::SIGTERM => Some(ViewSignal::Terminate),
        _ => Some(ViewSignal::Resize),
    }
}

fn block_all(signals: &[libc::c_int]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is initialised and lives until the call returns; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn wait_for(signals: &[libc::c_int], timeout: Duration) -> Option<libc::c_int> {
    let set = set_of(signals);
    let time =
        libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as libc::c_long };
    // SAFETY: `set` and `time` live until the call returns; no information about the signal is asked for.
    checked(unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &time) }).ok()
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset adds valid signal numbers to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
