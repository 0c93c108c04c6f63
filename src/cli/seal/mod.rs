//! `kes seal`: what an administrator does with a sealed store. It works on the files, whether a server runs or not.

mod adopt;
mod export;
mod root_keys;
mod status;
mod unlock;

use std::{
    io::{self, BufRead, IsTerminal},
    path::Path,
};

use super::{
    Failure,
    args::Args,
    output,
    progress::Progress,
    setup::offline_config,
    table::{Command, Flag, JSON, Takes, flag},
    term,
};
use crate::{
    config::{KeyStoreConfig, SealConfig},
    crypto::SecretBytes,
    keyring::codec,
    keystore::{
        fs::seals::{Phase, Seals},
        upkeep::{self, Census, Place, Step, UpkeepError},
    },
    seal::{SealError, file, unlock::Cost},
    text::json::Object,
};

/// `kes seal`.
pub static SEAL: Command = Command {
    name: "seal",
    summary: "Seal the keys on disk, and look after the root keys.",
    about: "Works on the file store that the configuration names, whether a server runs or not.\n",
    commands: &[
        &status::STATUS,
        &status::VERIFY,
        &adopt::ADOPT,
        &root_keys::ROTATE,
        &root_keys::FORGET,
        &unlock::INIT,
        &unlock::REWRAP,
        &export::EXPORT,
    ],
    ..Command::GROUP
};

const CONFIG: Flag = flag("config", Takes::Value("FILE"), "Read the configuration from FILE.");
const DRY_RUN: Flag = flag("dry-run", Takes::Nothing, "Say what would be done, and change nothing.");
const YES: Flag = flag("yes", Takes::Nothing, "Do not ask for confirmation.").short(&['y']);

/// Flags that every command of the group has.
static COMMON: [Flag; 2] = [CONFIG, JSON];

/// Flags of commands that may make a passphrase.
const KDF_MEMORY: Flag = flag(
    "kdf-memory",
    Takes::Value("KIB"),
    "Memory that each guess of a new passphrase costs (default: 65536).",
);
const KDF_PASSES: Flag = flag("kdf-passes", Takes::Value("N"), "Passes over that memory (default: 3).");

/// So many keys in trouble are told one by one.
const TOLD: usize = 1000;

/// The store that the configuration names.
fn place(args: &Args) -> Result<Place, Failure> {
    let (_, config) = offline_config(args.value("config").map(Path::new))?;
    match config.keystore {
        KeyStoreConfig::Memory => Err(Failure::new("keys in memory are not sealed")),
        KeyStoreConfig::Fs { shown, path, seal: SealConfig::On { file, unlock } } => {
            Ok(Place { dir: path, shown, seal_file: file, source: unlock })
        }
        KeyStoreConfig::Fs { .. } => Err(Failure::with_hint(
            "keystore.fs.seal is off: the keys are plain on purpose",
            "Remove that setting first; a store of plain keys is served as before until it is adopted.",
        )),
    }
}

/// How far the store has come, with the root keys.
fn phase(place: &Place) -> Result<Phase, Failure> {
    Ok(Seals::open(&place.dir, &place.seal_file, &place.source, None).map_err(seal_failure)?.phase())
}

/// The cost of guessing a new passphrase.
fn cost(args: &Args) -> Result<Cost, Failure> {
    let mut cost = Cost::default();
    for (long, value, range) in [
        ("kdf-memory", &mut cost.memory_kib, file::MEMORY_KIB),
        ("kdf-passes", &mut cost.passes, file::PASSES),
    ] {
        let Some(text) = args.text(long)? else { continue };
        match text.parse() {
            Ok(number) if range.contains(&number) => *value = number,
            _ => {
                let cause = format!("not a number from {} to {}", range.start(), range.end());
                return Err(args.invalid(long, text.as_ref(), &cause));
            }
        }
    }
    Ok(cost)
}

fn seal_failure(cause: SealError) -> Failure {
    match cause.root_cause() {
        SealError::Interrupted => Failure::Interrupted,
        _ => Failure::new(cause.to_string()),
    }
}

fn failure(cause: UpkeepError) -> Failure {
    match cause {
        UpkeepError::Seal(cause) => seal_failure(cause),
        other => Failure::new(other.to_string()),
    }
}

/// Counts the key files by kind.
fn census(place: &Place, troubles: &mut Troubles) -> Result<Census, Failure> {
    let mut progress = Progress::new("Counting", 0);
    upkeep::count(&place.dir, &mut |step| troubles.note(step, &mut progress)).map_err(failure)
}

/// Whether a stored value is a key that a server can use.
fn is_key(value: &[u8]) -> Result<(), String> {
    codec::decode(value).map(drop).map_err(|cause| format!("is no key: {cause}"))
}

/// Keys that something is wrong with.
#[derive(Default)]
struct Troubles {
    count: usize,
    told: Vec<(String, String)>,
}

impl Troubles {
    fn note(&mut self, step: Step<'_>, progress: &mut Progress) {
        match step {
            Step::Key => progress.add(1),
            Step::Trouble(name, reason) => {
                self.count += 1;
                if self.told.len() < TOLD {
                    self.told.push((name.as_str().to_owned(), reason.to_owned()));
                }
            }
        }
    }

    fn is_none(&self) -> bool {
        self.count == 0
    }

    /// `3 keys`, for a sentence.
    fn counted(&self) -> String {
        keys(self.count as u64)
    }

    /// One line for each.
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, reason) in &self.told {
            text.push_str(&format!("key '{name}' {reason}\n"));
        }
        if self.count > self.told.len() {
            text.push_str(&format!("and {} more\n", self.count - self.told.len()));
        }
        text
    }

    fn json(&self) -> SecretBytes {
        output::array(
            self.told.iter().map(|(name, reason)| {
                Object::new(128).text("name", name).text("reason", reason).end().to_vec()
            }),
        )
    }
}

/// `1 key`, `2 keys`.
fn keys(count: u64) -> String {
    format!("{count} {}", if count == 1 { "key" } else { "keys" })
}

fn number(count: u64) -> Vec<u8> {
    count.to_string().into_bytes()
}

fn truth(is_so: bool) -> &'static [u8] {
    if is_so { b"true" } else { b"false" }
}

/// Goes on only if somebody at the terminal, or `--yes`, says so.
fn confirm(args: &Args, question: &str) -> Result<(), Failure> {
    if args.is_on("yes") {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::with_hint(
            "nobody is there to confirm this: standard input is no terminal",
            "--yes goes on without asking.",
        ));
    }
    term::print_stderr(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Failure::new("not confirmed: nothing was done")),
    }
}
