//! Reading values out of the tree: mappings with known fields, texts with `${ENV}`, lists. Every error and warning is
//! noted with its line, so that all of them are reported at once.

use super::yaml::{Node, Value};
use crate::text::suggest::nearest;

/// Notes of everything that is wrong or odd.
pub struct Reader<'a> {
    file: &'a str,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Finished lines.
    pub errors: Vec<String>,
    /// Finished lines.
    pub warnings: Vec<String>,
}

/// A text and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Text {
    /// The line in the file.
    pub line: usize,
    /// The text, environment references replaced.
    pub text: String,
    /// Written in the file without quotes, or taken from the environment.
    pub is_plain: bool,
}

/// A mapping whose fields are known.
pub struct Section<'n> {
    /// Where it begins.
    pub line: usize,
    path: String,
    entries: &'n [(super::yaml::Key, Node)],
}

impl<'n> Section<'n> {
    /// A field's value; `None` if it is absent or null.
    pub fn get(&self, name: &str) -> Option<&'n Node> {
        let found = self.entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node);
        found.filter(|node| node.value != Value::Null)
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, name: &str) -> Option<usize> {
        self.entries.iter().find(|(key, _)| key.text == name).map(|(key, _)| key.line)
    }

    /// The full name of a field.
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// All entries, for mappings whose keys are names.
    pub fn entries(&self) -> &'n [(super::yaml::Key, Node)] {
        self.entries
    }
}

impl<'a> Reader<'a> {
    /// A reader for a file called `file` in messages.
    pub fn new(file: &'a str, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { file, env, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Notes an error; line 0 stands for the whole file.
    pub fn error(&mut self, line: usize, text: impl AsRef<str>) {
        let message = self.at(line, text.as_ref());
        self.errors.push(message);
    }

    /// Notes a warning.
    pub fn warn(&mut self, line: usize, text: impl AsRef<str>) {
        let message = self.at(line, text.as_ref());
        self.warnings.push(message);
    }

    fn at(&self, line: usize, text: &str) -> String {
        if line == 0 { format!("{}: {text}", self.file) } else { format!("{}:{line}: {text}", self.file) }
    }

    /// The mapping in `node`; warns of fields that are not in `known`.
    pub fn section<'n>(&mut self, node: &'n Node, path: &str, known: &[&str]) -> Option<Section<'n>> {
        let section = self.names(node, path)?;
        for (key, _) in section.entries {
            if known.contains(&&*key.text) {
                continue;
            }
            let hint = nearest(&key.text, known.iter().copied());
            let hint = hint.map_or(String::new(), |name| format!(" (did you mean \"{name}\"?)"));
            self.warn(key.line, format!("unknown field \"{}\"{hint}", section.name(&key.text)));
        }
        Some(section)
    }

    /// The mapping in `node`, whose keys are names and not fields.
    pub fn names<'n>(&mut self, node: &'n Node, path: &str) -> Option<Section<'n>> {
        match &node.value {
            Value::Map(entries) => Some(Section { line: node.line, path: path.to_owned(), entries }),
            _ => {
                let what = if path.is_empty() { "the file".into() } else { format!("'{path}'") };
                self.error(node.line, format!("{what} must be a mapping of fields and values"));
                None
            }
        }
    }

    /// The items of a list.
    pub fn list<'n>(&mut self, node: &'n Node, path: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.error(node.line, format!("'{path}' must be a list"));
                &[]
            }
        }
    }

    /// A scalar as it stands, without environment references; null is empty.
    pub fn literal(&mut self, node: &Node, path: &str) -> Option<Text> {
        match &node.value {
            Value::Scalar { text, is_plain } => {
                Some(Text { line: node.line, text: text.clone(), is_plain: *is_plain })
            }
            Value::Null => Some(Text { line: node.line, text: String::new(), is_plain: true }),
            _ => {
                self.error(node.line, format!("'{path}' must be a single value"));
                None
            }
        }
    }

    /// A scalar in which `${NAME}` and `${NAME:-default}` are replaced, if they are the whole of it.
    pub fn text(&mut self, node: &Node, path: &str) -> Option<Text> {
        let text = self.literal(node, path)?;
        let Some(reference) = text.text.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
        else {
            return Some(text);
        };
        let (name, default) = match reference.split_once(":-") {
            Some((name, default)) => (name.trim(), Some(default)),
            None => (reference.trim(), None),
        };
        match (self.env)(name).or_else(|| default.map(str::to_owned)) {
            Some(value) => Some(Text { text: value, is_plain: true, ..text }),
            None => {
                let message = format!("environment variable '{name}', named in '{path}', is not set");
                self.error(text.line, message);
                None
            }
        }
    }

    /// A field's text; `None` if it is absent, null or empty.
    pub fn field(&mut self, section: &Section<'_>, name: &str) -> Option<Text> {
        let node = section.get(name)?;
        self.text(node, &section.name(name)).filter(|text| !text.text.is_empty())
    }

    /// A field's texts; empty ones are kept.
    pub fn texts(&mut self, section: &Section<'_>, name: &str) -> Vec<Text> {
        let Some(node) = section.get(name) else { return Vec::new() };
        let path = section.name(name);
        self.list(node, &path).iter().filter_map(|item| self.text(item, &path)).collect()
    }

    /// A field's texts without environment references.
    pub fn literals(&mut self, section: &Section<'_>, name: &str) -> Vec<Text> {
        let Some(node) = section.get(name) else { return Vec::new() };
        let path = section.name(name);
        self.list(node, &path).iter().filter_map(|item| self.literal(item, &path)).collect()
    }
}
