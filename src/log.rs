//! The error log: one line per event on stderr, in the form of Go's `slog` text (`server-api` §7.7), and the same line
//! as JSON to those who listen to `/v1/log/error` (§7.5).

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use crate::{
    console,
    feed::Feed,
    text::{json::Object, time::Timestamp},
};

/// Details, such as why a client was refused.
pub const DEBUG: i32 = -4;
/// Events that an operator may want to see.
pub const INFO: i32 = 0;
/// Something may need attention.
pub const WARN: i32 = 4;
/// Something failed.
pub const ERROR: i32 = 8;

/// Writes lines at or above a level to stderr.
#[derive(Debug)]
pub struct Logger {
    level: AtomicI32,
    feed: Arc<Feed>,
}

impl Logger {
    /// A logger for lines at or above `level`.
    pub fn new(level: i32) -> Self {
        Self { level: AtomicI32::new(level), feed: Arc::default() }
    }

    /// Changes the level.
    pub fn set_level(&self, level: i32) {
        self.level.store(level, Ordering::Relaxed);
    }

    /// Those who listen.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Whether lines of `level` are written.
    pub fn is_on(&self, level: i32) -> bool {
        level >= self.level.load(Ordering::Relaxed)
    }

    /// Writes one line with attributes.
    pub fn log(&self, level: i32, message: &str, attributes: &[(&str, &str)]) {
        if self.is_on(level) {
            let line = line(level, message, attributes);
            console::error(&line);
            self.feed.publish(|| event(&line));
        }
    }

    /// A line at level INFO.
    pub fn info(&self, message: &str) {
        self.log(INFO, message, &[]);
    }

    /// A line at level WARN.
    pub fn warn(&self, message: &str) {
        self.log(WARN, message, &[]);
    }

    /// A line at level ERROR.
    pub fn error(&self, message: &str) {
        self.log(ERROR, message, &[]);
    }
}

/// What those who listen get of a line.
fn event(line: &str) -> Vec<u8> {
    Object::new(line.len() + 32).text("message", line.trim_end_matches('\n')).line().to_vec()
}

/// One finished line, line feed included.
pub fn line(level: i32, message: &str, attributes: &[(&str, &str)]) -> String {
    let mut line = String::with_capacity(160);
    let now = Timestamp::now();
    let seconds = Timestamp { nanos: 0, ..now }.to_string();
    let _ = write!(line, "time={}.{:03}Z", seconds.trim_end_matches('Z'), now.nanos / 1_000_000);
    let _ = write!(line, " level={}", level_name(level));
    for (name, value) in [("msg", message)].iter().chain(attributes) {
        let _ = write!(line, " {name}=");
        push_value(&mut line, value);
    }
    line.push('\n');
    line
}

/// The name of a level, such as `INFO` or `DEBUG+2`.
pub fn level_name(level: i32) -> String {
    let (base, name) = match level {
        ..INFO => (DEBUG, "DEBUG"),
        INFO..WARN => (INFO, "INFO"),
        WARN..ERROR => (WARN, "WARN"),
        ERROR.. => (ERROR, "ERROR"),
    };
    match level.saturating_sub(base) {
        0 => name.to_owned(),
        distance => format!("{name}{distance:+}"),
    }
}

/// A value, quoted as Go quotes it where it needs quotes. Nothing in it can begin another line.
fn push_value(line: &mut String, value: &str) {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=') || (c >= '\u{a0}' && !is_odd(c));
    if !value.is_empty() && value.chars().all(is_plain) {
        return line.push_str(value);
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(line, "\\x{:02x}", c as u32);
            }
            c if is_odd(c) => {
                let _ = write!(line, "\\u{:04x}", c as u32);
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

/// Characters that are not printed as themselves: controls, and those that change the direction of text.
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_originals_form() {
        let text = line(ERROR, "a b", &[("req.method", "PUT"), ("req.identity", "")]);
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.starts_with("time=20") && time.ends_with('Z') && time.len() == 29, "{time}");
        assert_eq!(rest, "level=ERROR msg=\"a b\" req.method=PUT req.identity=\"\"\n");
        assert!(line(INFO, "EOF", &[]).ends_with("level=INFO msg=EOF\n"));
    }

    #[test]
    fn a_value_cannot_begin_another_line() {
        let text = line(INFO, "a\nlevel=ERROR \"x\"\u{202e}\x1b[31m", &[]);
        assert!(text.ends_with("msg=\"a\\nlevel=ERROR \\\"x\\\"\\u202e\\x1b[31m\"\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
    }

    #[test]
    fn levels_have_names() {
        for (level, name) in [
            (-4, "DEBUG"),
            (-2, "DEBUG+2"),
            (0, "INFO"),
            (4, "WARN"),
            (8, "ERROR"),
            (9, "ERROR+1"),
            (-8, "DEBUG-4"),
        ] {
            assert_eq!(level_name(level), name);
        }
    }
}
