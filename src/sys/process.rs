//! Facts about the process and its user.

use std::{fs::File, io, os::unix::fs::FileExt, sync::OnceLock};

use super::checked;

/// The effective user id; 0 is root.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Gives up being root for ever: from now on this process is that user, with the groups that the system knows for it; for a
/// user that it does not know, with `group` and no other. To be called while there is one thread.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: takes a number only. What it returns lives until the next call of its kind, of which there is none before the
    // last use.
    let group = match unsafe { libc::getpwuid(user).as_ref() } {
        Some(known) => {
            // SAFETY: the name is a NUL-terminated string.
            checked(unsafe { libc::initgroups(known.pw_name, known.pw_gid) })?;
            known.pw_gid
        }
        None => {
            // SAFETY: an empty list is not looked at.
            checked(unsafe { libc::setgroups(0, std::ptr::null()) })?;
            group
        }
    };
    // SAFETY: takes a number only.
    checked(unsafe { libc::setgid(group) })?;
    // SAFETY: takes a number only.
    checked(unsafe { libc::setuid(user) }).map(drop)
}

/// The process can never gain privileges again by running a program. Filters of system calls demand this.
pub fn give_up_privileges() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes integers and no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(|_| ())
}

/// How many cores the process may use, at least one. Asked of the system once.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// What the kernel says of the process (`/proc/self/status`, proc_pid_status(5)); empty if it says nothing. The file is opened once,
/// because the sandbox takes the way to it.
pub fn status() -> String {
    static STATUS: OnceLock<io::Result<File>> = OnceLock::new();
    let mut text = vec![0; 8 << 10];
    let read = match STATUS.get_or_init(|| File::open("/proc/self/status")) {
        Ok(file) => file.read_at(&mut text, 0).unwrap_or(0),
        Err(_) => 0,
    };
    text.truncate(read);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_of_the_process_is_whole_each_time() {
        for _ in 0..2 {
            let text = status();
            assert!(text.starts_with("Name:") && text.contains("\nnonvoluntary_ctxt_switches:"), "{text}");
        }
        assert!(cores() >= 1);
    }
}
