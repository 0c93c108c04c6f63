//! A YAML document as a tree in which every node knows its line. Anchors, aliases and merge keys are resolved; a key
//! that is given twice is an error.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

/// Deepest nesting of a document.
const MAX_DEPTH: usize = 64;

/// Most nodes of a document, aliases counted as often as they are used.
const MAX_NODES: usize = 100_000;

/// One value and the line on which it begins, counted from 1.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// The line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any scalar, taken as text.
    Scalar {
        /// The text.
        text: String,
        /// Written without quotes.
        is_plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, PartialEq, Debug)]
pub struct Key {
    /// The line.
    pub line: usize,
    /// The text.
    pub text: String,
}

/// What went wrong, and on which line.
pub type LineError = (usize, String);

/// Reads the first document of `text`; `None` if there is none. The second value is the line on which another document
/// begins.
pub fn parse(text: &str) -> Result<(Option<Node>, Option<usize>), LineError> {
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: Vec::new(), nodes: 0 };
    let mut root = None;
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => return Ok((root, None)),
            (Event::DocumentStart(_), span) if root.is_some() => return Ok((root, Some(span.start.line()))),
            (Event::DocumentStart(_), _) => {
                let (event, span) = builder.next()?;
                root = Some(builder.node(event, span, 0)?);
            }
            _ => {}
        }
    }
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), LineError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err((error.marker().line(), error.info().to_owned())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, LineError> {
        let line = span.start.line();
        self.count(1, line)?;
        if depth > MAX_DEPTH {
            return Err((line, "nested too deeply".into()));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(text.into_owned(), style)),
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => {
                let known = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
                let node = known.map(|(_, node)| node.clone()).ok_or((line, "unknown anchor".to_owned()))?;
                self.count(size(&node), line)?;
                return Ok(Node { line, value: node.value });
            }
            _ => return Err((line, "unexpected end of the document".into())),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.count(size(&node), line)?;
            self.anchors.push((anchor, node.clone()));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, LineError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, LineError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Value::Scalar { text, is_plain } = key.value else {
                return Err((key.line, "a key must be plain text".into()));
            };
            if is_plain && text == "<<" {
                merge(value, &mut merged)?;
                continue;
            }
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
                return Err((key.line, format!("'{text}' is defined twice, first in line {}", first.line)));
            }
            entries.push((Key { line: key.line, text }, value));
        }
        // Keys that are written out beat merged ones, and the first merged mapping beats later ones.
        for (key, value) in merged {
            if !entries.iter().any(|(known, _)| known.text == key.text) {
                entries.push((key, value));
            }
        }
        Ok(Value::Map(entries))
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), LineError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES { Err((line, "the document is too large".into())) } else { Ok(()) }
    }
}

fn merge(value: Node, merged: &mut Vec<(Key, Node)>) -> Result<(), LineError> {
    match value.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(maps) => {
            for map in maps {
                match map.value {
                    Value::Map(entries) => merged.extend(entries),
                    _ => return Err((map.line, "'<<' needs a mapping".into())),
                }
            }
        }
        _ => return Err((value.line, "'<<' needs a mapping".into())),
    }
    Ok(())
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    let is_plain = style == ScalarStyle::Plain;
    if is_plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text, is_plain }
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(node) + 1).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(text: &str) -> Vec<(Key, Node)> {
        match parse(text).unwrap().0.unwrap().value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let entries = map("# first\na: 1\n\nb:\n  c: 2\n");
        assert_eq!((entries[0].0.line, entries[1].0.line), (2, 4));
        let Value::Map(inner) = &entries[1].1.value else { panic!() };
        assert_eq!(inner[0].1.line, 5);
    }

    #[test]
    fn a_key_given_twice_is_an_error_with_both_lines() {
        assert_eq!(parse("a: 1\nb: 2\na: 3\n"), Err((3, "'a' is defined twice, first in line 1".into())));
    }

    #[test]
    fn anchors_aliases_and_merge_keys_work() {
        let entries = map("base: &b {x: 1, y: 2}\nall:\n  <<: *b\n  y: 3\nsame: *b\n");
        let Value::Map(all) = &entries[1].1.value else { panic!() };
        let text = |node: &Node| match &node.value {
            Value::Scalar { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        };
        let all: Vec<_> = all.iter().map(|(key, node)| (key.text.clone(), text(node))).collect();
        assert_eq!(all, [("y".into(), "3".into()), ("x".into(), "1".into())]);
        assert_eq!(entries[2].1.value, entries[0].1.value);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        assert!(parse(&text).unwrap_err().1.contains("too large"));
    }

    #[test]
    fn deep_nesting_and_tabs_are_errors_with_a_line() {
        assert!(parse(&"[".repeat(1000)).is_err());
        assert_eq!(parse("a:\n\tb: 1\n").unwrap_err().0, 2);
    }

    #[test]
    fn only_the_first_document_is_read() {
        let (root, second) = parse("a: 1\n---\nb: [\n").unwrap();
        assert!(root.is_some());
        assert_eq!(second, Some(2));
        assert_eq!(parse("").unwrap(), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-c:\\[\\]{}&*<!|>'\"#, \\n\\t?%@]{0,60}") {
            let _ = parse(&text);
        }
    }
}
