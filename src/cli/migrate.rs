//! `kes migrate`: copies keys from one key store to another, without a server (`cli` §5.10).

use std::{
    collections::HashSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Failure,
    args::Args,
    output,
    progress::Progress,
    setup::offline_config,
    table::{Command, Flag, JSON, Positionals, Takes, flag},
    term,
};
use crate::{
    config::{KeyStoreConfig, SealConfig},
    crypto::SecretBytes,
    keyring::codec,
    keystore::{KeyStore, StoreError, fs::FsStore},
    name::KeyName,
    text::{glob::Glob, json::Object},
};

/// So many keys that cannot be migrated are told one by one.
const TOLD: usize = 20;

/// So many keys are copied at the same time.
const WRITERS: usize = 16;

/// `kes migrate`.
pub static MIGRATE: Command = Command {
    name: "migrate",
    summary: "Copy keys from one key store to another.",
    about: "Copies the keys whose names match PATTERN (default: all) from the key store of one configuration file to\n\
            that of another. Each key is checked before the first one is written.\n",
    positionals: Positionals { shown: "[PATTERN]", min: 0, max: 1 },
    flags: &[
        flag("from", Takes::Value("FILE"), "The configuration file of the key store to read."),
        flag("to", Takes::Value("FILE"), "The configuration file of the key store to write."),
        flag("force", Takes::Nothing, "Replace keys that exist in the target.").short(&['f']),
        flag("merge", Takes::Nothing, "Leave keys that exist in the target as they are."),
        flag("dry-run", Takes::Nothing, "Check everything and write nothing."),
        flag("quiet", Takes::Nothing, "Print nothing but errors.").short(&['q']),
        JSON,
    ],
    common: &OTHER_PRODUCT,
    examples: &[
        "kes migrate --from old.yml --to new.yml --dry-run",
        "kes migrate --from old.yml --to new.yml --merge 'minio-*'",
    ],
    run,
    ..Command::GROUP
};

/// Flags for a target that is another product, which older scripts may have.
static OTHER_PRODUCT: [Flag; 4] = [
    flag("server", Takes::Value("HOST"), "").short(&['s']).hidden(),
    flag("enclave", Takes::Value("NAME"), "").short(&['e']).hidden(),
    flag("api-key", Takes::Value("KEY"), "").short(&['a']).hidden(),
    flag("insecure", Takes::Nothing, "").short(&['k']).hidden(),
];

/// What happens to a key that exists in the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Existing {
    /// Nothing is migrated at all.
    Refuse,
    /// `--merge`: it stays.
    Keep,
    /// `--force`: it is replaced unless it is the same.
    Replace,
}

/// One store of the two, as its configuration describes it.
struct Side {
    shown: String,
    path: PathBuf,
    seal: SealConfig,
}

impl Side {
    fn read(args: &Args, long: &str) -> Result<Self, Failure> {
        let missing = || args.mistake(&format!("no key store: --{long} names its configuration file"));
        let file = args.value(long).filter(|file| !file.is_empty()).ok_or_else(missing)?;
        let (_, config) = offline_config(Some(Path::new(file)))?;
        match config.keystore {
            KeyStoreConfig::Fs { shown, path, seal } => Ok(Self { shown, path, seal }),
            KeyStoreConfig::Memory => Err(Failure::new("keys in memory cannot be migrated")),
        }
    }

    /// The store as it is; `None` if there is none yet. Nothing is made.
    fn open_existing(&self) -> Result<Option<FsStore>, Failure> {
        Ok(FsStore::open_existing(&self.path, &self.shown, &self.seal)?)
    }

    fn is_same_directory(&self, other: &Self) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        real(&self.path) == real(&other.path)
    }
}

/// What is to be done with each key, after all of them have been looked at.
#[derive(Default)]
struct Plan {
    /// Not in the target.
    create: Vec<KeyName>,
    /// In the target with another value.
    replace: Vec<KeyName>,
    /// In the target already, with the same value.
    unchanged: usize,
    /// In the target already, and not looked into.
    skipped: usize,
}

impl Plan {
    fn len(&self) -> usize {
        self.create.len().saturating_add(self.replace.len())
    }
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    if ["server", "enclave", "api-key"].into_iter().any(|long| args.given(long)) {
        return Err(args.mistake(
            "migration to MinIO KMS (--server, --enclave, --api-key) is not supported: --to names the target",
        ));
    }
    let existing = match (args.is_on("merge"), args.is_on("force")) {
        (true, true) => return Err(args.mistake("--merge and --force exclude each other")),
        (true, false) => Existing::Keep,
        (false, true) => Existing::Replace,
        (false, false) => Existing::Refuse,
    };
    let pattern = parse_pattern(args)?;
    let (from, to) = (Side::read(args, "from")?, Side::read(args, "to")?);
    if from.is_same_directory(&to) {
        return Err(Failure::with_hint(
            format!("both key stores are the directory '{}'", to.shown),
            "'kes seal adopt' seals a plain store where it is.",
        ));
    }
    if !from.path.exists() {
        return Err(Failure::new(format!("there is no key directory '{}'", from.shown)));
    }
    let is_dry = args.is_on("dry-run");
    let reporter = Reporter { is_quiet: args.is_on("quiet"), is_json: args.is_on("json"), is_dry };

    // A source without keys and without seal file is not opened, as that would make the seal file.
    let source = from.open_existing()?;
    let target = to.open_existing()?;
    reporter.begin()?;
    let plan = match &source {
        Some(source) => plan(source, target.as_ref(), &pattern, existing)?,
        None => Plan::default(),
    };
    if let (false, Some(source)) = (is_dry, &source) {
        let target = match target {
            Some(target) => target,
            None => FsStore::open(&to.path, &to.shown, &to.seal)?,
        };
        carry_out(source, &target, &plan, existing, reporter.progress(&plan))?;
    }
    reporter.end(&plan)?;
    Ok(ExitCode::SUCCESS)
}

fn parse_pattern(args: &Args) -> Result<Glob, Failure> {
    let text = args.positionals().first().map_or(OsStr::new("*"), |pattern| pattern.as_os_str());
    let invalid = |cause: &str| args.mistake(&format!("invalid pattern {text:?}: {cause}"));
    Glob::parse(text.to_str().ok_or_else(|| invalid("not valid UTF-8"))?).map_err(invalid)
}

/// Looks at every key of the source that matches. Nothing is migrated if one of them is no key or is in the way.
fn plan(
    source: &FsStore,
    target: Option<&FsStore>,
    pattern: &Glob,
    existing: Existing,
) -> Result<Plan, Failure> {
    let list = |store: &FsStore| store.list("").map_err(|error| Failure::new(error.to_string()));
    let names = list(source)?.into_iter().filter(|name| pattern.matches(name.as_str()));
    let taken: HashSet<KeyName> = target.map(list).transpose()?.unwrap_or_default().into_iter().collect();
    let mut plan = Plan::default();
    let (mut unusable, mut in_the_way) = (0_usize, Vec::new());
    for name in names {
        let is_taken = taken.contains(&name);
        match existing {
            Existing::Keep if is_taken => plan.skipped += 1,
            Existing::Refuse if is_taken => in_the_way.push(name),
            _ => match (read_checked(source, &name), target.filter(|_| is_taken)) {
                (Ok(value), Some(target)) if holds(target, &name, &value)? => plan.unchanged += 1,
                (Ok(_), Some(_)) => plan.replace.push(name),
                (Ok(_), None) => plan.create.push(name),
                (Err(cause), _) => {
                    unusable += 1;
                    if unusable <= TOLD {
                        term::print_error(&cause, None);
                    }
                }
            },
        }
    }
    if unusable > 0 {
        return Err(Failure::with_hint(
            format!(
                "{unusable} {} cannot be migrated, and nothing was written",
                if unusable == 1 { "key" } else { "keys" }
            ),
            "Move the files of these keys away, or migrate others by a PATTERN.",
        ));
    }
    match in_the_way.split_first() {
        None => Ok(plan),
        Some((first, rest)) => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            Err(Failure::with_hint(
                format!("key already exists: '{first}'{more} in the target, and nothing was written"),
                "--merge leaves the keys of the target as they are, --force replaces them.",
            ))
        }
    }
}

/// The value of a key, which is one that a server can use.
fn read_checked(source: &FsStore, name: &KeyName) -> Result<SecretBytes, String> {
    let value = source.get(name).map_err(|error| format!("key '{name}': {error}"))?;
    codec::decode(&value).map_err(|cause| format!("key '{name}': {cause}"))?;
    Ok(value)
}

/// Whether the target has this value. One that does not open is another.
fn holds(target: &FsStore, name: &KeyName, value: &[u8]) -> Result<bool, Failure> {
    match target.get(name) {
        Ok(found) => Ok(&found[..] == value),
        Err(StoreError::Failed(_) | StoreError::KeyNotFound) => Ok(false),
        Err(error) => Err(Failure::new(format!("key '{name}' of the target: {error}"))),
    }
}

/// Copies all keys of the plan. Several at a time, as nearly all of the time is spent in waiting for the disk.
fn carry_out(
    source: &FsStore,
    target: &FsStore,
    plan: &Plan,
    existing: Existing,
    progress: Option<Progress>,
) -> Result<(), Failure> {
    let names: Vec<&KeyName> = plan.create.iter().chain(&plan.replace).collect();
    let next = AtomicUsize::new(0);
    let state = Mutex::new(Copied { done: 0, failure: None, progress });
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = copy(source, target, name, existing);
            let mut state = lock();
            match result {
                Ok(()) => state.count(),
                Err(cause) => state.failure = Some(cause),
            }
            if state.failure.is_some() {
                break;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..WRITERS {
            // With fewer threads it takes longer.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let Copied { done, failure, progress } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    drop(progress);
    match failure {
        None => Ok(()),
        Some(cause) => Err(Failure::with_hint(
            format!("{cause}; {done} of {} keys were migrated before", plan.len()),
            "The same command with --merge migrates the rest.",
        )),
    }
}

/// How far the copying has come.
struct Copied {
    done: usize,
    failure: Option<String>,
    progress: Option<Progress>,
}

impl Copied {
    fn count(&mut self) {
        self.done += 1;
        if let Some(progress) = &mut self.progress {
            progress.add(1);
        }
    }
}

fn copy(source: &FsStore, target: &FsStore, name: &KeyName, existing: Existing) -> Result<(), String> {
    let value = read_checked(source, name)?;
    let created = match target.create(name, &value) {
        Err(StoreError::KeyExists) if existing == Existing::Replace => target.replace(name, &value),
        // Somebody else has made it since, and it is to be left as it is.
        Err(StoreError::KeyExists) if existing == Existing::Keep => Ok(()),
        result => result,
    };
    created.map_err(|error| format!("key '{name}': {error}"))
}

/// What the user sees of it.
struct Reporter {
    is_quiet: bool,
    is_json: bool,
    is_dry: bool,
}

impl Reporter {
    fn begin(&self) -> Result<(), Failure> {
        match (self.is_quiet || self.is_json, self.is_dry) {
            (true, _) => Ok(()),
            (false, false) => term::print("Starting key migration:\n\n"),
            (false, true) => term::print("Dry run of a key migration:\n\n"),
        }
    }

    fn progress(&self, plan: &Plan) -> Option<Progress> {
        (!self.is_quiet).then(|| Progress::new("Migrating", plan.len() as u64))
    }

    fn end(&self, plan: &Plan) -> Result<(), Failure> {
        let count = plan.len();
        if self.is_quiet {
            return Ok(());
        }
        if self.is_json {
            let number = |number: usize| number.to_string().into_bytes();
            let object = Object::new(128)
                .raw("migrated", &number(count))
                .raw("replaced", &number(plan.replace.len()))
                .raw("unchanged", &number(plan.unchanged))
                .raw("skipped", &number(plan.skipped))
                .raw("dry_run", if self.is_dry { b"true" } else { b"false" });
            return output::json(&object.end());
        }
        let mut text = match (count, self.is_dry) {
            (0, false) => "Migration succeeded! No keys migrated.\n".into(),
            (0, true) => "There are no keys to migrate.\n".into(),
            (_, false) => format!("Migrated {count:>6} keys successfully!\n"),
            (_, true) => format!("Would migrate {count:>6} keys.\n"),
        };
        let rows = [
            (plan.replace.len(), "of these replace others"),
            (plan.unchanged, "are the same in the target"),
            (plan.skipped, "exist in the target and stay as they are"),
        ];
        for (count, what) in rows.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!("         {count:>6} {what}\n"));
        }
        term::print(&text)
    }
}
