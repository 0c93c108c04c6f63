//! `kes ls` and the lists of keys, policies and identities (`cli` §5.3 to §5.6).

use std::process::ExitCode;

use super::{FLAGS, Session, prefix};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Positionals, Takes, flag},
        term::{self, Paint},
    },
    text::json::Object,
};

/// `kes ls`.
pub static LS: Command = Command {
    name: "ls",
    summary: "List keys, identities or policies.",
    about: "Lists the names of keys, or of identities or policies, that begin with PREFIX.\n",
    positionals: Positionals { shown: "[PREFIX]", min: 0, max: 1 },
    flags: &[
        flag("identity", Takes::Nothing, "List identities.").short(&['i']),
        flag("policy", Takes::Nothing, "List policies.").short(&['p']),
    ],
    common: FLAGS,
    examples: &["kes ls", "kes ls --policy", "kes ls -s kes.example.net:7373 my-"],
    run,
    ..Command::GROUP
};

/// What can be listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Keys.
    Key,
    /// Policies.
    Policy,
    /// Identities.
    Identity,
}

fn run(args: &Args) -> Result<ExitCode, Failure> {
    let kind = match (args.is_on("identity"), args.is_on("policy")) {
        (true, true) => return Err(args.mistake("cannot list identities and policies at once")),
        (true, false) => Kind::Identity,
        (false, true) => Kind::Policy,
        (false, false) => Kind::Key,
    };
    list(args, kind)
}

/// Lists the names that the first positional asks for.
pub fn list(args: &Args, kind: Kind) -> Result<ExitCode, Failure> {
    let (prefix, paint) = (prefix(args)?, Paint::new(args)?);
    let mut session = Session::new(args)?;
    let names = names(&mut session, kind, prefix)?;
    if args.is_on("json") {
        let quoted = |name: &String| {
            let mut text = crate::crypto::SecretBytes::new();
            crate::text::json::push_string(name.as_bytes(), &mut text);
            text
        };
        output::json(&output::array(names.iter().map(quoted)))?;
    } else if !names.is_empty() {
        let heading = match kind {
            Kind::Key => "Key",
            Kind::Policy => "Policy",
            Kind::Identity => "Identity",
        };
        let mut text = paint.heading(heading);
        for name in &names {
            text.push('\n');
            text.push_str(&term::visible(name));
        }
        text.push('\n');
        term::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of all of a kind that begin with `prefix`.
pub fn names(session: &mut Session, kind: Kind, prefix: &str) -> Result<Vec<String>, Failure> {
    let (path, member) = match kind {
        Kind::Key => ("/v1/key/list/", "names"),
        Kind::Policy => ("/v1/policy/list/", "names"),
        Kind::Identity => ("/v1/identity/list/", "identities"),
    };
    session.names(path, member, prefix).map_err(|error| session.failure(error))
}

/// Lists names with when and by whom each was made (`--long`). `path` leads to what is told of one.
pub fn list_long(args: &Args, kind: Kind, path: &str, heading: &str) -> Result<ExitCode, Failure> {
    let (prefix, paint) = (prefix(args)?, Paint::new(args)?);
    let mut session = Session::new(args)?;
    let names = names(&mut session, kind, prefix)?;
    let width = names.iter().map(String::len).max().unwrap_or(0).max(heading.len()) + 2;
    let (mut text, mut objects) = (String::new(), Vec::new());
    for name in &names {
        let described = match session.get_json(&format!("{path}{}", crate::client::segment(name))) {
            Ok(described) => described,
            // It has been deleted since.
            Err(crate::client::Error::Refused { status: 404, .. }) => continue,
            Err(error) => return Err(session.failure_of(&format!("failed to describe \"{name}\""), error)),
        };
        let (created_at, created_by) =
            (super::text(&described, "created_at"), super::text(&described, "created_by"));
        let date = super::date(created_at);
        text.push_str(&format!("{:<width$}{date:<21}{}\n", term::visible(name), term::visible(created_by)));
        let object = Object::new(256).text("name", name).text("created_at", created_at);
        objects.push(object.text("created_by", created_by).end());
    }
    if args.is_on("json") {
        output::json(&output::array(&objects))?;
    } else if !text.is_empty() {
        let heading = paint.heading(&format!("{heading:<width$}{:<21}Owner", "Date"));
        term::print(&format!("{heading}\n{text}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
