//! Keeping secrets in memory: locked pages, no core dumps, no debugger, a small heap.

use std::io;

use super::checked;

/// Overwrites `bytes` with zeros, in a call that is not optimised away, in large steps.
pub fn wipe(bytes: &mut [u8]) {
    // SAFETY: the slice has that many bytes, and they may be written.
    unsafe { libc::explicit_bzero(bytes.as_mut_ptr().cast(), bytes.len()) };
}

/// Locks all present and future pages into memory. Pages are locked as they are first used where the kernel can do that
/// (Linux 4.4), so that thread stacks cost only what they use.
pub fn lock_all() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE;
    // SAFETY: no pointers.
    let on_fault = checked(unsafe { libc::mlockall(flags | libc::MCL_ONFAULT) });
    match on_fault {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            // SAFETY: no pointers.
            checked(unsafe { libc::mlockall(flags) }).map(|_| ())
        }
        result => result.map(|_| ()),
    }
}

/// Whether [`lock_all`] can be tried without making later allocations fail: the process may lock without limit.
pub fn may_lock_all() -> bool {
    limit(libc::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == libc::RLIM_INFINITY) || has_ipc_lock()
}

/// The soft limit of locked memory in bytes; `None` if there is none.
pub fn lock_limit() -> Option<u64> {
    limit(libc::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft).filter(|soft| *soft != libc::RLIM_INFINITY)
}

/// Forbids core dumps and other processes of the same user to look into this one.
pub fn forbid_dumps() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` lives until the call returns.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) })?;
    // SAFETY: PR_SET_DUMPABLE takes one integer and no pointers.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(|_| ())
}

/// Raises the soft limit of open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = limit(libc::RLIMIT_NOFILE) else { return 1024 };
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: `raised` lives until the call returns.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 { hard } else { soft }
}

/// Makes all threads share few heaps. glibc gives each thread one of its own, which costs memory that mlockall then
/// locks; musl has a single heap anyway.
pub fn limit_heaps() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers; it is called before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

fn limit(resource: Resource) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    checked(unsafe { libc::getrlimit(resource, &mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// CAP_IPC_LOCK is bit 14 of the effective capabilities. In a user namespace of its own a process may have them all, but the
/// kernel asks for this one outside of it.
fn has_ipc_lock() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_outermost = map.split_whitespace().eq(["0", "0", "4294967295"]);
    let status = super::process::status();
    is_outermost
        && status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
            .is_some_and(|bits| bits >> 14 & 1 == 1)
}
