//! Commands that ask a server (`cli` §2 to §5): what they have in common.

mod cipher;
pub mod identity;
mod key;
mod live;
pub mod log;
pub mod ls;
pub mod metric;
pub mod policy;
mod settings;
pub mod status;

use serde_json::Value;

use super::{
    Failure,
    args::Args,
    identity::PASSWORD_FILE,
    table::{Flag, JSON, Takes, flag},
    term,
};
use crate::{
    client::{Answer, Client, Error, Request},
    name::Identity,
    text::time::Timestamp,
};

pub use key::KEY;

const SERVER: Flag =
    flag("server", Takes::List("HOST[:PORT]"), "Ask this server; of several the first that answers.");
const API_KEY: Flag = flag(
    "api-key",
    Takes::Value("KEY"),
    "Log in with this API key. Other users of the machine can see it;\nthe file that KES_API_KEY_FILE names is safer.",
)
.short(&['a']);
const CLIENT_KEY: Flag = flag("key", Takes::Value("FILE"), "Log in with this private key.");
const CLIENT_CERT: Flag = flag("cert", Takes::Value("FILE"), "The certificate of the private key.");
const CA: Flag = flag("ca", Takes::Value("PATH"), "Trust the certificates in this file or directory, too.");
const INSECURE: Flag =
    flag("insecure", Takes::Nothing, "Trust any server. It may be somebody else's.").short(&['k']);
const TIMEOUT: Flag = flag("timeout", Takes::Value("DURATION"), "Give up after this time (default: 30s).");
const COLOR: Flag = flag("color", Takes::Value("auto|always|never"), "When to use colours.");
const ENCLAVE: Flag = flag("enclave", Takes::Value("NAME"), "Ignored.").short(&['e']).hidden();

/// The flags of every command that asks a server.
pub const FLAGS: &[Flag] = &[
    SERVER.short(&['s']),
    API_KEY,
    CLIENT_KEY,
    CLIENT_CERT,
    PASSWORD_FILE,
    CA,
    INSECURE,
    TIMEOUT,
    JSON,
    COLOR,
    ENCLAVE,
];

/// The same where `-s` means something else.
pub const FLAGS_WITHOUT_S: &[Flag] =
    &[SERVER, API_KEY, CLIENT_KEY, CLIENT_CERT, PASSWORD_FILE, CA, INSECURE, TIMEOUT, JSON, COLOR, ENCLAVE];

/// A client, and who it is.
pub struct Session {
    client: Client,
    identity: Identity,
}

impl Session {
    /// As flags and environment say.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        settings::session(args)
    }

    /// Asks for something that changes nothing.
    pub fn get(&mut self, target: &str) -> Result<Answer, Error> {
        self.client.call(&Request { method: "GET", target, body: None, is_repeatable: true })
    }

    /// Asks for JSON.
    pub fn get_json(&mut self, target: &str) -> Result<Value, Error> {
        let answer = self.get(target)?;
        serde_json::from_slice(&answer.body).map_err(|_| odd_reply())
    }

    /// The names that begin with `prefix`, sorted. `list` is the path up to the pattern, `member` what holds the names.
    pub fn names(&mut self, list: &str, member: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        // No name begins so, and a pattern must not.
        if prefix.starts_with('-') {
            return Ok(names);
        }
        self.collect_names(list, member, prefix, &mut names)?;
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// A server that has more names than fit into a reply gives the first ones and the one after them. The rest cannot be
    /// asked for from there on, only by longer prefixes.
    fn collect_names(
        &mut self,
        list: &str,
        member: &str,
        prefix: &str,
        names: &mut Vec<String>,
    ) -> Result<(), Error> {
        // A `-` must not end a pattern, a `_` not be all of it, and nothing is no path.
        let star = if matches!(prefix, "" | "_") || prefix.ends_with('-') { "*" } else { "" };
        let reply = self.get_json(&format!("{list}{}{star}", crate::client::segment(prefix)))?;
        let page = reply.get(member).and_then(Value::as_array).ok_or_else(odd_reply)?;
        names.extend(page.iter().filter_map(Value::as_str).map(str::to_owned));
        let next = reply.get("continue_at").and_then(Value::as_str).unwrap_or("");
        let Some(after) = next.strip_prefix(prefix).and_then(|rest| rest.bytes().next()) else {
            return Ok(());
        };
        // The characters of names, in the order of names.
        let alphabet = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
        for letter in alphabet.chars().filter(|letter| *letter as u32 >= u32::from(after)) {
            if prefix.len() < crate::name::MAX_NAME {
                self.collect_names(list, member, &format!("{prefix}{letter}"), names)?;
            }
        }
        Ok(())
    }

    /// What to tell the user of an error.
    pub fn failure(&self, error: Error) -> Failure {
        self.failure_of("", error)
    }

    /// The same with what failed in front.
    pub fn failure_of(&self, what: &str, error: Error) -> Failure {
        let text = error.to_string();
        let text = term::visible(&if what.is_empty() { text } else { [what, &text].join(": ") });
        match self.hint(&error) {
            Some(hint) => Failure::with_hint(text, hint),
            None => Failure::new(text),
        }
    }

    fn hint(&self, error: &Error) -> Option<String> {
        let cause = match error {
            Error::Refused { status: 403, .. } => {
                return Some(format!(
                    "This client is {}; a policy of the server must allow it this call.",
                    self.identity
                ));
            }
            Error::Refused { .. } => return None,
            Error::Connect { cause, .. } | Error::Broken { cause, .. } => cause,
        };
        let hints = [
            (
                "unknown authority",
                "Trust the server's certificate or its issuer with --ca FILE, or any server with --insecure (-k).",
            ),
            ("not valid for", "Call the server by a name or address that stands in its certificate."),
            ("connection refused", "Is the server running? --server or KES_SERVER name another one."),
            ("no such host", "Is the name of the server right? --server or KES_SERVER name another one."),
            ("does not look like a TLS", "There is a server, but it does not speak HTTPS."),
        ];
        if let Some((_, hint)) = hints.iter().find(|(part, _)| cause.contains(part)) {
            return Some((*hint).to_owned());
        }
        cause.contains("remote error").then(|| {
            format!("The server refuses the certificate of this client, whose identity is {}.", self.identity)
        })
    }
}

/// A reply that is no JSON, or of another shape.
fn odd_reply() -> Error {
    Error::Refused { status: 200, message: "the server's reply cannot be understood".to_owned() }
}

/// A member's text; empty if there is none.
fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or("")
}

/// A member's number; 0 if there is none.
fn number(value: &Value, member: &str) -> u64 {
    value.get(member).and_then(Value::as_u64).unwrap_or(0)
}

/// `2026-11-23 23:18:48`, in UTC.
fn date(text: &str) -> String {
    match Timestamp::parse(text) {
        Some(time) => {
            let time = Timestamp { nanos: 0, offset_minutes: 0, ..time }.to_string();
            time.replace('T', " ").trim_end_matches('Z').to_owned()
        }
        None => term::visible(text),
    }
}

/// Lines of a label, padded to 12 columns, and a text. Rows without text are left out.
fn labelled(rows: &[(&str, &str)]) -> String {
    let shown = rows.iter().filter(|(_, text)| !text.is_empty());
    shown.map(|(label, text)| format!("{label:<12}{}\n", term::visible(text))).collect()
}

/// A word of the command line as text.
fn word(args: &Args, place: usize) -> Result<&str, Failure> {
    let word = args.positionals().get(place).map_or(Some(""), |word| word.to_str());
    word.ok_or_else(|| args.mistake("an argument is not valid UTF-8"))
}

/// The prefix that a pattern asks for: without its star.
fn prefix(args: &Args) -> Result<&str, Failure> {
    let pattern = word(args, 0)?;
    Ok(pattern.strip_suffix('*').unwrap_or(pattern))
}
