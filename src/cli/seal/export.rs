//! `kes seal export`.

use std::{io, path::Path, process::ExitCode};

use super::{COMMON, YES, confirm, failure, phase, place};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Positionals, Takes, flag},
        term,
    },
    keystore::upkeep,
    name::KeyName,
    sys::file::create_durably,
    text::json::Object,
};

pub(super) static EXPORT: Command = Command {
    name: "export",
    summary: "Print a key in the plain form, for going back.",
    about: "Prints what the key file would hold in a store that is not sealed, byte by byte: another server of the\n\
            protocol can read it. It is the key itself.\n",
    positionals: Positionals { shown: "NAME", min: 1, max: 1 },
    flags: &[flag("output", Takes::Value("FILE"), "Write to FILE, which must be new.").short(&['o']), YES],
    common: &COMMON,
    examples: &["kes seal export --yes --output plain/my-key my-key"],
    run: export,
    ..Command::GROUP
};

fn export(args: &Args) -> Result<ExitCode, Failure> {
    let word = args.positionals().first().and_then(|word| word.to_str()).unwrap_or_default();
    let name = KeyName::parse(word).ok_or_else(|| args.mistake(&format!("{word:?} is no name of a key")))?;
    let place = place(args)?;
    confirm(args, &format!("This shows key '{name}' in plain. Go on?"))?;
    let value = upkeep::export(&place.dir, &phase(&place)?, &name).map_err(failure)?;
    let (content, is_json) = match args.is_on("json") {
        true => {
            let value = std::str::from_utf8(&value)
                .map_err(|_| Failure::new(format!("key '{name}' is not text: export it without --json")))?;
            (Object::new(value.len() + 128).text("name", name.as_str()).text("value", value).end(), true)
        }
        false => (value, false),
    };
    match args.value("output").map(Path::new) {
        Some(path) => create_durably(path, &content, "export").map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists => Failure::new(format!("file '{}' exists already", path.display())),
            _ => Failure::new(format!("cannot write '{}': {cause}", path.display())),
        })?,
        None if is_json => output::json(&content)?,
        None => term::print_bytes(&content)?,
    }
    Ok(ExitCode::SUCCESS)
}
