//! The server when the machine fails it: no descriptors, no memory, a clock that jumps, a process that is stopped, a
//! panic. It goes on by itself, or at its next start, and what it has acknowledged is there.

mod support;

use std::{
    fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use support::{Client, Dir, Server, program, request};

/// A directory with certificates and a configuration, and the identity of its client.
fn house() -> (Dir, String) {
    let dir = Dir::new();
    dir.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
    let app = dir.identity("app", &[]);
    let config = format!(
        "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\ntls: {{ key: server.key, cert: server.crt }}\n\
         policy: {{ app: {{ allow: ['/v1/*'], identities: [{app}] }} }}\nkeystore: {{ fs: {{ path: ./keys }} }}\n"
    );
    dir.write("config.yml", &config);
    (dir, app)
}

/// A server that the shell starts after `before`, such as a limit.
fn start_after(before: &str, (dir, app): (Dir, String)) -> Server {
    let mut command = Command::new("sh");
    // `KES_BIN` has no places to panic; `KES_FAULT_BIN` is another build that has them.
    let with_faults = cfg!(feature = "fault-points").then(|| {
        std::env::var_os("KES_FAULT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_kes").into(), PathBuf::from)
    });
    let program: PathBuf = with_faults.unwrap_or_else(program);
    let run = format!("{before} exec '{}' server --config config.yml", program.display());
    command.args(["-c", &run]).current_dir(dir.path()).env_remove("KES_CONFIG");
    Server::run(dir, app, command)
}

#[test]
fn without_descriptors_clients_wait_and_are_served_when_there_are_some_again() {
    // Each core takes some, and there are fewer than connections that the server would like to have.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut server = start_after(&format!("ulimit -n {};", 70 + 3 * cores), house());
    assert_eq!(server.call("PUT", "/v1/key/create/before", "").0, 200);
    let mut client = server.connect("app", "http/1.1");
    client.send(request("PUT", "/v1/key/generate/before", ""));
    assert_eq!(client.read_reply().status, 200);

    let crowd: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(server.address).unwrap()).collect();
    server.wait_for(|server| server.errors().contains("cannot accept connections"), "the complaint");
    // A key in the cache needs no descriptor.
    client.send(request("PUT", "/v1/key/generate/before", ""));
    assert_eq!(client.read_reply().status, 200);
    // A new one needs some: it is made or refused, and the answer is the truth.
    client.send(request("PUT", "/v1/key/create/during", ""));
    let during = client.read_reply().status;
    assert!(during == 200 || during >= 500, "{during}");
    drop(crowd);

    assert_eq!(server.call("PUT", "/v1/key/create/after", "").0, 200);
    let is_there = server.call("PUT", "/v1/key/generate/during", "").0 == 200;
    assert!(is_there || during != 200, "a key is lost that was acknowledged");
    server.stop();
}

/// The address space that a server like this takes, in kB.
fn address_space() -> u64 {
    let server = Server::start("");
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.split_whitespace().next().unwrap().parse().unwrap()
}

/// Sends `first` over a connection of its own, whose answer must be 200, then most of a big request, and keeps it open.
/// `None` if the server did not give that answer.
fn hold(server: &Server, first: &str) -> Option<Client> {
    let attempt = || {
        let mut client = server.connect("app", "http/1.1");
        client.send(request("PUT", first, ""));
        let status = client.read_reply().status;
        (status == 200).then_some(client)
    };
    let mut client = catch_unwind(AssertUnwindSafe(attempt)).ok()??;
    client.stream.sock.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let head = "PUT /v1/key/encrypt/mine HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n";
    let _ = client.stream.write_all(head.as_bytes()).and_then(|()| client.stream.write_all(&[b' '; 900_000]));
    Some(client)
}

#[test]
fn without_memory_nothing_acknowledged_is_lost() {
    let limit = address_space() + 20_000;
    let server = start_after(&format!("ulimit -v {limit};"), house());
    let mut made = Vec::new();
    for round in 0..40 {
        let name = format!("k{round}");
        match hold(&server, &format!("/v1/key/create/{name}")) {
            Some(client) => made.push((name, client)),
            None => break,
        }
    }
    assert!(!made.is_empty());
    let (dir, app) = server.kill();
    let server = Server::start_in(dir, app, &[]);
    for (name, _) in made {
        assert_eq!(server.call("PUT", &format!("/v1/key/generate/{name}"), "").0, 200, "{name}");
    }
    server.stop();
}

#[test]
fn unfinished_requests_of_all_clients_together_take_a_bounded_amount_of_memory() {
    let limit = address_space() + 280_000;
    let server = start_after(&format!("ulimit -v {limit};"), house());
    assert_eq!(server.call("PUT", "/v1/key/create/mine", "").0, 200);
    // 350 times 900 kB are more than the limit.
    let held: Vec<_> = (0..350).map(|_| hold(&server, "/v1/key/generate/mine")).collect();
    assert!(held.iter().flatten().count() >= 200);
    assert_eq!(server.call("PUT", "/v1/key/generate/mine", "").0, 200);
    assert_eq!(server.call("PUT", "/v1/key/generate/mine", "{\"context\":\"AAAA\"}").0, 200);
    server.stop();
}

#[test]
fn a_server_that_was_stopped_for_a_while_answers_what_has_come_meanwhile() {
    let mut server = Server::start("");
    assert_eq!(server.call("PUT", "/v1/key/create/mine", "").0, 200);
    let generate = request("PUT", "/v1/key/generate/mine", "");
    let mut clients: Vec<_> = (0..10).map(|_| server.connect("app", "http/1.1")).collect();
    for client in &mut clients {
        client.send(&generate);
        assert_eq!(client.read_reply().status, 200);
    }
    server.signal("STOP");
    server.wait_for(|server| state_of(server) == 'T', "the stop");
    let creation = request("PUT", "/v1/key/create/meanwhile", "");
    clients.iter_mut().for_each(|client| client.send(&generate));
    clients[0].send(creation);
    // Longer than a clock tick of the server, and than its clients are apart.
    std::thread::sleep(Duration::from_millis(700));
    server.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.read_reply().status, 200);
    }
    assert_eq!(clients[0].read_reply().status, 200);
    assert_eq!(server.call("PUT", "/v1/key/generate/meanwhile", "").0, 200);
    server.stop();
}

fn state_of(server: &Server) -> char {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
}

/// The library that shows a program another time, if it is installed.
fn faketime() -> Option<&'static str> {
    [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    ]
    .into_iter()
    .find(|library| Path::new(library).exists())
}

#[test]
fn a_clock_that_jumps_changes_dates_and_nothing_else() {
    let is_static = fs::read(program()).unwrap().windows(9).all(|bytes| bytes != b"ld-linux-");
    let Some(library) = faketime().filter(|_| !is_static) else {
        return println!("skipped: needs libfaketime and a program that is linked dynamically");
    };
    let (dir, app) = house();
    dir.write("clock", "+0\n");
    // The library that shows another time reads a file of its own.
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write("config.yml", &format!("{config}sandbox: off\n"));
    let clock = dir.join("clock");
    let before = format!(
        "LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
         DONT_FAKE_MONOTONIC=1",
        clock.display()
    );
    let server = start_after(&format!("export {before};"), (dir, app));
    let mut kept = server.connect("app", "http/1.1");
    let mut year_of = |jump: &str, key: &str| {
        // Put there in one step: the server reads it at any time.
        fs::write(clock.with_extension("new"), format!("{jump}\n")).unwrap();
        fs::rename(clock.with_extension("new"), &clock).unwrap();
        // A kept connection, a new one, a new key and the listing, whatever the time.
        kept.send(request("PUT", &format!("/v1/key/create/{key}"), ""));
        assert_eq!(kept.read_reply().status, 200, "{jump}");
        assert_eq!(server.call("PUT", &format!("/v1/key/generate/{key}"), "").0, 200, "{jump}");
        let (status, described) = server.call("GET", &format!("/v1/key/describe/{key}"), "");
        assert_eq!(status, 200, "{jump}");
        let year = described.split("\"created_at\":\"").nth(1).unwrap()[..4].parse::<i64>().unwrap();
        let (status, text) = server.call("GET", "/v1/status", "");
        let uptime = text.split("\"uptime\":").nth(1).unwrap().split([',', '}']).next().unwrap();
        let uptime: u64 = uptime.parse().unwrap();
        // In nanoseconds or seconds, no jump of the clock is in it.
        assert!(status == 200 && uptime < 600_000_000_000, "{jump}: up for {uptime}");
        year
    };
    let now = year_of("+0", "now");
    assert_eq!(year_of("+10y", "later") - now, 10);
    assert_eq!(year_of("-20y", "earlier") - now, -20);
    assert_eq!(year_of("+0", "again"), now);
    assert_eq!(server.call("GET", "/v1/key/list/", "").1.matches("again").count(), 1);
    server.stop();
}

#[cfg(feature = "fault-points")]
#[test]
fn a_panic_costs_one_request_or_one_connection_and_nothing_else() {
    for (place, is_answered) in
        [("handler:/v1/api", true), ("job:/v1/key/describe/", true), ("connection:h2", false)]
    {
        let server = start_after(&format!("export KES_PANIC={place};"), house());
        assert_eq!(server.call("PUT", "/v1/key/create/mine", "").0, 200);
        let mut bystander = server.connect("app", "http/1.1");
        // More often than there are threads of any kind.
        for _ in 0..40 {
            if is_answered {
                let path = place.split_once(':').unwrap().1;
                let path = if path.ends_with('/') { format!("{path}none") } else { path.to_owned() };
                assert_eq!(server.call("GET", &path, "").0, 500, "{place}");
            } else {
                let mut client = server.connect("app", "h2");
                client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
                assert!(client.is_closed(), "{place}");
            }
            bystander.send(request("PUT", "/v1/key/generate/mine", ""));
            assert_eq!(bystander.read_reply().status, 200, "{place}");
        }
        assert_eq!(server.call("PUT", "/v1/key/create/other", "").0, 200, "{place}");
        server.stop();
    }
}
