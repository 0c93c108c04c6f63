//! Sessions made at random: nothing panics, the books balance, and the cuts of the input do not matter.

use proptest::prelude::*;

use super::*;
use limits::{CONNECTION_BODIES, INITIAL_WINDOW};

/// What a session may contain.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = || prop_oneof![8 => (0u32..12).prop_map(|i| 1 + 2 * i), 1 => 0u32..30];
    let path = prop_oneof![
        6 => Just("/"),
        1 => Just("/refuse"),
        1 => Just("/refuse-big"),
        1 => Just("/drop"),
        1 => Just("/small"),
        1 => Just("/later"),
        1 => Just("/big"),
        1 => Just("/untimed"),
        1 => Just("bad"),
    ];
    let bytes = |n| proptest::collection::vec(any::<u8>(), 0..n);
    prop_oneof![
        8 => (stream(), path, any::<bool>()).prop_map(|(id, path, end)| if end { get(id, path) } else { put(id, path) }),
        6 => (stream(), 0usize..16_384, any::<bool>()).prop_map(|(id, len, end)| data(id, &vec![b'd'; len], end)),
        2 => (stream(), bytes(20), any::<u8>()).prop_map(|(id, bytes, flags)| frame(kind::DATA, flags, id, &bytes)),
        2 => (stream(), 0u32..100_000).prop_map(|(id, more)| window(id, more)),
        1 => (0u32..200_000).prop_map(|more| window(0, more)),
        1 => (1u16..8, 0u32..200_000).prop_map(|(id, value)| settings(id, value)),
        1 => stream().prop_map(rst),
        1 => Just(frame(kind::PING, 0, 0, &[1; 8])),
        1 => (stream(), bytes(40), any::<u8>()).prop_map(|(id, bytes, flags)| frame(kind::HEADERS, flags, id, &bytes)),
        1 => (stream(), bytes(10), any::<u8>()).prop_map(|(id, bytes, flags)| frame(kind::CONTINUATION, flags, id, &bytes)),
        1 => (any::<u8>(), any::<u8>(), stream(), bytes(12)).prop_map(|(kind, flags, id, bytes)| frame(kind, flags, id, &bytes)),
    ]
}

fn session() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(any_frame(), 0..60)
}

/// Frames that follow the rules, so that sessions live long.
fn tame_session() -> impl Strategy<Value = Vec<u8>> {
    let one = (0u8..8, 0usize..40_000, any::<bool>());
    proptest::collection::vec(one, 0..40).prop_map(|requests| {
        let mut bytes = opening();
        for (i, (what, len, early)) in requests.into_iter().enumerate() {
            let id = 1 + 2 * i as u32;
            let path =
                ["/", "/drop", "/small", "/later", "/big", "/refuse", "/untimed", "/x"][usize::from(what)];
            if early {
                bytes.extend(get(id, path));
                continue;
            }
            bytes.extend(put(id, path));
            for piece in vec![b'p'; len.min(30_000)].chunks(9_000) {
                bytes.extend(data(id, piece, false));
            }
            bytes.extend(window(0, 50_000));
            bytes.extend(data(id, b"", true));
        }
        bytes
    })
}

/// Feeds `input` cut at `cuts`; returns the frames sent, the last flow, and what the service saw.
fn run(input: &[u8], cuts: &[usize]) -> (Vec<Sent>, Flow, Vec<Served>) {
    let mut peer = Peer::fresh(Budget::new(1 << 30));
    let mut out = Vec::new();
    let mut rest = input;
    for &cut in cuts.iter().chain([&usize::MAX]) {
        let (piece, tail) = rest.split_at(cut.min(rest.len()));
        rest = tail;
        peer.flow = peer.h2.feed(0, piece, &mut out, &mut peer.script);
        peer.h2.check();
    }
    let frames = read_frames(&out, &mut Decoder::new());
    (frames, peer.flow, peer.script.served)
}

/// One step of a session that keeps to the rules as far as the connection is concerned.
fn step(peer: &mut Peer, next: &mut u32, what: u8, which: prop::sample::Index, len: usize, flag: bool) {
    let paths = ["/", "/drop", "/small", "/later", "/big", "/refuse", "/refuse-big", "/untimed"];
    let open: Vec<u32> = peer.h2.streams.iter().map(|stream| stream.id).collect();
    let id = if open.is_empty() { 0 } else { open[which.index(open.len())] };
    match what {
        0..8 => {
            let path = paths[usize::from(what)];
            let request = if flag { get(*next, path) } else { put(*next, path) };
            *next += 2;
            peer.feed(&request);
        }
        20 => drop(peer.expire(peer.now + len as u64 / 10)),
        21 => drop(peer.feed(&window(0, len as u32 + 1))),
        22 => drop(peer.feed(&settings(4, 4 * len as u32))),
        23 if peer.script.served.is_empty() => {}
        23 => {
            let served = peer.script.served[which.index(peer.script.served.len())].stream;
            drop(peer.complete(served, reply(200, &vec![b'c'; len])));
        }
        _ if id == 0 => {}
        8..16 => drop(peer.feed(&data(
            id,
            &vec![b'd'; len.min(peer.h2.credit.open)],
            flag && len.is_multiple_of(4),
        ))),
        16 | 17 => drop(peer.feed(&window(id, len as u32 + 1))),
        18 => drop(peer.feed(&rst(id))),
        _ => drop(peer.feed(&frame(
            kind::HEADERS,
            flag::END_HEADERS | u8::from(flag),
            id,
            &block(&[("a", "b")]),
        ))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_cuts_of_the_input_do_not_matter(frames in session(), cuts in proptest::collection::vec(0usize..400, 0..60)) {
        let input = [opening(), frames.concat()].concat();
        prop_assert_eq!(run(&input, &cuts), run(&input, &[]));
    }

    #[test]
    fn the_cuts_of_a_long_session_do_not_matter(input in tame_session(), cuts in proptest::collection::vec(0usize..20_000, 0..60)) {
        prop_assert_eq!(run(&input, &cuts), run(&input, &[]));
    }

    #[test]
    fn random_sessions_never_panic_and_give_all_memory_back(
        steps in proptest::collection::vec((any_frame(), 0u8..12, 0u64..3000), 0..80),
        budget in prop_oneof![Just(0usize), 0usize..400_000, Just(1 << 24)],
    ) {
        let budget = Budget::new(budget);
        let mut peer = Peer::with_budget(budget.clone());
        for (bytes, what, wait) in steps {
            peer.feed(&bytes);
            let waiting = peer.script.served.iter().map(|served| served.stream).find(|&id| peer.is_waiting(id));
            match (what, waiting) {
                (0..4, Some(id)) => drop(peer.complete(id, reply(200, b"later"))),
                (4, _) => drop(peer.complete(u32::from(what) * 7, reply(200, b"unasked"))),
                (5..8, _) => drop(peer.expire(peer.now + wait)),
                (8, _) => peer.now += 20_000,
                (9, _) if wait < 100 => drop(peer.shutdown()),
                _ => {}
            }
            prop_assert!(peer.flow == Flow::Close || peer.deadline() >= peer.now.min(1) || wait == 0);
        }
        let served: Vec<u32> = peer.script.served.iter().map(|served| served.stream).collect();
        let mut unique = served.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), served.len(), "a request was served twice");
        drop(peer);
        prop_assert_eq!(budget.used(), 0);
    }

    #[test]
    fn long_random_sessions_give_all_memory_back(
        steps in proptest::collection::vec((0u8..24, any::<prop::sample::Index>(), 0usize..16_384, any::<bool>()), 0..300),
        budget in prop_oneof![Just(0usize), 0usize..400_000, Just(1 << 24)],
    ) {
        let budget = Budget::new(budget);
        let mut peer = Peer::with_budget(budget.clone());
        let mut next = 1;
        for (what, which, len, flag) in steps {
            step(&mut peer, &mut next, what, which, len, flag);
            let bodies = CONNECTION_BODIES + MAX_STREAMS * INITIAL_WINDOW + LIMIT;
            prop_assert!(peer.h2.credit.held <= bodies && peer.flow == Flow::Continue);
        }
        peer.expire(peer.now + 2 * TIMEOUT + limits::BODY_TIMEOUT);
        let untimed = |stream: &Stream<u8>| stream.deadline == NEVER;
        prop_assert!(peer.h2.streams.iter().all(untimed), "only requests without timeout are left");
        prop_assert_eq!(peer.h2.credit.held, 0);
        prop_assert!(peer.h2.credit.open >= INITIAL_WINDOW / 2, "a peer can always go on");
        drop(peer);
        prop_assert_eq!(budget.used(), 0);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
        let mut peer = Peer::new();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        peer.feed(first);
        peer.feed(second);
        let mut fresh = Peer::fresh(Budget::new(0));
        fresh.feed(&bytes);
    }

    #[test]
    fn damaged_sessions_never_panic(mut input in tame_session(), damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        for (place, byte) in damage {
            let place = place.index(input.len());
            input[place] = byte;
        }
        run(&input, &[1, 2, 3]);
    }
}
