//! The audit log: one line on stdout for each key that was created, imported or deleted (`server-api` §7.6, §7.7).

use std::{
    io::Write,
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use crate::{
    log::{INFO, line},
    text::duration::format_duration,
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

/// Writes audit events, all of level INFO, to stdout.
#[derive(Debug)]
pub struct AuditLog(AtomicI32);

impl AuditLog {
    /// A log of events at or above `level`.
    pub fn new(level: i32) -> Self {
        Self(AtomicI32::new(level))
    }

    /// Changes the level.
    pub fn set_level(&self, level: i32) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// Writes one event.
    pub fn write(&self, event: &AuditEvent<'_>) {
        if INFO < self.0.load(Ordering::Relaxed) {
            return;
        }
        let status = event.status.to_string();
        let time = format_duration(event.time);
        let attributes = [
            ("req.method", event.method),
            ("req.path", event.path),
            ("req.ip", event.ip),
            ("req.identity", event.identity),
            ("res.code", &status),
            ("res.time", &time),
        ];
        // A stdout that is closed or full does not matter to the server.
        let mut stdout = std::io::stdout();
        let _ =
            stdout.write_all(line(INFO, event.message, &attributes).as_bytes()).and_then(|()| stdout.flush());
    }
}
