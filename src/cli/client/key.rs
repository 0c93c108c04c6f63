//! `kes key`: create, import, info, ls, rm (`cli` §5.4).

use std::{ffi::OsStr, process::ExitCode};

use super::{
    FLAGS, Session, cipher, date, labelled,
    ls::{Kind, list, list_long},
    text, word,
};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Flag, Positionals, Takes, flag},
        term,
    },
    client::{Error, Request, segment},
    text::json::Object,
};

/// Names and only names.
const NAMES: Positionals = Positionals { shown: "NAME...", min: 1, max: usize::MAX };

/// Where a value is read from that should not stand on the command line.
pub(super) const FILE: Flag = flag("file", Takes::Value("FILE"), "Read it from FILE.");

/// `kes key`.
pub static KEY: Command = Command {
    name: "key",
    summary: "Manage and use keys.",
    about: "Manages the keys of a server, and encrypts and decrypts with them.\n",
    commands: &[
        &CREATE,
        &IMPORT,
        &INFO,
        &LS,
        &RM,
        &cipher::ENCRYPT,
        &cipher::DECRYPT,
        &cipher::DEK,
        &cipher::HMAC,
    ],
    ..Command::GROUP
};

static CREATE: Command = Command {
    name: "create",
    summary: "Create keys.",
    about: "Creates a key for each NAME.\n",
    positionals: NAMES,
    flags: &[flag("if-not-exists", Takes::Nothing, "A key that is there already is no failure.")],
    common: FLAGS,
    examples: &["kes key create my-key"],
    run: |args| for_each(args, "create", "PUT", "/v1/key/create/", "if-not-exists"),
    ..Command::GROUP
};

static RM: Command = Command {
    name: "rm",
    summary: "Delete keys.",
    about: "Deletes the key of each NAME. Nothing that was encrypted with a deleted key can be decrypted again.\n",
    positionals: NAMES,
    flags: &[flag("ignore-missing", Takes::Nothing, "A key that is not there is no failure.")],
    common: FLAGS,
    examples: &["kes key rm my-key my-other-key"],
    run: |args| for_each(args, "delete", "DELETE", "/v1/key/delete/", "ignore-missing"),
    ..Command::GROUP
};

static IMPORT: Command = Command {
    name: "import",
    summary: "Import a key.",
    about: "Imports a key of 32 bytes, given in base64. On the command line other users of the machine can see it: let\n\
            it be read from standard input ('-') or from a file.\n",
    positionals: Positionals { shown: "NAME [KEY|-]", min: 1, max: 2 },
    flags: &[FILE],
    common: FLAGS,
    examples: &["kes key import my-key --file key.txt", "openssl rand -base64 32 | kes key import my-key -"],
    run: import,
    ..Command::GROUP
};

static INFO: Command = Command {
    name: "info",
    summary: "Describe a key.",
    about: "Describes a key: its algorithm, when it was made and by whom. Times are in UTC.\n",
    positionals: Positionals { shown: "NAME", min: 1, max: 1 },
    common: FLAGS,
    examples: &["kes key info my-key"],
    run: info,
    ..Command::GROUP
};

static LS: Command = Command {
    name: "ls",
    summary: "List keys.",
    about: "Lists the keys whose names begin with PATTERN; a star at its end changes nothing.\n",
    positionals: Positionals { shown: "[PATTERN]", min: 0, max: 1 },
    flags: &[flag("long", Takes::Nothing, "Show also when each was made and by whom.").short(&['l'])],
    common: FLAGS,
    examples: &["kes key ls", "kes key ls 'my-*'"],
    run: |args| match args.is_on("long") {
        true => list_long(args, Kind::Key, "/v1/key/describe/", "Key"),
        false => list(args, Kind::Key),
    },
    ..Command::GROUP
};

/// Does something to each name. All are tried; one failure is enough to fail.
fn for_each(
    args: &Args,
    verb: &'static str,
    method: &'static str,
    path: &str,
    tolerance: &str,
) -> Result<ExitCode, Failure> {
    let mut session = Session::new(args)?;
    let mut code = ExitCode::SUCCESS;
    for place in 0..args.positionals().len() {
        let name = word(args, place)?;
        let target = format!("{path}{}", segment(name));
        let done =
            session.client.call(&Request { method, target: &target, body: None, is_repeatable: false });
        let done = match done {
            Ok(_) => Ok(if verb == "create" { "created" } else { "deleted" }),
            Err(error) if args.is_on(tolerance) && is_tolerated(verb, &error) => {
                Ok(if verb == "create" { "exists" } else { "missing" })
            }
            Err(error) => Err(error),
        };
        let object = Object::new(128).text("name", name);
        match done {
            Ok(result) if args.is_on("json") => output::json(&object.text("result", result).end())?,
            Ok(_) => {}
            Err(error) => {
                code = ExitCode::FAILURE;
                if args.is_on("json") {
                    let object = object.text("result", "failed");
                    output::json(&object.text("error", &error.to_string()).end())?;
                }
                session.failure_of(&format!("failed to {verb} key \"{name}\""), error).report();
            }
        }
    }
    Ok(code)
}

fn is_tolerated(verb: &str, error: &Error) -> bool {
    match (verb, error) {
        // Two statuses for that have been seen in servers of the protocol.
        ("create", Error::Refused { status: 400 | 409, message }) => message == "key already exists",
        ("delete", Error::Refused { status: 404, message }) => message == "key does not exist",
        _ => false,
    }
}

fn import(args: &Args) -> Result<ExitCode, Failure> {
    let name = word(args, 0)?;
    let (key, rest) = cipher::input(args, 1)?;
    if !rest.is_empty() {
        return Err(args.mistake("too many arguments"));
    }
    let key = cipher::from_base64(args, "key", &key)?;
    let mut session = Session::new(args)?;
    let body = Object::new(96).bytes("key", &key).text("cipher", "AES256").end();
    let target = format!("/v1/key/import/{}", segment(name));
    let request = Request { method: "PUT", target: &target, body: Some(&body), is_repeatable: false };
    session
        .client
        .call(&request)
        .map_err(|error| session.failure_of(&format!("failed to import \"{name}\""), error))?;
    if args.is_on("json") {
        output::json(&Object::new(128).text("name", name).text("result", "imported").end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn info(args: &Args) -> Result<ExitCode, Failure> {
    let name = word(args, 0)?;
    term::Paint::new(args)?;
    let mut session = Session::new(args)?;
    let key = session
        .get_json(&format!("/v1/key/describe/{}", segment(name)))
        .map_err(|error| session.failure_of(&format!("failed to describe key \"{name}\""), error))?;
    // Servers of the protocol leave it out for the usual one.
    let algorithm = Some(text(&key, "algorithm")).filter(|text| !text.is_empty()).unwrap_or("AES256");
    let (created_at, created_by) = (text(&key, "created_at"), text(&key, "created_by"));
    if args.is_on("json") {
        let object = Object::new(256).text("name", text(&key, "name")).text("algorithm", algorithm);
        output::json(&object.text("created_at", created_at).text("created_by", created_by).end())?;
    } else {
        term::print(&labelled(&[
            ("Name", text(&key, "name")),
            ("Algorithm", algorithm),
            ("Date", &date(created_at)),
            ("Owner", created_by),
        ]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a word stands for standard input.
pub(super) fn is_stdin(word: &OsStr) -> bool {
    word == "-"
}
