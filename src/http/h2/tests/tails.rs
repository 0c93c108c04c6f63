//! Replies that go on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::http::MAX_TAIL;

/// Notes that it was dropped.
struct Tail(Arc<AtomicBool>);

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection with a reply that goes on, on stream 1, and whether its maker has learned of its end.
fn streaming(path: &str) -> (Peer, Arc<AtomicBool>) {
    let mut peer = Peer::new();
    peer.feed(&get(1, path));
    let ended = Arc::new(AtomicBool::new(false));
    let tail: crate::http::Tail = Box::new(Tail(Arc::clone(&ended)));
    let sent = peer.complete(1, Reply { tail: Some(tail), ..Reply::empty(200) });
    assert_eq!(sent, [Sent::Headers(1, vec![(":status".into(), "200".into())], false)]);
    (peer, ended)
}

fn append(peer: &mut Peer, bytes: &[u8]) -> (bool, Vec<Sent>) {
    let mut out = Vec::new();
    let is_kept = Protocol::<Script>::append(&mut peer.h2, peer.now, 1, bytes, &mut out);
    peer.h2.check();
    (is_kept, read_frames(&out, &mut Decoder::new()))
}

#[test]
fn each_piece_is_sent_at_once() {
    let (mut peer, _) = streaming("/untimed");
    for piece in [&b"one\n"[..], b"two\n"] {
        assert_eq!(append(&mut peer, piece), (true, vec![Sent::Data(1, piece.to_vec(), false)]));
    }
    let far = 100 * limits::IDLE_TIMEOUT;
    assert!(peer.deadline() > far);
    assert_eq!(peer.expire(far), []);
    assert_eq!(append(&mut peer, b"late\n").1, [Sent::Data(1, b"late\n".to_vec(), false)]);
}

#[test]
fn it_ends_at_its_deadline() {
    let (mut peer, ended) = streaming("/later");
    assert_eq!(peer.expire(TIMEOUT), [reset(1, Code::Internal)]);
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(append(&mut peer, b"nobody is there to lose it"), (true, vec![]));
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let (mut peer, ended) = streaming("/untimed");
    peer.feed(&rst(1));
    assert!(ended.load(Ordering::Relaxed) && peer.h2.streams.is_empty());
}

#[test]
fn a_shutdown_ends_it_in_order() {
    let (mut peer, ended) = streaming("/untimed");
    append(&mut peer, b"one\n");
    assert_eq!(peer.shutdown(), [goaway(1, Code::No), Sent::Data(1, vec![], true)]);
    assert!(peer.flow.ends() && ended.load(Ordering::Relaxed));
}

#[test]
fn what_a_slow_reader_does_not_take_is_lost_beyond_a_limit() {
    let (mut peer, _) = streaming("/untimed");
    let (mut kept, mut sent) = (0, 0);
    for _ in 0..1_000 {
        let (is_kept, frames) = append(&mut peer, &[b'x'; 1_000]);
        kept += usize::from(is_kept);
        sent += frames.len();
    }
    // The client's first window, and what waits behind it.
    assert!((130..140).contains(&kept), "{kept}");
    assert!(sent < 70, "{sent}");
    let frames = peer.feed(&[window(0, 1 << 20), window(1, 1 << 20)].concat());
    let bytes: usize =
        frames.iter().map(|frame| if let Sent::Data(_, bytes, _) = frame { bytes.len() } else { 0 }).sum();
    assert!((MAX_TAIL..MAX_TAIL + 2_000).contains(&bytes), "{bytes}");
    assert!(append(&mut peer, b"again").0);
    assert_eq!(peer.feed(&get(3, "/")).len(), 2, "other streams go on");
}
