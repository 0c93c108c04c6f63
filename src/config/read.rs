//! Reads typed values out of the tree and collects what is wrong with them. Knows environment references, not fields.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::yaml::{Entry, Node, Value};
use crate::text::duration::parse_duration;

/// What a problem is about. Problems are reported in this order, which is that of the checks of the protocol's first
/// server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Topic {
    Type,
    Admin,
    Tls,
    Auth,
    Clash,
    Duration,
    Level,
    Keys,
    KeyStore,
    Environment,
    Address,
    Name,
    Unknown,
}

/// A problem has been recorded; there is no value.
#[derive(Debug)]
pub(super) struct Reported(());

/// A value that may be absent (no such field, or null).
pub(super) type Maybe<T> = Result<Option<T>, Reported>;

/// A scalar after its environment reference has been replaced.
pub(super) struct Text {
    /// Where it is in the file.
    pub line: usize,
    /// The text; wiped on drop.
    pub value: Zeroizing<String>,
    /// It had quotes in the file, so that it is text even if it looks like something else.
    pub quoted: bool,
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.value
    }
}

/// The fields of a section.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    /// The line where the section begins; `None` if it is absent.
    pub line: Option<usize>,
    /// All entries, also unknown ones.
    pub entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// A section that is not there.
    pub const ABSENT: Self = Self { line: None, entries: &[] };

    /// The value of a field, unless it is null.
    pub fn get(&self, name: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        (!entry.value.is_null()).then_some(&*entry.value)
    }
}

/// Reads values, remembers problems and warnings.
pub(super) struct Reader<'a> {
    shown: &'a str,
    base: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    strict: bool,
    problems: Vec<(Topic, String)>,
    warnings: Vec<(usize, String)>,
}

impl<'a> Reader<'a> {
    /// A reader for the file that messages call `shown`; relative paths are relative to `base`.
    pub fn new(
        shown: &'a str,
        base: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
        strict: bool,
    ) -> Self {
        Self { shown, base, env, strict, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The warnings; or if there is any problem, all problems in their order and then the warnings, marked as such.
    pub fn finish(mut self) -> Result<Vec<String>, Vec<String>> {
        let shown = self.shown;
        let warnings = self.warnings.into_iter();
        if self.problems.is_empty() {
            return Ok(warnings.map(|(line, text)| located(shown, Some(line), text)).collect());
        }
        let marked = warnings.map(|(line, text)| located(shown, Some(line), format!("warning: {text}")));
        self.problems.sort_by_key(|(topic, _)| *topic);
        Err(self.problems.into_iter().map(|(_, text)| text).chain(marked).collect())
    }

    /// Records a problem at a line of the file, or of the file as a whole.
    pub fn problem(&mut self, topic: Topic, line: Option<usize>, text: impl std::fmt::Display) -> Reported {
        self.problems.push((topic, located(self.shown, line, text)));
        Reported(())
    }

    /// Records a problem of the command line.
    pub fn flag_problem(&mut self, topic: Topic, text: String) -> Reported {
        self.problems.push((topic, text));
        Reported(())
    }

    /// Records a warning at a line of the file.
    pub fn warn(&mut self, line: usize, text: impl std::fmt::Display) {
        self.warnings.push((line, text.to_string()));
    }

    /// The fields of the section `path` (empty: the whole file); unknown ones are warned about, or are problems if the
    /// reader is strict.
    pub fn fields(
        &mut self,
        node: Option<&'a Node>,
        path: &str,
        known: &[&str],
    ) -> Result<Fields<'a>, Reported> {
        #[cfg(test)]
        super::tests::manual::record(path, known);
        let fields = self.map(node, path)?;
        for entry in fields.entries {
            if !known.contains(&entry.key.as_str()) {
                self.unknown(entry.line, "unknown field", &entry.key, known);
            }
        }
        Ok(fields)
    }

    /// Like [`Reader::fields`], but any key is allowed.
    pub fn map(&mut self, node: Option<&'a Node>, path: &str) -> Result<Fields<'a>, Reported> {
        let Some(node) = node else { return Ok(Fields::ABSENT) };
        match &node.value {
            Value::Null => Ok(Fields::ABSENT),
            Value::Map(entries) => Ok(Fields { line: Some(node.line), entries }),
            _ => Err(self.wrong_type(node, path, "a mapping")),
        }
    }

    /// Warns about a name that is not among `known`, and names the nearest one.
    pub fn unknown(&mut self, line: usize, what: &str, name: &str, known: &[&str]) {
        let hint = match nearest(name, known) {
            Some(near) => format!(" (did you mean {near:?}?)"),
            None => String::new(),
        };
        let text = format!("{what} {name:?}{hint}");
        match self.strict {
            true => drop(self.problem(Topic::Unknown, Some(line), text)),
            false => self.warn(line, text),
        }
    }

    /// The items of a list.
    pub fn list(&mut self, node: Option<&'a Node>, path: &str) -> Result<Vec<&'a Node>, Reported> {
        let Some(node) = node else { return Ok(Vec::new()) };
        match &node.value {
            Value::Null => Ok(Vec::new()),
            Value::List(items) => Ok(items.iter().map(|item| &**item).collect()),
            _ => Err(self.wrong_type(node, path, "a list")),
        }
    }

    /// A scalar without replacing environment references.
    pub fn literal(&mut self, node: Option<&Node>, path: &str) -> Maybe<Text> {
        let Some(node) = node else { return Ok(None) };
        match &node.value {
            Value::Null => Ok(None),
            Value::Text { text, plain } => {
                Ok(Some(Text { line: node.line, value: text.clone(), quoted: !plain }))
            }
            _ => Err(self.wrong_type(node, path, "text")),
        }
    }

    /// A scalar; `${NAME}` and `${NAME:-default}` are replaced if they are the whole of it.
    pub fn text(&mut self, node: Option<&Node>, path: &str) -> Maybe<Text> {
        let Some(text) = self.literal(node, path)? else { return Ok(None) };
        let Some(reference) = reference(&text) else { return Ok(Some(text)) };
        match self.look_up(&reference) {
            Some(value) => Ok(Some(Text { line: text.line, value: Zeroizing::new(value), quoted: false })),
            None => {
                let name = reference.name;
                let problem = format!("{path}: the environment variable {name:?} is not set");
                Err(self.problem(Topic::Environment, Some(text.line), problem))
            }
        }
    }

    /// Like [`Reader::text`], but empty text is absent.
    pub fn filled(&mut self, node: Option<&Node>, path: &str) -> Maybe<Text> {
        Ok(self.text(node, path)?.filter(|text| !text.is_empty()))
    }

    /// `true false yes no on off` in any case, without quotes or from the environment.
    pub fn boolean(&mut self, node: Option<&Node>, path: &str) -> Maybe<bool> {
        let Some(text) = self.text(node, path)? else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" if !text.quoted => Ok(Some(true)),
            "false" | "no" | "off" if !text.quoted => Ok(Some(false)),
            _ => {
                let problem = format!("{path} must be true or false, without quotes");
                Err(self.problem(Topic::Type, Some(text.line), problem))
            }
        }
    }

    /// A duration that is not negative.
    pub fn duration(&mut self, node: Option<&Node>, path: &str) -> Maybe<Duration> {
        let Some(text) = self.text(node, path)? else { return Ok(None) };
        match parse_duration(&text) {
            Ok((false, duration)) => Ok(Some(duration)),
            Ok((true, _)) => {
                let problem = format!("{path}: the duration {:?} is negative", &*text);
                Err(self.problem(Topic::Duration, Some(text.line), problem))
            }
            Err(problem) => Err(self.problem(Topic::Type, Some(text.line), format!("{path}: {problem}"))),
        }
    }

    /// A path as an absolute one, without `.` components and slashes at the end.
    pub fn absolute(&self, text: &str) -> PathBuf {
        self.base.join(text).components().collect()
    }

    fn wrong_type(&mut self, node: &Node, path: &str, wanted: &str) -> Reported {
        let path = if path.is_empty() { "the file" } else { path };
        self.problem(Topic::Type, Some(node.line), format!("{path} must be {wanted}, not {}", node.kind()))
    }

    fn look_up(&self, reference: &Reference<'_>) -> Option<String> {
        // No variable can have such a name; some systems misbehave when asked for it.
        let possible = !reference.name.is_empty() && !reference.name.contains(['=', '\0']);
        let value = possible.then(|| (self.env)(reference.name)).flatten();
        match reference.default {
            Some(default) => value.filter(|value| !value.is_empty()).or_else(|| Some(default.into())),
            None => value,
        }
    }
}

/// `FILE:LINE: text`, or `FILE: text` if the line is not known.
pub(super) fn located(shown: &str, line: Option<usize>, text: impl std::fmt::Display) -> String {
    match line {
        Some(line) => format!("{shown}:{line}: {text}"),
        None => format!("{shown}: {text}"),
    }
}

/// `${NAME}` or `${NAME:-default}`.
struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
}

fn reference(text: &str) -> Option<Reference<'_>> {
    let inside = text.trim().strip_prefix("${")?.strip_suffix('}')?;
    Some(match inside.split_once(":-") {
        Some((name, default)) => Reference { name: name.trim(), default: Some(default.trim()) },
        None => Reference { name: inside.trim(), default: None },
    })
}

/// The name most like `name`, if one is like it at all: two letters in five may differ.
fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    // Longer names are no slips of the finger, and comparing takes the product of both lengths.
    if name.len() > 64 {
        return None;
    }
    let folded = name.to_lowercase();
    let distances = known.iter().map(|known| (distance(&folded, known), *known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 5 <= 2 * name.chars().count().max(known.len())).then_some(known)
}

/// Levenshtein's distance: how many letters must be put in, taken out or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for j in 1..row.len() {
            let replaced = diagonal + usize::from(letter != b[j - 1]);
            diagonal = row[j];
            row[j] = replaced.min(diagonal + 1).min(row[j - 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["version", "admin", "tls", "policy", "cache", "api", "log", "keys", "keystore", "fs"];
        for (name, near) in [
            ("polices", Some("policy")),
            ("policies", Some("policy")),
            ("FS", Some("fs")),
            ("TLS", Some("tls")),
            ("key", Some("keys")),
            ("keystores", Some("keystore")),
            ("key_store", Some("keystore")),
            ("logs", Some("log")),
            ("enclave", None),
            ("xx", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
