//! A server with real sockets and threads over a key store that does as it is told. Requests come in through the listener
//! for probes, which needs no TLS.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
};

use super::*;
use crate::{
    api::{Proxies, State},
    config::LogConfig,
    keyring::{CacheExpiry, Keyring},
    keystore::{KeyStore, mem::TroubledStore},
    policy::PolicySet,
};

/// Nothing that a test waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

struct House {
    server: Server,
    store: Arc<TroubledStore>,
    keyring: Arc<Keyring>,
}

fn house() -> House {
    house_with(|_| {})
}

fn house_with(change: impl FnOnce(&mut Limits)) -> House {
    let store = Arc::new(TroubledStore::new());
    let no_expiry = CacheExpiry { any: Duration::ZERO, unused: Duration::ZERO, offline: Duration::ZERO };
    let keyring = Arc::new(Keyring::new(Arc::clone(&store) as Arc<dyn KeyStore>, no_expiry, Arc::default()));
    let policies = PolicySet::new("disabled".into(), Vec::new());
    let state = State::new(policies, Arc::clone(&keyring), Proxies::default(), &[]);
    let log = LogConfig { error: 9, audit: 9, file: None };
    let api = Arc::new(Api::new(state, &log, None, Arc::default()));
    let bind = || Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listeners = Listeners { api: bind(), probe: Some(bind()) };
    let mut limits = Limits { workers: 2, blocking_threads: 1, queue: 1, ..Limits::for_machine(1024) };
    change(&mut limits);
    let tls = crate::tls::development(&["127.0.0.1".parse().unwrap()]).unwrap();
    House { server: Server::start(listeners, tls.config, api, limits).unwrap(), store, keyring }
}

impl House {
    /// Sends requests for `paths`, one behind the other, the last of which ends the connection.
    fn ask(&self, paths: &[&str]) -> TcpStream {
        let address = self.server.addresses().nth(1).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = |(place, path): (usize, &&str)| {
            let more = if place + 1 == paths.len() { "Connection: close\r\n" } else { "" };
            format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
        };
        // In one piece, so that the server has all of them when it looks at the first.
        let requests: String = paths.iter().enumerate().map(request).collect();
        socket.write_all(requests.as_bytes()).unwrap();
        socket
    }
}

/// The statuses of all replies until the connection ends.
fn statuses(mut socket: TcpStream) -> Vec<u16> {
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("the server answers");
    text.split("HTTP/1.1 ").skip(1).map(|reply| reply[..3].parse().unwrap()).collect()
}

#[test]
fn a_pipelined_request_that_finds_the_queue_full_is_refused_and_holds_up_nobody() {
    let house = house();
    // Once the first answer is on its way, the second request may come before or after the queue has room again.
    let round = || {
        house.store.hold();
        let mut socket = house.ask(&["/v1/ready", "/v1/ready", "/version"]);
        house.store.await_held(1);
        // The only thread waits for the store, and its queue is filled.
        let (release, released) = mpsc::channel::<()>();
        let (done, is_done) = mpsc::channel();
        let filler = move || {
            let _ = released.recv();
            done.send(()).unwrap();
        };
        assert!(house.server.submit(Box::new(filler)));
        house.store.release();
        let mut first = [0; 12];
        socket.read_exact(&mut first).expect("the server answers");
        assert_eq!(&first, b"HTTP/1.1 200");
        drop(release);
        is_done.recv().unwrap();
        let others = statuses(socket);
        assert!(others == [503, 200] || others == [200, 200], "{others:?}");
        others[0] == 503
    };
    assert!((0..1_000).any(|_| round()), "the queue was never found full");
    house.server.stop();
}

#[test]
fn probes_are_answered_while_the_store_hangs() {
    let house = house();
    house.store.hold();
    let waiting: Vec<_> = (0..8).map(|_| house.ask(&["/v1/ready"])).collect();
    house.store.await_held(1);
    assert_eq!(statuses(house.ask(&["/v1/metrics", "/version"])), [200, 200]);
    // As the clock does, again and again: a request may be on its way to the desk.
    let told = std::thread::spawn(|| waiting.into_iter().flat_map(statuses).collect::<Vec<_>>());
    while !told.is_finished() {
        house.keyring.age_status();
        std::thread::yield_now();
    }
    assert_eq!(told.join().unwrap(), [504; 8]);
    assert_eq!(statuses(house.ask(&["/v1/ready", "/v1/status"])), [504, 200], "without asking again");
    house.store.release();
    let start = Instant::now();
    while statuses(house.ask(&["/v1/ready"])) != [200] {
        assert!(start.elapsed() < PATIENCE);
    }
    house.server.stop();
}

#[test]
fn connections_that_stay_are_spread_over_the_workers() {
    let house = house();
    let address = house.server.addresses().nth(1).unwrap();
    let mut open = Vec::new();
    for count in 1..=16 {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).expect("the server answers");
        assert_eq!(&status, b"HTTP/1.1 200");
        open.push(socket);
        let loads: Vec<_> =
            house.server.workers.iter().map(|(worker, _)| worker.load.load(Ordering::Relaxed)).collect();
        assert_eq!(loads.iter().sum::<usize>(), count);
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 1 + most / 4, "{loads:?}");
    }
    house.server.stop();
}

/// Asks for replies and reads none until the server has closed the connection or takes no more requests for `patience`.
fn ask_and_not_read(house: &House, patience: Duration) -> (TcpStream, io::Result<()>) {
    let mut socket = TcpStream::connect(house.server.addresses().nth(1).unwrap()).unwrap();
    socket.set_write_timeout(Some(patience)).unwrap();
    let requests = "GET /v1/metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let written = loop {
        if let Err(error) = socket.write_all(requests.as_bytes()) {
            break Err(error);
        }
    };
    (socket, written)
}

fn wait_until(happened: impl Fn() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

/// Bytes that wait for clients of the listener for probes.
fn unread(house: &House) -> usize {
    let hub = &house.server.hub;
    assert_eq!([true, false].map(|is_known| hub.replies(Door::Api, is_known).used()), [0, 0]);
    hub.replies(Door::Probe, false).used()
}

#[test]
fn replies_that_nobody_reads_are_counted_until_the_client_is_gone() {
    // More than the answers to all requests that are read at once.
    let house = house_with(|limits| limits.replies = 1 << 30);
    let (socket, written) = ask_and_not_read(&house, Duration::from_secs(1));
    assert!(matches!(written.unwrap_err().kind(), io::ErrorKind::WouldBlock));
    wait_until(|| unread(&house) > 0);
    drop(socket);
    wait_until(|| unread(&house) == 0);
    assert_eq!(statuses(house.ask(&["/version"])), [200]);
    house.server.stop();
}

/// Less than after which a client that reads nothing is cut anyway.
const STALLED: Duration = Duration::from_secs(5);

#[test]
fn replies_that_nobody_reads_share_a_budget_and_who_finds_it_used_up_is_cut() {
    let house = house_with(|limits| limits.replies = 160_000);
    std::thread::scope(|scope| {
        let hog = scope.spawn(|| ask_and_not_read(&house, STALLED).1);
        while !hog.is_finished() {
            assert!(unread(&house) <= 10_000);
        }
        let error = hog.join().unwrap().unwrap_err();
        assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{error}"
        );
    });
    assert_eq!(unread(&house), 0);
    assert_eq!(statuses(house.ask(&["/version"])), [200]);
    house.server.stop();
}
