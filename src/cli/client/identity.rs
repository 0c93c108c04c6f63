//! `kes identity info|ls`: the identities that a server knows (`cli` §5.6).

use std::process::ExitCode;

use serde_json::Value;

use super::{
    FLAGS, Session, date, labelled,
    ls::{Kind, list},
    policy::{rule_lists, rules},
    text, word,
};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Positionals},
        term::{self, Paint},
    },
    client::segment,
    text::json::Object,
};

/// `kes identity info`.
pub static INFO: Command = Command {
    name: "info",
    summary: "Describe an identity that a server knows.",
    about: "Describes IDENTITY, or without it the identity of this client and what it may do. Times are in UTC.\n",
    positionals: Positionals { shown: "[IDENTITY]", min: 0, max: 1 },
    common: FLAGS,
    examples: &["kes identity info"],
    run: info,
    ..Command::GROUP
};

/// `kes identity ls`.
pub static LS: Command = Command {
    name: "ls",
    summary: "List the identities that a server knows.",
    about: "Lists the identities that begin with PATTERN; a star at its end changes nothing.\n",
    positionals: Positionals { shown: "[PATTERN]", min: 0, max: 1 },
    common: FLAGS,
    examples: &["kes identity ls"],
    run: |args| list(args, Kind::Identity),
    ..Command::GROUP
};

fn info(args: &Args) -> Result<ExitCode, Failure> {
    let wanted = word(args, 0)?;
    let paint = Paint::new(args)?;
    let mut session = Session::new(args)?;
    let path = match wanted.is_empty() {
        true => "/v1/identity/self/describe".to_owned(),
        false => format!("/v1/identity/describe/{}", segment(wanted)),
    };
    let info = session.get_json(&path).map_err(|error| session.failure(error))?;
    let own = session.identity.to_string();
    let identity = Some(text(&info, "identity")).filter(|text| !text.is_empty());
    let identity = identity.unwrap_or(if wanted.is_empty() { &own } else { wanted });
    let is_admin = info.get("admin").and_then(Value::as_bool).unwrap_or(false);
    let (policy, created_at, created_by) =
        (text(&info, "policy"), text(&info, "created_at"), text(&info, "created_by"));
    if args.is_on("json") {
        let object = Object::new(1024).text("identity", identity);
        let object = object.raw("admin", if is_admin { b"true" } else { b"false" }).text("policy", policy);
        let mut object = object.text("created_at", created_at).text("created_by", created_by);
        // What others may do is told by their policy.
        if wanted.is_empty() {
            for member in ["allow", "deny"] {
                object = object.list(member, rules(&info, member).into_iter());
            }
        }
        output::json(&object.end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = labelled(&[
        ("Identity", identity),
        ("Policy", policy),
        ("Created At", &date(created_at)),
        ("Role", if is_admin { "Admin" } else { "User" }),
        ("Created By", created_by),
    ]);
    let lists = rule_lists(paint, &info);
    let gap = if lists.is_empty() { "" } else { "\n" };
    term::print(&[&rows, gap, &lists].concat())?;
    Ok(ExitCode::SUCCESS)
}
