//! Shell patterns over names: `*`, `?`, `[abc]`, `[a-z]`, `[!a]` and `\` (POSIX.1-2024, "Shell Command Language" §2.14).

/// A pattern that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Glob(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// `*`: any bytes, also none.
    Many,
    /// `?`: any one byte.
    One,
    Byte(u8),
    /// Ranges, both ends included; negated: all other bytes.
    Set {
        is_negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Glob {
    /// Reads a pattern; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut rest = text.bytes();
        let mut parts = Vec::new();
        while let Some(byte) = rest.next() {
            parts.push(match byte {
                b'*' => Part::Many,
                b'?' => Part::One,
                b'[' => parse_set(&mut rest)?,
                b'\\' => Part::Byte(rest.next().ok_or("nothing follows the last '\\'")?),
                byte => Part::Byte(byte),
            });
        }
        parts.dedup_by(|a, b| *a == Part::Many && *b == Part::Many);
        Ok(Self(parts))
    }

    /// Whether the whole of `name` matches. The time is at most the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let (mut part, mut at) = (0_usize, 0_usize);
        // The last `*` and where what follows it is tried next: an earlier one never needs to take more.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Many), _) => {
                    retry = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(wanted), Some(byte)) if wanted.takes(*byte) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            match retry {
                Some((many, from)) if from < name.len() => {
                    retry = Some((many, from + 1));
                    (part, at) = (many + 1, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Many => false,
            Self::One => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Set { is_negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *is_negated
            }
        }
    }
}

/// Reads what follows a `[`.
fn parse_set(rest: &mut std::str::Bytes<'_>) -> Result<Part, &'static str> {
    const OPEN: &str = "a '[' is not closed";
    let mut next = rest.next().ok_or(OPEN)?;
    let is_negated = matches!(next, b'!' | b'^');
    if is_negated {
        next = rest.next().ok_or(OPEN)?;
    }
    let mut ranges = Vec::new();
    // A `]` at the very beginning stands for itself.
    while next != b']' || ranges.is_empty() {
        let low = literal(next, rest).ok_or(OPEN)?;
        next = rest.next().ok_or(OPEN)?;
        let mut high = low;
        if next == b'-' && rest.clone().next().is_some_and(|byte| byte != b']') {
            let byte = rest.next().ok_or(OPEN)?;
            high = literal(byte, rest).ok_or(OPEN)?;
            next = rest.next().ok_or(OPEN)?;
        }
        if low > high {
            return Err("a range ends before it begins");
        }
        ranges.push((low, high));
    }
    Ok(Part::Set { is_negated, ranges })
}

fn literal(byte: u8, rest: &mut std::str::Bytes<'_>) -> Option<u8> {
    if byte == b'\\' { rest.next() } else { Some(byte) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, matching, other) in [
            ("*", "a my-key 0", ""),
            ("", "", "a"),
            ("my-key", "my-key", "my-key2 my-ke xmy-key"),
            ("my-*", "my- my-key", "my xmy-key"),
            ("*key", "key my-key keykey", "keys"),
            ("a*b*c", "abc aXbYc abbcc abcbc", "ab acb abcd"),
            ("k?y", "key k-y", "ky keey"),
            ("[a-c0]*", "a b1 0x", "d -a"),
            ("x[!a-c]", "xd x-", "xa xb x xdd"),
            ("x[^a]", "xb", "xa"),
            ("[]a]", "] a", "b"),
            ("[a-]", "a -", "b"),
            ("[-a]", "a -", "b"),
            ("\\*", "*", "a"),
            ("[\\]-]", "] -", "\\"),
            ("**", "a ab", ""),
            ("*a*a*a*", "aaa banana", "aa bnnn"),
        ] {
            let glob = Glob::parse(pattern).unwrap();
            matching.split(' ').for_each(|name| assert!(glob.matches(name), "{pattern} {name}"));
            other.split(' ').filter(|name| !name.is_empty()).for_each(|name| {
                assert!(!glob.matches(name), "{pattern} {name}");
            });
        }
        assert!(!Glob::parse("a").unwrap().matches(""));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["zz[", "[a", "[]", "[!]", "[^", "[a-", "[a-\\", "a\\", "[z-a]", "[\\"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let name = "a".repeat(80);
        assert!(!Glob::parse(&("*a".repeat(10_000) + "b")).unwrap().matches(&name));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_matches_or_not(pattern: String, name in "[a-c]{0,12}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(&name);
            }
        }

        #[test]
        fn stars_agree_with_trying_everything(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn slow(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern, name) {
                    ([], name) => name.is_empty(),
                    ([b'*', rest @ ..], name) => (0..=name.len()).any(|at| slow(rest, &name[at..])),
                    ([b'?', rest @ ..], [_, name @ ..]) => slow(rest, name),
                    ([byte, rest @ ..], [first, name @ ..]) => byte == first && slow(rest, name),
                    _ => false,
                }
            }
            let expected = slow(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(Glob::parse(&pattern).unwrap().matches(&name), expected);
        }
    }
}
