//! Puts new files in the place of others while other processes may remove those or make new ones of the same name: a file
//! that was deleted never comes back. Knows paths and bytes; nothing of keys or seals.

use std::{
    ffi::CString,
    fs::{self, File, Metadata},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, fchown},
        },
    },
    path::{Path, PathBuf},
};

use super::{
    checked, fault,
    file::{TemporaryFile, TemporaryName, link_unnamed, parent_of, sync_dir},
};

/// How the names of temporary files of this module end.
const SUFFIX: &str = ".swap.tmp";

/// A file that is written and waits to take the place of another.
pub struct Successor {
    temporary: TemporaryName,
    path: PathBuf,
    old: (u64, u64),
}

/// What has lost its name to a [`Successor`]. It is removed when this is dropped, which should be after the directory has
/// been synced.
pub struct Displaced(#[expect(dead_code, reason = "removes its file when dropped")] Option<TemporaryName>);

/// Writes a successor, with mode 0600 and the owner of the file at `path`, whose metadata are `old`. The file itself comes
/// with it: until it, or the whole file system, has been synced, the content is not on the disk.
pub fn prepare(path: &Path, old: &Metadata, content: &[u8]) -> io::Result<(Successor, File)> {
    let TemporaryFile { mut file, path: temporary } = TemporaryFile::with_suffix(path, SUFFIX)?;
    keep_owner(&file, old)?;
    file.write_all(content)?;
    Ok((Successor { temporary, path: path.to_owned(), old: identity(old) }, file))
}

impl Successor {
    /// Takes the old file's place in one step. `None`: the old file is not there any more, and whatever has its name now
    /// keeps it.
    pub fn take_place(self) -> io::Result<Option<Displaced>> {
        match exchange(&self.temporary, &self.path) {
            Ok(())
                if fs::symlink_metadata(&*self.temporary).is_ok_and(|data| identity(&data) == self.old) =>
            {
                Ok(Some(Displaced(Some(self.temporary))))
            }
            // Somebody has removed the old file and made another: give that its name back, unless it is gone as well.
            Ok(()) => match exchange(&self.temporary, &self.path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
                _ => Ok(None),
            },
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            // NFS and some others cannot exchange. Between looking and renaming there is a moment.
            Err(cause)
                if matches!(cause.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) =>
            {
                match fs::symlink_metadata(&self.path) {
                    Ok(data) if identity(&data) == self.old => {
                        fs::rename(&*self.temporary, &self.path).map(|()| Some(Displaced(None)))
                    }
                    Ok(_) => Ok(None),
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(cause) => Err(cause),
                }
            }
            Err(cause) => Err(cause),
        }
    }
}

/// Puts new content in the place of a file, durably. The new file is returned open and locked: it has been since before
/// anybody could see it. `operation` names the fault points on the way.
pub fn replace_locked(path: &Path, old: &Metadata, content: &[u8], operation: &str) -> io::Result<File> {
    let (successor, file) = prepare(path, old, content)?;
    fault::point(operation, "after-seal-write");
    file.sync_all()?;
    if !try_lock(&file)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    fault::point(operation, "after-seal-sync");
    fs::rename(&*successor.temporary, path)?;
    fault::point(operation, "after-seal-rename");
    sync_dir(parent_of(path))?;
    fault::point(operation, "after-seal-dir-sync");
    Ok(file)
}

/// Whether two looks were at the same file.
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    identity(one) == identity(other)
}

/// Locks a file against others that do the same, until it is closed (flock(2)). False: somebody else has it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: takes numbers only; the descriptor is open.
    match checked(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// Puts everything on the disk that was written to the file system which `dir` is on. Errors in writing are reported since
/// Linux 5.8 (syncfs(2)).
pub fn sync_file_system(dir: &File) -> io::Result<()> {
    // SAFETY: takes a number only; the descriptor is open.
    checked(unsafe { libc::syncfs(dir.as_raw_fd()) }).map(drop)
}

/// Removes what a crash left behind in the middle of [`Successor::take_place`]: old contents without a name of their own.
/// To be called by the one that has locked what all writers of this directory lock.
pub fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(SUFFIX.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Gives an open file a second name, which must be new. It fails if the file has lost its first name meanwhile.
pub fn link_open(file: &File, to: &Path) -> io::Result<()> {
    link_unnamed(file, to)
}

/// Gives a file another name, which must be new, durably.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    rename(from, to, libc::RENAME_NOREPLACE)?;
    sync_dir(parent_of(to))
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rename(one, other, libc::RENAME_EXCHANGE)
}

fn rename(from: &Path, to: &Path, flags: libc::c_uint) -> io::Result<()> {
    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    // SAFETY: both pointers are to NUL-terminated strings that live until the call returns; the other arguments are
    // numbers.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A service's files stay the service's when root works on them.
fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    match (own.uid(), own.gid()) == (old.uid(), old.gid()) {
        true => Ok(()),
        false => fchown(file, Some(old.uid()), Some(old.gid())),
    }
}

/// Device and inode.
fn identity(data: &Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestDir(PathBuf);

    impl TestDir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("kes-swap-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, content: &str) -> (PathBuf, Metadata) {
            let path = self.0.join("file");
            fs::write(&path, content).unwrap();
            let data = fs::metadata(&path).unwrap();
            (path, data)
        }

        fn names(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_successor_takes_the_place_and_the_old_file_goes() {
        let dir = TestDir::new("place");
        let (path, old) = dir.file("old");
        let (successor, file) = prepare(&path, &old, b"new").unwrap();
        file.sync_all().unwrap();
        let displaced = successor.take_place().unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        drop(displaced);
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"new".to_vec(), 1));
    }

    #[test]
    fn a_deleted_file_does_not_come_back_and_a_new_one_is_not_lost() {
        let dir = TestDir::new("deleted");
        let (path, old) = dir.file("old");
        let (successor, _) = prepare(&path, &old, b"sealed old").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(successor.take_place().unwrap().is_none());
        assert_eq!(dir.names(), 0);

        let (path, old) = dir.file("old");
        let kept = File::open(&path).unwrap();
        let (successor, _) = prepare(&path, &old, b"sealed old").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another").unwrap();
        assert!(successor.take_place().unwrap().is_none());
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"another".to_vec(), 1));
        drop(kept);
    }

    #[test]
    fn a_replaced_file_is_locked_before_it_is_seen() {
        let dir = TestDir::new("locked");
        let (path, old) = dir.file("old");
        let file = replace_locked(&path, &old, b"new", "test").unwrap();
        assert!(!try_lock(&File::open(&path).unwrap()).unwrap());
        drop(file);
        assert!(try_lock(&File::open(&path).unwrap()).unwrap());
        assert_eq!(dir.names(), 1);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let dir = TestDir::new("leftovers");
        for name in [".a.0011.swap.tmp", ".b.0011.tmp", "c.swap.tmp", "d"] {
            fs::write(dir.0.join(name), b"x").unwrap();
        }
        remove_leftovers(&dir.0).unwrap();
        assert_eq!(dir.names(), 3);
        assert!(!dir.0.join(".a.0011.swap.tmp").exists());
    }

    #[test]
    fn a_new_name_is_never_taken_from_another_file() {
        let dir = TestDir::new("rename");
        let (path, _) = dir.file("one");
        let other = dir.0.join("other");
        fs::write(&other, b"two").unwrap();
        assert_eq!(rename_new(&path, &other).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        rename_new(&path, &dir.0.join("new")).unwrap();
        assert_eq!(fs::read(dir.0.join("new")).unwrap(), b"one");
    }
}
