//! Completion in bash, zsh and fish: `kes completion`, and what the shells ask while somebody types (`cli` §5.12).
//!
//! The scripts of the three shells hold no list of commands. They run `kes` with the line in the environment, as bash's
//! `complete -C` does, and the command table answers.

mod install;
#[cfg(test)]
mod tests;

use std::{env, ffi::OsStr, process::ExitCode};

use super::{
    Failure,
    args::Args,
    table::{Command, Flag, Positionals, ROOT, Takes},
    term,
};

pub use install::install;

/// `kes completion`.
pub static COMPLETION: Command = Command {
    name: "completion",
    summary: "Print a completion script for a shell.",
    about: "Prints a script with which the shell completes the commands and options of kes.\n",
    positionals: Positionals { shown: "bash|zsh|fish", min: 1, max: 1 },
    examples: &["source <(kes completion bash)"],
    run: print_script,
    ..Command::GROUP
};

/// The scripts by shell.
const SCRIPTS: [(&str, &str); 3] = [
    ("bash", include_str!("kes.bash")),
    ("zsh", include_str!("kes.zsh")),
    ("fish", include_str!("kes.fish")),
];

/// In this variable the scripts for zsh and fish ask for a description behind each candidate, after a tab.
const DESCRIBED: &str = "KES_COMPLETION";

fn print_script(args: &Args) -> Result<ExitCode, Failure> {
    let shell = args.positionals().first().map(|shell| shell.to_string_lossy()).unwrap_or_default();
    let Some((_, script)) = SCRIPTS.iter().find(|(name, _)| *name == shell) else {
        return Err(args.mistake(&format!("no completion for \"{shell}\": only for bash, zsh and fish")));
    };
    term::print(script)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers a shell that has set `COMP_LINE` to `line`: prints what may stand at the cursor, one candidate a line.
pub fn answer(line: &OsStr) -> Result<ExitCode, Failure> {
    let line = line.to_string_lossy();
    let cursor = env::var("COMP_POINT").ok().and_then(|point| point.parse().ok());
    let words = split(cursor.and_then(|cursor: usize| line.get(..cursor)).unwrap_or(&line));
    // bash takes the part after an equals sign for the word, and says so in the second argument.
    let replaced = env::args_os().nth(2).map(|word| word.to_string_lossy().into_owned());
    let kept = words.last().zip(replaced).and_then(|(word, replaced)| word.strip_suffix(&*replaced));
    let kept = kept.unwrap_or_default();
    let described = env::var_os(DESCRIBED).is_some();
    let mut text = String::new();
    for Candidate { word, help } in candidates(&ROOT, &words) {
        text.push_str(word.strip_prefix(kept).unwrap_or(&word));
        if described {
            text.push('\t');
            text.push_str(help.lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    term::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A word that may stand at the cursor, and what it means.
#[derive(PartialEq, Eq, Debug)]
struct Candidate {
    word: String,
    help: &'static str,
}

/// What may stand in the place of the last of `words`, of which the first is the program. Nothing where anything may
/// stand, such as a file or the name of a key.
fn candidates(root: &'static Command, words: &[String]) -> Vec<Candidate> {
    let Some((word, before)) = words.split_last() else { return Vec::new() };
    let (command, rest) = descend(root, before.get(1..).unwrap_or_default());
    let mut awaits_value = None;
    let mut flags_ended = false;
    let mut positionals = Vec::new();
    for token in rest {
        if awaits_value.take().is_some() {
            continue;
        }
        if flags_ended || token == "-" || !token.starts_with('-') {
            positionals.push(token.clone());
        } else if token == "--" {
            flags_ended = true;
        } else {
            awaits_value = flag_awaiting_value(command, token);
        }
    }
    let is_long_with_value = word.strip_prefix("--").and_then(|long| long.split_once('='));
    let mut found = match (awaits_value, is_long_with_value) {
        (Some(flag), _) => values(flag, ""),
        (None, Some((name, _))) if !flags_ended => {
            let flag = command.flags().find(|flag| flag.long == name);
            flag.map(|flag| values(flag, &format!("--{name}="))).unwrap_or_default()
        }
        _ if word.starts_with('-') && !flags_ended => flags(command),
        _ => {
            let mut found = if rest.is_empty() { commands(command) } else { Vec::new() };
            found.extend(positional(root, command, &positionals));
            let takes_file = command.positionals.shown.contains("FILE");
            if found.is_empty() && word.is_empty() && !takes_file && !flags_ended {
                found = flags(command);
            }
            found
        }
    };
    found.retain(|candidate| candidate.word.starts_with(word));
    found
}

/// The command that the leading words lead to, and the words after it.
fn descend<'w>(root: &'static Command, words: &'w [String]) -> (&'static Command, &'w [String]) {
    match words.split_first() {
        Some((first, rest)) => match root.commands.iter().find(|command| command.name == first) {
            Some(command) => descend(command, rest),
            None => (root, words),
        },
        None => (root, words),
    }
}

/// The flag in `token` whose value is the next word.
fn flag_awaiting_value(command: &Command, token: &str) -> Option<&'static Flag> {
    let takes_next = |flag: &&Flag| matches!(flag.takes, Takes::Value(_) | Takes::List(_));
    if let Some(long) = token.strip_prefix("--") {
        return command.flags().find(|flag| flag.long == long).filter(takes_next);
    }
    let mut letters = token.chars().skip(1);
    while let Some(letter) = letters.next() {
        let flag = command.flags().find(|flag| flag.shorts.contains(&letter))?;
        if takes_next(&flag) {
            return letters.next().is_none().then_some(flag);
        }
    }
    None
}

fn commands(command: &Command) -> Vec<Candidate> {
    let listed = command.commands.iter().filter(|command| !command.hidden);
    listed.map(|command| Candidate { word: command.name.into(), help: command.summary }).collect()
}

fn flags(command: &Command) -> Vec<Candidate> {
    let mut found = Vec::new();
    for flag in command.flags().filter(|flag| !flag.hidden) {
        let shorts = flag.shorts.iter().map(|short| format!("-{short}"));
        let words = std::iter::once(format!("--{}", flag.long)).chain(shorts);
        found.extend(words.map(|word| Candidate { word, help: flag.help }));
    }
    let help = ["--help", "-h"].map(|word| Candidate { word: word.into(), help: "Show this help." });
    found.extend(help);
    found
}

/// What may follow a flag, if that is one of a few words.
fn values(flag: &Flag, before: &str) -> Vec<Candidate> {
    let shown = match flag.takes {
        Takes::Nothing => "",
        Takes::Value(shown) | Takes::List(shown) | Takes::Optional(shown) => shown,
    };
    let value = |word| Candidate { word: format!("{before}{word}"), help: "" };
    choices(shown).map(value).collect()
}

fn positional(root: &'static Command, command: &Command, before: &[String]) -> Vec<Candidate> {
    if before.len() >= command.positionals.max {
        return Vec::new();
    }
    if command.positionals.shown.contains("COMMAND") {
        return match descend(root, before) {
            (command, []) => commands(command),
            _ => Vec::new(),
        };
    }
    choices(command.positionals.shown).map(|word| Candidate { word: word.into(), help: "" }).collect()
}

/// The words of `on|off`; none of `FILE`, which stands for anything.
fn choices(shown: &str) -> impl Iterator<Item = &str> {
    let is_literal = |word: &&str| {
        word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !word.is_empty()
    };
    shown.split('|').filter(is_literal)
}

/// The words of a line as the shell reads them, but that nothing is expanded; the last one is empty after a blank.
pub(super) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && quote.is_none() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' | '"' if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            '\\' if quote != Some('\'') => word.extend(chars.next()),
            _ => word.push(c),
        }
    }
    words.push(word.unwrap_or_default());
    words
}
