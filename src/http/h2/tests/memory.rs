//! Windows that are given, and the memory behind them.

use std::collections::BTreeMap;

use super::*;
use limits::{CONNECTION_BODIES, INITIAL_WINDOW, WINDOW_STEP};

/// A client that sends bodies as fast as the windows allow, in turns.
struct Uploads {
    peer: Peer,
    connection: usize,
    /// Stream: bytes left, window.
    bodies: BTreeMap<u32, (usize, usize)>,
    answered: Vec<u32>,
    most_held: usize,
}

impl Uploads {
    fn new(peer: Peer) -> Self {
        Self { peer, connection: INITIAL_WINDOW, bodies: BTreeMap::new(), answered: vec![], most_held: 0 }
    }

    fn begin(&mut self, stream: u32, len: usize) {
        let sent = self.peer.feed(&put(stream, if len > LIMIT { "/huge" } else { "/" }));
        self.bodies.insert(stream, (len, INITIAL_WINDOW));
        self.take(sent);
    }

    fn take(&mut self, sent: Vec<Sent>) {
        for frame in sent {
            match frame {
                Sent::Window(0, more) => self.connection += more,
                Sent::Window(id, more) => self.bodies.get_mut(&id).map_or((), |body| body.1 += more),
                Sent::Data(id, _, true) => self.answered.push(id),
                Sent::Headers(_, fields, _) => assert_eq!(fields[0].1, "200"),
                other => panic!("{other:?}"),
            }
        }
        self.most_held = self.most_held.max(self.peer.h2.credit.held);
    }

    /// Sends one frame of stream `id` if the windows allow it.
    fn send(&mut self, id: u32) -> bool {
        let Some(body) = self.bodies.get_mut(&id) else { return false };
        let len = body.0.min(body.1).min(self.connection).min(limits::MAX_FRAME);
        if len == 0 {
            return false;
        }
        self.connection -= len;
        *body = (body.0 - len, body.1 - len);
        let end = body.0 == 0;
        if end {
            self.bodies.remove(&id);
        }
        let sent = self.peer.feed(&data(id, &vec![id as u8; len], end));
        self.take(sent);
        true
    }

    /// Sends frames of all streams in turn until no window is left.
    fn send_all(&mut self) {
        loop {
            let ids: Vec<u32> = self.bodies.keys().copied().collect();
            if ids.into_iter().filter(|&id| self.send(id)).count() == 0 {
                return;
            }
        }
    }
}

#[test]
fn thirty_bodies_of_900_kb_at_once_are_all_answered_within_bounded_memory() {
    let budget = Budget::new(64 << 20);
    let mut uploads = Uploads::new(Peer::with_budget(budget.clone()));
    for i in 0..30 {
        uploads.begin(1 + 2 * i, 900_000);
    }
    uploads.send_all();
    uploads.answered.sort_unstable();
    assert_eq!(uploads.answered, (0..30).map(|i| 1 + 2 * i).collect::<Vec<u32>>());
    assert_eq!(uploads.peer.body_lengths(), [900_000; 30]);
    let bound = CONNECTION_BODIES + 30 * INITIAL_WINDOW + LIMIT;
    assert!(uploads.most_held <= bound, "{} > {bound}", uploads.most_held);
    assert!(uploads.most_held > 1_000_000);
    drop(uploads);
    assert_eq!(budget.used(), 0);
}

#[test]
fn bodies_bigger_than_the_connections_memory_come_one_after_the_other() {
    let mut uploads = Uploads::new(Peer::new());
    for i in 0..4 {
        uploads.begin(1 + 2 * i, CONNECTION_BODIES + 500_000);
    }
    uploads.send_all();
    assert_eq!(uploads.answered, [1, 3, 5, 7]);
    let bound = CONNECTION_BODIES + 500_000 + 4 * INITIAL_WINDOW;
    assert!(uploads.most_held <= bound, "{} > {bound}", uploads.most_held);
}

#[test]
fn bodies_go_on_one_by_one_when_the_common_budget_is_small() {
    let budget = Budget::new(950_000);
    let mut uploads = Uploads::new(Peer::with_budget(budget.clone()));
    uploads.begin(1, 900_000);
    uploads.send_all();
    uploads.begin(3, 900_000);
    uploads.send_all();
    assert_eq!(uploads.answered, [1, 3]);
    drop(uploads);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_body_waits_while_the_common_budget_is_used_up_and_goes_on_later() {
    let budget = Budget::new(1_000_000);
    assert!(budget.take(1_000_000));
    let mut uploads = Uploads::new(Peer::with_budget(budget.clone()));
    uploads.begin(1, 900_000);
    uploads.send_all();
    assert_eq!((uploads.connection, uploads.most_held), (0, INITIAL_WINDOW));
    assert_eq!(uploads.peer.deadline(), limits::BUDGET_RETRY);
    let sent = uploads.peer.expire(limits::BUDGET_RETRY);
    assert_eq!(sent, []);
    assert_eq!(uploads.peer.deadline(), 2 * limits::BUDGET_RETRY);
    budget.give_back(1_000_000);
    let sent = uploads.peer.expire(2 * limits::BUDGET_RETRY);
    uploads.take(sent);
    assert!(uploads.connection > 0);
    uploads.send_all();
    assert_eq!(uploads.answered, [1]);
}

#[test]
fn a_body_that_waits_for_the_common_budget_still_has_its_deadline() {
    let budget = Budget::new(0);
    let mut uploads = Uploads::new(Peer::with_budget(budget));
    uploads.begin(1, 900_000);
    uploads.send_all();
    let sent = uploads.peer.expire(TIMEOUT);
    assert_eq!(sent[0], reset(1, Code::Internal));
    uploads.bodies.clear();
    uploads.take(sent[1..].to_vec());
    assert_eq!(uploads.connection, INITIAL_WINDOW, "the dead request's window is given to others");
    uploads.begin(3, 60_000);
    uploads.send_all();
    assert_eq!(uploads.answered, [3], "small requests need no budget");
}

#[test]
fn the_memory_of_a_reset_body_is_given_back() {
    let budget = Budget::new(64 << 20);
    let mut uploads = Uploads::new(Peer::with_budget(budget.clone()));
    uploads.begin(1, 2_000_000);
    for _ in 0..30 {
        assert!(uploads.send(1));
    }
    assert!(budget.used() > 400_000 && uploads.peer.h2.credit.held > 400_000);
    let open = uploads.peer.h2.credit.open;
    uploads.peer.feed(&rst(1));
    assert_eq!(uploads.peer.h2.credit.held, 0);
    assert!(budget.used() <= open.max(INITIAL_WINDOW) - INITIAL_WINDOW, "only window is still accounted for");
    drop(uploads);
    assert_eq!(budget.used(), 0);
}

#[test]
fn many_small_bodies_take_nothing_from_the_common_budget() {
    let budget = Budget::new(0);
    let mut uploads = Uploads::new(Peer::with_budget(budget));
    for i in 0..5000 {
        uploads.begin(1 + 2 * i, 150);
        uploads.send_all();
    }
    assert_eq!(uploads.answered.len(), 5000);
}

#[test]
fn many_bodies_in_parts_get_through_without_a_budget() {
    let mut uploads = Uploads::new(Peer::with_budget(Budget::new(0)));
    for i in 0..200 {
        uploads.begin(1 + 2 * i, 300);
    }
    uploads.send_all();
    assert_eq!(uploads.answered.len(), 200);
}

#[test]
fn more_data_than_the_window_is_an_error() {
    let mut peer = Peer::new();
    peer.feed(&put(1, "/later"));
    for _ in 0..4 {
        peer.feed(&data(1, &[0; 16_383], false));
    }
    assert_eq!(peer.feed(&data(1, &[0; 4], false)), [reset(1, Code::FlowControl)]);
    let mut peer = Peer::with_budget(Budget::new(0));
    peer.feed(&put(1, "/"));
    let sent = (0..8).flat_map(|_| peer.feed(&data(1, &[0; 16_384], false))).collect::<Vec<_>>();
    assert_eq!(sent.last(), Some(&goaway(1, Code::FlowControl)));
}

#[test]
fn a_known_length_gets_no_more_window_than_it_needs() {
    let mut peer = Peer::new();
    let head = request_block("/", &[("content-length", "100000")]);
    let mut sent = peer.feed(&frame(kind::HEADERS, flag::END_HEADERS, 1, &head));
    for _ in 0..4 {
        sent.extend(peer.feed(&data(1, &[0; 16_000], false)));
    }
    let given: usize = sent.iter().map(|f| if let Sent::Window(1, n) = f { *n } else { 0 }).sum();
    assert_eq!(given, 100_000 - INITIAL_WINDOW);
    assert!(peer.h2.credit.open <= WINDOW_STEP);
}

#[test]
fn what_is_left_of_a_body_is_wiped_and_its_buffer_used_again() {
    let mut peer = Peer::new();
    peer.feed(&[put(1, "/"), data(1, &[7; 300], true)].concat());
    assert!(peer.h2.spare_body.is_empty() && peer.h2.spare_body.capacity() >= 300);
    peer.feed(&[put(3, "/"), data(3, &[8; 200], true)].concat());
    assert_eq!(peer.script.served[1].body, [8; 200]);
}

#[test]
fn requests_that_are_not_whole_keep_no_big_heads_and_what_they_keep_is_counted() {
    let mut peer = Peer::new();
    let big = "b".repeat(3_900);
    // The first of them puts the field into the table, so that the others need a byte for each.
    let field = [&[0x40, 1, b'x', 0x7f][..], &[0xbd, 0x1d], big.as_bytes()].concat();
    let first = [request_block("/", &[]), field].concat();
    assert_eq!(peer.feed(&frame(kind::HEADERS, flag::END_HEADERS, 1, &first)), []);
    let further = [request_block("/", &[]), vec![0xbe; 4]].concat();
    for i in 1..200 {
        assert_eq!(peer.feed(&frame(kind::HEADERS, flag::END_HEADERS, 1 + 2 * i, &further)), []);
    }
    let (unsent, held) = (peer.h2.unsent(), peer.h2.held());
    assert!(unsent == 0 && (50_000..150_000).contains(&held), "{held}");
    let streams = peer.h2.streams.capacity() * size_of::<Stream<u8>>() + peer.h2.decoder.capacity();
    assert!(held >= streams + 200 * "PUT/".len(), "{held}, {streams} without heads");
    for i in 0..200 {
        assert_eq!(peer.feed(&data(1 + 2 * i, b"x", true)), fine(1 + 2 * i));
    }
    assert!(peer.h2.heads.iter().map(Head::capacity).sum::<usize>() < 16 * 2_048);
    assert!(peer.script.served.iter().all(|served| (&*served.method, &*served.target) == ("PUT", "/")));
}

#[test]
fn a_reply_that_waits_for_the_end_of_a_refused_body_is_counted() {
    let mut peer = Peer::new();
    assert_eq!(peer.feed(&put(1, "/refuse-big")), []);
    assert_eq!(peer.h2.unsent(), BIG + "/there/".len());
}

#[test]
fn an_idle_connection_takes_little_memory() {
    let mut peer = Peer::new();
    for i in 0..200u32 {
        let path = format!("/v1/key/generate/key-{i}");
        let mut head = request_block(&path, &[]);
        hpack::put_literal(&mut head, b"x", b"y");
        head[0] = 0x40;
        let id = 1 + 4 * i;
        let later = request_block("/later", &[]);
        let flags = flag::END_HEADERS;
        peer.feed(
            &[frame(kind::HEADERS, flags, id, &head), frame(kind::HEADERS, flags, id + 2, &later)].concat(),
        );
        peer.feed(&data(id, &[1; 100], true));
        peer.feed(&data(id + 2, b"", true));
        peer.complete(id + 2, reply(200, b"fine"));
    }
    assert!(peer.h2.memory() < 20_000, "{}", peer.h2.memory());
    assert_eq!(peer.deadline(), limits::REST_AFTER);
    peer.expire(limits::REST_AFTER);
    assert!(peer.h2.memory() < 2_048 + peer.h2.decoder.capacity(), "{}", peer.h2.memory());
    assert!(peer.h2.decoder.capacity() < 8_192);
    assert_eq!(Peer::new().h2.decoder.capacity(), 0);
}

#[test]
fn dropping_a_connection_gives_its_budget_back() {
    let budget = Budget::new(64 << 20);
    let mut uploads = Uploads::new(Peer::with_budget(budget.clone()));
    uploads.begin(1, 900_000);
    (0..20).for_each(|_| assert!(uploads.send(1)));
    assert!(budget.used() > 0);
    drop(uploads);
    assert_eq!(budget.used(), 0);
}
