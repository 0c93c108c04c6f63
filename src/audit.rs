//! The audit log: one event for each key that was created, imported or deleted (`server-api` §7.6), as a line on stdout
//! (§7.7), as JSON to those who listen to `/v1/log/audit` (§7.5), and as JSON in a file (`log.file`).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
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
    /// `None` for a pipe that nobody reads, which cannot be opened.
    file: Option<File>,
    /// The last write has failed and the error log has been told.
    has_failed: bool,
    /// The file ends in the middle of a line.
    is_cut: bool,
}

/// How long a pipe is waited for that is full, until its reader is given up.
const PATIENCE: Duration = Duration::from_secs(1);

impl AuditFile {
    /// Opens the file, or makes it with mode 0600.
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = match open_to_append(path) {
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => None,
            opened => {
                Some(opened.map_err(|error| format!("log.file: cannot open {}: {error}", path.display()))?)
            }
        };
        let is_cut = ends_within_a_line(path).unwrap_or(false);
        Ok(Self { path: path.to_owned(), file, has_failed: false, is_cut })
    }

    /// The file, if there is one to write to now.
    fn opened(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            self.file = Some(open_to_append(&self.path)?);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Takes over what is known of the file, if that is the same one.
    fn follow(&mut self, old: &Self) {
        let id = |file: &Self| {
            let data = file.file.as_ref()?.metadata().ok()?;
            Some((data.dev(), data.ino()))
        };
        self.is_cut |= old.is_cut && id(self).is_some() && id(self) == id(old);
    }

    fn append(&mut self, line: &[u8], log: &Logger) {
        let patience = if self.has_failed { Duration::ZERO } else { PATIENCE };
        let start: &[u8] = if self.is_cut { b"\n" } else { b"" };
        let line = [start, line].concat();
        let (written, result) = match self.opened() {
            Ok(file) => write_patiently(file, &line, patience),
            Err(error) => (0, Err(error)),
        };
        self.is_cut = if written > start.len() { written < line.len() } else { self.is_cut };
        match result {
            Ok(()) => self.has_failed = false,
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    log.error(&format!("cannot write the audit log {}: {error}", self.path.display()));
                }
            }
        }
    }
}

/// A pipe whose reader does not read must not hold up those who make keys.
fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Whether a regular file does not end in a line feed.
fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let data = file.metadata()?;
    let Some(last) = data.len().checked_sub(1).filter(|_| data.is_file()) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Writes all of `bytes`, and waits for as long as `patience` if that cannot be done at once. Returns how many bytes are
/// written, also after an error.
fn write_patiently(mut file: &File, bytes: &[u8], patience: Duration) -> (usize, io::Result<()>) {
    let begin = Instant::now();
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && begin.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
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
        let mut current = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, file);
        if let (Some(new), Some(old)) = (&mut *current, &old) {
            new.follow(old);
        }
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
    fn a_line_that_was_cut_takes_no_other_with_it() {
        let path = std::env::temp_dir().join(format!("kes-audit-{}", std::process::id()));
        std::fs::write(&path, "{\"time\":").unwrap();
        let log = Logger::new(9);
        let mut file = AuditFile::open(&path).unwrap();
        file.append(b"one\n", &log);
        file.append(b"two\n", &log);
        AuditFile::open(&path).unwrap().append(b"three\n", &log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"time\":\none\ntwo\nthree\n");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_pipe_that_nobody_empties_is_given_up_and_goes_on_with_a_new_line() {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer)));
        let log = Logger::new(9);
        let mut file = AuditFile::open(&path).unwrap();
        let line = [&[b'x'; 9_999][..], b"\n"].concat();
        while !file.has_failed {
            file.append(&line, &log);
        }
        // Now there is no waiting any more.
        let begin = Instant::now();
        (0..100).for_each(|_| file.append(&line, &log));
        assert!(begin.elapsed() < 100 * PATIENCE);
        let mut held = vec![0; 64 << 10];
        let mut text = Vec::new();
        while file.has_failed {
            let n = io::Read::read(&mut reader, &mut held).unwrap();
            text.extend_from_slice(&held[..n]);
            file.append(b"last\n", &log);
        }
        drop((file, writer));
        io::Read::read_to_end(&mut reader, &mut text).unwrap();
        assert!(text.ends_with(b"x\nlast\n"), "{:?}", String::from_utf8_lossy(&text[text.len() - 20..]));
    }

    #[test]
    fn a_pipe_without_a_reader_is_opened_when_there_is_one() {
        let path = std::env::temp_dir().join(format!("kes-fifo-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let log = Logger::new(9);
        let mut file = AuditFile::open(&path).unwrap();
        file.append(b"lost\n", &log);
        assert!(file.has_failed);
        let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        file.append(b"read\n", &log);
        let mut text = [0; 16];
        let n = io::Read::read(&mut reader, &mut text).unwrap();
        assert!(!file.has_failed && &text[..n] == b"read\n");
        std::fs::remove_file(&path).unwrap();
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
