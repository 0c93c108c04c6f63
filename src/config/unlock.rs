//! `keystore.fs.seal.unlock`: what opens the seal file. What is written here may be a secret by mistake, so that no value
//! is printed.

use std::{ffi::OsString, time::Duration};

use super::{
    read::{Maybe, Reader, Reported, Topic},
    yaml::{Node, Value},
};
use crate::seal::{
    Source,
    unlock::{COMMAND_TIME, Passphrase},
};

const PATH: &str = "keystore.fs.seal.unlock";

/// Longest time that an unlock command may be given.
const MAX_TIME: Duration = Duration::from_secs(300);

pub(super) fn unlock<'a>(reader: &mut Reader<'a>, node: Option<&'a Node>) -> Result<Source, Reported> {
    let Some(node) = node else { return Ok(Source::None) };
    let wrong = |reader: &mut Reader<'a>| {
        let problem = format!(
            "{PATH} must be none, or a mapping with one of the fields passphrase, credential and command"
        );
        reader.problem(Topic::KeyStore, Some(node.line), problem)
    };
    if !matches!(node.value, Value::Map(_)) {
        return match node.value {
            Value::List(_) => Err(wrong(reader)),
            _ => match reader.filled(Some(node), PATH)? {
                Some(text) if &*text != "none" => Err(wrong(reader)),
                _ => Ok(Source::None),
            },
        };
    }
    let fields = reader.fields(Some(node), PATH, &["passphrase", "credential", "command", "timeout"])?;
    let time = time(reader, fields.get("timeout"))?;
    let source = match (fields.get("passphrase"), fields.get("credential"), fields.get("command")) {
        (Some(node), None, None) => Source::Passphrase(passphrase(reader, node)?),
        (None, Some(node), None) => Source::Credential(credential(reader, node)?),
        (None, None, Some(node)) => {
            Source::Command { program: program(reader, node)?, time: time.unwrap_or(COMMAND_TIME) }
        }
        _ => return Err(wrong(reader)),
    };
    match time {
        Some(_) if !matches!(source, Source::Command { .. }) => {
            let problem = format!("{PATH}.timeout is for a command alone");
            Err(reader.problem(Topic::KeyStore, Some(node.line), problem))
        }
        _ => Ok(source),
    }
}

fn passphrase<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Result<Passphrase, Reported> {
    let path = format!("{PATH}.passphrase");
    let wrong = |reader: &mut Reader<'a>| {
        let problem = format!("{path} must be terminal, or a mapping with one of the fields file and env");
        reader.problem(Topic::KeyStore, Some(node.line), problem)
    };
    if !matches!(node.value, Value::Map(_)) {
        return match reader.literal(Some(node), &path)? {
            Some(text) if &*text == "terminal" => Ok(Passphrase::Terminal),
            _ => Err(wrong(reader)),
        };
    }
    let fields = reader.fields(Some(node), &path, &["file", "env"])?;
    let file = reader.filled(fields.get("file"), &format!("{path}.file"))?;
    let variable = reader.filled(fields.get("env"), &format!("{path}.env"))?;
    match (file, variable) {
        (Some(file), None) => Ok(Passphrase::File(reader.absolute(&file))),
        (None, Some(name)) if is_variable(&name) => Ok(Passphrase::Variable(name.value.to_string())),
        (None, Some(name)) => {
            let problem = format!("{path}.env is not the name of an environment variable");
            Err(reader.problem(Topic::KeyStore, Some(name.line), problem))
        }
        _ => Err(wrong(reader)),
    }
}

/// As a shell can set it, which a passphrase that stands here by mistake seldom is.
fn is_variable(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn credential<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Result<String, Reported> {
    let path = format!("{PATH}.credential");
    let name = reader.filled(Some(node), &path)?;
    let is_name = |name: &str| {
        !name.starts_with('.')
            && name.len() <= 255
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    match name {
        Some(name) if is_name(&name) => Ok(name.value.to_string()),
        _ => {
            let problem =
                format!("{path} must be the name of a credential: letters, digits, '.', '_' and '-'");
            Err(reader.problem(Topic::KeyStore, Some(node.line), problem))
        }
    }
}

fn program<'a>(reader: &mut Reader<'a>, node: &'a Node) -> Result<Vec<OsString>, Reported> {
    let path = format!("{PATH}.command");
    let mut words = Vec::new();
    for item in reader.list(Some(node), &path)? {
        let word = reader.text(Some(item), &path)?;
        words.push(OsString::from(word.map(|word| word.value.to_string()).unwrap_or_default()));
    }
    // Without a shell, and never by way of a search path that somebody else has set.
    match words.first().is_some_and(|first| first.as_encoded_bytes().starts_with(b"/")) {
        true => Ok(words),
        false => {
            let problem = format!("{path} must begin with the absolute path of a program");
            Err(reader.problem(Topic::KeyStore, Some(node.line), problem))
        }
    }
}

fn time<'a>(reader: &mut Reader<'a>, node: Option<&'a Node>) -> Maybe<Duration> {
    let Some(node) = node else { return Ok(None) };
    let path = format!("{PATH}.timeout");
    match reader.duration(Some(node), &path)? {
        Some(time) if time.is_zero() || time > MAX_TIME => {
            let problem = format!("{path} must be more than 0 and at most {} s", MAX_TIME.as_secs());
            Err(reader.problem(Topic::KeyStore, Some(node.line), problem))
        }
        time => Ok(time),
    }
}
