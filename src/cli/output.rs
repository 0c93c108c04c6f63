//! JSON on standard output: the one place that decides its form (`cli` §3). Documents are built with
//! [`crate::text::json::Object`] or come from a server; both are compact.

use super::{Failure, term};
use crate::crypto::SecretBytes;

/// Prints one document and a line feed: indented by 2 on a terminal, one line otherwise.
pub fn json(document: &[u8]) -> Result<(), Failure> {
    term::print_bytes(&form(document, term::is_terminal()))
}

/// Prints one document of a stream: always one line.
pub fn json_line(document: &[u8]) -> Result<(), Failure> {
    term::print_bytes(&form(document, false))
}

/// An array of finished documents.
pub fn array(items: impl IntoIterator<Item = impl AsRef<[u8]>>) -> SecretBytes {
    let mut text = SecretBytes::with_capacity(256);
    for (place, item) in items.into_iter().enumerate() {
        text.extend(if place == 0 { b"[" } else { b"," });
        text.extend(item.as_ref());
    }
    text.extend(if text.is_empty() { b"[]" } else { b"]" });
    text
}

/// `document` with white space outside of strings as the form asks for it, and a line feed at the end.
fn form(document: &[u8], indented: bool) -> SecretBytes {
    let mut text = SecretBytes::with_capacity(document.len().saturating_mul(2).saturating_add(64));
    let mut depth = 0usize;
    let (mut in_string, mut escaped) = (false, false);
    let line = |text: &mut SecretBytes, depth: usize| {
        if indented {
            text.extend(b"\n");
            (0..depth).for_each(|_| text.extend(b"  "));
        }
    };
    let mut bytes = document.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            match (byte, bytes.peek()) {
                // Terminals obey these controls, which JSON lets pass.
                (0x7f, _) => text.extend(b"\\u007f"),
                (0xc2, Some(&low @ 0x80..=0x9f)) => {
                    bytes.next();
                    text.extend(format!("\\u{low:04x}").as_bytes());
                }
                _ => text.extend(&[byte]),
            }
            continue;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'{' | b'[' => {
                text.extend(&[byte]);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                match bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    Some(end) => text.extend(&[end]),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.extend(&[byte]);
            }
            b',' => {
                text.extend(b",");
                line(&mut text, depth);
            }
            b':' => text.extend(if indented { b": " } else { b":" }),
            other => {
                in_string = other == b'"';
                text.extend(&[other]);
            }
        }
    }
    text.extend(b"\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formed(document: &str, indented: bool) -> String {
        String::from_utf8(form(document.as_bytes(), indented).to_vec()).unwrap()
    }

    #[test]
    fn a_document_is_one_line_or_indented() {
        let document = "{\"a\":[1,{\"b \\\"{\":\"x: y,\"}],\"c\":{},\"d\":[ ]\n}\n";
        assert_eq!(formed(document, false), "{\"a\":[1,{\"b \\\"{\":\"x: y,\"}],\"c\":{},\"d\":[]}\n");
        assert_eq!(
            formed(document, true),
            "{\n  \"a\": [\n    1,\n    {\n      \"b \\\"{\": \"x: y,\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}\n"
        );
    }

    #[test]
    fn controls_that_a_terminal_obeys_are_escaped() {
        assert_eq!(formed("[\"a\u{7f}\u{9b}31m\u{a0}\"]", false), "[\"a\\u007f\\u009b31m\u{a0}\"]\n");
    }

    #[test]
    fn an_array_may_be_empty() {
        assert_eq!(&array([b"1", b"2"])[..], b"[1,2]");
        assert_eq!(&array([""; 0])[..], b"[]");
    }

    proptest! {
        #[test]
        fn no_form_changes_the_value(text in any::<String>(), numbers in proptest::collection::vec(any::<u32>(), 0..4)) {
            let value = serde_json::json!({ "text": text, "numbers": numbers, (text.clone()): [[], {}] });
            for indented in [false, true] {
                let read: serde_json::Value = serde_json::from_str(&formed(&value.to_string(), indented)).unwrap();
                prop_assert_eq!(&read, &value);
            }
        }
    }
}
