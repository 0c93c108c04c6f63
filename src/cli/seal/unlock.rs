//! `kes seal init` and `kes seal rewrap`.

use std::process::ExitCode;

use super::{COMMON, KDF_MEMORY, KDF_PASSES, Troubles, census, cost, failure, phase, place, seal_failure};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Takes, flag},
        term,
    },
    config,
    keystore::{fs::seals::Phase, upkeep},
    text::json::Object,
};

pub(super) static INIT: Command = Command {
    name: "init",
    summary: "Make the seal file of an empty store.",
    about: "Makes the key directory, if it is missing, and the seal file with one root key, protected as\n\
            keystore.fs.seal.unlock says. A server does the same at its first start; this does it with somebody there to\n\
            type a passphrase.\n",
    flags: &[KDF_MEMORY, KDF_PASSES],
    common: &COMMON,
    examples: &["kes seal init --config config.yml"],
    run: init,
    ..Command::GROUP
};

pub(super) static REWRAP: Command = Command {
    name: "rewrap",
    summary: "Protect the seal file in another way, or by another secret.",
    about: "Unlocks the seal file as the configuration says and locks it as --to says, which has the form of\n\
            keystore.fs.seal.unlock. The root keys stay the same and no key file is touched. Then the configuration must\n\
            be changed to say the same.\n",
    flags: &[
        flag("to", Takes::Value("UNLOCK"), "The new way, such as 'none' or '{ credential: kes-seal }'."),
        KDF_MEMORY,
        KDF_PASSES,
    ],
    common: &COMMON,
    examples: &[
        "kes seal rewrap --to '{ passphrase: terminal }'",
        "kes seal rewrap --to '{ credential: kes-seal }'",
    ],
    run: rewrap,
    ..Command::GROUP
};

fn init(args: &Args) -> Result<ExitCode, Failure> {
    let (place, cost) = (place(args)?, cost(args)?);
    if place.dir.exists() {
        if census(&place, &mut Troubles::default())?.total() > 0 {
            return Err(Failure::with_hint(
                format!("there are keys in '{}' already", place.shown),
                "'kes seal adopt' seals plain keys; 'kes seal status' shows what is there.",
            ));
        }
        if !matches!(phase(&place)?, Phase::Plain) {
            return Err(Failure::new(format!("there is a seal file already: {}", place.seal_file.display())));
        }
    }
    let id = upkeep::init(&place, cost).map_err(failure)?;
    let file = place.seal_file.display().to_string();
    if args.is_on("json") {
        output::json(&Object::new(128).text("seal_file", &file).text("root_key", &id.to_string()).end())?;
    } else {
        term::print(&format!(
            "Made the seal file, which is to be backed up apart from the keys: {file}\nActive root key: {id}\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rewrap(args: &Args) -> Result<ExitCode, Failure> {
    let text =
        args.text("to")?.ok_or_else(|| args.mistake("--to says how the seal file is to be protected"))?;
    let (place, cost) = (place(args)?, cost(args)?);
    let base =
        std::env::current_dir().map_err(|cause| format!("the working directory is not known: {cause}"))?;
    let to = config::parse_unlock(text, &base, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::new(problems.join("\nError: ")))?;
    upkeep::rewrap(&place, &to, cost).map_err(|cause| match cause {
        upkeep::UpkeepError::Seal(cause) => seal_failure(cause),
        other => failure(other),
    })?;
    let file = place.seal_file.display().to_string();
    if args.is_on("json") {
        output::json(&Object::new(128).text("seal_file", &file).text("unlock", to.method()).end())?;
    } else {
        term::print(&format!(
            "The seal file is protected anew ({to}): {file}\nNow set in the configuration: keystore.fs.seal.unlock: \
             {text}\nThen restart the server. Back up the seal file again.\n"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
