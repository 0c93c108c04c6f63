//! `kes seal status` and `kes seal verify`.

use std::process::ExitCode;

use super::{COMMON, Troubles, census, failure, is_key, keys, number, phase, place, truth};
use crate::{
    cli::{Failure, args::Args, output, progress::Progress, table::Command, term},
    keystore::{
        fs::seals::Phase,
        upkeep::{self, Census, Place},
    },
    seal::{RootKey, Sealer},
    text::{json::Object, time::Timestamp},
};

pub(super) static STATUS: Command = Command {
    name: "status",
    summary: "Show how the keys are sealed.",
    about: "Shows the store, how its seal file is unlocked, and each root key with the number of key files under it.\n\
            It unlocks the seal file and reads the first line of each key file.\n",
    common: &COMMON,
    examples: &["kes seal status", "kes seal status --json"],
    run: status,
    ..Command::GROUP
};

pub(super) static VERIFY: Command = Command {
    name: "verify",
    summary: "Open every key, and name those that do not open.",
    about: "Opens every key as a server would, and names each one that does not open or is no key, with the reason.\n\
            The exit status is 1 if there is one.\n",
    common: &COMMON,
    examples: &["kes seal verify"],
    run: verify,
    ..Command::GROUP
};

fn status(args: &Args) -> Result<ExitCode, Failure> {
    let place = place(args)?;
    let phase = phase(&place)?;
    let mut troubles = Troubles::default();
    let census = census(&place, &mut troubles)?;
    let state = state(&phase, &census);
    match args.is_on("json") {
        true => output::json(&status_json(&place, &phase, &census, state, &troubles))?,
        false => term::print(&status_text(&place, &phase, &census, state, &troubles))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn state(phase: &Phase, census: &Census) -> &'static str {
    match phase {
        Phase::Plain if census.sealed_total() > 0 => "seal file missing",
        Phase::Plain if census.total() == 0 => "empty",
        Phase::Plain => "plain",
        Phase::Adopting(_) => "being sealed",
        Phase::Sealed(_) if census.plain > 0 => "mixed",
        Phase::Sealed(_) => "sealed",
    }
}

/// Active first.
fn root_keys(sealer: &Sealer) -> impl Iterator<Item = (&RootKey, &'static str)> {
    let keys = sealer.root_keys();
    std::iter::once((keys.active(), "active")).chain(keys.retired().iter().map(|key| (key, "retired")))
}

fn time(created: u64) -> String {
    let seconds = i64::try_from(created).unwrap_or(i64::MAX);
    Timestamp { seconds, nanos: 0, offset_minutes: 0 }.to_string()
}

/// Root keys that files name and the seal file lacks.
fn unknown<'a>(phase: &'a Phase, census: &'a Census) -> impl Iterator<Item = (&'a String, u64)> {
    let is_known = |id: &String| {
        phase.sealer().is_some_and(|sealer| root_keys(sealer).any(|(key, _)| key.id().to_string() == *id))
    };
    census.sealed.iter().filter(move |(id, _)| !is_known(id)).map(|(id, files)| (id, *files))
}

fn status_text(place: &Place, phase: &Phase, census: &Census, state: &str, troubles: &Troubles) -> String {
    let mut text = format!(
        "Store      {}\nSeal file  {}\nUnlock     {}\nState      {state}\n",
        place.dir.display(),
        place.seal_file.display(),
        place.source,
    );
    for (key, kind) in phase.sealer().into_iter().flat_map(|sealer| root_keys(sealer)) {
        let (id, files) = (key.id(), census.under(key.id()));
        text.push_str(&format!("Root key   {id}  {kind:<7}  {}  {}\n", time(key.created()), keys(files)));
    }
    for (id, files) in unknown(phase, census) {
        text.push_str(&format!("Root key   {id}  unknown  {}\n", keys(files)));
    }
    if census.plain > 0 {
        text.push_str(&format!("Plain      {}\n", keys(census.plain)));
    }
    if !troubles.is_none() {
        text.push_str(&format!("Unusable   {}\n{}", troubles.counted(), troubles.text()));
    }
    text
}

fn status_json(
    place: &Place,
    phase: &Phase,
    census: &Census,
    state: &str,
    troubles: &Troubles,
) -> crate::crypto::SecretBytes {
    let known = phase.sealer().into_iter().flat_map(|sealer| root_keys(sealer)).map(|(key, kind)| {
        let object = Object::new(128).text("id", &key.id().to_string()).text("state", kind);
        let object = object.text("created_at", &time(key.created()));
        object.raw("keys", &number(census.under(key.id()))).end().to_vec()
    });
    let unknown = unknown(phase, census).map(|(id, files)| {
        let object = Object::new(64).text("id", id).text("state", "unknown");
        object.raw("keys", &number(files)).end().to_vec()
    });
    Object::new(512)
        .text("store", &place.dir.display().to_string())
        .text("seal_file", &place.seal_file.display().to_string())
        .text("unlock", place.source.method())
        .text("state", state)
        .raw("root_keys", &output::array(known.chain(unknown)))
        .raw("sealed", &number(census.sealed_total()))
        .raw("plain", &number(census.plain))
        .raw("unusable", &troubles.json())
        .end()
}

fn verify(args: &Args) -> Result<ExitCode, Failure> {
    let place = place(args)?;
    let phase = phase(&place)?;
    let mut troubles = Troubles::default();
    let total = census(&place, &mut Troubles::default())?.total();
    let mut progress = Progress::new("Verifying", total);
    let result = upkeep::verify(&place.dir, &phase, &is_key, &mut |step| troubles.note(step, &mut progress));
    drop(progress);
    let (good, bad) = result.map_err(failure)?;
    if args.is_on("json") {
        let object = Object::new(256).raw("good", &number(good)).raw("bad", &number(bad));
        let object = object.raw("sealed", truth(matches!(phase, Phase::Sealed(_))));
        output::json(&object.raw("failed", &troubles.json()).end())?;
    } else {
        term::print(&format!("{}{} opened, {bad} did not\n", troubles.text(), keys(good)))?;
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
