//! What the targets share: a service that answers everything, some of it late, and a way to cut the input into pieces.

use kes::{
    crypto::SecretBytes,
    http::{Admit, Body, Head, Protocol, Reply, Service},
};

/// Answers with the body; paths that begin with `/l` are answered late, those with `/r` are refused.
#[derive(Default)]
pub struct Echo {
    /// Streams that wait for an answer.
    pub late: Vec<u32>,
}

impl Service for Echo {
    type Ticket = ();

    fn admit(&mut self, head: &Head) -> Admit<()> {
        match head.target() {
            [b'/', b'r', ..] => Admit::Refuse(Reply::empty(403)),
            [b'/', b'n', ..] => Admit::Accept { ticket: (), body_limit: 0, timeout: 1_000 },
            _ => Admit::Accept { ticket: (), body_limit: 1_000, timeout: 1_000 },
        }
    }

    fn serve(&mut self, stream: u32, (): (), head: &Head, body: &mut Body) -> Option<Reply> {
        if head.target().starts_with(b"/l") {
            self.late.push(stream);
            return None;
        }
        Some(Reply { body: SecretBytes::from(body.bytes.to_vec()), ..Reply::empty(200) })
    }
}

/// Feeds `input` in pieces whose lengths are in it, with time going on and late answers coming.
pub fn drive(mut connection: impl Protocol<Echo>, mut input: &[u8]) {
    let (mut service, mut out, mut now) = (Echo::default(), Vec::new(), 0);
    while let Some((&length, rest)) = input.split_first() {
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        now += u64::from(length) * 10;
        let mut flow = connection.feed(now, piece, &mut out, &mut service);
        if length % 3 == 0 {
            for stream in std::mem::take(&mut service.late) {
                flow = connection.complete(now, stream, Reply::empty(200), &mut out, &mut service);
            }
        }
        if now >= connection.deadline() {
            flow = connection.expire(now, &mut out);
        }
        out.clear();
        if flow.ends() {
            return;
        }
    }
    connection.shutdown(now, &mut out);
}
