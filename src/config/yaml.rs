//! YAML text as a tree in which every value knows its line. Knows nothing of the configuration's fields.
//!
//! Duplicate keys are errors, merge keys (`<<`) are merged, aliases share their node. Sizes are bounded, so that a file
//! made of aliases of aliases is refused and not unfolded.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use zeroize::Zeroizing;

/// Most values that a document may have, each counted as often as aliases repeat it.
const MAX_NODES: usize = 100_000;
/// Deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 32;

/// Something wrong with the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where, counted from 1.
    pub line: usize,
    /// What; holds no value of the file, only keys.
    pub text: String,
}

/// The first document of a text.
pub(super) struct Document {
    /// Its top value; null if there is no document.
    pub root: Rc<Node>,
    /// The line at which something follows the first document.
    pub second: Option<usize>,
}

/// A value and where it begins.
pub(super) struct Node {
    /// Line, counted from 1.
    pub line: usize,
    /// What is there.
    pub value: Value,
    /// How many values there are in it, itself included.
    weight: usize,
}

/// One of the kinds of values.
pub(super) enum Value {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    /// Any other scalar as written, whatever its type is in YAML. Wiped on drop: it may be a password.
    Text {
        /// The text without quotes.
        text: Zeroizing<String>,
        /// It had no quotes.
        plain: bool,
    },
    /// `[a, b]`
    List(Vec<Rc<Node>>),
    /// `{a: b}`, in the order of the file; merged entries come last.
    Map(Vec<Entry>),
}

/// What the parser says of a tab between a colon and a letter.
const TAB_AFTER_COLON: &str = "':' must be followed by a valid YAML whitespace";

/// What the parser says of a line that goes on with what is in brackets, and is not indented.
const BAD_INDENTATION: &str = "invalid indentation";

/// So many values with a tab in front of them are read.
const MAX_TABS: usize = 256;

/// One entry of a mapping.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key as text.
    pub key: String,
    /// The line of the key.
    pub line: usize,
    /// Its value.
    pub value: Rc<Node>,
}

impl Node {
    /// What the value is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }
}

/// Reads the first document of `text`. What follows it is not read.
///
/// The errors are all duplicate keys, or the first problem of another kind.
pub(super) fn read(text: &str) -> Result<Document, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_control_characters(text).map_err(|problem| vec![problem])?;
    let text = without_tabs_after_colons(text);
    let mut parser = Parser::new_from_str(&text);
    let mut builder = Builder::default();
    let read = builder.first_document(&mut parser, &text).map_err(|problem| vec![problem])?;
    if !builder.duplicates.is_empty() {
        return Err(builder.duplicates);
    }
    let Some(root) = read else {
        let root = Rc::new(Node { line: 1, value: Value::Null, weight: 1 });
        return Ok(Document { root, second: None });
    };
    let second = match parser.next_event() {
        None | Some(Ok((Event::StreamEnd, _))) => None,
        Some(Ok((_, span))) => Some(span.start.line()),
        Some(Err(error)) => Some(error.marker().line()),
    };
    Ok(Document { root, second })
}

/// Tabs may stand between the colon of a key and its value, but the parser takes them only before some values. Where it
/// does not, they become blanks.
fn without_tabs_after_colons(text: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(text.to_owned());
    for _ in 0..text.matches(":\t").count().min(MAX_TABS) {
        let mut parser = Parser::new_from_str(&text);
        let error = std::iter::from_fn(|| parser.next_event()).find_map(Result::err);
        let Some(error) = error.filter(|error| error.info() == TAB_AFTER_COLON) else { break };
        let end = text.char_indices().nth(error.marker().index()).map_or(text.len(), |(place, _)| place);
        let start = text[..end].trim_end_matches('\t').len();
        let blanks = " ".repeat(end - start);
        text.replace_range(start..end, &blanks);
    }
    text
}

/// YAML allows no control characters other than tab and line ends.
fn refuse_control_characters(text: &str) -> Result<(), Problem> {
    let is_bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some(at) = text.find(is_bad) else { return Ok(()) };
    let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    Err(Problem { line, text: "a control character is not allowed here".into() })
}

/// Puts events together to a tree.
#[derive(Default)]
struct Builder {
    /// Lists and mappings that are not yet complete, outermost first.
    open: Vec<Frame>,
    /// Finished values that aliases may refer to.
    anchors: HashMap<usize, Rc<Node>>,
    /// Values so far, repetitions by aliases included.
    total: usize,
    /// Duplicate keys found.
    duplicates: Vec<Problem>,
}

/// A list or mapping that is not yet complete.
struct Frame {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// Lines of the keys so far.
    seen: HashMap<String, usize>,
    /// A key that waits for its value.
    pending: Option<Key>,
    /// The value of `<<`.
    merged: Option<Rc<Node>>,
}

struct Key {
    text: String,
    line: usize,
    is_merge: bool,
    is_duplicate: bool,
}

/// A scalar event's `<<` without quotes and tag.
struct IsMerge(bool);

impl Builder {
    /// Takes events up to the end of the first document; `None` if there is no document.
    fn first_document(
        &mut self,
        parser: &mut Parser<'_, StrInput<'_>>,
        text: &str,
    ) -> Result<Option<Rc<Node>>, Problem> {
        let mut root = None;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| scan_problem(&error, text))?;
            match event {
                Event::StreamEnd | Event::DocumentEnd => break,
                event => root = self.take(event, span)?.or(root),
            }
        }
        Ok(root)
    }

    /// Takes one event; gives the document's top value when it is complete.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<Option<Rc<Node>>, Problem> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = IsMerge(text == "<<" && style == ScalarStyle::Plain && tag.is_none());
                let value = scalar(text.into_owned(), style, tag.as_deref(), line)?;
                self.count(1, line)?;
                let node = Rc::new(Node { line, value, weight: 1 });
                self.name_anchor(anchor, &node);
                self.place(node, line, is_merge)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem {
                        line,
                        text: "this alias stands inside the value it refers to".into(),
                    });
                };
                self.count(node.weight, line)?;
                self.place(node, line, IsMerge(false))
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(line, anchor, Content::Map(OpenMap::default())),
            Event::SequenceEnd | Event::MappingEnd => self.close(line),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(None),
        }
    }

    fn open(&mut self, line: usize, anchor: usize, content: Content) -> Result<Option<Rc<Node>>, Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem { line, text: format!("values are nested more than {MAX_DEPTH} deep") });
        }
        self.count(1, line)?;
        self.open.push(Frame { line, anchor, content });
        Ok(None)
    }

    fn close(&mut self, line: usize) -> Result<Option<Rc<Node>>, Problem> {
        let Some(frame) = self.open.pop() else { return Ok(None) };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map(map) => Value::Map(self.merge(map)?),
        };
        let inside: usize = match &value {
            Value::List(items) => items.iter().map(|item| item.weight).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.value.weight).sum(),
            Value::Null | Value::Text { .. } => 0,
        };
        let node = Rc::new(Node { line: frame.line, value, weight: inside + 1 });
        self.name_anchor(frame.anchor, &node);
        self.place(node, line, IsMerge(false))
    }

    /// Puts a complete value where it belongs: into the innermost open list or mapping, or at the top.
    fn place(&mut self, node: Rc<Node>, line: usize, is_merge: IsMerge) -> Result<Option<Rc<Node>>, Problem> {
        match self.open.last_mut().map(|frame| &mut frame.content) {
            None => return Ok(Some(node)),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(map)) => match map.pending.take() {
                None => self.duplicates.extend(map.begin_entry(&node, line, is_merge)?),
                Some(key) => map.end_entry(key, node),
            },
        }
        Ok(None)
    }

    /// The entries of a complete mapping with those merged into it that it does not have itself.
    fn merge(&mut self, mut map: OpenMap) -> Result<Vec<Entry>, Problem> {
        let Some(merged) = map.merged.take() else { return Ok(map.entries) };
        let sources = match &merged.value {
            Value::List(sources) => sources.as_slice(),
            _ => std::slice::from_ref(&merged),
        };
        for source in sources {
            let Value::Map(entries) = &source.value else {
                let text = format!("\"<<\" takes a mapping or a list of mappings, not {}", source.kind());
                return Err(Problem { line: source.line, text });
            };
            for entry in entries {
                if map.seen.contains_key(&entry.key) {
                    continue;
                }
                self.count(entry.value.weight, entry.line)?;
                map.seen.insert(entry.key.clone(), entry.line);
                map.entries.push(entry.clone());
            }
        }
        Ok(map.entries)
    }

    /// Counts values; an error if there are too many of them.
    fn count(&mut self, weight: usize, line: usize) -> Result<(), Problem> {
        self.total = self.total.saturating_add(weight);
        if self.total > MAX_NODES {
            let text = format!("more than {MAX_NODES} values, counting those repeated by aliases");
            return Err(Problem { line, text });
        }
        Ok(())
    }

    fn name_anchor(&mut self, anchor: usize, node: &Rc<Node>) {
        // Zero stands for a value without an anchor.
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }
}

impl OpenMap {
    /// Takes a key; gives the problem if the mapping has it already.
    fn begin_entry(
        &mut self,
        node: &Node,
        line: usize,
        IsMerge(is_merge): IsMerge,
    ) -> Result<Option<Problem>, Problem> {
        let text = match &node.value {
            Value::Text { text, .. } => text.to_string(),
            Value::Null => "null".into(),
            Value::List(_) | Value::Map(_) => {
                return Err(Problem { line, text: format!("a key must be text, not {}", node.kind()) });
            }
        };
        let earlier = self.seen.get(&text).copied();
        self.seen.entry(text.clone()).or_insert(line);
        let problem = earlier
            .map(|earlier| Problem { line, text: format!("the key {text:?} is already in line {earlier}") });
        self.pending = Some(Key { text, line, is_merge, is_duplicate: problem.is_some() });
        Ok(problem)
    }

    /// Takes the value that belongs to `key`.
    fn end_entry(&mut self, key: Key, node: Rc<Node>) {
        if key.is_duplicate {
            return;
        }
        if key.is_merge {
            self.merged = Some(node);
            return;
        }
        // The parser places an empty value at whatever follows it.
        let value = match node.is_null() {
            true => Rc::new(Node { line: key.line, value: Value::Null, weight: 1 }),
            false => node,
        };
        self.entries.push(Entry { key: key.text, line: key.line, value });
    }
}

/// What a scalar means: null, or text that is taken as written.
fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, Problem> {
    let plain = style == ScalarStyle::Plain;
    let core_tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    if core_tag == Some("binary") {
        return Err(Problem { line, text: "values with the tag !!binary are not supported".into() });
    }
    let looks_null = matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
    if core_tag == Some("null") || (plain && looks_null && tag.is_none()) {
        return Ok(Value::Null);
    }
    Ok(Value::Text { text: Zeroizing::new(text), plain: plain && tag.is_none() })
}

/// The parser's own words, unless a tab in the indentation at that place explains more.
fn scan_problem(error: &ScanError, text: &str) -> Problem {
    let line = error.marker().line();
    let starts_with_tab = |text: &str| text.trim_start_matches(' ').starts_with('\t');
    let mut lines = text.lines().zip(1..).skip(line.saturating_sub(1)).take(2);
    match lines.find(|(text, _)| starts_with_tab(text)) {
        Some((_, line)) => Problem { line, text: "not valid YAML: indented with a tab, use spaces".into() },
        None if error.info() == BAD_INDENTATION => {
            let text = format!(
                "not valid YAML: {BAD_INDENTATION}: lines within [ ] or {{ }} must be indented deeper than their key"
            );
            Problem { line, text }
        }
        None => Problem { line, text: format!("not valid YAML: {}", error.info()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree as one line of text, so that tests can compare it.
    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".into(),
            Value::Text { text, plain: true } => text.to_string(),
            Value::Text { text, plain: false } => format!("{:?}", text.as_str()),
            Value::List(items) => {
                format!("[{}]", items.iter().map(|item| shown(item)).collect::<Vec<_>>().join(", "))
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| format!("{}: {}", entry.key, shown(&entry.value)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn tree(text: &str) -> String {
        match read(text) {
            Ok(document) => shown(&document.root),
            Err(problems) => panic!("{text}: {problems:?}"),
        }
    }

    /// The problems, each as `LINE: TEXT`.
    fn problems(text: &str) -> Vec<String> {
        let problems = read(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.text)).collect()
    }

    #[test]
    fn tabs_may_stand_before_a_value_and_are_kept_within_one() {
        for (text, expected) in [
            ("a:\tx\nb:\t\t-4\nc:\t./d\ne: \tf", "{a: x, b: -4, c: ./d, e: f}"),
            ("{a:\tx, b:\ty}", "{a: x, b: y}"),
            ("\u{e9}:\tx\nb: |\n  c:\tx\nd: \"e:\tf\"", "{\u{e9}: x, b: \"c:\\tx\\n\", d: \"e:\\tf\"}"),
        ] {
            assert_eq!(tree(text), expected);
        }
        assert_eq!(tree(&"- a:\tx\n".repeat(MAX_TABS)).matches("{a: x}").count(), MAX_TABS);
        assert!(problems("a: [\nb\n]")[0].contains("deeper than their key"));
    }

    #[test]
    fn scalars_are_taken_as_written() {
        for (text, expected) in [
            ("a: 17451", "{a: 17451}"),
            ("a: true", "{a: true}"),
            ("a: \"true\"", "{a: \"true\"}"),
            ("a: 'it''s'", "{a: \"it's\"}"),
            ("a: x # comment", "{a: x}"),
            ("a: ", "{a: ~}"),
            ("a: ~\nb: null\nc: NULL\nd: nUll", "{a: ~, b: ~, c: ~, d: nUll}"),
            ("a: ''\nb: 'null'", "{a: \"\", b: \"null\"}"),
            ("a: !!str null\nb: !!null x", "{a: \"null\", b: ~}"),
            ("a: |\n  x\n  y\n", "{a: \"x\\ny\\n\"}"),
            ("a: >-\n  x\n  y\n", "{a: \"x y\"}"),
            ("{a: [1, {b: c}], d: }", "{a: [1, {b: c}], d: ~}"),
            ("- a\n-\n- - b\n", "[a, ~, [b]]"),
            ("\u{feff}a: b\r\nc: d\r\n", "{a: b, c: d}"),
        ] {
            assert_eq!(tree(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_without_document_is_null() {
        for text in ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n", "~"] {
            assert_eq!(tree(text), "~", "{text:?}");
        }
    }

    #[test]
    fn anchors_aliases_and_merge_keys_work() {
        for (text, expected) in [
            ("a: &x b\nc: *x", "{a: b, c: b}"),
            ("a: &x [1, 2]\nb: *x", "{a: [1, 2], b: [1, 2]}"),
            ("a: &k b\n*k : c", "{a: b, b: c}"),
            ("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3", "{a: {p: 1, q: 2}, b: {q: 3, p: 1}}"),
            ("b:\n  q: 3\n  <<: {q: 4, r: 5}", "{b: {q: 3, r: 5}}"),
            (
                "a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}",
                "{a: {p: 1}, b: {p: 2, q: 2}, c: {p: 1, q: 2}}",
            ),
            (
                "a: &x {p: 1}\nb: &y {<<: *x, q: 2}\nc: {<<: *y}",
                "{a: {p: 1}, b: {q: 2, p: 1}, c: {q: 2, p: 1}}",
            ),
            ("'<<': {a: b}", "{<<: {a: b}}"),
            ("a: &x 1\nb: &x 2\nc: *x", "{a: 1, b: 2, c: 2}"),
        ] {
            assert_eq!(tree(text), expected, "{text}");
        }
        assert_eq!(problems("<<: a"), ["1: \"<<\" takes a mapping or a list of mappings, not text"]);
        assert_eq!(
            problems("<<: [{a: b}, [c]]"),
            ["1: \"<<\" takes a mapping or a list of mappings, not a list"]
        );
        assert_eq!(problems("a: &x [*x]"), ["1: this alias stands inside the value it refers to"]);
        assert!(problems("a: *x")[0].starts_with("1: not valid YAML"));
    }

    #[test]
    fn all_duplicate_keys_are_named_with_both_lines() {
        assert_eq!(
            problems("a: 1\nb:\n  c: 1\n  d: 2\n  \"c\": 3\na: 2\n"),
            ["5: the key \"c\" is already in line 3", "6: the key \"a\" is already in line 1"]
        );
        assert_eq!(
            problems("<<: {a: b}\n<<: {c: d}\n"),
            ["2: the key \"<<\" is already in line 1"],
            "merge keys are keys"
        );
    }

    #[test]
    fn keys_are_text() {
        assert_eq!(problems("[a]: b"), ["1: a key must be text, not a list"]);
        assert_eq!(problems("a: b\n? {c: d}\n: e"), ["2: a key must be text, not a mapping"]);
    }

    #[test]
    fn broken_yaml_is_refused_with_its_line() {
        for (text, line) in [
            ("a:\n\tb: c\n", 2),
            ("a:\n  b: c\n\td: e\n", 3),
            ("a: b\n c: d\n", 2),
            ("a: [b\nc: d\n", 2),
            ("a: 'b\n", 0),
            ("a: b: c\n", 1),
            ("a: b\n]\n", 2),
            ("a: @x\n", 1),
            ("a: x\0\n", 1),
            ("a: b\nc: \u{1b}[0m\n", 2),
            ("{identity: ${ID}}\n", 1),
        ] {
            let found = problems(text);
            assert_eq!(found.len(), 1, "{text:?}");
            if line > 0 {
                assert!(found[0].starts_with(&format!("{line}: ")), "{text:?}: {found:?}");
            }
        }
    }

    #[test]
    fn what_follows_the_first_document_is_noticed_and_not_read() {
        for (text, second) in [
            ("a: b\n", None),
            ("---\na: b\n...\n", None),
            ("a: b\n---\n", Some(2)),
            ("a: b\n---\nc: d\na: 1\na: 2\n", Some(2)),
            ("a: b\n---\n\t[broken\n", Some(2)),
        ] {
            let document = read(text).unwrap_or_else(|problems| panic!("{text:?}: {problems:?}"));
            assert_eq!(shown(&document.root), "{a: b}", "{text:?}");
            assert_eq!(document.second, second, "{text:?}");
        }
    }

    #[test]
    fn a_file_made_of_aliases_is_refused_quickly() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let alias = format!("*a{}, ", level - 1).repeat(10);
            text += &format!("a{level}: &a{level} [{alias}]\n");
        }
        assert!(problems(&text)[0].contains("more than 100000 values"));
        let keys: String = (0..1000).map(|i| format!("  k{i}: v\n")).collect();
        let text = format!("big: &big\n{keys}list:\n{}", "- <<: *big\n".repeat(1000));
        assert!(problems(&text)[0].contains("more than 100000 values"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert_eq!(problems(&"[".repeat(40)), ["1: values are nested more than 32 deep"]);
        assert_eq!(problems(&"[".repeat(5000)).len(), 1);
        let deep: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert_eq!(problems(&deep), ["33: values are nested more than 32 deep"]);
    }

    #[test]
    fn values_know_their_lines() {
        let document = read("# c\na:\nb:\n  - x\n\n  - y\n").ok().unwrap();
        let Value::Map(entries) = &document.root.value else { panic!() };
        assert_eq!((entries[0].line, entries[0].value.line), (2, 2), "an empty value is where its key is");
        let Value::List(items) = &entries[1].value.value else { panic!() };
        assert_eq!((items[0].line, items[1].line), (4, 6));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|(.|\n){0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn any_text_of_yaml_signs_is_read_or_refused(text in "[-:{}\\[\\],&*!|>'\"%@`#?~<a \t\n\r.0${}\\\\x]{0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn quoted_text_comes_back(text in "[^\\p{C}]{0,40}") {
            let document = read(&format!("a: '{}'", text.replace('\'', "''"))).ok().unwrap();
            let Value::Map(entries) = &document.root.value else { panic!() };
            let Value::Text { text: read, .. } = &entries[0].value.value else { panic!() };
            prop_assert_eq!(read.as_str(), text.as_str());
        }
    }
}
