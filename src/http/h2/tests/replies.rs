//! The sending side: windows, order, bounds.

use super::*;

/// The lengths of the DATA frames of `stream`.
fn lengths(sent: &[Sent], stream: u32) -> Vec<usize> {
    let data = |frame: &Sent| match frame {
        Sent::Data(id, bytes, _) if *id == stream => Some(bytes.len()),
        _ => None,
    };
    sent.iter().filter_map(data).collect()
}

#[test]
fn a_large_reply_waits_for_the_window() {
    let mut peer = Peer::new();
    let sent = peer.feed(&get(1, "/big"));
    assert_eq!(sent[0], headers(1, "200", BIG, false));
    assert_eq!(lengths(&sent, 1), [16_384, 16_384, 16_384, 16_383]);
    assert_eq!(peer.feed(&window(1, 1 << 20)), [], "the connection has no window");
    assert_eq!(lengths(&peer.feed(&window(0, 1000)), 1), [1000]);
    let sent = peer.feed(&window(0, 1 << 20));
    assert_eq!(lengths(&sent, 1).iter().sum::<usize>(), BIG - 66_535);
    assert!(matches!(sent.last(), Some(Sent::Data(1, _, true))));
    assert!(peer.h2.streams.is_empty());
}

#[test]
fn an_empty_reply_is_an_empty_frame_that_waits_for_an_open_window() {
    let mut peer = Peer::new();
    peer.feed(&settings(4, 0));
    peer.feed(&get(1, "/later"));
    let fields = [(":status", "204"), ("content-length", "0")].map(|(n, v)| (n.to_string(), v.to_string()));
    assert_eq!(peer.complete(1, Reply::empty(204)), [Sent::Headers(1, fields.to_vec(), false)]);
    assert_eq!(peer.feed(&window(1, 1)), [Sent::Data(1, vec![], true)]);
}

#[test]
fn a_reply_to_head_has_a_length_and_no_body() {
    let fields = [(":method", "HEAD"), (":scheme", "https"), (":path", "/")];
    let request = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&fields));
    assert_eq!(Peer::new().feed(&request), [headers(1, "200", 4, true)]);
}

#[test]
fn a_smaller_initial_window_applies_to_open_streams() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/big"));
    peer.feed(&window(0, 1 << 20));
    assert_eq!(peer.feed(&settings(4, 0)), [Sent::SettingsAck]);
    assert_eq!(peer.h2.streams[0].window, -65_535);
    assert_eq!(peer.feed(&window(1, 65_535)), []);
    assert_eq!(lengths(&peer.feed(&window(1, 10)), 1), [10]);
    let sent = peer.feed(&settings(4, 5));
    assert_eq!((sent[0].clone(), lengths(&sent, 1)), (Sent::SettingsAck, vec![5]));
    let sent = peer.feed(&get(3, "/"));
    assert_eq!(sent.len(), 2, "five bytes are enough for a short reply");
}

#[test]
fn an_initial_window_that_overflows_a_stream_ends_the_connection() {
    let mut peer = Peer::new();
    peer.feed(&[get(1, "/later"), window(1, i32::MAX as u32 - 65_535)].concat());
    assert_eq!(peer.feed(&settings(4, 65_536)), [goaway(1, Code::FlowControl)]);
}

#[test]
fn an_early_answer_behind_a_window_is_reset_after_its_end() {
    let mut peer = Peer::new();
    peer.feed(&refused_upload(1, "/refuse-big"));
    let more = peer.feed(&data(1, &[0; 16_000], false));
    assert!(more.iter().all(|sent| matches!(sent, Sent::Window(0, _))), "{more:?}");
    peer.feed(&window(1, 1 << 20));
    let sent = peer.feed(&window(0, 1 << 20));
    assert!(matches!(sent[sent.len() - 2], Sent::Data(1, _, true)));
    assert_eq!(sent[sent.len() - 1], reset(1, Code::No));
}

#[test]
fn a_body_that_ends_before_the_answer_leaves_nothing_to_reset() {
    let mut peer = Peer::new();
    peer.feed(&refused_upload(1, "/refuse-big"));
    peer.feed(&data(1, b"the end", true));
    peer.feed(&window(1, 1 << 20));
    let sent = peer.feed(&window(0, 1 << 20));
    assert!(matches!(sent.last(), Some(Sent::Data(1, _, true))));
}

#[test]
fn a_smaller_table_is_announced_once() {
    let mut out = Vec::new();
    let mut h2 = H2::new(Budget::new(0), 0);
    let mut script = Script::default();
    h2.feed(0, &[opening(), settings(1, 100)].concat(), &mut out, &mut script);
    out.clear();
    h2.feed(0, &get(1, "/"), &mut out, &mut script);
    assert_eq!(out[9..11], [0x20, 0x88]);
    out.clear();
    h2.feed(0, &get(3, "/"), &mut out, &mut script);
    assert_eq!(out[9], 0x88);
}

#[test]
fn replies_that_nobody_takes_are_bounded() {
    let mut peer = Peer::new();
    peer.feed(&settings(4, 0));
    let mut resets = 0;
    for i in 0..100 {
        let sent = peer.feed(&get(1 + 2 * i, "/big"));
        resets += sent.iter().filter(|&frame| *frame == reset(1 + 2 * i, Code::EnhanceYourCalm)).count();
        assert!(peer.h2.unsent() <= limits::MAX_QUEUED + BIG);
    }
    assert!((70..90).contains(&resets), "{resets}");
    assert_eq!(peer.h2.unsent(), (100 - resets) * (BIG + "/there/".len()));
}

#[test]
fn output_that_is_not_written_holds_up_further_replies() {
    let mut peer = Peer::new();
    peer.feed(&[settings(4, i32::MAX as u32), window(0, i32::MAX as u32 - 65_535)].concat());
    let requests: Vec<u8> = (0..30).flat_map(|i| get(1 + 2 * i, "/big")).collect();
    let mut out = Vec::new();
    peer.h2.feed(0, &requests, &mut out, &mut peer.script);
    assert!(out.len() < limits::MAX_OUTPUT + BIG, "{}", out.len());
    assert_eq!(peer.deadline(), limits::OUTPUT_RETRY);
    let mut decoder = Decoder::new();
    let mut frames = read_frames(&out, &mut decoder);
    let mut now = 0;
    while !peer.h2.streams.is_empty() {
        now += limits::OUTPUT_RETRY;
        frames.extend(peer.expire(now));
        assert!(now < 1000);
    }
    for i in 0..30 {
        assert_eq!(lengths(&frames, 1 + 2 * i).iter().sum::<usize>(), BIG);
    }
}

#[test]
fn replies_set_free_at_once_are_held_up_too() {
    let mut peer = Peer::new();
    peer.feed(&[settings(4, 0), window(0, 1 << 30)].concat());
    (0..20).for_each(|i| drop(peer.feed(&get(1 + 2 * i, "/big"))));
    let mut out = Vec::new();
    peer.h2.feed(0, &settings(4, 1 << 20), &mut out, &mut peer.script);
    assert!(out.len() < limits::MAX_OUTPUT + limits::MAX_FRAME + 100, "{}", out.len());
    assert!(out.len() >= limits::MAX_OUTPUT);
    let rest = peer.expire(limits::OUTPUT_RETRY);
    assert!(matches!(rest.last(), Some(Sent::Data(39, _, true))));
}

#[test]
fn an_endless_extra_field_is_left_out() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/later"));
    let extra = Some(("location", "x".repeat(limits::MAX_EXTRA + 1)));
    let sent = peer.complete(1, Reply { extra, ..Reply::empty(200) });
    assert!(matches!(&sent[0], Sent::Headers(1, fields, false) if fields.len() == 2));
}
