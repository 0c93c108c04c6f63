//! Deadlines.

use super::*;

#[test]
fn a_request_that_takes_too_long_is_reset_at_its_deadline() {
    let mut peer = Peer::new();
    peer.now = 100;
    peer.feed(&[get(1, "/later"), put(3, "/")].concat());
    assert_eq!(peer.deadline(), 100 + TIMEOUT);
    assert_eq!(peer.expire(99 + TIMEOUT), []);
    assert_eq!(peer.expire(100 + TIMEOUT), [reset(1, Code::Internal), reset(3, Code::Internal)]);
    assert!(!peer.is_waiting(1));
    assert_eq!(peer.h2.orphans, [1], "only the job of the first runs on");
    assert_eq!(peer.complete(1, reply(200, b"late")), []);
    assert!(peer.h2.orphans.is_empty());
    assert_eq!(peer.feed(&data(3, b"late", true)), []);
    assert_eq!(peer.feed(&get(5, "/")), fine(5));
}

#[test]
fn an_answer_after_the_deadline_is_too_late_even_if_nobody_looked() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/later"));
    peer.now = TIMEOUT;
    assert_eq!(peer.complete(1, reply(200, b"late")), [reset(1, Code::Internal)]);
    assert!(peer.h2.orphans.is_empty());
}

#[test]
fn a_request_without_timeout_runs_as_long_as_it_likes() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/untimed"));
    assert_eq!(peer.deadline(), NEVER);
    assert_eq!(peer.expire(1 << 40), []);
    assert_eq!(peer.complete(1, reply(200, b"fine")), fine(1));
}

#[test]
fn a_body_without_timeout_must_still_come() {
    let mut peer = Peer::new();
    peer.feed(&put(1, "/untimed"));
    assert_eq!(peer.expire(limits::BODY_TIMEOUT), [reset(1, Code::Internal)]);
}

#[test]
fn a_reply_that_is_not_taken_ends_at_its_deadline() {
    let mut peer = Peer::new();
    peer.feed(&settings(4, 0));
    peer.now = 1000;
    assert_eq!(peer.feed(&get(1, "/")), [headers(1, "200", 4, false)]);
    assert_eq!(peer.deadline(), 1000 + TIMEOUT);
    assert_eq!(peer.expire(1000 + TIMEOUT), [reset(1, Code::Internal)]);
    assert!(peer.h2.streams.is_empty() && peer.h2.orphans.is_empty());
}

#[test]
fn a_preface_and_settings_must_come_in_time() {
    let late = [goaway(0, Code::SettingsTimeout)];
    for bytes in [&b""[..], b"PRI", frame::PREFACE, &opening()[..30]] {
        let mut peer = Peer::fresh(Budget::new(0));
        peer.feed(bytes);
        assert_eq!(peer.deadline(), limits::OPENING_TIMEOUT);
        assert_eq!(peer.expire(limits::OPENING_TIMEOUT - 1), []);
        assert_eq!((peer.expire(limits::OPENING_TIMEOUT), peer.flow), (late.to_vec(), Flow::Close));
    }
}

#[test]
fn a_header_block_must_come_in_time() {
    let late = |stream| vec![goaway(stream, Code::EnhanceYourCalm)];
    let mut peer = Peer::new();
    peer.feed(&frame(kind::HEADERS, 0, 1, b""));
    peer.now = 3000;
    peer.feed(&frame(kind::CONTINUATION, 0, 1, b""));
    assert_eq!(peer.deadline(), limits::HEAD_TIMEOUT, "a further frame gives no further time");
    assert_eq!(peer.expire(limits::HEAD_TIMEOUT), late(0));
    let mut peer = Peer::new();
    let request = get(1, "/");
    peer.feed(&request[..4]);
    peer.now = 3000;
    peer.feed(&request[4..20]);
    assert_eq!(peer.deadline(), limits::HEAD_TIMEOUT);
    assert_eq!((peer.expire(limits::HEAD_TIMEOUT), peer.flow), (late(0), Flow::Close));
}

#[test]
fn a_cut_data_frame_has_the_deadline_of_its_request() {
    let mut peer = Peer::new();
    peer.feed(&[put(1, "/"), data(1, b"abc", true)[..10].to_vec()].concat());
    assert_eq!(peer.deadline(), TIMEOUT);
    peer.now = TIMEOUT - 1;
    assert_eq!(peer.feed(&data(1, b"abc", true)[10..]), fine(1));
}

#[test]
fn an_idle_connection_is_closed() {
    let mut peer = Peer::new();
    peer.now = 1000;
    peer.feed(&get(1, "/"));
    peer.now = 60_000;
    peer.feed(&frame(kind::PING, 0, 0, &[0; 8]));
    assert_eq!(peer.expire(1000 + limits::IDLE_TIMEOUT - 1), []);
    assert_eq!(peer.deadline(), 1000 + limits::IDLE_TIMEOUT, "a ping is no request");
    assert_eq!(peer.expire(1000 + limits::IDLE_TIMEOUT), [goaway(1, Code::No)]);
    assert_eq!(peer.flow, Flow::Close);
}

#[test]
fn a_connection_with_an_open_stream_is_not_idle() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/untimed"));
    assert_eq!((peer.expire(1 << 30), peer.flow), (vec![], Flow::Continue));
}

#[test]
fn being_called_early_is_harmless() {
    let mut peer = Peer::new();
    peer.feed(&[get(1, "/later"), put(3, "/")].concat());
    for now in 1..1000 {
        assert_eq!(peer.expire(now), []);
    }
    assert_eq!(peer.feed(&data(3, b"", true)), fine(3));
}
