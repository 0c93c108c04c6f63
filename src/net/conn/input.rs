//! What a peer sends, on its way from the socket through TLS to the protocol.

use std::{
    io::{self, Read},
    sync::{Arc, PoisonError},
};

use super::{Conn, Inner, Scratch, Speaks, Stage};
use crate::{
    api::Session,
    http::{Flow, Millis, NEVER, h1::H1, h2::H2},
    net::wire::Wire,
    sys::{fault, memory::wipe},
    tls,
};

impl Conn {
    /// Reads once; epoll is level-triggered, so what is left comes with the next event.
    pub(super) fn read(&self, inner: &mut Inner, now: Millis, scratch: &mut Scratch) {
        let received = match (&self.socket).read(&mut scratch.received) {
            Ok(0) => return self.end_of_input(inner),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return;
            }
            Err(_) => return self.close(inner),
        };
        if inner.stage != Stage::Open {
            return;
        }
        inner.heard = now;
        let bytes = &scratch.received[..received];
        if matches!(inner.wire, Wire::Untouched) {
            if is_plain_http(bytes) {
                return self.refuse_plain_http(inner);
            }
            let config = Arc::clone(&self.hub.tls.read().unwrap_or_else(PoisonError::into_inner));
            if inner.wire.begin(config).is_err() {
                return self.close(inner);
            }
        }
        if matches!(inner.wire, Wire::Plain(_)) {
            return self.step(inner, |speaks, out, session| speaks.feed(now, bytes, out, session));
        }
        self.receive(inner, now, bytes, &mut scratch.plain, Lent(&mut scratch.out).0);
    }

    /// Decrypts `bytes`, feeds the protocol and sends what it answers, in one write.
    fn receive(&self, inner: &mut Inner, now: Millis, mut bytes: &[u8], plain: &mut [u8], out: &mut Vec<u8>) {
        let mut flow = if inner.paused { Flow::Pause } else { Flow::Continue };
        while let Wire::Tls(tls) = &mut inner.wire {
            // After the peer's close_notify TLS takes nothing more: what follows is from somebody else.
            if bytes.is_empty() || flow.ends() || inner.ended {
                break;
            }
            if tls.read_tls(&mut bytes).is_err() {
                return self.close(inner);
            }
            if let Err(error) = tls.process_new_packets() {
                return self.fail_handshake(inner, &error);
            }
            if matches!(inner.speaks, Speaks::Nothing) {
                if tls.is_handshaking() {
                    continue;
                }
                if !self.establish(inner, now) {
                    flow = Flow::Close;
                    break;
                }
            }
            flow = self.feed(inner, now, flow, plain, out);
        }
        self.apply(inner, flow, out);
    }

    /// Feeds the protocol with all that is decrypted.
    fn feed(
        &self,
        inner: &mut Inner,
        now: Millis,
        mut flow: Flow,
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Flow {
        let mut session = Session::new(&self.hub.api, self);
        loop {
            let n = match inner.wire.read(plain) {
                Ok(0) => {
                    inner.ended = true;
                    break;
                }
                Ok(n) => n,
                Err(_) => break,
            };
            flow = inner.speaks.feed(now, &plain[..n], out, &mut session);
            wipe(&mut plain[..n]);
            if flow.ends() {
                break;
            }
        }
        flow
    }

    /// The handshake is complete: finds out who the client is and which protocol it speaks; `false` if there are too
    /// many connections like it.
    fn establish(&self, inner: &mut Inner, now: Millis) -> bool {
        let Wire::Tls(tls) = &inner.wire else { return false };
        let metrics = &self.hub.api.metrics().net;
        match tls.handshake_kind() {
            Some(rustls::HandshakeKind::Resumed) => metrics.resumed_handshakes.add(),
            _ => metrics.full_handshakes.add(),
        }
        let peer = tls::identity::peer_of(tls.peer_certificates().unwrap_or(&[]));
        let _ = self.peer.set(peer);
        inner.counted = self.hub.admit(peer);
        if inner.counted.is_none() {
            self.log_handshake("too many connections of this client");
            return false;
        }
        let budget = self.hub.budget.clone();
        inner.speaks = match tls.alpn_protocol() {
            Some(b"h2") => {
                fault::point("connection", "h2");
                Speaks::H2(Box::new(H2::new(budget, now)))
            }
            _ => Speaks::H1(Box::new(H1::new(budget, now))),
        };
        inner.give_up = NEVER;
        true
    }
}

/// A buffer of all connections of a worker, lent to one of them. What is left in it at the end, be that an error or a
/// panic, is of no concern to the next one.
struct Lent<'a>(&'a mut Vec<u8>);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        wipe(self.0);
        self.0.clear();
    }
}

/// Whether the first bytes are a plain HTTP request instead of a TLS record.
fn is_plain_http(bytes: &[u8]) -> bool {
    [&b"GET /"[..], b"HEAD ", b"POST ", b"PUT /", b"OPTIO", b"DELET"]
        .iter()
        .any(|start| bytes.starts_with(start))
}
