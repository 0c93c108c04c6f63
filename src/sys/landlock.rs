//! Which files the process can still reach, and that it opens no connections: Landlock (landlock(7), Linux 5.13). Threads
//! made later are bound by it, earlier ones are not.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

/// What may be done with everything beneath a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read files, list directories.
    Read,
    /// Make files and write to them.
    Append,
    /// Read, list, make, write and remove files.
    Change,
}

// linux/landlock.h; not all of it is in the libc crate.
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;
const TRUNCATE: u64 = 1 << 14;
/// What a rule for a file, not a directory, may hold.
const OF_FILES: u64 = WRITE_FILE | READ_FILE | TRUNCATE;
const RULE_PATH_BENEATH: u32 = 1;
const CREATE_RULESET_VERSION: u32 = 1;

impl Access {
    fn bits(self) -> u64 {
        match self {
            Self::Read => READ_FILE | READ_DIR,
            Self::Append => WRITE_FILE | MAKE_REG,
            Self::Change => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE,
        }
    }

    /// Whether whoever has this also has `other`.
    pub fn includes(self, other: Self) -> bool {
        self.bits() & other.bits() == other.bits()
    }
}

#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Everything that the kernel's version of Landlock can forbid.
fn all_of(version: u32) -> RulesetAttributes {
    let file_rights = match version {
        1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    RulesetAttributes {
        handled_access_fs: (1 << file_rights) - 1,
        // Binding and connecting TCP sockets.
        handled_access_net: if version >= 4 { 0b11 } else { 0 },
        // Signals to processes outside. (Abstract sockets, the other scope, may be the service manager's.)
        scoped: if version >= 6 { 0b10 } else { 0 },
    }
}

/// Leaves this thread, and threads made by it, nothing but `rules`. Paths that cannot be opened are passed over: they
/// cannot be reached either. Returns the version of Landlock; fails where the kernel has none or has it switched off.
pub fn restrict(rules: &[(&Path, Access)]) -> io::Result<u32> {
    let none = std::ptr::null::<RulesetAttributes>();
    // SAFETY: with this flag the kernel takes no attributes and returns its version.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, CREATE_RULESET_VERSION) };
    let version = u32::try_from(version).map_err(|_| io::Error::last_os_error())?;
    let attributes = all_of(version);
    // Older kernels refuse a structure that is longer than theirs.
    let size = match version {
        0..4 => 8,
        4..6 => 16,
        _ => size_of::<RulesetAttributes>(),
    };
    // SAFETY: the kernel reads `size` bytes of `attributes`, which has at least as many.
    let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: `fd` was just made and belongs to nobody else.
    let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
    for (path, access) in rules {
        if let Ok(place) = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) {
            match add(&ruleset, &place, access.bits() & attributes.handled_access_fs) {
                // A pipe or socket, such as /dev/stdout: it is reached without a rule.
                Err(cause) if cause.raw_os_error() == Some(libc::EBADFD) => {}
                added => added?,
            }
        }
    }
    // SAFETY: no pointers.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    if done == 0 { Ok(version) } else { Err(io::Error::last_os_error()) }
}

fn add(ruleset: &OwnedFd, place: &File, access: u64) -> io::Result<()> {
    let is_dir = place.metadata().as_ref().is_ok_and(fs::Metadata::is_dir);
    let allowed_access = if is_dir { access } else { access & OF_FILES };
    let rule = PathBeneath { allowed_access, parent_fd: place.as_raw_fd() };
    // SAFETY: the kernel reads one `PathBeneath`; both descriptors are open until the call returns.
    let done = unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_ordered_as_its_names_say() {
        use Access::{Append, Change, Read};
        for (one, other, does) in [
            (Change, Read, true),
            (Change, Append, true),
            (Append, Read, false),
            (Read, Append, false),
            (Read, Change, false),
        ] {
            assert_eq!(one.includes(other), does, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_thread_reaches_what_the_rules_name_and_nothing_else() {
        let dir = std::env::temp_dir().join(format!("kes-landlock-{}", std::process::id()));
        for name in ["read", "change", "append", "none"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("file"), "x").unwrap();
        }
        let inside = dir.clone();
        // A thread of its own: the rest of the tests go on as before.
        let done = std::thread::spawn(move || {
            let [read, change, append, none] = ["read", "change", "append", "none"].map(|n| inside.join(n));
            crate::sys::process::give_up_privileges().unwrap();
            let missing = inside.join("missing");
            let rules = [
                (&*read, Access::Read),
                (&*change, Access::Change),
                (&*append, Access::Append),
                (&*missing, Access::Read),
            ];
            if let Err(error) = restrict(&rules) {
                eprintln!("this kernel has no Landlock: {error}");
                return false;
            }
            assert_eq!(fs::read_to_string(read.join("file")).unwrap(), "x");
            assert_eq!(fs::read_dir(&read).unwrap().count(), 1);
            let denied = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            denied(fs::write(read.join("file"), "y").unwrap_err());
            denied(fs::remove_file(read.join("file")).unwrap_err());
            denied(fs::read(none.join("file")).unwrap_err());
            denied(fs::read_dir(&none).map(drop).unwrap_err());
            denied(File::open("/etc/passwd").map(drop).unwrap_err());
            fs::write(append.join("new"), "y").unwrap();
            denied(fs::read(append.join("new")).unwrap_err());
            denied(fs::remove_file(append.join("new")).unwrap_err());
            crate::sys::file::create_durably(&change.join("new"), b"y", "create").unwrap();
            crate::sys::file::remove_durably(&change.join("new")).unwrap();
            fs::write(change.join("file"), "z").unwrap();
            true
        });
        let is_there = done.join().unwrap();
        fs::remove_dir_all(&dir).unwrap();
        if is_there {
            File::open("/etc/passwd").unwrap();
        }
    }
}
