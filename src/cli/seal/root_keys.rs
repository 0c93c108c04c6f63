//! `kes seal rotate` and `kes seal forget`.

use std::process::ExitCode;

use super::{COMMON, DRY_RUN, Troubles, YES, census, confirm, failure, keys, number, phase, place, truth};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        progress::Progress,
        table::{Command, Positionals},
        term,
    },
    keystore::upkeep,
    seal::RootKeyId,
    text::json::Object,
};

pub(super) static ROTATE: Command = Command {
    name: "rotate",
    summary: "Seal all keys anew under a new root key.",
    about: "Makes a new root key and seals every key anew under it. The old root key stays in the seal file, retired,\n\
            because older copies of key files need it. If there are key files under a retired root key already, after a\n\
            run that was ended in the middle or a restored backup, these are sealed anew and no root key is made. A\n\
            running server serves all keys meanwhile.\n",
    flags: &[DRY_RUN],
    common: &COMMON,
    examples: &["kes seal rotate --dry-run", "kes seal rotate"],
    run: rotate,
    ..Command::GROUP
};

pub(super) static FORGET: Command = Command {
    name: "forget",
    summary: "Drop retired root keys.",
    about: "Drops root keys that no key file needs any more from the seal file. Backups of key files that are sealed\n\
            under them cannot be opened by this seal file after that.\n",
    positionals: Positionals { shown: "ROOT-KEY-ID...", min: 1, max: usize::MAX },
    flags: &[DRY_RUN, YES],
    common: &COMMON,
    examples: &["kes seal forget 49d757b2dcb031b9"],
    run: forget,
    ..Command::GROUP
};

fn rotate(args: &Args) -> Result<ExitCode, Failure> {
    let place = place(args)?;
    let mut ignored = Troubles::default();
    let census = census(&place, &mut ignored)?;
    if args.is_on("dry-run") {
        let phase = phase(&place)?;
        let Some(sealer) = phase.sealer() else { return Err(Failure::new(no_seal_file(&place))) };
        let retired = sealer.root_keys().retired();
        let behind: u64 = retired.iter().map(|key| census.under(key.id())).sum();
        let count = if behind > 0 { behind } else { census.under(sealer.root_keys().active().id()) };
        return report_rotation(args, None, behind == 0, count, true);
    }
    let mut troubles = Troubles::default();
    let mut progress = Progress::new("Sealing", census.total());
    let result = upkeep::rotate(&place, &mut |step| troubles.note(step, &mut progress));
    drop(progress);
    let (active, is_new, resealed) = result.map_err(failure)?;
    report_rotation(args, Some(active), is_new, resealed.replaced, false)?;
    if troubles.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    term::print_stderr(&troubles.text());
    Err(Failure::with_hint(
        format!("{} could not be sealed anew and are as they were", troubles.counted()),
        "All others are done. 'kes seal verify' names these again.",
    ))
}

fn no_seal_file(place: &upkeep::Place) -> String {
    format!("there is no seal file '{}'", place.seal_file.display())
}

fn report_rotation(
    args: &Args,
    active: Option<RootKeyId>,
    is_new: bool,
    count: u64,
    is_dry: bool,
) -> Result<ExitCode, Failure> {
    if args.is_on("json") {
        let mut object = Object::new(128).raw("sealed", &number(count)).raw("new_root_key", truth(is_new));
        if let Some(id) = active {
            object = object.text("root_key", &id.to_string());
        }
        output::json(&object.raw("dry_run", truth(is_dry)).end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = match (is_new, is_dry) {
        (true, true) => "Would make a new root key.\n".to_owned(),
        (false, true) => "Would take up an earlier rotation: no new root key.\n".to_owned(),
        (true, false) => "Made a new root key. Back up the seal file again.\n".to_owned(),
        (false, false) => {
            "Took up an earlier rotation: no new root key. The next run makes one.\n".to_owned()
        }
    };
    if let Some(id) = active {
        text.push_str(&format!("Active root key: {id}\n"));
    }
    text.push_str(&format!("{} {} anew.\n", if is_dry { "Would seal" } else { "Sealed" }, keys(count)));
    term::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn forget(args: &Args) -> Result<ExitCode, Failure> {
    let mut ids = Vec::new();
    for word in args.positionals() {
        let id = word.to_str().and_then(RootKeyId::parse);
        ids.push(
            id.ok_or_else(|| args.mistake(&format!("{word:?} is no root key ID: 16 hexadecimal digits")))?,
        );
    }
    let place = place(args)?;
    let is_dry = args.is_on("dry-run");
    if !is_dry {
        let names = ids.iter().map(RootKeyId::to_string).collect::<Vec<_>>().join(", ");
        let question = format!(
            "Backups of keys under {names} cannot be opened without an older copy of the seal file. Go on?"
        );
        confirm(args, &question)?;
    }
    let mut progress = Progress::new("Counting", 0);
    let mut troubles = Troubles::default();
    let result = upkeep::forget(&place, &ids, is_dry, &mut |step| troubles.note(step, &mut progress));
    drop(progress);
    result.map_err(failure)?;
    if args.is_on("json") {
        let ids: Vec<String> = ids.iter().map(RootKeyId::to_string).collect();
        let object = Object::new(128).list("forgotten", ids.iter().map(String::as_str));
        output::json(&object.raw("dry_run", truth(is_dry)).end())?;
    } else {
        let word = if is_dry { "Would drop" } else { "Dropped" };
        let plural = if ids.len() == 1 { "root key" } else { "root keys" };
        term::print(&format!("{word} {} {plural}.\n", ids.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}
