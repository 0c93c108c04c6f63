//! What the server gives up once it has started: all files but those that a reload needs, new connections, and the system
//! calls that it does not make. Made once, from the configuration of the start; it can never be widened.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    config::{Config, KeyStoreConfig, SealConfig},
    seal::{Source, unlock::Passphrase},
    sys::{
        landlock::{self, Access},
        process, seccomp,
    },
    tls,
};

/// The sandbox that this process is in.
#[derive(Debug)]
pub struct Sandbox {
    /// What can be reached, if that is limited.
    reach: Option<Vec<Place>>,
    /// The key directory that is in use.
    keys: Option<PathBuf>,
    account: String,
}

/// A directory or file that the process was left, known by its device and inode as the kernel knows it.
#[derive(Debug)]
struct Place {
    id: (u64, u64),
    access: Access,
}

impl Sandbox {
    /// Enters the sandbox, as far as this kernel has one. Threads that exist already stay outside: to be called before any
    /// is made. `file` is the configuration file, if there is one.
    pub fn enter(config: &Config, file: Option<&Path>) -> Self {
        if !config.sandbox {
            return Self { reach: None, keys: None, account: "off, by configuration".into() };
        }
        // What it says is asked for later, and cannot be opened then.
        process::status();
        let (mut has, mut lacks) = (Vec::new(), String::new());
        let mut note = |what: &str, done: Result<String, std::io::Error>| match done {
            Ok(by) => has.push(format!("{what}{by}")),
            Err(error) => lacks += &format!("; no limit to {what}: {error}"),
        };
        let mut reach = None;
        note("privileges", process::give_up_privileges().map(|()| String::new()));
        let needs = needs(config, file);
        let rules: Vec<_> = needs.iter().map(|(path, access)| (path.as_path(), *access)).collect();
        note(
            "files and connections",
            landlock::restrict(&rules).map(|version| {
                let known =
                    needs.iter().filter_map(|(path, access)| Some(Place { id: id(path)?, access: *access }));
                reach = Some(known.collect());
                format!(" (Landlock {version})")
            }),
        );
        note("system calls", seccomp::restrict().map(|()| " (seccomp)".into()));
        let has = if has.is_empty() { "nothing".into() } else { has.join(", ") };
        let keys = match &config.keystore {
            KeyStoreConfig::Fs { path, .. } => Some(path.clone()),
            _ => None,
        };
        Self { reach, keys, account: format!("limits {has}{lacks}") }
    }

    /// One line on what is limited, for the banner.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Whether the files of another configuration can be reached; the error says which cannot.
    pub fn check(&self, config: &Config, file: &Path) -> Result<(), String> {
        let Some(reach) = &self.reach else { return Ok(()) };
        let mut needs = needs(config, Some(file));
        // A key directory that does not exist yet would be made.
        if let KeyStoreConfig::Fs { path, .. } = &config.keystore
            && Some(path) != self.keys.as_ref()
            && let Some(there) = path.ancestors().find(|path| path.exists())
        {
            needs.push((there.to_owned(), Access::Change));
        }
        for (path, access) in needs {
            // As the kernel does it: a place gives access to everything beneath. What does not exist is none of our business.
            let Ok(real) = path.canonicalize() else { continue };
            let is_reached = real
                .ancestors()
                .filter_map(id)
                .any(|id| reach.iter().any(|place| place.id == id && place.access.includes(access)));
            if !is_reached {
                return Err(format!(
                    "{} is out of reach of the sandbox, which was made when the server started: restart the server, or set \
                     sandbox: off",
                    path.display()
                ));
            }
        }
        Ok(())
    }
}

fn id(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|data| (data.dev(), data.ino()))
}

/// Everything that the running server and its reloads open. Files that others replace are named by their directories.
fn needs(config: &Config, file: Option<&Path>) -> Vec<(PathBuf, Access)> {
    let mut needs = Needs(Vec::new());
    file.into_iter().for_each(|file| needs.file(file, Access::Read));
    if let KeyStoreConfig::Fs { path, seal, .. } = &config.keystore {
        needs.dir(path, Access::Change);
        if let SealConfig::On { file, unlock } = seal {
            needs.file(file, Access::Read);
            match unlock {
                Source::Passphrase(Passphrase::File(path)) => needs.file(path, Access::Read),
                Source::Credential(_) => {
                    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
                    directory.iter().for_each(|path| needs.dir(Path::new(path), Access::Read));
                }
                // Programs and the terminal are for the start alone.
                _ => {}
            }
        }
    }
    if let Some(path) = &config.log.file {
        needs.file(path, Access::Append);
    }
    if file.is_some() {
        needs.file(&config.tls.cert, Access::Read);
        needs.file(&config.tls.key, Access::Read);
        match &config.tls.ca {
            Some(path) if path.is_dir() => needs.dir(path, Access::Read),
            Some(path) => needs.file(path, Access::Read),
            None => {}
        }
        tls::verify::root_places().iter().for_each(|place| needs.dir(place, Access::Read));
        // Names of ports.
        needs.dir(Path::new("/etc/services"), Access::Read);
    }
    needs.0
}

struct Needs(Vec<(PathBuf, Access)>);

impl Needs {
    /// A directory, or a file that stays the same.
    fn dir(&mut self, path: &Path, access: Access) {
        if path.exists() {
            self.0.push((path.to_owned(), access));
        }
    }

    /// A file that may be replaced: the directory that it lies in, and the one that a link leads to. A device or pipe is
    /// not replaced, and nobody is given the root directory.
    fn file(&mut self, path: &Path, access: Access) {
        let is_regular = path.metadata().is_ok_and(|data| data.is_file());
        let links = [std::path::absolute(path).ok(), path.canonicalize().ok()];
        for path in links.into_iter().flatten() {
            let dir = path.parent().filter(|dir| dir.parent().is_some() && (is_regular || !path.exists()));
            self.dir(dir.unwrap_or(&path), access);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaceable_files_are_named_by_their_directories_and_devices_by_themselves() {
        let mut needs = Needs(Vec::new());
        needs.file(Path::new("/dev/null"), Access::Append);
        assert!(needs.0.iter().all(|(path, _)| path == Path::new("/dev/null")), "{:?}", needs.0);
        let mut needs = Needs(Vec::new());
        needs.file(Path::new("/etc/passwd"), Access::Read);
        needs.file(Path::new("/etc/no-such-file"), Access::Read);
        assert!(
            needs.0.iter().all(|(path, _)| path == Path::new("/etc")) && needs.0.len() == 3,
            "{:?}",
            needs.0
        );
        let mut needs = Needs(Vec::new());
        needs.file(Path::new("/no-such-file"), Access::Read);
        assert!(needs.0.is_empty(), "{:?}", needs.0);
    }
}
