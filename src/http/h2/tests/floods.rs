//! Peers that make work without getting anywhere.

use super::*;

/// Feeds what `bytes` makes for 0, 1, 2, ... until the server closes; returns how many times that took.
fn feed_until_closed(peer: &mut Peer, mut bytes: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for i in 0..20_000 {
        let sent = peer.feed(&bytes(i));
        if peer.flow == Flow::Close {
            assert!(
                matches!(sent.last(), Some(Sent::Goaway(_, code)) if *code == Code::EnhanceYourCalm as u8)
            );
            return i + 1;
        }
    }
    panic!("the flood was not noticed");
}

#[test]
fn rapid_reset_ends_the_connection() {
    let mut peer = Peer::new();
    let times = feed_until_closed(&mut peer, |i| [put(1 + 2 * i, "/"), rst(1 + 2 * i)].concat());
    assert_eq!(times, limits::MAX_RESETS + 1);
}

#[test]
fn rapid_reset_of_running_jobs_ends_the_connection() {
    let mut peer = Peer::new();
    let times = feed_until_closed(&mut peer, |i| [get(1 + 2 * i, "/later"), rst(1 + 2 * i)].concat());
    assert_eq!(times, limits::MAX_RESETS + 1);
    assert_eq!(peer.h2.orphans.len(), limits::MAX_RESETS as usize + 1);
}

#[test]
fn made_you_reset_ends_the_connection() {
    let mistakes: [fn(u32) -> Vec<u8>; 5] = [
        |id| window(id, 0),
        |id| window(id, i32::MAX as u32),
        |id| data(id, b"x", false),
        |id| frame(kind::PRIORITY, 0, id, &[0; 4]),
        |id| get(id, "/"),
    ];
    for mistake in mistakes {
        let mut peer = Peer::new();
        let times = feed_until_closed(&mut peer, |i| {
            let id = 1 + 2 * i;
            [get(id, "/later"), mistake(id)].concat()
        });
        assert_eq!(times, limits::MAX_RESETS + 1);
    }
}

#[test]
fn malformed_requests_without_end_end_the_connection() {
    let mut peer = Peer::new();
    let times = feed_until_closed(&mut peer, |i| get(1 + 2 * i, "no path"));
    assert_eq!(times, limits::MAX_RESETS + 1);
}

#[test]
fn resets_of_requests_that_waited_long_are_not_held_against_the_peer() {
    let mut peer = Peer::new();
    for i in 0..1000 {
        let id = 1 + 2 * i;
        peer.feed(&get(id, "/later"));
        peer.now += limits::RAPID + 1;
        assert_eq!(peer.feed(&rst(id)), []);
        peer.complete(id, reply(200, b"late"));
    }
    assert_eq!(peer.flow, Flow::Continue);
}

#[test]
fn some_resets_among_completed_requests_are_fine() {
    let mut peer = Peer::new();
    for i in 0..2000 {
        let id = 1 + 4 * i;
        assert_eq!(peer.feed(&[put(id, "/"), rst(id), get(id + 2, "/")].concat()), fine(id + 2));
    }
}

#[test]
fn a_continuation_flood_ends_the_connection() {
    let mut peer = Peer::new();
    peer.feed(&frame(kind::HEADERS, 0, 1, b""));
    let times = feed_until_closed(&mut peer, |_| frame(kind::CONTINUATION, 0, 1, b""));
    assert_eq!(times, limits::MAX_CONTINUATIONS + 1);
    let mut peer = Peer::new();
    peer.feed(&frame(kind::HEADERS, 0, 1, &[0; 16_000]));
    let times = feed_until_closed(&mut peer, |_| frame(kind::CONTINUATION, 0, 1, &[0; 16_000]));
    assert_eq!(times, 2, "by size");
}

#[test]
fn frames_that_further_no_request_end_the_connection() {
    let kinds: [(&str, Vec<u8>); 8] = [
        ("PING", frame(kind::PING, 0, 0, &[0; 8])),
        ("PING acknowledgements", frame(kind::PING, flag::ACK, 0, &[0; 8])),
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, b"")),
        ("PRIORITY", frame(kind::PRIORITY, 0, 3, &[0; 5])),
        ("WINDOW_UPDATE", window(0, 1)),
        ("WINDOW_UPDATE of a stream", window(1, 1)),
        ("empty DATA", data(1, b"", false)),
        ("unknown frames", frame(77, 0, 0, b"")),
    ];
    for (what, bytes) in kinds {
        let mut peer = Peer::new();
        peer.feed(&put(1, "/"));
        let times = feed_until_closed(&mut peer, |_| bytes.clone());
        assert!((limits::MAX_NOISE - 1..=limits::MAX_NOISE + 1).contains(&times), "{what}: {times}");
    }
}

#[test]
fn frames_of_closed_streams_are_counted_too() {
    for late in [data(1, b"x", false), rst(1), window(1, 1)] {
        let mut peer = Peer::new();
        peer.feed(&refused_upload(1, "/refuse"));
        assert!(feed_until_closed(&mut peer, |_| late.clone()) <= limits::MAX_NOISE + 1);
    }
}

#[test]
fn the_same_frames_over_a_long_time_or_among_requests_are_fine() {
    let mut peer = Peer::new();
    for _ in 0..20_000 {
        peer.now += 3;
        peer.feed(&frame(kind::PING, 0, 0, &[0; 8]));
    }
    assert_eq!(peer.flow, Flow::Continue);
    let mut peer = Peer::new();
    for i in 0..1000 {
        let pings = frame(kind::PING, 0, 0, &[0; 8]).repeat(50);
        peer.feed(&[get(1 + 2 * i, "/"), pings].concat());
    }
    assert_eq!(peer.flow, Flow::Continue);
}

#[test]
fn a_header_list_bomb_is_answered_431_and_costs_little() {
    let mut peer = Peer::new();
    let mut bomb = request_block("/", &[]);
    bomb.push(0x40);
    bomb.extend_from_slice(b"\x01a");
    bomb.extend_from_slice(&[0x7f, 0x80 | 0x21, 0x1e]);
    bomb.extend_from_slice(&[b'v'; 4000]);
    bomb.resize(16_000, 0xbe);
    let sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &bomb));
    assert!(matches!(&sent[0], Sent::Headers(1, fields, false) if fields[0].1 == "431"), "{sent:?}");
    assert_eq!(peer.script.admitted, 0);
    let kept: usize = peer.h2.head.fields().map(|(name, value)| name.len() + value.len()).sum();
    assert!(kept < limits::MAX_HEADER_LIST);
    assert_eq!(peer.feed(&get(3, "/")), fine(3));
}

#[test]
fn a_table_bigger_than_announced_ends_the_connection() {
    let mut peer = Peer::new();
    let block = [&[0x3f, 0xe2, 0x1f][..], &request_block("/", &[])].concat();
    let sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block));
    assert_eq!(sent, [goaway(1, Code::Compression)]);
}
