//! Puts a private key and its certificate on disk: both or neither, the key never readable by others.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom, SystemRandom};

use super::Failure;
use crate::{text::encode::hex, tls::pem};

/// The two files to be written.
#[derive(Clone, Debug)]
pub struct Pair {
    key: PathBuf,
    certificate: PathBuf,
    force: bool,
}

impl Pair {
    /// Refuses files that are there already (unless `force`), that are no regular files, or that are one and the same.
    pub fn new(key: &Path, certificate: &Path, force: bool) -> Result<Self, Failure> {
        for path in [key, certificate] {
            match fs::metadata(path) {
                Ok(data) if !data.is_file() => {
                    return Err(Failure::new(format!("'{}' is not a regular file", path.display())));
                }
                Ok(_) if !force => return Err(exists(path)),
                _ => {}
            }
        }
        let pair = Self { key: resolve(key), certificate: resolve(certificate), force };
        match pair.key == pair.certificate {
            true => Err(Failure::new("the private key and the certificate cannot be in the same file")),
            false => Ok(pair),
        }
    }

    /// Writes both through temporary files beside them. If the second cannot be put in its place, the first is taken
    /// back, and what was there before is there again.
    pub fn write(&self, key: &[u8], certificate: &[u8]) -> Result<(), Failure> {
        let key = Draft::write(&self.key, key, 0o600)?;
        let certificate = Draft::write(&self.certificate, certificate, 0o644)?;
        let placed = key.place(self.force)?;
        if let Err(failure) = certificate.place(self.force).map(Placed::keep) {
            placed.undo();
            return Err(failure);
        }
        placed.keep();
        Ok(())
    }
}

/// A finished file under a temporary name.
struct Draft {
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    fn write(target: &Path, content: &[u8], mode: u32) -> Result<Self, Failure> {
        let temporary = beside(target, "tmp")?;
        let failed = |error| failure("create", target, &error);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
        let draft = Self { temporary, target: target.to_owned() };
        file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(draft)
    }

    /// Gives the file its name.
    fn place(&self, force: bool) -> Result<Placed, Failure> {
        let backup = match force {
            true => self.replace().map_err(|error| failure("replace", &self.target, &error))?,
            false => self.link().map(|()| None)?,
        };
        if let Some(Ok(directory)) = self.target.parent().map(File::open) {
            // A file system that cannot do this is no reason to fail: the files are there.
            let _ = directory.sync_all();
        }
        Ok(Placed { target: self.target.clone(), backup })
    }

    /// A hard link fails if the name is taken in the meantime; a renaming would overwrite it.
    fn link(&self) -> Result<(), Failure> {
        match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.target)),
            // Not every file system has links.
            Err(_) if fs::symlink_metadata(&self.target).is_ok() => Err(exists(&self.target)),
            Err(_) => fs::rename(&self.temporary, &self.target)
                .map_err(|error| failure("create", &self.target, &error)),
        }
    }

    fn replace(&self) -> io::Result<Option<PathBuf>> {
        let backup = match fs::symlink_metadata(&self.target) {
            Err(_) => None,
            Ok(data) if data.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => {
                let backup = beside(&self.target, "old").map_err(|_| io::ErrorKind::Other)?;
                fs::hard_link(&self.target, &backup).or_else(|_| fs::rename(&self.target, &backup))?;
                Some(backup)
            }
        };
        if let Err(error) = fs::rename(&self.temporary, &self.target) {
            if let Some(backup) = backup {
                let _ = fs::rename(backup, &self.target);
            }
            return Err(error);
        }
        Ok(backup)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// A file in its place, and where the one before it has gone.
struct Placed {
    target: PathBuf,
    backup: Option<PathBuf>,
}

impl Placed {
    fn keep(self) {
        if let Some(backup) = self.backup {
            let _ = fs::remove_file(backup);
        }
    }

    fn undo(self) {
        let _ = match self.backup {
            Some(backup) => fs::rename(backup, self.target),
            None => fs::remove_file(self.target),
        };
    }
}

/// The path with links in it followed, so that a link stays a link and two names of one file are seen as one.
fn resolve(path: &Path) -> PathBuf {
    if let Ok(whole) = fs::canonicalize(path) {
        return whole;
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match (fs::canonicalize(parent), path.file_name()) {
        (Ok(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// A name in the same directory that nobody has.
fn beside(path: &Path, ending: &str) -> Result<PathBuf, Failure> {
    let name = path.file_name().ok_or_else(|| Failure::new(format!("'{}' is not a file", path.display())))?;
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| Failure::new("no randomness available"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.{ending}", hex(&random)));
    Ok(path.with_file_name(hidden))
}

fn exists(path: &Path) -> Failure {
    Failure::with_hint(format!("'{}' already exists", path.display()), "Use --force to overwrite it.")
}

fn failure(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{verb} {}: {}", path.display(), pem::cause(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicUsize, Ordering},
    };

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let unique = format!("kes-pair-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(unique);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn both_files_are_written_with_their_modes() {
        let scratch = Scratch::new();
        let (key, cert) = (scratch.0.join("k"), scratch.0.join("c"));
        Pair::new(&key, &cert, false).unwrap().write(b"key", b"cert").unwrap();
        assert_eq!(fs::read(&key).unwrap(), b"key");
        assert_eq!(fs::read(&cert).unwrap(), b"cert");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&cert).unwrap().permissions().mode() & 0o133, 0);
        assert_eq!(scratch.names(), ["c", "k"]);
    }

    #[test]
    fn existing_files_are_replaced_by_force_alone() {
        let scratch = Scratch::new();
        let (key, cert) = (scratch.0.join("k"), scratch.0.join("c"));
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Pair::new(&key, &cert, false).unwrap_err(), exists(&key));
        Pair::new(&key, &cert, true).unwrap().write(b"key", b"cert").unwrap();
        assert_eq!(fs::read(&key).unwrap(), b"key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(scratch.names(), ["c", "k"]);
    }

    #[test]
    fn a_file_that_appears_in_the_meantime_is_not_overwritten_and_nothing_is_left() {
        let scratch = Scratch::new();
        let (key, cert) = (scratch.0.join("k"), scratch.0.join("c"));
        let pair = Pair::new(&key, &cert, false).unwrap();
        fs::write(&cert, "somebody else's").unwrap();
        assert!(pair.write(b"key", b"cert").is_err());
        assert_eq!(fs::read(&cert).unwrap(), b"somebody else's");
        assert_eq!(scratch.names(), ["c"], "the key is taken back");
    }

    #[test]
    fn a_failure_brings_the_old_key_back() {
        let scratch = Scratch::new();
        let (key, cert) = (scratch.0.join("k"), scratch.0.join("c"));
        fs::write(&key, "old").unwrap();
        let pair = Pair::new(&key, &cert, true).unwrap();
        fs::create_dir_all(cert.join("in the way")).unwrap();
        assert!(pair.write(b"key", b"cert").is_err());
        assert_eq!(fs::read(&key).unwrap(), b"old");
        assert_eq!(scratch.names(), ["c", "k"]);
    }

    #[test]
    fn odd_targets_are_refused() {
        let scratch = Scratch::new();
        let (key, cert) = (scratch.0.join("k"), scratch.0.join("c"));
        assert!(Pair::new(&key, &key, false).is_err());
        assert!(Pair::new(&key, &scratch.0.join("./k"), true).is_err());
        assert!(Pair::new(&key, &scratch.0, true).is_err());
        assert!(Pair::new(Path::new("/dev/null"), &cert, true).is_err());
        assert!(Pair::new(&key, &scratch.0.join("none/c"), false).unwrap().write(b"", b"").is_err());
        assert!(scratch.names().is_empty());
    }

    #[test]
    fn a_link_stays_a_link() {
        let scratch = Scratch::new();
        let (key, cert, real) = (scratch.0.join("k"), scratch.0.join("c"), scratch.0.join("real"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &key).unwrap();
        Pair::new(&key, &cert, true).unwrap().write(b"key", b"cert").unwrap();
        assert!(fs::symlink_metadata(&key).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"key");
    }
}
