//! Durable files: made whole or not at all, never over another, and on the disk before success is reported.
//! Knows paths and bytes; nothing of keys or seals.

use std::{
    ffi::CString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use ring::rand::{SecureRandom, SystemRandom};

use super::{checked, fault};
use crate::{crypto::SecretBytes, text::encode::hex};

/// How long somebody else may hold the lock of a directory.
const LOCK_PATIENCE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// Files that we make can be read and written by their owner alone.
const MODE: u32 = 0o600;

/// Makes a new file with this content and mode 0600. One that root makes belongs to the owner of the directory, who is to
/// read it. When it returns `Ok`, file and name are on the disk; at no time can
/// anyone see the name with another content. An existing file is never touched: that is [`io::ErrorKind::AlreadyExists`].
/// After any other error the file may exist (then whole) or not. `operation` names the fault points on the way.
pub fn create_durably(path: &Path, content: &[u8], operation: &str) -> io::Result<()> {
    let dir = parent_of(path);
    let unnamed = match open_unnamed(dir) {
        Ok(file) => {
            give_away(&file, dir);
            fill(&file, content, operation)?;
            link_unnamed(&file, path)
        }
        Err(cause) => Err(cause),
    };
    match unnamed {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return Err(cause),
        // No O_TMPFILE (NFS, some overlays), or no /proc to link through. A real trouble shows again here.
        Err(_) => create_through_named(path, content, operation)?,
    }
    fault::point(operation, "after-link");
    sync_dir(dir)?;
    fault::point(operation, "after-dir-sync");
    Ok(())
}

/// Puts a new file with this content and mode 0600 in the place of another, whose owner it keeps where it can. When it
/// returns `Ok`, that is on the disk; at no time can anyone see the name with anything but the old content or the new
/// one, whole. `operation` names the fault points on the way.
pub fn replace_durably(path: &Path, content: &[u8], operation: &str) -> io::Result<()> {
    let temporary = TemporaryFile::create(path)?;
    give_away(&temporary.file, path);
    fill(&temporary.file, content, operation)?;
    let dir = File::open(parent_of(path))?;
    locked(&dir, Hold::Shared, || fs::rename(&*temporary.path, path))?;
    fault::point(operation, "after-rename");
    sync_names(&dir)?;
    fault::point(operation, "after-dir-sync");
    Ok(())
}

/// Removes a file; when it returns `Ok` the removal is on the disk.
pub fn remove_durably(path: &Path) -> io::Result<()> {
    let dir = File::open(parent_of(path))?;
    locked(&dir, Hold::Shared, || fs::remove_file(path))?;
    fault::point("delete", "after-unlink");
    sync_names(&dir)
}

/// Makes a directory and its missing parents, each with mode 0700, durably. Existing ones are left as they are. What root
/// makes belongs to the owner of the place.
pub fn create_dir_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    missing.into_iter().rev().try_for_each(|made| {
        give_away(&File::open(made)?, parent_of(made));
        sync_dir(parent_of(made))
    })
}

/// Asks for certain whether a file can be made in a directory, by making one that has no name or loses it at once.
pub fn check_writable(dir: &Path) -> io::Result<()> {
    if open_unnamed(dir).is_ok() {
        return Ok(());
    }
    TemporaryFile::create(&dir.join("probe")).map(drop)
}

/// Opens a file to read it. A pipe or device that someone put there does not block.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Reads at most `limit` bytes into memory that is wiped.
pub fn read_up_to(file: &File, limit: usize) -> io::Result<SecretBytes> {
    let size = file.metadata()?.len().min(limit as u64) as usize;
    let mut content = SecretBytes::with_capacity(size);
    let mut piece = SecretBytes::from(vec![0; 4096]);
    let mut source = file.take(limit as u64);
    loop {
        match source.read(&mut piece) {
            Ok(0) => return Ok(content),
            Ok(n) => content.extend(piece.get(..n).unwrap_or_default()),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
}

/// Removes temporary files that a crash left behind: regular files whose name starts with `prefix` and ends with
/// `.tmp`, not written to for at least `age`. Younger ones may belong to another server. Returns how many.
pub fn remove_stale(dir: &Path, prefix: &str, age: Duration) -> io::Result<usize> {
    let now = SystemTime::now();
    let mut removed = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_temporary =
            name.as_bytes().starts_with(prefix.as_bytes()) && name.as_bytes().ends_with(b".tmp");
        if !is_temporary || !entry.file_type()?.is_file() {
            continue;
        }
        let written = entry.metadata().and_then(|data| data.modified());
        let is_old = written.is_ok_and(|then| now.duration_since(then).is_ok_and(|past| past >= age));
        if is_old && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Where a directory is: its device and inode, and the mount that it is in (since Linux 5.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub(crate) id: (u64, u64),
    pub(crate) mount: Option<u64>,
}

impl Place {
    /// Of the directory at this path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let data = fs::metadata(path)?;
        Ok(Self { id: (data.dev(), data.ino()), mount: mount_of(path) })
    }

    /// Whether `path`, which has these metadata, may be the same place: the same directory, whatever it is mounted through,
    /// or another one of the same mount, where somebody has put it. Neither holds for what lies below a mount that is gone.
    pub fn may_be(&self, path: &Path, data: &fs::Metadata) -> bool {
        self.id == (data.dev(), data.ino())
            || match (self.mount, mount_of(path)) {
                (Some(one), Some(other)) => one == other,
                _ => self.id.0 == data.dev(),
            }
    }
}

/// The number of the mount that a path leads into; `None` where the kernel does not tell.
fn mount_of(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut data = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a NUL-terminated string that lives until the call returns; the kernel writes one `statx`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            libc::STATX_MNT_ID,
            data.as_mut_ptr(),
        )
    };
    // SAFETY: all zeros are a `statx`, and so is what the kernel writes.
    let data = unsafe { data.assume_init() };
    (result == 0 && data.stx_mask & libc::STATX_MNT_ID != 0).then_some(data.stx_mnt_id)
}

/// The directory that a path lies in; `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// How the lock of a directory is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hold {
    /// To take its name from a file.
    Shared,
    /// To look at a name and then give it to another file: nobody else takes or gives names meanwhile.
    Exclusive,
}

/// Does one thing while the lock of an open directory is held (flock(2)). Nobody is to hold it for longer than the one thing
/// takes; if somebody does for [`LOCK_PATIENCE`], that is [`io::ErrorKind::WouldBlock`]. Where directories cannot be locked
/// (NFS), it is done all the same.
pub(super) fn locked<T>(dir: &File, how: Hold, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let operation = if how == Hold::Exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    let begin = Instant::now();
    while let Err(cause) = flock(dir, operation | libc::LOCK_NB) {
        match cause.raw_os_error() {
            Some(libc::EWOULDBLOCK) if begin.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Some(libc::EINTR) => {}
            Some(libc::EBADF | libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => break,
            _ => return Err(cause),
        }
    }
    let result = act();
    let _ = flock(dir, libc::LOCK_UN);
    result
}

/// The call of that name. A lock lasts until it is given back or the file is closed.
pub(super) fn flock(file: &File, operation: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only; the descriptor is open.
    checked(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

/// Puts the names in a directory on the disk.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    sync_names(&File::open(dir)?)
}

/// Puts the names in an open directory on the disk.
pub(super) fn sync_names(dir: &File) -> io::Result<()> {
    match dir.sync_all() {
        // Some file systems have nothing to sync for a directory and say so.
        Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

fn fill(mut file: &File, content: &[u8], operation: &str) -> io::Result<()> {
    file.write_all(content)?;
    fault::point(operation, "after-write");
    file.sync_all()?;
    fault::point(operation, "after-sync");
    Ok(())
}

/// What root makes belongs to the owner of `like`. If that cannot be, it stays root's.
fn give_away(file: &File, like: &Path) {
    if file.metadata().is_ok_and(|data| data.uid() == 0) {
        let _ = fs::metadata(like).and_then(|data| fchown(file, Some(data.uid()), Some(data.gid())));
    }
}

fn open_unnamed(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).mode(MODE).custom_flags(libc::O_TMPFILE).open(dir)
}

/// Gives an unnamed file its name. `linkat` with `AT_EMPTY_PATH` would need a capability; through /proc it needs none.
pub(super) fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both pointers are to NUL-terminated strings that live until the call returns; the call keeps neither.
    let result = unsafe {
        libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn create_through_named(path: &Path, content: &[u8], operation: &str) -> io::Result<()> {
    let temporary = TemporaryFile::create(path)?;
    give_away(&temporary.file, parent_of(path));
    fill(&temporary.file, content, operation)?;
    match fs::hard_link(&*temporary.path, path) {
        // A file system without hard links (FAT, some FUSE and SMB mounts) can still rename without overwriting.
        Err(cause) if matches!(cause.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS)) => {
            rename_without_overwriting(&temporary.path, path)
        }
        result => result,
    }
}

pub(super) fn rename_without_overwriting(from: &Path, to: &Path) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // SAFETY: both pointers are to NUL-terminated strings that live until the call returns; the other arguments are
    // passed as the kernel takes them (two descriptors, two paths, flags). Through `syscall`, as musl had no wrapper.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A file `.NAME.RANDOM.tmp` beside `NAME`.
pub(super) struct TemporaryFile {
    pub(super) file: File,
    pub(super) path: TemporaryName,
}

/// The name of a temporary file, which is removed when this is dropped.
pub(super) struct TemporaryName(PathBuf);

impl TemporaryFile {
    fn create(target: &Path) -> io::Result<Self> {
        Self::with_suffix(target, ".tmp")
    }

    pub(super) fn with_suffix(target: &Path, suffix: &str) -> io::Result<Self> {
        let mut random = [0; 8];
        SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random bytes"))?;
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}{suffix}", hex(&random)));
        let path = parent_of(target).join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path)?;
        Ok(Self { file, path: TemporaryName(path) })
    }
}

impl std::ops::Deref for TemporaryName {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        // After a rename it is gone already; what a crash leaves is removed at a later start.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_way_of_making_a_file_is_whole_private_and_never_overwrites() {
        let dir = TestDir::new("durable");
        type Make = fn(&Path, &[u8]) -> io::Result<()>;
        let ways: [(&str, Make); 3] = [
            ("usual", |path, content| create_durably(path, content, "create")),
            ("named", |path, content| create_through_named(path, content, "create")),
            ("renamed", |path, content| {
                let temporary = TemporaryFile::create(path)?;
                fill(&temporary.file, content, "create")?;
                rename_without_overwriting(&temporary.path, path)
            }),
        ];
        for (name, make) in ways {
            let path = dir.path.join(name);
            make(&path, b"first").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            let cause = make(&path, b"second").unwrap_err();
            assert_eq!(cause.kind(), io::ErrorKind::AlreadyExists, "{name}");
            assert_eq!(fs::read(&path).unwrap(), b"first", "{name}");
        }
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 3, "no temporary file is left");
    }

    #[test]
    fn replacing_leaves_the_new_content_alone_and_private() {
        let dir = TestDir::new("replace");
        let path = dir.path.join("file");
        fs::write(&path, b"old").unwrap();
        replace_durably(&path, b"new", "replace").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn no_name_is_taken_while_another_looks_at_the_names() {
        let dir = TestDir::new("names");
        let path = dir.path.join("file");
        fs::write(&path, b"old").unwrap();
        let (one, other) = (File::open(&dir.path).unwrap(), File::open(&dir.path).unwrap());
        let blocked = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::WouldBlock;
        locked(&one, Hold::Exclusive, || {
            assert!(blocked(remove_durably(&path)));
            assert!(blocked(replace_durably(&path, b"new", "replace")));
            assert!(blocked(locked(&other, Hold::Exclusive, || Ok(()))));
            create_durably(&dir.path.join("new"), b"new", "create")
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // Those who take names do not wait for each other.
        locked(&one, Hold::Shared, || remove_durably(&path)).unwrap();
        assert!(!path.exists());
        // It is a lock of directories; what cannot be locked is not waited for.
        locked(&File::open("/proc/self/mounts").unwrap(), Hold::Shared, || Ok(())).unwrap();
    }

    /// Where the tests run as root.
    #[test]
    fn what_root_makes_belongs_to_the_owner_of_the_place() {
        let dir = TestDir::new("owner");
        if std::os::unix::fs::chown(&dir.path, Some(12345), Some(12346)).is_err() {
            return;
        }
        let path = dir.path.join("file");
        create_durably(&path, b"one", "create").unwrap();
        create_dir_durably(&dir.path.join("a/b")).unwrap();
        let owner = |path: &Path| fs::metadata(path).map(|data| (data.uid(), data.gid())).unwrap();
        for made in [&path, &dir.path.join("a"), &dir.path.join("a/b")] {
            assert_eq!(owner(made), (12345, 12346));
        }
        std::os::unix::fs::chown(&dir.path, Some(0), Some(0)).unwrap();
        replace_durably(&path, b"two", "replace").unwrap();
        assert_eq!(owner(&path), (12345, 12346));
    }

    #[test]
    fn a_file_in_a_missing_directory_cannot_be_made() {
        let dir = TestDir::new("missing");
        let cause = create_durably(&dir.path.join("no/file"), b"x", "create").unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_made_with_its_parents_for_the_owner_alone() {
        let dir = TestDir::new("parents");
        let deep = dir.path.join("a/b/c");
        create_dir_durably(&deep).unwrap();
        create_dir_durably(&deep).unwrap();
        for path in [dir.path.join("a"), deep] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let dir = TestDir::new("limit");
        let path = dir.path.join("file");
        fs::write(&path, vec![7; 10_000]).unwrap();
        for (limit, len) in [(0, 0), (9_999, 9_999), (10_000, 10_000), (10_001, 10_000)] {
            assert_eq!(read_up_to(&open_to_read(&path).unwrap(), limit).unwrap().len(), len);
        }
    }

    #[test]
    fn a_file_system_that_takes_no_files_is_not_writable() {
        // Neither procfs nor sysfs lets even root make a file.
        assert!(check_writable(Path::new("/proc")).is_err());
        assert!(check_writable(Path::new("/proc/version")).is_err());
        let dir = TestDir::new("writable");
        check_writable(&dir.path).unwrap();
        assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);
    }

    struct TestDir {
        path: PathBuf,
    }

    impl TestDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kes-file-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self { path }
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
