use super::*;
use proptest::prelude::*;

/// Notes what it is asked and answers with what it saw. Paths: `/late` is answered later, `/refuse` before the body,
/// `/none` wants no body.
#[derive(Default)]
struct Echo {
    seen: Vec<String>,
    late: Vec<u32>,
}

impl Service for Echo {
    type Ticket = ();

    fn admit(&mut self, head: &Head) -> Admit<()> {
        match head.target() {
            b"/refuse" => Admit::Refuse(text(403, "no")),
            b"/none" => Admit::Accept { ticket: (), body_limit: 0, timeout: 1_000 },
            b"/stream" => Admit::Accept { ticket: (), body_limit: 0, timeout: 0 },
            b"/stream-timed" => Admit::Accept { ticket: (), body_limit: 0, timeout: 1_000 },
            _ => Admit::Accept { ticket: (), body_limit: 10, timeout: 1_000 },
        }
    }

    fn serve(&mut self, stream: u32, (): (), head: &Head, body: &mut Body) -> Option<Reply> {
        let more = if body.overflow { "+" } else { "" };
        let body = String::from_utf8_lossy(&body.bytes).into_owned();
        self.seen.push(format!("{} {} {body}{more}", head.method(), String::from_utf8_lossy(head.target())));
        if head.target() == b"/late" {
            self.late.push(stream);
            return None;
        }
        if head.target().starts_with(b"/stream") {
            return Some(Reply { tail: Some(Box::new(())), ..text(200, "first\n") });
        }
        Some(text(200, &body))
    }
}

fn text(status: u16, body: &str) -> Reply {
    Reply {
        body: SecretBytes::from(body.as_bytes().to_vec()),
        content_type: "text/plain",
        ..Reply::empty(status)
    }
}

fn connection() -> H1<()> {
    H1::new(Budget::new(1 << 20), 0)
}

/// Sends `input` in one piece to a new connection: the last flow, the statuses of the replies, the output, the service.
fn talk(input: impl AsRef<[u8]>) -> (Flow, Vec<u16>, String, Echo) {
    let (mut service, mut out) = (Echo::default(), Vec::new());
    let flow = connection().feed(0, input.as_ref(), &mut out, &mut service);
    let out = String::from_utf8(out).unwrap();
    (flow, statuses(&out), out, service)
}

fn statuses(out: &str) -> Vec<u16> {
    out.split("HTTP/1.1 ").skip(1).map(|reply| reply[..3].parse().unwrap()).collect()
}

/// The request is refused with `status`, the connection closes, and nothing reaches the service.
fn is_refused(input: impl AsRef<[u8]>, status: u16) {
    let (flow, statuses, out, service) = talk(&input);
    let shown = input.as_ref().escape_ascii();
    assert_eq!((flow, &statuses[..]), (Flow::Linger, &[status][..]), "{shown}");
    assert!(out.contains("Connection: close\r\n"), "{shown}");
    assert!(service.seen.is_empty(), "{shown}: {:?}", service.seen);
}

const SECOND: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{body}{SECOND}")
}

// The table of rows that tiny_http and others get wrong; RFC 9112 sections in brackets.

#[test]
fn two_different_content_lengths_are_refused_6_3() {
    is_refused(post("Content-Length: 5\r\nContent-Length: 6", "Hello"), 400);
}

#[test]
fn a_content_length_with_a_sign_is_refused_6_3() {
    is_refused(post("Content-Length: +5", "Hello"), 400);
    is_refused(post("Content-Length: -5", "Hello"), 400);
    is_refused(post("Content-Length: 0x5", "Hello"), 400);
    is_refused(post("Content-Length: 99999999999999999999", "Hello"), 400);
    is_refused(post("Content-Length: ", "Hello"), 400);
}

#[test]
fn a_list_of_content_lengths_is_refused_6_3() {
    is_refused(post("Content-Length: 5, 5", "Hello"), 400);
}

#[test]
fn transfer_encoding_beside_content_length_is_refused_6_1() {
    is_refused(post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400);
    is_refused("POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

#[test]
fn an_unknown_transfer_encoding_is_501_6_1() {
    is_refused(post("Transfer-Encoding: xchunked", "0\r\n\r\n"), 501);
    is_refused(post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), 501);
    is_refused(post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"), 501);
    is_refused(post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), 400);
}

#[test]
fn a_folded_line_is_refused_5_2() {
    is_refused(post("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"), 400);
    is_refused(post("X: y\r\n\tz", ""), 400);
}

#[test]
fn a_bare_lf_in_a_value_is_refused_2_2() {
    is_refused(post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400);
}

#[test]
fn bare_lf_line_ends_are_refused_2_2() {
    is_refused("GET /a HTTP/1.1\nHost: x\n\n", 400);
}

#[test]
fn a_bare_cr_in_a_value_is_refused_2_2() {
    is_refused(post("X: y\rz", ""), 400);
}

#[test]
fn a_nul_in_a_value_is_refused_5_5() {
    is_refused(post("X: y\0z", ""), 400);
}

#[test]
fn a_field_name_that_is_no_token_is_refused_5_1() {
    is_refused(post("X@: y", ""), 400);
    is_refused(post("X\x01: y", ""), 400);
    is_refused(post(": y", ""), 400);
}

#[test]
fn a_space_before_the_colon_is_refused_5_1() {
    is_refused(post("Content-Length : 5", "Hello"), 400);
    is_refused(post("Transfer-Encoding\t: chunked", "0\r\n\r\n"), 400);
}

#[test]
fn no_host_or_two_are_refused_3_2() {
    is_refused("GET /a HTTP/1.1\r\n\r\n", 400);
    is_refused("GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400);
    assert!(talk("GET /a HTTP/1.1\r\n\r\n").2.ends_with("400 Bad Request: missing required Host header"));
}

#[test]
fn a_fourth_word_in_the_request_line_is_refused_3() {
    is_refused("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400);
    is_refused("GET /a HTTP/1.1 x\r\nHost: x\r\n\r\n", 400);
}

#[test]
fn an_empty_line_before_the_request_is_skipped_2_2() {
    let (flow, statuses, _, service) = talk("\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((flow, statuses), (Flow::Continue, vec![200]));
    assert_eq!(service.seen, ["GET /a "]);
}

#[test]
fn a_head_that_never_ends_is_431() {
    let long = format!("GET /a HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(1 << 20));
    is_refused(&long, 431);
    // The same in small pieces: no more than the limit is ever kept.
    let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
    for piece in long.as_bytes().chunks(100) {
        if connection.feed(0, piece, &mut out, &mut service).ends() {
            break;
        }
        assert!(connection.input.len() <= MAX_HEAD);
    }
    assert_eq!(statuses(std::str::from_utf8(&out).unwrap()), [431]);
    is_refused(format!("GET /a HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(65)), 431);
}

// The rest of the protocol.

#[test]
fn other_malformed_requests_are_refused() {
    for line in [
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET /%zz HTTP/1.1",
        "GET /%4 HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / XTTP/1.1",
    ] {
        is_refused(format!("{line}\r\nHost: x\r\n\r\n"), 400);
    }
    is_refused("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
    is_refused("GET / HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n", 417);
    is_refused(post("Transfer-Encoding: chunked", "5\r\nHelloX"), 400);
}

#[test]
fn the_absolute_form_is_reduced_to_its_path() {
    let (_, _, _, service) = talk(
        "GET https://host/v1/a?b HTTP/1.1\r\nHost: x\r\n\r\nGET HTTP://host HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(service.seen, ["GET /v1/a?b ", "GET / "]);
    assert_eq!(talk("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").1, [200]);
}

#[test]
fn bodies_of_both_kinds_are_read_and_the_next_request_follows() {
    for body in [
        "Content-Length: 5\r\n\r\nHello",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nHe\r\n3;x\r\nllo\r\n0\r\n\r\n",
    ] {
        let (flow, statuses, out, service) = talk(format!("POST /a HTTP/1.1\r\nHost: x\r\n{body}{SECOND}"));
        assert_eq!((flow, statuses), (Flow::Continue, vec![200, 200]));
        assert_eq!(service.seen, ["POST /a Hello", "GET /smuggled "]);
        assert!(
            out.contains("Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nHelloHTTP/1.1 200 OK"),
            "{out}"
        );
    }
}

#[test]
fn a_body_over_the_limit_is_cut_and_its_rest_is_read_over() {
    let (flow, statuses, _, service) = talk(post("Content-Length: 12", "Hello World!"));
    assert_eq!((flow, statuses), (Flow::Continue, vec![200, 200]));
    assert_eq!(service.seen, ["POST /a Hello Worl+", "GET /smuggled "]);
    let long = post("Content-Length: 300000", &"x".repeat(300_000));
    let chunks = "10000\r\n".to_owned() + &"x".repeat(0x10000) + "\r\n";
    for request in [long, post("Transfer-Encoding: chunked", &(chunks.repeat(8) + "0\r\n\r\n"))] {
        let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
        let mut pieces = request.as_bytes().chunks(1000);
        assert!(pieces.any(|piece| connection.feed(0, piece, &mut out, &mut service) == Flow::Linger));
        assert_eq!(service.seen, ["POST /a xxxxxxxxxx+"], "too much to be read over");
    }
}

#[test]
fn a_body_that_nobody_wants_is_read_over() {
    for (target, status) in [("/refuse", 403), ("/none", 200)] {
        let request = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nHello{SECOND}");
        let (flow, statuses, _, service) = talk(request);
        assert_eq!((flow, statuses), (Flow::Continue, vec![status, 200]));
        assert!(!service.seen[0].contains("Hello"));
    }
}

#[test]
fn a_client_that_expects_100_gets_it_when_its_body_is_wanted() {
    let head = |target| {
        format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    };
    let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
    assert_eq!(connection.feed(0, head("/a").as_bytes(), &mut out, &mut service), Flow::Continue);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.feed(0, b"Hello", &mut out, &mut service);
    assert_eq!(service.seen, ["POST /a Hello"]);
    assert_eq!(talk(head("/a") + "Hello").1, [200], "the body is here already");
    for target in ["/refuse", "/none"] {
        let (flow, _, out, _) = talk(head(target));
        assert_eq!(flow, Flow::Linger);
        assert!(out.contains("Connection: close") && !out.contains("100 Continue"));
    }
}

#[test]
fn a_late_reply_holds_back_what_was_pipelined() {
    let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
    let late = "GET /late HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(connection.feed(0, late.as_bytes(), &mut out, &mut service), Flow::Pause);
    assert_eq!(
        connection.feed(0, (late.to_owned() + SECOND).as_bytes(), &mut out, &mut service),
        Flow::Pause
    );
    assert!(out.is_empty() && service.late.len() == 1);
    let first = service.late[0];
    assert!(connection.is_waiting_for(first));
    assert_eq!(connection.complete(0, first, text(200, "one"), &mut out, &mut service), Flow::Pause);
    assert!(!connection.is_waiting_for(first));
    assert_eq!(connection.complete(0, first, text(200, "twice"), &mut out, &mut service), Flow::Pause);
    assert_eq!(
        connection.complete(0, service.late[1], text(200, "two"), &mut out, &mut service),
        Flow::Continue
    );
    assert_eq!(service.seen.len(), 3);
    let out = String::from_utf8(out).unwrap();
    assert_eq!(statuses(&out), [200, 200, 200]);
    assert!(!out.contains("twice"));
}

#[test]
fn a_client_that_pipelines_without_end_is_cut_off() {
    let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
    connection.feed(0, b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n", &mut out, &mut service);
    let mut flows = (0..100).map(|_| connection.feed(0, &[b'x'; 4096], &mut out, &mut service));
    assert!(flows.any(|flow| flow == Flow::Linger));
}

#[test]
fn connections_are_kept_or_closed_as_the_client_says() {
    let ask = |line: &str, fields: &str| {
        let (flow, _, out, _) = talk(format!("{line}\r\nHost: x\r\n{fields}\r\n"));
        (flow, out.contains("Connection: close"), out.contains("Connection: keep-alive"))
    };
    assert_eq!(ask("GET / HTTP/1.1", ""), (Flow::Continue, false, false));
    assert_eq!(ask("GET / HTTP/1.1", "Connection: foo, Close\r\n"), (Flow::Close, true, false));
    assert_eq!(ask("GET / HTTP/1.0", ""), (Flow::Close, true, false));
    assert_eq!(ask("GET / HTTP/1.0", "Connection: keep-alive\r\n"), (Flow::Continue, false, true));
}

#[test]
fn a_head_request_gets_no_body() {
    let (_, _, out, _) = talk("HEAD /refuse HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(out.contains("Content-Length: 2\r\n") && out.ends_with("\r\n\r\n"), "{out}");
}

#[test]
fn deadlines_are_those_of_the_phase() {
    let (mut c, mut service, mut out) = (connection(), Echo::default(), Vec::new());
    assert_eq!(deadline(&c), HEAD_TIME);
    c.feed(100, b"GET /a HTTP/1.1\r\n", &mut out, &mut service);
    assert_eq!(deadline(&c), HEAD_TIME, "the first head is due from the start of the connection");
    c.feed(200, b"Host: x\r\n\r\n", &mut out, &mut service);
    assert_eq!(deadline(&c), 200 + IDLE_TIME);
    c.feed(1_000, b"POST /a", &mut out, &mut service);
    c.feed(2_000, b" HTTP/1.1\r\nHost", &mut out, &mut service);
    assert_eq!(deadline(&c), 1_000 + HEAD_TIME);
    c.feed(3_000, b": x\r\nContent-Length: 5\r\n\r\nHe", &mut out, &mut service);
    c.feed(3_500, b"l", &mut out, &mut service);
    assert_eq!(deadline(&c), 4_000, "the whole request has the route's time");
    let sent = out.len();
    assert_eq!(Protocol::<Echo>::expire(&mut c, 3_999, &mut out), Flow::Continue);
    assert_eq!(Protocol::<Echo>::expire(&mut c, 4_000, &mut out), Flow::Close);
    assert_eq!(out.len(), sent, "nothing is sent to a client that was too slow");
}

#[test]
fn a_stop_closes_idle_connections_and_lets_a_request_finish() {
    let (mut service, mut out) = (Echo::default(), Vec::new());
    let mut idle = connection();
    assert_eq!(Protocol::<Echo>::shutdown(&mut idle, 0, &mut out), Flow::Close);
    let mut busy = connection();
    busy.feed(0, b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n", &mut out, &mut service);
    assert_eq!(Protocol::<Echo>::shutdown(&mut busy, 0, &mut out), Flow::Pause);
    assert_eq!(busy.complete(0, service.late[0], text(200, ""), &mut out, &mut service), Flow::Close);
    assert!(String::from_utf8(out).unwrap().contains("Connection: close"));
}

#[test]
fn bodies_share_a_budget() {
    struct Big;
    impl Service for Big {
        type Ticket = ();
        fn admit(&mut self, _: &Head) -> Admit<()> {
            Admit::Accept { ticket: (), body_limit: 1_000_000, timeout: 0 }
        }
        fn serve(&mut self, _: u32, (): (), _: &Head, _: &mut Body) -> Option<Reply> {
            Some(Reply::empty(200))
        }
    }
    let budget = Budget::new(100_000);
    let (mut first, mut second) = (H1::new(budget.clone(), 0), H1::new(budget.clone(), 0));
    let head = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n";
    let mut out = Vec::new();
    first.feed(0, head, &mut out, &mut Big);
    first.feed(0, &[b'x'; 60_000], &mut out, &mut Big);
    assert!(budget.used() >= 60_000);
    second.feed(0, head, &mut out, &mut Big);
    assert_eq!(second.feed(0, &[b'x'; 60_000], &mut out, &mut Big), Flow::Linger);
    assert!(String::from_utf8_lossy(&out).ends_with("503 Service Unavailable"));
    first.feed(0, &[b'x'; 30_000], &mut out, &mut Big);
    assert_eq!(budget.used(), 0);
    drop(first);
    assert_eq!(budget.used(), 0);
}

impl H1<()> {
    fn is_waiting_for(&self, stream: u32) -> bool {
        Protocol::<Echo>::is_waiting(self, stream)
    }
}

fn deadline(connection: &H1<()>) -> Millis {
    Protocol::<Echo>::deadline(connection)
}

proptest! {
    #[test]
    fn the_answer_does_not_depend_on_how_the_input_is_cut(
        parts in proptest::collection::vec(0usize..8, 1..6), cuts in proptest::collection::vec(1usize..40, 0..30),
    ) {
        let requests = [
            "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nHello",
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nHe\r\n3\r\nllo\r\n0\r\n\r\n",
            "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n123456789012345",
            "GET /a HTTP/1.0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ];
        let wire: String = parts.iter().map(|part| requests[*part]).collect();
        let (_, _, whole, expected) = talk(&wire);
        let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
        let (mut rest, mut cuts) = (wire.as_bytes(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cuts.next().unwrap_or(7).min(rest.len()));
            rest = after;
            if connection.feed(0, piece, &mut out, &mut service).ends() {
                break;
            }
        }
        prop_assert_eq!(service.seen, expected.seen);
        prop_assert_eq!(statuses(&String::from_utf8(out).unwrap()), statuses(&whole));
    }

    #[test]
    fn any_bytes_are_answered_or_refused(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
        let (mut connection, mut service, mut out) = (connection(), Echo::default(), Vec::new());
        connection.feed(0, b"POST /a HTTP/1.1\r\nHost: x\r\n", &mut out, &mut service);
        for piece in pieces {
            connection.feed(0, &piece, &mut out, &mut service);
        }
    }
}

// Replies that go on.

/// A connection with such a reply, and its output so far.
fn streaming(target: &str, version: &str) -> (H1<()>, Vec<u8>) {
    let (mut h1, mut out) = (connection(), Vec::new());
    let request = format!("GET {target} HTTP/{version}\r\nHost: x\r\n\r\n");
    assert_eq!(h1.feed(0, request.as_bytes(), &mut out, &mut Echo::default()), Flow::Continue);
    (h1, out)
}

fn append(h1: &mut H1<()>, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    Protocol::<Echo>::append(h1, 0, 1, bytes, out)
}

#[test]
fn a_reply_that_goes_on_comes_in_chunks() {
    let (mut h1, mut out) = streaming("/stream", "1.1");
    assert_eq!(Protocol::<Echo>::deadline(&h1), NEVER);
    assert!(append(&mut h1, b"second\n", &mut out));
    assert!(append(&mut h1, b"", &mut out));
    let text = String::from_utf8(out.clone()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Transfer-Encoding: chunked") && !head.contains("Content-Length"), "{head}");
    assert_eq!(body, "6\r\nfirst\n\r\n7\r\nsecond\n\r\n");
    out.clear();
    assert!(Protocol::<Echo>::shutdown(&mut h1, 0, &mut out).ends());
    assert_eq!(out, b"0\r\n\r\n");
    assert!(append(&mut h1, b"late", &mut out), "nobody is there to lose it");
}

#[test]
fn an_old_client_reads_to_the_end_of_the_connection() {
    let (mut h1, mut out) = streaming("/stream", "1.0");
    assert!(append(&mut h1, b"second\n", &mut out));
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(
        text.ends_with("Connection: close\r\n\r\nfirst\nsecond\n") && !text.contains("chunked"),
        "{text}"
    );
}

#[test]
fn what_a_slow_reader_does_not_take_is_lost_beyond_a_limit() {
    let (mut h1, mut out) = streaming("/stream", "1.1");
    let kept = (0..1_000).filter(|_| append(&mut h1, &[b'x'; 1_000], &mut out)).count();
    assert!((MAX_TAIL / 1_100..MAX_TAIL / 900).contains(&kept), "{kept}");
    out.clear();
    assert!(append(&mut h1, b"again", &mut out));
}

#[test]
fn a_reply_that_goes_on_ends_at_its_deadline() {
    let (mut h1, mut out) = streaming("/stream-timed", "1.1");
    assert_eq!(Protocol::<Echo>::deadline(&h1), 1_000);
    out.clear();
    assert_eq!(Protocol::<Echo>::expire(&mut h1, 1_000, &mut out), Flow::Close);
    assert_eq!(out, b"0\r\n\r\n");
}

#[test]
fn the_maker_of_a_reply_learns_of_its_end() {
    let alive = std::sync::Arc::new(());
    let (mut h1, mut out) = streaming("/stream", "1.1");
    if let State::Streaming { _tail, .. } = &mut h1.state {
        *_tail = Box::new(std::sync::Arc::clone(&alive));
    }
    assert_eq!(std::sync::Arc::strong_count(&alive), 2);
    Protocol::<Echo>::shutdown(&mut h1, 0, &mut out);
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
}
