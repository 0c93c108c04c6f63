//! Puts new files in the place of others while other processes may remove those or make new ones of the same name: a file
//! that was deleted never comes back. Knows paths and bytes; nothing of keys or seals.

use std::{
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
    file::{
        Hold, TemporaryFile, TemporaryName, flock, link_unnamed, locked, parent_of,
        rename_without_overwriting, sync_dir,
    },
};

/// How the names of temporary files of this module end.
const SUFFIX: &str = ".swap.tmp";

/// A file that is written and waits to take the place of another.
pub struct Successor {
    temporary: TemporaryName,
    path: PathBuf,
    /// As long as it is open, no other file is known by the same number.
    old: File,
}

/// Writes a successor, with mode 0600 and the owner of `old`, which is the file at `path`. The new file comes with it: until
/// that, or the whole file system, has been synced, the content is not on the disk.
pub fn prepare(path: &Path, old: File, content: &[u8]) -> io::Result<(Successor, File)> {
    let (temporary, file) = write_beside(path, &old.metadata()?, content)?;
    Ok((Successor { temporary, path: path.to_owned(), old }, file))
}

impl Successor {
    /// Takes the old file's place in one step; `dir` is the directory of both. False: one of the two has lost its name, and
    /// whatever has that of the old one now keeps it.
    pub fn take_place(self, dir: &File) -> io::Result<bool> {
        let old = self.old.metadata()?;
        // Between the look and the renaming only somebody who does not care for locks could come.
        locked(dir, Hold::Exclusive, || match fs::symlink_metadata(&self.path) {
            Ok(data) if is_same(&data, &old) => fs::rename(&*self.temporary, &self.path).map(|()| true),
            Ok(_) => Ok(false),
            Err(cause) => Err(cause),
        })
        // Either is gone: the old file, or the new one, for who works on all files and has taken it for a leftover.
        .or_else(|cause| if cause.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(cause) })
    }
}

/// Puts new content in the place of a file, durably. The new file is returned open and locked: it has been since before
/// anybody could see it. `operation` names the fault points on the way.
pub fn replace_locked(path: &Path, old: &Metadata, content: &[u8], operation: &str) -> io::Result<File> {
    let (temporary, file) = write_beside(path, old, content)?;
    fault::point(operation, "after-seal-write");
    file.sync_all()?;
    if !try_lock(&file)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    fault::point(operation, "after-seal-sync");
    fs::rename(&*temporary, path)?;
    fault::point(operation, "after-seal-rename");
    sync_dir(parent_of(path))?;
    fault::point(operation, "after-seal-dir-sync");
    Ok(file)
}

/// Whether two looks were at the same file, which must have been open or at its place all the time between them.
pub fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Locks a file against others that do the same, until it is closed (flock(2)). False: somebody else has it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, libc::LOCK_EX | libc::LOCK_NB) {
        Ok(()) => Ok(true),
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

/// Removes successors that a crash kept from their places: of the file called `name`, or of all if that is empty. To be
/// called by the one that has locked what all writers of this directory, or of this file, lock.
pub fn remove_leftovers(dir: &Path, name: &str) -> io::Result<()> {
    let start = if name.is_empty() { ".".to_owned() } else { format!(".{name}.") };
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_bytes().starts_with(start.as_bytes()) && name.as_bytes().ends_with(SUFFIX.as_bytes()) {
            match fs::remove_file(entry.path()) {
                // A server was faster, whose successor it was.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
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
    match rename_without_overwriting(from, to) {
        // NFS and some others cannot do that in one step.
        Err(cause)
            if matches!(cause.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)) =>
        {
            rename_by_link(from, to)?;
        }
        result => result?,
    }
    sync_dir(parent_of(to))
}

fn rename_by_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    sync_dir(parent_of(to))?;
    fs::remove_file(from)
}

fn write_beside(path: &Path, old: &Metadata, content: &[u8]) -> io::Result<(TemporaryName, File)> {
    let TemporaryFile { mut file, path } = TemporaryFile::with_suffix(path, SUFFIX)?;
    keep_owner(&file, old)?;
    file.write_all(content)?;
    Ok((path, file))
}

/// A service's files stay the service's when root works on them. The group is of no importance, as it may do nothing.
fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if own.uid() != old.uid() {
        return fchown(file, Some(old.uid()), Some(old.gid()));
    }
    if own.gid() != old.gid() {
        let _ = fchown(file, None, Some(old.gid()));
    }
    Ok(())
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

        fn file(&self, content: &str) -> (PathBuf, File) {
            let path = self.0.join("file");
            fs::write(&path, content).unwrap();
            let file = File::open(&path).unwrap();
            (path, file)
        }

        fn open(&self) -> File {
            File::open(&self.0).unwrap()
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
        let (successor, file) = prepare(&path, old, b"new").unwrap();
        file.sync_all().unwrap();
        assert!(successor.take_place(&dir.open()).unwrap());
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"new".to_vec(), 1));
    }

    #[test]
    fn a_deleted_file_does_not_come_back_and_a_new_one_is_not_lost() {
        let dir = TestDir::new("deleted");
        let (path, old) = dir.file("old");
        let (successor, _) = prepare(&path, old, b"sealed old").unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!successor.take_place(&dir.open()).unwrap());
        assert_eq!(dir.names(), 0);

        let (path, old) = dir.file("old");
        let (successor, _) = prepare(&path, old, b"sealed old").unwrap();
        remove_leftovers(&dir.0, "").unwrap();
        assert!(!successor.take_place(&dir.open()).unwrap());
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"old".to_vec(), 1));

        let (path, old) = dir.file("old");
        let (successor, _) = prepare(&path, old, b"sealed old").unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another").unwrap();
        assert!(!successor.take_place(&dir.open()).unwrap());
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"another".to_vec(), 1));
    }

    #[test]
    fn a_replaced_file_is_locked_before_it_is_seen() {
        let dir = TestDir::new("locked");
        let (path, old) = dir.file("old");
        let file = replace_locked(&path, &old.metadata().unwrap(), b"new", "test").unwrap();
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
        remove_leftovers(&dir.0, "b").unwrap();
        assert_eq!(dir.names(), 4);
        remove_leftovers(&dir.0, "a").unwrap();
        assert!(dir.names() == 3 && !dir.0.join(".a.0011.swap.tmp").exists());
        fs::write(dir.0.join(".a.0012.swap.tmp"), b"x").unwrap();
        remove_leftovers(&dir.0, "").unwrap();
        assert_eq!(dir.names(), 3);
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
        let cause = rename_by_link(&dir.0.join("new"), &other).unwrap_err();
        assert_eq!(cause.kind(), io::ErrorKind::AlreadyExists);
        rename_by_link(&dir.0.join("new"), &path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), dir.names()), (b"one".to_vec(), 2));
    }
}
