//! How a connection sends, and how it ends.

use std::{
    io::{self, Write},
    net::Shutdown,
    sync::atomic::Ordering,
};

use super::{Conn, Inner, LINGER, SOON, STALLED, Speaks, Stage};
use crate::{
    api::Session,
    http::{Flow, NEVER, Protocol},
    log::INFO,
    net::wire::Wire,
    sys::{epoll::Interest, memory::wipe},
    tls,
};

impl Conn {
    /// Sends `out` and does what the protocol asked for.
    pub(super) fn apply(&self, inner: &mut Inner, flow: Flow, out: &mut Vec<u8>) {
        inner.paused = flow == Flow::Pause;
        let is_full = inner.wire.wants_write() && inner.interest == Interest::Write;
        let is_last = flow.ends() || (inner.ended && !inner.paused);
        if is_full && !is_last {
            inner.backlog = std::mem::take(out);
            return;
        }
        inner.put(out);
        if is_last {
            // Over HTTP/2 the peer may always be sending.
            inner.lingers = flow == Flow::Linger || matches!(inner.speaks, Speaks::H2(_));
            self.finish(inner);
        }
        while self.flush(inner) && inner.stage == Stage::Open {
            self.set_interest(inner, if inner.ended { Interest::Errors } else { Interest::Read });
            if !self.go_on(inner) {
                return;
            }
        }
    }

    /// HTTP/2 stops when much is waiting to be sent, and asks to be called again soon. All is sent now, so it is called
    /// at once; `true` if it had more.
    pub(super) fn go_on(&self, inner: &mut Inner) -> bool {
        let Speaks::H2(h2) = &mut inner.speaks else { return false };
        let soon = self.hub.now() + SOON;
        if Protocol::<Session>::deadline(&**h2) > soon {
            return false;
        }
        let mut out = Vec::new();
        let flow = Protocol::<Session>::expire(&mut **h2, soon, &mut out);
        let has_more = !out.is_empty();
        inner.put(&mut out);
        if flow.ends() {
            inner.lingers = true;
            self.finish(inner);
        }
        has_more || flow.ends()
    }

    /// Sends what TLS has to send; `true` if all of it is gone.
    pub(super) fn flush(&self, inner: &mut Inner) -> bool {
        loop {
            if !inner.wire.wants_write() {
                if inner.backlog.is_empty() {
                    break;
                }
                let mut backlog = std::mem::take(&mut inner.backlog);
                inner.put(&mut backlog);
                continue;
            }
            match inner.wire.write_to(&self.socket) {
                Ok(n) if n > 0 => {
                    let is_all = !inner.wire.wants_write();
                    inner.waiting = if is_all { 0 } else { inner.waiting.saturating_sub(n) };
                    if !matches!(inner.speaks, Speaks::Nothing) && inner.stage == Stage::Open {
                        inner.give_up = NEVER;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.patient.load(Ordering::Relaxed) {
                        inner.give_up = inner.give_up.min(self.hub.now() + STALLED);
                    }
                    self.set_interest(inner, Interest::Write);
                    return false;
                }
                _ => {
                    self.close(inner);
                    return false;
                }
            }
        }
        match inner.stage {
            Stage::Open if inner.interest == Interest::Write => self.set_interest(inner, Interest::Read),
            Stage::Finishing => self.linger(inner),
            _ => {}
        }
        true
    }

    /// Nothing more is read or answered; the last bytes go out.
    fn finish(&self, inner: &mut Inner) {
        if inner.stage != Stage::Open {
            return;
        }
        inner.stage = Stage::Finishing;
        inner.give_up = self.hub.now() + STALLED;
        inner.wire.say_goodbye();
    }

    /// Says that nothing more comes, and waits a little for the peer to say the same.
    fn linger(&self, inner: &mut Inner) {
        if inner.ended || !inner.lingers || self.socket.shutdown(Shutdown::Write).is_err() {
            return self.close(inner);
        }
        inner.stage = Stage::Lingering;
        inner.give_up = self.hub.now() + LINGER;
        self.release(inner);
        self.set_interest(inner, Interest::Read);
    }

    pub(super) fn end_of_input(&self, inner: &mut Inner) {
        inner.ended = true;
        if inner.stage != Stage::Open || !inner.paused {
            return self.close(inner);
        }
        // The answer to the last request is still to come; the peer may be waiting for it.
        self.set_interest(inner, Interest::Errors);
    }

    pub(super) fn close(&self, inner: &mut Inner) {
        if inner.stage == Stage::Closed {
            return;
        }
        // A connection that ended in order is closed by being dropped.
        let is_shut = matches!(inner.stage, Stage::Lingering | Stage::Finishing);
        inner.stage = Stage::Closed;
        inner.give_up = NEVER;
        self.release(inner);
        // A late answer may hold the connection a little longer; the peer is not to wait for that.
        if !is_shut {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        self.worker.remove(self.token);
    }

    /// Gives back the memory and the place among the client's connections.
    fn release(&self, inner: &mut Inner) {
        self.count_streams(inner);
        inner.speaks = Speaks::Nothing;
        inner.wire = Wire::Gone;
        wipe(&mut inner.backlog);
        inner.backlog = Vec::new();
        inner.waiting = 0;
        self.budget(inner).give_back(std::mem::take(&mut inner.charged));
        if let Some(counted) = inner.counted.take() {
            self.hub.dismiss(&counted);
        }
    }

    pub(super) fn fail_handshake(&self, inner: &mut Inner, error: &rustls::Error) {
        if matches!(inner.speaks, Speaks::Nothing) {
            self.log_handshake(&tls::verify::explain(error));
            inner.wire.mend_alert(error);
        }
        // rustls has put the alert into its output.
        if inner.stage == Stage::Open {
            inner.stage = Stage::Finishing;
            inner.lingers = true;
            inner.give_up = self.hub.now() + LINGER;
        }
        self.flush(inner);
    }

    pub(super) fn refuse_plain_http(&self, inner: &mut Inner) {
        self.log_handshake("client sent an HTTP request to an HTTPS server");
        let _ = (&self.socket)
            .write(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        inner.lingers = true;
        self.linger(inner);
    }

    /// One line about a client that leaves its replies unread while others do so, too.
    pub(super) fn log_cut(&self) {
        let message =
            format!("http: cut {}: too many replies wait for clients that do not read them", self.remote);
        self.hub.api.log().log(INFO, &message, &[]);
    }

    /// One line about a connection that was refused: who, why, and the setting to look at.
    pub(super) fn log_handshake(&self, what: &str) {
        self.hub.api.metrics().net.failed_handshakes.add();
        let message = format!("http: TLS handshake error from {}: {what}", self.remote);
        let hint = tls::verify::hint(what).map(|hint| ("hint", hint));
        self.hub.api.log().log(INFO, &message, hint.as_slice());
    }
}
