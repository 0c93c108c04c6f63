//! Where the secret comes from that opens a seal file, and how it is put to use. What is configured says where from; what
//! the file says about itself decides what is made of it.

use std::{
    env,
    ffi::OsString,
    fmt, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    time::Duration,
};

use argon2::{Algorithm, Argon2, Params, Version};
use ring::rand::{SecureRandom, SystemRandom};

use super::{
    RootKeys, SealError, SealFile,
    file::{Argon2id, Unlock, write_locked, write_plain},
};
use crate::{
    crypto::SecretBytes,
    sys::{
        command,
        file::{open_to_read, read_up_to},
        tty::Terminal,
    },
};

/// The configured time for an unlock command if none is given.
pub const COMMAND_TIME: Duration = Duration::from_secs(10);

/// Longest secret that is taken from a file or a command, in bytes.
const MAX_SECRET: usize = 1 << 16;

/// A new secret that is not stretched must have so many bytes at least, as it is taken for a key.
const MIN_KEY: usize = 16;

/// Where the secret of a seal file comes from: `keystore.fs.seal.unlock`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// There is none: the seal file is the secret.
    None,
    /// A passphrase.
    Passphrase(Passphrase),
    /// The systemd credential of this name: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// What a program prints.
    Command {
        /// The program and its arguments.
        program: Vec<OsString>,
        /// How long it may take.
        time: Duration,
    },
}

/// Where a passphrase comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Passphrase {
    /// A file (absolute).
    File(PathBuf),
    /// An environment variable of this process.
    Variable(String),
    /// Somebody at the terminal.
    Terminal,
}

impl Source {
    /// The method's name as the seal file has it.
    pub fn method(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Passphrase(_) => "passphrase",
            Self::Credential(_) => "credential",
            Self::Command { .. } => "command",
        }
    }

    /// Whether somebody must be there to give the secret.
    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Passphrase(Passphrase::Terminal))
    }

    fn fetch(&self, prompt: &str) -> Result<SecretBytes, SealError> {
        let secret = match self {
            Self::None => return Ok(SecretBytes::new()),
            Self::Passphrase(Passphrase::File(path)) => without_line_end(read_secret(path)?),
            Self::Passphrase(Passphrase::Variable(name)) => match env::var_os(name) {
                Some(value) => without_line_end(SecretBytes::from(value.into_vec())),
                None => return Err(no_secret(format!("the environment variable {name} is not set"))),
            },
            Self::Passphrase(Passphrase::Terminal) => ask(prompt)?,
            Self::Credential(name) => match env::var_os("CREDENTIALS_DIRECTORY") {
                Some(directory) => read_secret(&Path::new(&directory).join(name))?,
                None => {
                    let cause = "CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredential= or \
                                 LoadCredentialEncrypted=";
                    return Err(no_secret(cause.into()));
                }
            },
            Self::Command { program, time } => {
                let name = program.first().map(|name| name.display().to_string()).unwrap_or_default();
                command::output(program, *time, MAX_SECRET).map_err(|cause| {
                    let hint = match cause.kind() {
                        io::ErrorKind::PermissionDenied => {
                            " (a server runs no programs after its start: restart it)"
                        }
                        _ => "",
                    };
                    no_secret(format!("unlock command '{name}': {cause}{hint}"))
                })?
            }
        };
        if secret.is_empty() {
            return Err(no_secret(format!("the {} is empty", self.noun())));
        }
        Ok(secret)
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Command { .. } => "output of the unlock command",
            other => other.method(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none: the seal file is the secret"),
            Self::Passphrase(Passphrase::File(path)) => write!(f, "passphrase from '{}'", path.display()),
            Self::Passphrase(Passphrase::Variable(name)) => {
                write!(f, "passphrase from the environment variable {name}")
            }
            Self::Passphrase(Passphrase::Terminal) => f.write_str("passphrase from the terminal"),
            Self::Credential(name) => write!(f, "credential '{name}'"),
            Self::Command { program, .. } => {
                write!(
                    f,
                    "command '{}'",
                    program.first().map(OsString::as_os_str).unwrap_or_default().display()
                )
            }
        }
    }
}

/// How a seal file is protected, with the secret for it: opens the file and writes its successors.
#[derive(Debug)]
pub struct Protection {
    unlock: Unlock,
    secret: SecretBytes,
}

impl Protection {
    /// For new seal files. The secret is fetched twice: one that is not the same the second time would lock everybody out.
    pub fn new(source: &Source, cost: Cost) -> Result<Self, SealError> {
        let unlock = match source {
            Source::None => return Ok(Self { unlock: Unlock::None, secret: SecretBytes::new() }),
            Source::Passphrase(_) => Unlock::Passphrase(cost.with_new_salt()?),
            Source::Credential(_) => Unlock::Credential,
            Source::Command { .. } => Unlock::Command,
        };
        let secret = source.fetch("New passphrase for the seal file: ")?;
        let again = source.fetch("The same passphrase again: ")?;
        if secret[..] != again[..] {
            return Err(SealError::SecretChanges);
        }
        if !matches!(source, Source::Passphrase(_)) && secret.len() < MIN_KEY {
            let cause = format!("the {} has less than {MIN_KEY} bytes", source.noun());
            return Err(no_secret(cause));
        }
        let secret = derive(&unlock, secret)?;
        Ok(Self { unlock, secret })
    }

    /// For a seal file that exists.
    pub fn of(file: &SealFile, source: &Source) -> Result<Self, SealError> {
        let unlock = file.unlock().clone();
        if unlock.name() != source.method() {
            return Err(SealError::OtherMethod { file: unlock.name(), configured: source.method() });
        }
        let secret = derive(&unlock, source.fetch("Passphrase for the seal file: ")?)?;
        Ok(Self { unlock, secret })
    }

    /// How the files are protected.
    pub fn unlock(&self) -> &Unlock {
        &self.unlock
    }

    /// The root keys of a file that is protected in this way and no other.
    pub fn open(&self, file: SealFile) -> Result<RootKeys, SealError> {
        if *file.unlock() != self.unlock {
            return Err(SealError::WrongUnlockSecret);
        }
        file.open_with(&self.secret)
    }

    /// The text of a seal file with these keys. It has been opened again: there may be no other that could.
    pub fn write(&self, keys: &RootKeys) -> Result<SecretBytes, SealError> {
        let text = match self.unlock {
            Unlock::None => write_plain(keys),
            _ => write_locked(keys, &self.unlock, &self.secret)?,
        };
        let opened = self.open(SealFile::parse(&text)?)?;
        match opened.ids().eq(keys.ids()) {
            true => Ok(text),
            false => Err(SealError::System("does not hold what was written".into())),
        }
    }
}

/// What each guess of a passphrase costs: parameters of Argon2id for new seal files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
}

impl Cost {
    fn with_new_salt(self) -> Result<Argon2id, SealError> {
        let mut salt = vec![0; 16];
        SystemRandom::new().fill(&mut salt).map_err(|_| SealError::NoRandomBytes)?;
        Ok(Argon2id { memory_kib: self.memory_kib, passes: self.passes, lanes: 1, salt })
    }
}

impl Default for Cost {
    /// The second recommendation of RFC 9106 §4 (64 MiB, 3 passes), in one lane, as lanes run one after the other here.
    fn default() -> Self {
        Self { memory_kib: 65_536, passes: 3 }
    }
}

/// What seals the body: the result of Argon2id for a passphrase, and any other secret as it is.
fn derive(unlock: &Unlock, secret: SecretBytes) -> Result<SecretBytes, SealError> {
    let Unlock::Passphrase(Argon2id { memory_kib, passes, lanes, salt }) = unlock else { return Ok(secret) };
    let failed = |cause: argon2::Error| SealError::System(format!("Argon2id: {cause}"));
    let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(failed)?;
    let mut key = SecretBytes::from(vec![0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(&secret, salt, &mut key)
        .map_err(failed)?;
    Ok(key)
}

fn read_secret(path: &Path) -> Result<SecretBytes, SealError> {
    let text = open_to_read(path).and_then(|file| read_up_to(&file, MAX_SECRET + 1));
    let text = text.map_err(|cause| no_secret(format!("cannot read '{}': {cause}", path.display())))?;
    match text.len() > MAX_SECRET {
        true => Err(no_secret(format!("'{}' has more than {MAX_SECRET} bytes", path.display()))),
        false => Ok(text),
    }
}

fn ask(prompt: &str) -> Result<SecretBytes, SealError> {
    let asked =
        Terminal::open().map_err(|_| no_secret("there is no terminal to ask for the passphrase".into()));
    asked?.ask(prompt).map_err(|cause| match cause.kind() {
        io::ErrorKind::Interrupted => SealError::Interrupted,
        _ => no_secret(format!("cannot read the passphrase: {cause}")),
    })
}

/// A file that was made with an editor ends in a line feed that is no part of the passphrase.
fn without_line_end(mut text: SecretBytes) -> SecretBytes {
    if text.ends_with(b"\n") {
        text.truncate(text.len() - 1);
        if text.ends_with(b"\r") {
            text.truncate(text.len() - 1);
        }
    }
    text
}

fn no_secret(cause: String) -> SealError {
    SealError::NoSecret(cause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::encode::{decode_hex, hex};

    const PASSPHRASE: &[u8] = include_bytes!("../../tests/vectors/seal/passphrase.seal");
    const NONE: &[u8] = include_bytes!("../../tests/vectors/seal/none.seal");

    fn file(text: &[u8]) -> SealFile {
        SealFile::parse(text).unwrap()
    }

    fn prints(text: &str) -> Source {
        Source::Command { program: vec!["/bin/printf".into(), text.into()], time: Duration::from_secs(60) }
    }

    #[test]
    fn a_passphrase_makes_the_secret_of_the_fixed_file() {
        let expected = include_str!("../../tests/vectors/seal/expect.txt");
        let expected =
            expected.lines().find_map(|line| line.strip_prefix("secret passphrase.seal ")).unwrap();
        let seal_file = file(PASSPHRASE);
        let secret = SecretBytes::from(b"correct horse battery staple".to_vec());
        assert_eq!(hex(&derive(seal_file.unlock(), secret).unwrap()), expected);
        assert_eq!(decode_hex(expected).unwrap().len(), 32);
    }

    #[test]
    fn the_line_end_of_a_file_is_no_part_of_the_passphrase() {
        for (text, passphrase) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), ("a\r", "a\r")]
        {
            let read = without_line_end(SecretBytes::from(text.as_bytes().to_vec()));
            assert_eq!(&read[..], passphrase.as_bytes());
        }
    }

    #[test]
    fn a_protection_opens_what_it_writes_and_nothing_else() {
        let cost = Cost { memory_kib: 8, passes: 1 };
        let keys = file(NONE).into_root_keys().unwrap();
        let source = prints("a secret of the program");
        for source in [Source::None, source.clone()] {
            let protection = Protection::new(&source, cost).unwrap();
            let text = protection.write(&keys).unwrap();
            let again = Protection::of(&file(&text), &source).unwrap();
            assert_eq!(again.open(file(&text)).unwrap().active().id(), keys.active().id());
        }
        let text = Protection::new(&source, cost).unwrap().write(&keys).unwrap();
        let other = Protection::of(&file(&text), &prints("another secret of it")).unwrap();
        assert_eq!(other.open(file(&text)).unwrap_err(), SealError::WrongUnlockSecret);
        assert_eq!(
            Protection::of(&file(&text), &Source::None).unwrap_err(),
            SealError::OtherMethod { file: "command", configured: "none" }
        );
    }

    #[test]
    fn a_secret_that_changes_is_empty_or_short_is_not_used_for_new_files() {
        let cost = Cost { memory_kib: 8, passes: 1 };
        let random = "od -An -N32 -tx1 /dev/urandom";
        let changing = Source::Command {
            program: vec!["/bin/sh".into(), "-c".into(), random.into()],
            time: Duration::from_secs(60),
        };
        assert_eq!(Protection::new(&changing, cost).unwrap_err(), SealError::SecretChanges);
        for (source, cause) in [(prints(""), "empty"), (prints("short"), "less than 16 bytes")] {
            let error = Protection::new(&source, cost).unwrap_err().to_string();
            assert!(error.contains(cause), "{error}");
        }
        let missing = Source::Passphrase(Passphrase::Variable("KES_TEST_NO_SUCH_VARIABLE".into()));
        assert!(Protection::new(&missing, cost).unwrap_err().to_string().contains("is not set"));
    }
}
