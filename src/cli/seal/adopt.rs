//! `kes seal adopt`.

use std::{
    ffi::OsString,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    COMMON, DRY_RUN, KDF_MEMORY, KDF_PASSES, Troubles, YES, census, confirm, cost, failure, is_key, keys,
    number, phase, place, truth,
};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        progress::Progress,
        provision::check_parents,
        table::{Command, Takes, flag},
        term,
    },
    keystore::{
        fs::seals::Phase,
        upkeep::{self, Backup, Place},
    },
    sys::{
        file::parent_of,
        process::{become_user, effective_user},
    },
    text::json::Object,
};

pub(super) static ADOPT: Command = Command {
    name: "adopt",
    summary: "Seal the plain keys of a store.",
    about: "Seals the plain key files, as another server of the protocol has made them, in place. They are kept as they\n\
            were in a backup directory, which is to be removed when all is well. A running server serves all keys\n\
            meanwhile. A run that was ended in the middle is taken up by the next one.\n",
    flags: &[
        DRY_RUN,
        flag(
            "backup",
            Takes::Value("DIR"),
            "Keep the plain files in DIR (default: the key directory's path with\n'.plain' appended).",
        ),
        flag("no-backup", Takes::Nothing, "Do not keep the plain files."),
        YES,
        KDF_MEMORY,
        KDF_PASSES,
    ],
    common: &COMMON,
    examples: &["kes seal adopt --dry-run", "kes seal adopt --backup /var/lib/kes/keys-before"],
    run: adopt,
    ..Command::GROUP
};

fn adopt(args: &Args) -> Result<ExitCode, Failure> {
    if args.given("backup") && args.is_on("no-backup") {
        return Err(args.mistake("--backup and --no-backup exclude each other"));
    }
    let (place, cost) = (place(args)?, cost(args)?);
    let backup = backup_dir(args, &place)?;
    become_owner(&place, backup.as_deref())?;
    let census = census(&place, &mut Troubles::default())?;
    let phase = phase(&place)?;
    if matches!(phase, Phase::Plain) && census.total() == 0 {
        return Err(Failure::with_hint(
            format!("there are no keys in '{}'", place.shown),
            "'kes seal init' makes the seal file of an empty store.",
        ));
    }
    check(&place, &phase, census.total())?;
    if args.is_on("dry-run") {
        return report(args, &place, census.plain, backup.as_ref(), true);
    }
    if matches!(phase, Phase::Sealed(_)) && census.plain > 0 {
        let question = format!(
            "{} in the sealed store '{}' are plain, so that anybody may have put them there ('kes seal verify' names \
             them). Seal them?",
            keys(census.plain),
            place.shown
        );
        confirm(args, &question)?;
    } else if matches!(phase, Phase::Sealed(_)) {
        // What comes now was not there to be asked about.
        return report(args, &place, 0, None, false);
    }
    let backup = backup.map(|dir| Backup::open(&dir, &place.dir)).transpose().map_err(failure)?;
    let mut troubles = Troubles::default();
    let mut progress = Progress::new("Sealing", census.total());
    let result = upkeep::adopt(&place, &census, cost, backup.as_ref(), &mut |step| {
        troubles.note(step, &mut progress);
    });
    drop(progress);
    let adoption = result.map_err(failure)?;
    if !adoption.is_complete {
        term::print_stderr(&troubles.text());
        return Err(Failure::with_hint(
            format!("{} could not be sealed, and plain keys are still served", troubles.counted()),
            "Move their files away or mend them, and run the same command again.",
        ));
    }
    report(
        args,
        &place,
        adoption.resealed.replaced,
        backup.as_ref().map(|backup| backup.dir().to_owned()).as_ref(),
        false,
    )
}

/// Root takes no paths for granted in a directory that belongs to somebody else, who could lead them elsewhere: the work is
/// done as the owner of the keys.
fn become_owner(place: &Place, backup: Option<&Path>) -> Result<(), Failure> {
    let Ok(directory) = place.dir.symlink_metadata() else { return Ok(()) };
    // Where everybody may change his own names, that of the keys is his.
    let is_closed = |path: &Path| parent_of(path).metadata().is_ok_and(|parent| parent.mode() & 0o022 == 0);
    let is_roots = |path: &Path| is_closed(path) && check_parents(path).is_ok();
    let is_safe = is_roots(&place.dir) && backup.is_none_or(is_roots);
    if effective_user() != 0 || directory.uid() == 0 || is_safe {
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        let user = directory.uid();
        Failure::with_hint(
            format!("cannot work on '{}' as its owner, user {user}: {error}", place.shown),
            "Run the command as the service runs: with its user, its groups and its view of the file system.",
        )
    };
    become_user(directory.uid(), directory.gid()).map_err(failed)?;
    std::fs::read_dir(&place.dir).map(drop).map_err(failed)
}

/// Every file must open and be a key before the first one is changed.
fn check(place: &Place, phase: &Phase, total: u64) -> Result<(), Failure> {
    // In a sealed store the plain ones are what this is about.
    let phase = match phase {
        Phase::Sealed(sealer) => Phase::Adopting(sealer.clone()),
        other => other.clone(),
    };
    let mut troubles = Troubles::default();
    let mut progress = Progress::new("Checking", total);
    let result = upkeep::verify(&place.dir, &phase, &is_key, &mut |step| troubles.note(step, &mut progress));
    drop(progress);
    result.map_err(failure)?;
    if troubles.is_none() {
        return Ok(());
    }
    term::print_stderr(&troubles.text());
    Err(Failure::with_hint(
        format!("{} in '{}' cannot be used, and nothing was sealed", troubles.counted(), place.shown),
        "Move their files away first.",
    ))
}

fn backup_dir(args: &Args, place: &Place) -> Result<Option<PathBuf>, Failure> {
    if args.is_on("no-backup") {
        return Ok(None);
    }
    if let Some(dir) = args.value("backup") {
        return match dir.is_empty() {
            true => Err(args.invalid("backup", dir, "no directory")),
            false => Ok(Some(PathBuf::from(dir))),
        };
    }
    let mut name = place.dir.file_name().map(OsString::from).ok_or_else(|| {
        Failure::new("name a directory with --backup: the key directory's path does not end in a name")
    })?;
    name.push(".plain");
    Ok(Some(place.dir.with_file_name(name)))
}

fn report(
    args: &Args,
    place: &Place,
    count: u64,
    backup: Option<&PathBuf>,
    is_dry: bool,
) -> Result<ExitCode, Failure> {
    if args.is_on("json") {
        let mut object = Object::new(256).raw("sealed", &number(count)).raw("dry_run", truth(is_dry));
        if let Some(dir) = backup {
            object = object.text("backup", &dir.display().to_string());
        }
        output::json(&object.text("seal_file", &place.seal_file.display().to_string()).end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = match is_dry {
        true => format!("Would seal {} in '{}'.\n", keys(count), place.shown),
        false => format!(
            "Sealed {} in '{}'. Plain keys are refused from now on.\nBack up the seal file, apart from the keys: {}\n",
            keys(count),
            place.shown,
            place.seal_file.display()
        ),
    };
    if let Some(dir) = backup {
        text.push_str(&match is_dry {
            true => format!("The plain files would be kept in: {}\n", dir.display()),
            false => format!("When all is well, remove the plain files: {}\n", dir.display()),
        });
    }
    term::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
