//! The grammar of the command line (`cli` §1): GNU style, flags and positionals in any order.
//!
//! Written by hand: the small libraries for this either know no bundled short flags and no `--`, or take the value of one
//! flag for another flag when it looks like one.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use super::{
    Failure,
    table::{Command, Flag, Takes},
};

/// What the user wants.
#[derive(Debug)]
pub enum Call {
    /// The help of the last command on this path.
    Help(Vec<&'static Command>),
    /// A command to be run.
    Run(Args),
}

/// A command with its flags and positionals.
#[derive(Debug)]
pub struct Args {
    path: Vec<&'static Command>,
    command: &'static Command,
    flags: Vec<(&'static Flag, OsString)>,
    positionals: Vec<OsString>,
}

impl Args {
    /// The command itself.
    pub fn command(&self) -> &'static Command {
        self.command
    }

    /// The commands from `kes` to this one.
    pub fn path(&self) -> &[&'static Command] {
        &self.path
    }

    /// What is not a flag.
    pub fn positionals(&self) -> &[OsString] {
        &self.positionals
    }

    /// Whether the flag was given at all, with whatever value.
    pub fn given(&self, long: &str) -> bool {
        self.value(long).is_some()
    }

    /// Whether a boolean flag is on.
    pub fn is_on(&self, long: &str) -> bool {
        self.value(long).is_some_and(|value| value == "true")
    }

    /// The value of a flag; the last one wins.
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        debug_assert!(self.command.flags().any(|flag| flag.long == long), "no flag {long} in the table");
        self.flags.iter().rev().find(|(flag, _)| flag.long == long).map(|(_, value)| value.as_os_str())
    }

    /// The value of a flag as text.
    pub fn text(&self, long: &str) -> Result<Option<&str>, Failure> {
        let text = |value: &'_ OsStr| value.to_str().is_none().then(|| value.to_owned());
        match self.value(long) {
            Some(value) if text(value).is_some() => Err(self.invalid(long, value, "not valid UTF-8")),
            value => Ok(value.and_then(OsStr::to_str)),
        }
    }

    /// All values of a list flag: it may be repeated, and each value may be several with commas.
    pub fn list(&self, long: &str) -> Result<Vec<String>, Failure> {
        let mut list = Vec::new();
        for (_, value) in self.flags.iter().filter(|(flag, _)| flag.long == long) {
            let text = value.to_str().ok_or_else(|| self.invalid(long, value, "not valid UTF-8"))?;
            list.extend(text.split(',').map(|part| part.trim().to_owned()));
        }
        Ok(list)
    }

    /// The failure for a value that does not fit its flag.
    pub fn invalid(&self, long: &str, value: &OsStr, cause: &str) -> Failure {
        let value = value.to_string_lossy();
        mistake(&self.path, &format!("invalid argument \"{value}\" for \"--{long}\" flag: {cause}"))
    }

    /// The failure for a mistake in the arguments as a whole.
    pub fn mistake(&self, text: &str) -> Failure {
        mistake(&self.path, text)
    }
}

/// Finds the command among the leading words, then reads what follows by its flags.
pub fn parse(root: &'static Command, tokens: &[OsString]) -> Result<Call, Failure> {
    let mut path = vec![root];
    let mut command = root;
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        let Some(next) = command.commands.iter().copied().find(|command| first == command.name) else {
            break;
        };
        path.push(next);
        command = next;
        rest = after;
    }
    let mut args = Args { path, command, flags: Vec::new(), positionals: Vec::new() };
    if command.takes_anything {
        return Ok(Call::Run(args));
    }
    let mut rest = rest.iter();
    while let Some(token) = rest.next() {
        let bytes = token.as_bytes();
        if bytes == b"--" {
            rest.by_ref().try_for_each(|token| positional(&mut args, token))?;
        } else if let Some(long) = bytes.strip_prefix(b"--") {
            if long == b"help" {
                return Ok(Call::Help(args.path));
            }
            read_long(&mut args, long, &mut rest)?;
        } else if bytes.len() > 1 && bytes.starts_with(b"-") {
            if read_short(&mut args, token, &mut rest)? {
                return Ok(Call::Help(args.path));
            }
        } else {
            positional(&mut args, token)?;
        }
    }
    if args.positionals.len() < args.command.positionals.min {
        return Err(args.mistake("not enough arguments"));
    }
    Ok(Call::Run(args))
}

fn positional(args: &mut Args, token: &OsString) -> Result<(), Failure> {
    if args.positionals.len() < args.command.positionals.max {
        args.positionals.push(token.clone());
        return Ok(());
    }
    if args.command.commands.is_empty() || !args.flags.is_empty() {
        return Err(args.mistake("too many arguments"));
    }
    Err(unknown_command(&args.path, token))
}

/// The failure for a word that is no command, with the nearest one that is.
pub fn unknown_command(path: &[&'static Command], word: &OsStr) -> Failure {
    let word = word.to_string_lossy();
    let command = path.last();
    let group = command.map_or("kes", |command| command.name);
    let names = command.map_or(&[][..], |command| command.commands);
    let names = names.iter().filter(|command| !command.hidden).map(|command| command.name);
    let failure = mistake(path, &format!("\"{word}\" is not a {group} command"));
    add_hint(failure, crate::text::suggest::nearest(&word, names).map(str::to_owned))
}

fn read_long(args: &mut Args, text: &[u8], rest: &mut std::slice::Iter<'_, OsString>) -> Result<(), Failure> {
    let (name, value) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (text.get(..at).unwrap_or(&[]), text.get(at + 1..)),
        None => (text, None),
    };
    let name = String::from_utf8_lossy(name);
    let Some(flag) = args.command.flags().find(|flag| flag.long == name) else {
        let known = args.command.flags().filter(|flag| !flag.hidden).map(|flag| flag.long);
        let nearest = crate::text::suggest::nearest(&name, known).map(|flag| format!("--{flag}"));
        return Err(add_hint(args.mistake(&format!("unknown flag: --{name}")), nearest));
    };
    let value = value.map(|bytes| OsString::from_vec(bytes.to_vec()));
    let value = match (value, &flag.takes) {
        (Some(value), Takes::Nothing) => boolean(args, flag, &value)?,
        (Some(value), _) => value,
        (None, Takes::Nothing) => "true".into(),
        (None, Takes::Optional(_)) => OsString::new(),
        (None, Takes::Value(_) | Takes::List(_)) => match rest.next() {
            Some(value) => value.clone(),
            None => return Err(args.mistake(&format!("flag needs an argument: --{name}"))),
        },
    };
    args.flags.push((flag, value));
    Ok(())
}

/// Reads `-k`, `-kf`, `-oFILE`, `-o=FILE`, `-o FILE`. True if help is asked for.
fn read_short(
    args: &mut Args,
    token: &OsStr,
    rest: &mut std::slice::Iter<'_, OsString>,
) -> Result<bool, Failure> {
    let bundle = token.as_bytes();
    let mut at = 1;
    while let Some(&letter) = bundle.get(at) {
        at += 1;
        let glued = bundle.get(at..).unwrap_or(&[]);
        let letter = char::from(letter);
        if letter == 'h' {
            return Ok(true);
        }
        let shown = token.to_string_lossy();
        let Some(flag) = args.command.flags().find(|flag| flag.shorts.contains(&letter)) else {
            return Err(args.mistake(&format!("unknown shorthand flag: '{letter}' in {shown}")));
        };
        let assigned = glued.strip_prefix(b"=").map(|value| OsString::from_vec(value.to_vec()));
        let (value, ends) = match (&flag.takes, assigned) {
            (Takes::Nothing, Some(value)) => (boolean(args, flag, &value)?, true),
            (_, Some(value)) => (value, true),
            (Takes::Nothing, None) => ("true".into(), false),
            (Takes::Optional(_), None) => (OsString::new(), false),
            (_, None) if !glued.is_empty() => (OsString::from_vec(glued.to_vec()), true),
            (_, None) => match rest.next() {
                Some(value) => (value.clone(), true),
                None => {
                    return Err(args.mistake(&format!("flag needs an argument: '{letter}' in {shown}")));
                }
            },
        };
        args.flags.push((flag, value));
        if ends {
            break;
        }
    }
    Ok(false)
}

fn boolean(args: &Args, flag: &Flag, value: &OsStr) -> Result<OsString, Failure> {
    match value.to_str() {
        Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok("true".into()),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok("false".into()),
        _ => Err(args.invalid(flag.long, value, "neither true nor false")),
    }
}

fn mistake(path: &[&'static Command], text: &str) -> Failure {
    let words: Vec<&str> = path.iter().map(|command| command.name).collect();
    Failure::new(format!("{text}. See '{} --help'", words.join(" ")))
}

fn add_hint(failure: Failure, nearest: Option<String>) -> Failure {
    match (failure, nearest) {
        (Failure::Message { text, .. }, Some(nearest)) => {
            Failure::with_hint(text, format!("Did you mean '{nearest}'?"))
        }
        (failure, _) => failure,
    }
}

#[cfg(test)]
mod tests;
