//! Requests, their rules, and errors.

use super::*;

#[test]
fn the_server_sends_its_settings_first_and_acknowledges_the_clients() {
    let mut out = Vec::new();
    let mut h2 = H2::new(Budget::new(0), 0);
    assert_eq!(h2.feed(0, b"", &mut out, &mut Script::default()), Flow::Continue);
    assert_eq!(
        out,
        [&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 250][..], &[0, 4, 0, 0, 255, 255, 0, 6, 0, 0, 64, 0]]
            .concat()
    );
    out.clear();
    h2.feed(0, &opening(), &mut out, &mut Script::default());
    assert_eq!(out, [0, 0, 0, 4, 1, 0, 0, 0, 0]);
}

#[test]
fn a_request_becomes_a_head() {
    let mut peer = Peer::new();
    let block = request_block("/v1/x?a=b", &[("user-agent", "Go"), ("x-y", "a\tb"), ("te", "trailers")]);
    let sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block));
    assert_eq!(sent, fine(1));
    let fields = [("host", "kes:7373"), ("user-agent", "Go"), ("x-y", "a\tb"), ("te", "trailers")];
    let expected = Served {
        stream: 1,
        method: "PUT".into(),
        target: "/v1/x?a=b".into(),
        fields: fields.map(|(n, v)| (n.to_string(), v.to_string())).to_vec(),
        body: vec![],
        overflow: false,
        announced: false,
    };
    assert_eq!(peer.script.served, [expected]);
}

#[test]
fn every_reply_has_a_date() {
    let mut out = Vec::new();
    let mut h2 = H2::new(Budget::new(0), 0);
    h2.feed(0, &[opening(), get(1, "/")].concat(), &mut out, &mut Script::default());
    assert_eq!(out.windows(5).filter(|part| part == b" GMT\x0f").count(), 1);
}

#[test]
fn replies_of_many_streams_come_out_of_one_feed() {
    let mut peer = Peer::new();
    let requests: Vec<u8> = (0..200).flat_map(|i| get(1 + 2 * i, "/")).collect();
    let expected: Vec<Sent> = (0..200).flat_map(|i| fine(1 + 2 * i)).collect();
    assert_eq!(peer.feed(&requests), expected);
}

#[test]
fn a_body_of_several_frames_is_gathered() {
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&[put(1, "/"), data(1, b"ab", false), data(1, b"cd", false)].concat()), []);
    assert_eq!(peer.feed(&data(1, b"ef", true)), fine(1));
    assert_eq!(peer.script.served[0].body, b"abcdef");
    assert!(peer.script.served[0].announced && !peer.script.served[0].overflow);
}

#[test]
fn padding_is_not_part_of_a_body_but_of_a_window() {
    let mut peer = Peer::new();
    let before = peer.h2.credit.open;
    let sent = peer.feed(&[put(1, "/"), frame(kind::DATA, flag::PADDED, 1, b"\x03abc\0\0\0")].concat());
    assert_eq!((sent, peer.h2.credit.open), (vec![], before - 7));
    let padded = frame(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x02d\0\0");
    assert_eq!(peer.feed(&padded), fine(1));
    assert_eq!(peer.script.served[0].body, b"abcd");
    let head = [&[4][..], &request_block("/", &[]), &[0; 4]].concat();
    let flags = flag::PADDED | flag::END_HEADERS | flag::END_STREAM;
    assert_eq!(peer.feed(&frame(kind::HEADERS, flags, 3, &head)), fine(3));
}

#[test]
fn trailers_are_accepted_and_ignored() {
    let mut peer = Peer::new();
    peer.feed(&[put(1, "/"), data(1, b"abc", false)].concat());
    let trailers = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[("x-sum", "1")]));
    assert_eq!(peer.feed(&trailers), fine(1));
    assert_eq!((&peer.script.served[0].body[..], peer.script.served[0].fields.len()), (&b"abc"[..], 1));
}

#[test]
fn a_header_block_may_come_in_pieces() {
    let mut peer = Peer::new();
    let block = request_block("/pieces", &[("a", "b")]);
    let (first, rest) = block.split_at(5);
    let (second, third) = rest.split_at(1);
    let frames = [
        frame(kind::HEADERS, flag::END_STREAM, 1, first),
        frame(kind::CONTINUATION, 0, 1, second),
        frame(kind::CONTINUATION, flag::END_HEADERS, 1, third),
    ];
    assert_eq!(peer.feed(&frames.concat()), fine(1));
    assert_eq!(peer.script.served[0].target, "/pieces");
}

#[test]
fn an_early_answer_is_headers_data_and_reset_without_error() {
    let mut peer = Peer::new();
    let [head, body] = answer(1, "413", "too much");
    assert_eq!(peer.feed(&put(1, "/refuse")), [], "a small body is let come");
    assert_eq!(peer.feed(&data(1, &[0; 16_000], false)), []);
    assert_eq!(peer.feed(&data(1, &[0; 1_000], false)), [head, body, reset(1, Code::No)]);
    let late = [data(1, &[0; 9000], false), window(1, 5), data(1, b"end", false)].concat();
    assert_eq!(peer.feed(&late), [], "late frames of the stream are ignored");
    let trailers = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block(&[("x", "y")]));
    assert_eq!(peer.feed(&trailers), []);
    assert_eq!(peer.feed(&get(3, "/")), fine(3));
}

#[test]
fn a_refused_request_is_answered_when_its_body_has_come_or_its_time_is_over() {
    let mut peer = Peer::new();
    peer.feed(&put(1, "/refuse"));
    assert_eq!(peer.feed(&data(1, b"small", true)), answer(1, "413", "too much"));
    peer.feed(&put(3, "/refuse"));
    assert_eq!(peer.expire(limits::BODY_TIMEOUT), [reset(3, Code::Internal)]);
}

#[test]
fn a_refused_request_without_a_body_is_not_reset() {
    assert_eq!(Peer::new().feed(&get(1, "/refuse")), answer(1, "413", "too much"));
}

#[test]
fn a_body_that_is_too_long_is_served_at_once_and_stopped() {
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&[put(1, "/small"), data(1, b"12345678", false)].concat()), []);
    let [head, body] = fine(1);
    assert_eq!(peer.feed(&data(1, b"90a", false)), [head, body, reset(1, Code::No)]);
    assert_eq!((&peer.script.served[0].body[..], peer.script.served[0].overflow), (&b"1234567890"[..], true));
    assert_eq!(peer.feed(&[put(3, "/small"), data(3, b"1234567890", true)].concat()), fine(3));
    assert!(!peer.script.served[1].overflow);
}

#[test]
fn an_unwanted_body_is_thrown_away() {
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&[put(1, "/drop"), data(1, b"abc", false)].concat()), []);
    assert_eq!(peer.feed(&data(1, b"def", true)), fine(1));
    assert!(peer.script.served[0].body.is_empty() && !peer.script.served[0].overflow);
}

#[test]
fn an_unwanted_body_of_more_than_256_kib_is_not_waited_for() {
    let mut peer = Peer::new();
    peer.feed(&put(1, "/drop"));
    for _ in 0..limits::DISCARD_LIMIT / 8192 {
        let sent = peer.feed(&data(1, &[0; 8192], false));
        assert!(sent.iter().all(|frame| matches!(frame, Sent::Window(..))), "{sent:?}");
    }
    let sent = peer.feed(&data(1, b"x", false));
    let [head, body] = fine(1);
    assert_eq!(sent, [head, body, reset(1, Code::No)]);
    assert!(peer.script.served[0].body.is_empty());
}

#[test]
fn a_content_length_must_be_true() {
    let length = |stream, length, flags| {
        let block = request_block("/", &[("content-length", length)]);
        frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &block)
    };
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&[length(1, "3", 0), data(1, b"abc", true)].concat()), fine(1));
    assert_eq!(peer.feed(&length(3, "0", flag::END_STREAM)), fine(3));
    let bad = [reset(5, Code::Protocol)];
    assert_eq!(peer.feed(&[length(5, "3", 0), data(5, b"ab", true)].concat()), bad, "too short");
    let bad = [reset(7, Code::Protocol)];
    assert_eq!(peer.feed(&[length(7, "3", 0), data(7, b"abcd", false)].concat()), bad, "too long");
    let bad = [reset(9, Code::Protocol)];
    assert_eq!(peer.feed(&length(9, "3", flag::END_STREAM)), bad, "no body");
    for (stream, value) in [(11, "+3"), (13, ""), (15, "3,3"), (17, "99999999999999999999"), (19, "0x3")] {
        assert_eq!(peer.feed(&length(stream, value, 0)), [reset(stream, Code::Protocol)], "{value}");
    }
    let twice = request_block("/", &[("content-length", "3"), ("content-length", "3")]);
    let twice = frame(kind::HEADERS, flag::END_HEADERS, 21, &twice);
    assert_eq!(peer.feed(&[twice, data(21, b"abc", true)].concat()), fine(21));
    let other = request_block("/", &[("content-length", "3"), ("content-length", "4")]);
    let other = frame(kind::HEADERS, flag::END_HEADERS, 23, &other);
    assert_eq!(peer.feed(&other), [reset(23, Code::Protocol)]);
    assert_eq!(peer.script.served.len(), 3);
}

#[test]
fn malformed_heads_reset_their_stream() {
    let start = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| [&start[..], more].concat();
    let target = |method, path| vec![(":method", method), (":scheme", "https"), (":path", path)];
    let bad = [
        with(&[("Upper", "x")]),
        with(&[("", "x")]),
        with(&[("a b", "x")]),
        with(&[("a:b", "x")]),
        with(&[("a", " x")]),
        with(&[("a", "x\t")]),
        with(&[("a", "x\ry")]),
        with(&[("a", "x\ny")]),
        with(&[("a", "x\0y")]),
        with(&[("connection", "close")]),
        with(&[("proxy-connection", "close")]),
        with(&[("keep-alive", "1")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[(":method", "GET")]),
        with(&[(":scheme", "https")]),
        with(&[(":path", "/")]),
        with(&[(":status", "200")]),
        with(&[(":authority", "a"), (":authority", "a")]),
        with(&[(":authority", "u@a")]),
        with(&[(":authority", "a"), ("host", "b")]),
        with(&[("host", "b"), ("host", "b")]),
        with(&[("a", "b"), (":authority", "a")]),
        start[1..].to_vec(),
        vec![start[0], start[2]],
        start[..2].to_vec(),
        target("GET", ""),
        target("GET", "v1"),
        target("GET", "*"),
        target("GET", "/a b"),
        target("GET", "/%zz"),
        target("GET", "/%4"),
        target("GET", "/%"),
        target("GET", "/\u{e4}"),
        target("GET", "https://kes/v1"),
        target("GE T", "/"),
        target("", "/"),
        vec![(":method", "CONNECT"), (":scheme", "https"), (":authority", "a:1")],
        vec![(":method", "CONNECT")],
    ];
    let mut peer = Peer::new();
    for (i, fields) in bad.iter().enumerate() {
        let id = 1 + 2 * i as u32;
        let sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, &block(fields)));
        assert_eq!(sent, [reset(id, Code::Protocol)], "{fields:?}");
    }
    assert_eq!(peer.script.admitted, 0);
}

#[test]
fn unusual_but_good_heads_are_served() {
    type Case = (&'static [(&'static str, &'static str)], &'static str, &'static str);
    let good: [Case; 6] = [
        (&[(":method", "OPTIONS"), (":scheme", "https"), (":path", "*")], "OPTIONS", "*"),
        (&[(":method", "CONNECT"), (":authority", "a:1")], "CONNECT", "a:1"),
        (&[(":path", "/%2F"), (":method", "GET"), (":scheme", "http")], "GET", "/%2F"),
        (&[(":method", "GET"), (":scheme", "https"), (":path", "/a?%zz")], "GET", "/a?%zz"),
        (&[(":method", "M-X"), (":scheme", "https"), (":path", "//a/../b")], "M-X", "//a/../b"),
        (
            &[(":method", "GET"), (":scheme", "https"), (":authority", "A"), (":path", "/"), ("host", "a")],
            "GET",
            "/",
        ),
    ];
    let mut peer = Peer::new();
    for (i, (fields, method, target)) in good.iter().enumerate() {
        let id = 1 + 2 * i as u32;
        let sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, &block(fields)));
        assert_eq!(sent, fine(id), "{fields:?}");
        let served = peer.script.served.last().unwrap();
        assert_eq!((&served.method[..], &served.target[..]), (*method, *target));
        assert!(served.fields.len() <= 1);
    }
}

#[test]
fn too_large_heads_are_answered_431_and_414() {
    let mut peer = Peer::new();
    let status = |sent: &[Sent]| match &sent[0] {
        Sent::Headers(_, fields, false) => fields[0].1.clone(),
        other => panic!("{other:?}"),
    };
    let long = "x".repeat(limits::MAX_TARGET);
    assert_eq!(status(&peer.feed(&get(1, &format!("/{long}")))), "414");
    assert_eq!(peer.feed(&get(3, &long.replacen('x', "/", 1))), fine(3));
    let many = vec![("a", "b"); limits::MAX_FIELDS - 3];
    let many = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 5, &request_block("/", &many));
    assert_eq!(status(&peer.feed(&many)), "431");
    let few = vec![("a", "b"); limits::MAX_FIELDS - 4];
    let few = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 7, &request_block("/", &few));
    assert_eq!(peer.feed(&few), fine(7));
    let value = "v".repeat(12_000);
    let fields = [("a", &value[..]), ("b", &value[..4200])];
    let wide = request_block("/", &fields);
    let (first, second) = wide.split_at(9000);
    let wide = [
        frame(kind::HEADERS, flag::END_STREAM, 9, first),
        frame(kind::CONTINUATION, flag::END_HEADERS, 9, second),
    ];
    assert_eq!(status(&peer.feed(&wide.concat())), "431");
    assert_eq!(peer.feed(&get(11, "/")), fine(11), "the connection goes on");
    assert_eq!(peer.script.admitted, 3);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let mut peer = Peer::new();
    for i in 0..MAX_STREAMS as u32 {
        assert_eq!(peer.feed(&get(1 + 2 * i, "/later")), []);
    }
    let next = 1 + 2 * MAX_STREAMS as u32;
    assert_eq!(peer.feed(&get(next, "/later")), [reset(next, Code::RefusedStream)]);
    assert_eq!(peer.complete(1, reply(200, b"fine")), fine(1));
    assert_eq!(peer.feed(&get(next + 2, "/")), fine(next + 2));
}

#[test]
fn jobs_of_reset_streams_count_until_they_are_complete() {
    let mut peer = Peer::new();
    for i in 0..MAX_STREAMS as u32 {
        peer.now += 100;
        let id = 1 + 2 * i;
        assert_eq!(peer.feed(&[get(id, "/later"), rst(id)].concat()), []);
        assert!(!peer.is_waiting(id));
    }
    let next = 1 + 2 * MAX_STREAMS as u32;
    assert_eq!(peer.feed(&get(next, "/")), [reset(next, Code::RefusedStream)]);
    assert_eq!(peer.complete(7, reply(200, b"late")), [], "nobody waits for it");
    assert_eq!(peer.feed(&get(next + 2, "/")), fine(next + 2));
    assert_eq!(peer.complete(7, reply(200, b"again")), []);
}

#[test]
fn a_later_answer_is_sent_when_it_is_there() {
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&[get(1, "/later"), get(3, "/later"), get(5, "/")].concat()), fine(5));
    assert!(peer.is_waiting(1) && peer.is_waiting(3) && !peer.is_waiting(5));
    assert_eq!(peer.complete(3, reply(200, b"fine")), fine(3));
    assert!(!peer.is_waiting(3));
    assert_eq!(peer.complete(1, reply(404, b"no")), answer(1, "404", "no"));
    assert_eq!(peer.complete(9, reply(200, b"never asked")), []);
}

#[test]
fn broken_rules_end_the_connection() {
    let too_long = frame(kind::DATA, 0, 1, &[0; 16_384]);
    let too_long = [&[0, 64, 1][..], &too_long[3..], &[0]].concat();
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("DATA on stream 0", data(0, b"x", false), Code::Protocol),
        ("DATA on an idle stream", data(9, b"x", false), Code::Protocol),
        ("DATA all padding", [put(1, "/"), frame(0, flag::PADDED, 1, b"\x01")].concat(), Code::Protocol),
        ("HEADERS on stream 0", get(0, "/"), Code::Protocol),
        ("HEADERS on an even stream", get(2, "/"), Code::Protocol),
        ("HEADERS on a closed stream", [get(1, "/"), get(1, "/")].concat(), Code::StreamClosed),
        ("HEADERS on an older stream", [get(5, "/"), get(3, "/")].concat(), Code::StreamClosed),
        ("HEADERS too short for a priority", frame(1, 0x24, 1, b"\0\0"), Code::FrameSize),
        ("HEADERS with a bad block", frame(1, 4, 1, b"\x80"), Code::Compression),
        ("CONTINUATION alone", frame(9, 4, 1, b""), Code::Protocol),
        ("a frame inside a block", [frame(1, 0, 1, b""), frame(6, 0, 0, &[0; 8])].concat(), Code::Protocol),
        (
            "another stream inside a block",
            [frame(1, 0, 1, b""), frame(9, 4, 3, b"")].concat(),
            Code::Protocol,
        ),
        ("PRIORITY on stream 0", frame(2, 0, 0, &[0; 5]), Code::Protocol),
        ("RST_STREAM of 3 bytes", [get(1, "/later"), frame(3, 0, 1, &[0; 3])].concat(), Code::FrameSize),
        ("RST_STREAM on an idle stream", rst(1), Code::Protocol),
        ("RST_STREAM on stream 0", rst(0), Code::Protocol),
        ("SETTINGS of 5 bytes", frame(4, 0, 0, &[0; 5]), Code::FrameSize),
        ("SETTINGS on a stream", frame(4, 0, 1, b""), Code::Protocol),
        ("an acknowledgement with content", frame(4, 1, 0, &[0; 6]), Code::FrameSize),
        ("ENABLE_PUSH of 2", settings(2, 2), Code::Protocol),
        ("a window of 2^31", settings(4, 1 << 31), Code::FlowControl),
        ("frames of 16383", settings(5, 16_383), Code::Protocol),
        ("frames of 2^24", settings(5, 1 << 24), Code::Protocol),
        ("PUSH_PROMISE", frame(5, 4, 1, &[0; 8]), Code::Protocol),
        ("PING of 7 bytes", frame(6, 0, 0, &[0; 7]), Code::FrameSize),
        ("PING on a stream", frame(6, 0, 1, &[0; 8]), Code::Protocol),
        ("GOAWAY on a stream", frame(7, 0, 1, &[0; 8]), Code::Protocol),
        ("GOAWAY of 7 bytes", frame(7, 0, 0, &[0; 7]), Code::FrameSize),
        ("WINDOW_UPDATE of 0", window(0, 0), Code::Protocol),
        ("WINDOW_UPDATE of 5 bytes", frame(8, 0, 0, &[0; 5]), Code::FrameSize),
        ("WINDOW_UPDATE on an idle stream", window(1, 1), Code::Protocol),
        ("a window above 2^31 - 1", window(0, i32::MAX as u32), Code::FlowControl),
        ("a frame too long", [put(1, "/"), too_long].concat(), Code::FrameSize),
    ];
    for (what, bytes, code) in cases {
        let mut peer = Peer::new();
        let sent = peer.feed(&bytes);
        assert!(matches!(sent.last(), Some(Sent::Goaway(_, c)) if *c == code as u8), "{what}: {sent:?}");
        assert_eq!(peer.flow, Flow::Close, "{what}");
        assert_eq!(peer.feed(&get(11, "/")), [], "{what}");
        assert_eq!((peer.flow, peer.deadline()), (Flow::Close, NEVER), "{what}");
    }
}

#[test]
fn broken_rules_of_one_stream_reset_it() {
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("DATA after the end", [get(1, "/later"), data(1, b"x", false)].concat(), Code::StreamClosed),
        ("DATA on a closed stream", [get(1, "/drop"), data(1, b"x", false)].concat(), Code::StreamClosed),
        ("HEADERS after the end", [get(1, "/later"), get(1, "/")].concat(), Code::StreamClosed),
        ("HEADERS that do not end", [put(1, "/"), put(1, "/")].concat(), Code::Protocol),
        ("a window of 0", [get(1, "/later"), window(1, 0)].concat(), Code::Protocol),
        ("a window too large", [get(1, "/later"), window(1, i32::MAX as u32)].concat(), Code::FlowControl),
        ("PRIORITY of 4 bytes", [get(1, "/later"), frame(2, 0, 1, &[0; 4])].concat(), Code::FrameSize),
        ("PRIORITY on itself", [get(1, "/later"), frame(2, 0, 1, &[0, 0, 0, 1, 0])].concat(), Code::Protocol),
    ];
    for (what, bytes, code) in cases {
        let mut peer = Peer::new();
        let sent = peer.feed(&bytes);
        assert_eq!(sent.last(), Some(&reset(1, code)), "{what}");
        assert_eq!(peer.flow, Flow::Continue, "{what}");
        assert_eq!(peer.feed(&data(1, b"late", false)), [], "{what}");
        assert_eq!(peer.feed(&get(3, "/")), fine(3), "{what}");
    }
}

#[test]
fn the_first_frame_must_be_settings_after_the_preface() {
    let goaway = goaway(0, Code::Protocol);
    for bytes in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        [frame::PREFACE, &frame(kind::PING, 0, 0, &[0; 8])].concat(),
        [frame::PREFACE, &frame(kind::SETTINGS, flag::ACK, 0, b"")].concat(),
        [frame::PREFACE, &get(1, "/")].concat(),
    ] {
        let mut peer = Peer::fresh(Budget::new(0));
        assert_eq!(peer.feed(&bytes), [Sent::Settings, goaway.clone()]);
        assert_eq!(peer.flow, Flow::Close);
    }
}

#[test]
fn frames_that_mean_nothing_are_ignored() {
    let mut peer = Peer::new();
    let bytes = [
        frame(200, 255, 77, b"unknown"),
        frame(kind::PRIORITY, 0, 99, &[0, 0, 0, 1, 7]),
        frame(kind::SETTINGS, flag::ACK, 0, b""),
        frame(kind::PING, flag::ACK, 0, &[0; 8]),
        get(1, "/"),
        window(1, 1),
        rst(1),
    ];
    assert_eq!(peer.feed(&bytes.concat()), fine(1));
    assert_eq!(peer.feed(&frame(kind::PING, 0, 0, b"12345678")), [Sent::PingAck]);
    assert_eq!(peer.feed(&settings(99, 1)), [Sent::SettingsAck]);
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let mut peer = Peer::new();
    let expecting = |stream, path| {
        frame(kind::HEADERS, flag::END_HEADERS, stream, &request_block(path, &[("expect", "100-continue")]))
    };
    let go_on = Sent::Headers(1, vec![(":status".into(), "100".into())], false);
    assert_eq!(peer.feed(&expecting(1, "/")), [go_on]);
    assert_eq!(peer.feed(&data(1, b"x", true)), fine(1));
    let [head, body] = answer(3, "413", "too much");
    assert_eq!(peer.feed(&expecting(3, "/refuse")), [head, body, reset(3, Code::No)]);
    let answered = [fine(5).to_vec(), vec![reset(5, Code::No)]].concat();
    assert_eq!(peer.feed(&expecting(5, "/drop")), answered, "the body is not wanted");
}

#[test]
fn shutdown_finishes_what_runs_and_refuses_the_rest() {
    let mut peer = Peer::new();
    peer.feed(&[get(1, "/later"), put(3, "/")].concat());
    assert_eq!(peer.shutdown(), [goaway(3, Code::No)]);
    assert_eq!(peer.flow, Flow::Continue);
    assert_eq!(peer.shutdown(), [], "told once");
    assert_eq!(peer.feed(&put(5, "/")), [reset(5, Code::RefusedStream)]);
    assert_eq!(peer.feed(&data(5, b"abc", true)), []);
    assert_eq!(peer.feed(&data(3, b"abc", true)), fine(3));
    assert_eq!(peer.flow, Flow::Continue);
    assert_eq!(peer.complete(1, reply(200, b"fine")), fine(1));
    assert_eq!(peer.flow, Flow::Close);
}

#[test]
fn nothing_follows_the_last_stream_of_a_connection_that_ends() {
    let mut peer = Peer::new();
    peer.feed(&put(1, "/"));
    peer.shutdown();
    let ping = frame(kind::PING, 0, 0, &[0; 8]);
    assert_eq!(peer.feed(&[data(1, b"abc", true), ping].concat()), fine(1));
    assert_eq!(peer.flow, Flow::Close);
}

#[test]
fn shutdown_of_an_idle_connection_closes_it() {
    let mut peer = Peer::new();
    peer.feed(&get(1, "/"));
    assert_eq!((peer.shutdown(), peer.flow), (vec![goaway(1, Code::No)], Flow::Close));
    let mut peer = Peer::fresh(Budget::new(0));
    assert_eq!((peer.shutdown(), peer.flow), (vec![Sent::Settings, goaway(0, Code::No)], Flow::Close));
}

#[test]
fn a_client_that_leaves_still_gets_its_answers() {
    let mut peer = Peer::new();
    peer.feed(&[get(1, "/later"), frame(kind::GOAWAY, 0, 0, &[0; 8])].concat());
    assert_eq!(peer.flow, Flow::Continue);
    assert_eq!(peer.complete(1, reply(200, b"fine")), fine(1));
    assert_eq!(peer.flow, Flow::Close);
}
