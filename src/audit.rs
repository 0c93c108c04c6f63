//! The audit log: one event for each key that was created, imported or deleted (`server-api` §7.6), as a line on stdout
//! (§7.7), as JSON to those who listen to `/v1/log/audit` (§7.5), and as JSON in a file (`log.file`).

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use crate::{
    console,
    feed::Feed,
    log::{INFO, Logger, line},
    text::{duration::format_duration, json::Object, time::Timestamp},
};

/// What happened, and who did it.
#[derive(Clone, Copy, Debug)]
pub struct AuditEvent<'a> {
    /// Such as `secret key 'a' created`.
    pub message: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The percent-decoded path.
    pub path: &'a str,
    /// The client's address.
    pub ip: &'a str,
    /// The client's identity; empty if it has none.
    pub identity: &'a str,
    /// Status of the reply.
    pub status: u16,
    /// How long it took.
    pub time: Duration,
}

impl AuditEvent<'_> {
    /// The line on stdout.
    fn text(&self) -> String {
        let status = self.status.to_string();
        let time = format_duration(self.time);
        let attributes = [
            ("req.method", self.method),
            ("req.path", self.path),
            ("req.ip", self.ip),
            ("req.identity", self.identity),
            ("res.code", &status),
            ("res.time", &time),
        ];
        line(INFO, self.message, &attributes)
    }

    /// One line of JSON. In a file it also says what was done and by which method; the stream's form is fixed.
    fn json(&self, is_for_file: bool) -> Vec<u8> {
        let mut request = Object::new(240);
        if is_for_file {
            request = request.text("method", self.method);
        }
        if !self.ip.is_empty() {
            request = request.text("ip", self.ip);
        }
        request = request.text("path", self.path);
        if !self.identity.is_empty() {
            request = request.text("identity", self.identity);
        }
        // The time is in milliseconds, whatever the original's own comments claim (§9, D7).
        let response = Object::new(40)
            .raw("code", self.status.to_string().as_bytes())
            .raw("time", self.time.as_millis().to_string().as_bytes());
        let mut event = Object::new(320).text("time", &Timestamp::now().to_string());
        if is_for_file {
            event = event.text("message", self.message);
        }
        event.raw("request", &request.end()).raw("response", &response.end()).line().to_vec()
    }
}

/// A file that audit events are appended to. Opening it again, after a reload, follows a rotation.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    file: File,
    /// The last write has failed and the error log has been told.
    has_failed: bool,
}

impl AuditFile {
    /// Opens the file, or makes it with mode 0600.
    pub fn open(path: &Path) -> Result<Self, String> {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = opened.map_err(|error| format!("log.file: cannot open {}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, has_failed: false })
    }

    fn append(&mut self, line: &[u8], log: &Logger) {
        match self.file.write_all(line) {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    log.error(&format!("cannot write the audit log {}: {error}", self.path.display()));
                }
            }
        }
    }
}

/// Takes audit events, all of level INFO, to where they belong.
#[derive(Debug)]
pub struct AuditLog {
    level: AtomicI32,
    feed: Arc<Feed>,
    file: Mutex<Option<AuditFile>>,
}

impl AuditLog {
    /// A log of events at or above `level`.
    pub fn new(level: i32, file: Option<AuditFile>) -> Self {
        Self { level: AtomicI32::new(level), feed: Arc::default(), file: Mutex::new(file) }
    }

    /// Changes the level and the file.
    pub fn set(&self, level: i32, file: Option<AuditFile>) {
        self.level.store(level, Ordering::Relaxed);
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Those who listen.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Writes one event. `log` is told when the file cannot be written.
    pub fn write(&self, event: &AuditEvent<'_>, log: &Logger) {
        if INFO < self.level.load(Ordering::Relaxed) {
            return;
        }
        console::print(&event.text());
        if let Some(file) = &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            file.append(&event.json(true), log);
        }
        self.feed.publish(|| event.json(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: AuditEvent<'_> = AuditEvent {
        message: "secret key 'a' created",
        method: "PUT",
        path: "/v1/key/create/a",
        ip: "127.0.0.1",
        identity: "3ecf",
        status: 200,
        time: Duration::from_micros(4_710),
    };

    fn without_time(json: Vec<u8>) -> String {
        let text = String::from_utf8(json).unwrap();
        let (time, rest) = text.strip_prefix("{\"time\":\"").unwrap().split_once('"').unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        rest.to_owned()
    }

    #[test]
    fn the_stream_has_the_documented_form() {
        assert_eq!(
            without_time(EVENT.json(false)),
            ",\"request\":{\"ip\":\"127.0.0.1\",\"path\":\"/v1/key/create/a\",\"identity\":\"3ecf\"},\
             \"response\":{\"code\":200,\"time\":4}}\n"
        );
        let anonymous = AuditEvent { ip: "", identity: "", ..EVENT };
        assert_eq!(
            without_time(anonymous.json(false)),
            ",\"request\":{\"path\":\"/v1/key/create/a\"},\"response\":{\"code\":200,\"time\":4}}\n"
        );
    }

    #[test]
    fn the_file_also_says_what_was_done() {
        assert!(without_time(EVENT.json(true)).starts_with(
            ",\"message\":\"secret key 'a' created\",\"request\":{\"method\":\"PUT\",\"ip\":\"127.0.0.1\","
        ));
    }

    #[test]
    fn a_line_in_the_file_is_json_whatever_the_client_sent() {
        let odd = AuditEvent { path: "/v1/key/create/\"\n\u{202e}<", ..EVENT };
        let text = String::from_utf8(odd.json(true)).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["request"]["path"], odd.path);
    }
}
