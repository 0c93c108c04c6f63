//! Facts about the process and its user.

/// The effective user id; 0 is root.
pub fn effective_user() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}
