//! What an operator sees of a running server: log streams, probes, reloads, the service manager, a lost key store.

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::{Command, Stdio},
};

use support::{Client, PATIENCE, Server, client_config, house, request};

/// A log stream over HTTP/1.1, behind its head.
fn follow(server: &Server, path: &str) -> BufReader<impl Read + use<>> {
    let mut client = server.connect("app", "http/1.1");
    client.send(request("GET", path, ""));
    let mut reader = BufReader::new(client.stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: application/x-ndjson\r\n"), "{head}");
    assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
    reader
}

/// The next chunk of a stream, `None` for the last one.
fn chunk(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("{line:?}"));
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes[length..], b"\r\n");
    (length > 0).then(|| String::from_utf8(bytes[..length].to_vec()).unwrap())
}

fn metric(server: &Server, name: &str) -> f64 {
    let (status, text) = server.call("GET", "/v1/metrics", "");
    assert_eq!(status, 200);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn a_log_stream_begins_at_once_delivers_at_once_and_ends_with_the_server() {
    let mut server = Server::start("");
    let (mut audit, mut errors) = (follow(&server, "/v1/log/audit"), follow(&server, "/v1/log/error"));
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let event: serde_json::Value = serde_json::from_str(&chunk(&mut audit).unwrap()).unwrap();
    assert_eq!(event["request"]["path"], "/v1/key/create/a");
    assert_eq!(event["request"]["ip"], "127.0.0.1");
    assert_eq!(event["request"]["identity"], server.app.as_str());
    assert_eq!(event["response"]["code"], 200);
    assert_eq!(server.call("PUT", "/v1/key/encrypt/a", "junk").0, 400);
    let event: serde_json::Value = serde_json::from_str(&chunk(&mut errors).unwrap()).unwrap();
    assert!(event["message"].as_str().unwrap().contains("level=ERROR"), "{event}");
    assert_eq!(metric(&server, "kes_log_audit_readers"), 1.0);
    server.signal("TERM");
    assert_eq!((chunk(&mut audit), chunk(&mut errors)), (None, None));
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_reader_that_leaves_is_forgotten() {
    let mut server = Server::start("");
    drop(follow(&server, "/v1/log/error"));
    server.wait_for(|server| metric(server, "kes_log_error_readers") == 0.0, "the reader's end");
    // The connections that have asked may not be gone yet.
    server.wait_for(|server| metric(server, "kes_connections_open") == 1.0, "the end of its connection");
}

#[test]
fn a_slow_reader_of_a_log_loses_events_and_holds_up_nobody() {
    let server = Server::start("");
    // Each failed request makes an event of about 4 kB that the client does not read.
    let stuck = follow(&server, "/v1/log/error");
    let mut client = server.connect("app", "http/1.1");
    let name = "x".repeat(3_000);
    let mut sent = 0;
    while metric(&server, "kes_log_error_dropped_total") == 0.0 {
        for _ in 0..500 {
            client.send(request("PUT", &format!("/v1/key/encrypt/a?{name}"), "junk"));
            assert_eq!(client.read_reply().status, 400);
            sent += 1;
        }
        assert!(sent < 200_000, "nothing was dropped");
    }
    // What was kept is whole lines, in order.
    let mut stuck = stuck;
    for _ in 0..50 {
        let event: serde_json::Value = serde_json::from_str(&chunk(&mut stuck).unwrap()).unwrap();
        assert!(event["message"].as_str().unwrap().contains("level=ERROR"));
    }
    assert_eq!(server.call("GET", "/version", "").0, 200);
}

#[test]
fn audit_levels_and_the_audit_file_follow_the_configuration_at_a_reload() {
    let mut server = Server::start("log: { audit: off, file: audit.log }\n");
    let mut audit = follow(&server, "/v1/log/audit");
    assert_eq!(server.call("PUT", "/v1/key/create/silent", "").0, 200);
    let lines = |server: &Server, name: &str| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(server.dir.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(lines(&server, "audit.log").is_empty());
    reload(&mut server, |text| text.replace("audit: off", "audit: on"));
    assert_eq!(server.call("PUT", "/v1/key/create/loud", "").0, 200);
    assert!(chunk(&mut audit).unwrap().contains("/v1/key/create/loud"));
    let events = lines(&server, "audit.log");
    assert_eq!((events.len(), &events[0]["message"]), (1, &"secret key 'loud' created".into()));
    assert_eq!(events[0]["request"]["method"], "PUT");
    let mode = fs::metadata(server.dir.join("audit.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A rotation: the file is renamed, and a reload makes a new one.
    fs::rename(server.dir.join("audit.log"), server.dir.join("audit.log.1")).unwrap();
    reload(&mut server, str::to_owned);
    assert_eq!(server.call("DELETE", "/v1/key/delete/loud", "").0, 200);
    assert_eq!(lines(&server, "audit.log")[0]["message"], "secret key 'loud' deleted");
    assert_eq!(lines(&server, "audit.log.1").len(), 1);

    // A file that cannot be opened refuses the reload, and the old one stays in use.
    let config = fs::read_to_string(server.dir.join("config.yml")).unwrap();
    server.dir.write("config.yml", &config.replace("audit.log", "nowhere/audit.log"));
    server.signal("HUP");
    server
        .wait_for(|server| server.errors().contains("Failed to reload server config: log.file"), "the error");
    assert_eq!(server.call("DELETE", "/v1/key/delete/silent", "").0, 200);
    assert_eq!(lines(&server, "audit.log").len(), 2);
}

/// Changes the configuration and waits until the server has taken it.
fn reload(server: &mut Server, change: impl Fn(&str) -> String) {
    let done = |server: &Server| server.output().matches("after SIGHUP signal completed").count();
    let before = done(server);
    let config = fs::read_to_string(server.dir.join("config.yml")).unwrap();
    server.dir.write("config.yml", &change(&config));
    server.signal("HUP");
    server.wait_for(|server| done(server) > before, "the reload");
}

#[test]
fn a_reload_is_all_or_nothing() {
    let mut server = Server::start("");
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let good = fs::read_to_string(server.dir.join("config.yml")).unwrap();
    let bad = [
        good.replace("/v1/*", "/v1/key/*") + "nonsense: [",
        good.replace("/v1/*", "/v1/key/*").replace("server.crt", "missing.crt"),
        good.replace("/v1/*", "/v1/key/*").replace("./keys", "./config.yml"),
        good.replace("/v1/*", "/v1/key/*") + "keys: [ { name: 'not a name' } ]\n",
        good.replace("/v1/*", "/v1/key/*") + "log: { audit: maybe }\n",
    ];
    for (count, text) in bad.iter().enumerate() {
        server.dir.write("config.yml", text);
        server.signal("HUP");
        server.wait_for(|server| server.errors().matches("Failed to ").count() > count, "the refusal");
        assert_eq!(server.call("GET", "/v1/status", "").0, 200, "the old policy is in force: {text}");
    }
    assert_eq!(metric(&server, "kes_reload_failures_total"), bad.len() as f64);
    server.dir.write("config.yml", &good);
    reload(&mut server, |text| text.replace("/v1/*", "/v1/key/*"));
    assert_eq!(server.call("GET", "/v1/status", "").0, 403);
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 200);
}

#[test]
fn a_printed_configuration_starts_the_same_server() {
    let (dir, app) = house();
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write("config.yml", &(config + "keys: [ { name: first } ]\nlog: { audit: off }\n"));
    let print = |dir: &support::Dir, form: &str| {
        let output = dir.kes(&["server", "--config=config.yml", "--addr=127.0.0.1:0", form]);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let yaml = print(&dir, "--print-config");
    let json = print(&dir, "--print-config=json");
    assert!(!dir.join("keys").exists(), "nothing is opened or made");
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["address"], "127.0.0.1:0");
    assert_eq!(value["policy"]["app"]["identities"][0], app.as_str());

    // JSON is YAML too.
    for text in [&yaml, &json] {
        dir.write("config.yml", text);
        assert_eq!(print(&dir, "--print-config=json"), json);
    }
    let server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("GET", "/v1/key/list/", ""), (200, "{\"names\":[\"first\"]}\n".into()));

    let output = server.dir.kes(&["server", "--config=config.yml", "--print-config=xml"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("only 'json' is possible"), "{errors}");
}

#[test]
fn probes_are_answered_in_plain_http() {
    let mut server = Server::start("probe: { address: 127.0.0.1:0 }\n");
    server.wait_for(|server| server.output().contains("http://127.0.0.1:"), "the address");
    let output = server.output();
    let address = output.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let ask = |requests: &str| {
        let mut socket = TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(requests.as_bytes()).unwrap();
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text);
        text
    };
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let close = "Connection: close\r\n";
    for path in ["/version", "/v1/ready", "/v1/status", "/v1/metrics"] {
        let reply = ask(&get(path, close));
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {reply}");
    }
    assert!(ask(&get("/v1/metrics", close)).contains("\nkes_keystore_sealed 1\n"));
    assert!(ask(&get("/v1/key/list/", close)).starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(ask(&get("/v1/log/error", close)).starts_with("HTTP/1.1 404 Not Found\r\n"));
    let both = ask(&(get("/v1/ready", "") + &get("/version", close)));
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 Bad Request\r\n"));
    // The store is away: the probe says so.
    fs::rename(server.dir.join("keys"), server.dir.join("away")).unwrap();
    let reply = ask(&get("/v1/ready", close));
    assert!(reply.starts_with("HTTP/1.1 504 ") && reply.contains("key store is not reachable"), "{reply}");
    server.signal("TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn an_address_for_probes_that_others_can_reach_is_a_warning() {
    let server = Server::start("probe: { address: '0.0.0.0:0' }\n");
    assert!(
        server.errors().contains("probe.address: 0.0.0.0:0 answers anybody who can reach it"),
        "{}",
        server.errors()
    );
}

#[test]
fn the_service_manager_is_told_of_start_reload_and_stop() {
    let (dir, _) = house();
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = dir
        .command(&["server", "--config", "config.yml"])
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let heard = || {
        let mut bytes = [0; 200];
        let n = socket.recv(&mut bytes).expect("the server says something");
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    };
    let signal = |name: &str| {
        Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    };
    assert_eq!(heard(), "READY=1\nSTATUS=Serving");
    signal("-HUP");
    let reloading = heard();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().unwrap() > 0);
    assert_eq!(heard(), "READY=1");
    signal("-TERM");
    assert_eq!(heard(), "STOPPING=1\nSTATUS=Stopping");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_refused_handshake_is_one_line_with_peer_reason_and_hint() {
    let mut server = Server::start("");
    let mut client = Client::new(server.address, client_config(&server.dir, None, &["http/1.1"]));
    let local = client.stream.sock.local_addr().unwrap();
    let _ = client.stream.write_all(request("GET", "/version", "").as_bytes());
    let _ = client.stream.read(&mut [0; 1]);
    server.wait_for(|server| server.errors().contains("TLS handshake error"), "the line");
    let errors = server.errors();
    let line = errors.lines().find(|line| line.contains("TLS handshake error")).unwrap();
    let expected = format!(
        "level=INFO msg=\"http: TLS handshake error from {local}: tls: client didn't provide a certificate\" hint="
    );
    assert!(line.contains(&expected), "{line}");
    assert_eq!(errors.matches("handshake error").count(), 1);
    assert_eq!(metric(&server, "kes_tls_handshakes_failed_total"), 1.0);
}

#[test]
fn handshakes_are_counted_by_kind() {
    let server = Server::start("");
    let config = client_config(&server.dir, Some("app"), &["http/1.1"]);
    for _ in 0..3 {
        let mut client = Client::new(server.address, config.clone());
        client.send(request("GET", "/version", ""));
        assert_eq!(client.read_reply().status, 200);
    }
    // The call for the metrics makes a full one of its own.
    assert_eq!(metric(&server, "kes_tls_handshakes_full_total"), 2.0);
    assert_eq!(metric(&server, "kes_tls_handshakes_resumed_total"), 2.0);
    assert!(metric(&server, "kes_tls_certificate_expiry_timestamp_seconds") > 1.7e9);
}

#[test]
fn a_lost_store_is_told_from_a_missing_key_and_comes_back() {
    let server = Server::start("");
    for key in ["cached", "other"] {
        assert_eq!(server.call("PUT", &format!("/v1/key/create/{key}"), "").0, 200);
    }
    assert_eq!(server.call("PUT", "/v1/key/generate/cached", "").0, 200);
    fs::rename(server.dir.join("keys"), server.dir.join("away")).unwrap();
    let rows = [
        ("PUT", "/v1/key/generate/cached", 200, "ciphertext"),
        ("PUT", "/v1/key/generate/other", 502, "failed to read key"),
        ("GET", "/v1/key/describe/none", 502, "failed to read key"),
        ("PUT", "/v1/key/create/new", 502, "failed to create key"),
        ("GET", "/v1/key/list/", 502, "failed to list keys"),
        ("DELETE", "/v1/key/delete/other", 502, "failed to delete key"),
        ("GET", "/v1/ready", 504, "key store is not reachable"),
        ("GET", "/v1/status", 200, "\"keystore_unreachable\":true"),
        ("GET", "/version", 200, "version"),
        ("GET", "/v1/policy/list/", 200, "app"),
        ("GET", "/v1/metrics", 200, "kes_keystore_errors_total"),
    ];
    for (method, path, status, part) in rows {
        let (got, body) = server.call(method, path, "");
        assert!(got == status && body.contains(part), "{method} {path}: {got} {body}");
    }
    assert!(!server.call("GET", "/v1/status", "").1.contains("keystore_latency"));
    fs::rename(server.dir.join("away"), server.dir.join("keys")).unwrap();
    assert_eq!(server.call("PUT", "/v1/key/generate/other", "").0, 200);
    assert_eq!(server.call("PUT", "/v1/key/create/new", "").0, 200);
}

#[test]
fn a_store_without_permission_is_unreachable_until_it_has_it_again() {
    let (dir, app) = house();
    // Permissions do not bind root, so the server runs as somebody else then.
    let own = fs::metadata(dir.path()).unwrap();
    let is_root = std::os::unix::fs::MetadataExt::uid(&own) == 0;
    if is_root {
        for name in ["", "server.key", "server.crt", "app.key", "app.crt", "config.yml"] {
            std::os::unix::fs::chown(dir.join(name), Some(65_534), Some(65_534)).unwrap();
        }
    }
    let user = is_root.then_some(65_534);
    let server = Server::start_as(dir, app, user);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let allow =
        |mode| fs::set_permissions(server.dir.join("keys"), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    let refused = [
        ("PUT", "/v1/key/generate/a", 502, "failed to read key"),
        ("PUT", "/v1/key/create/b", 502, "failed to create key"),
        ("GET", "/v1/key/list/", 502, "failed to list keys"),
        ("DELETE", "/v1/key/delete/a", 502, "failed to delete key"),
        ("GET", "/v1/status", 200, "\"keystore_unreachable\":true"),
    ];
    for (method, path, status, part) in refused {
        let (got, body) = server.call(method, path, "");
        assert!(got == status && body.contains(part), "{method} {path}: {got} {body}");
    }
    assert!(matches!(server.call("GET", "/v1/ready", "").0, 502 | 504));
    allow(0o700);
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 200);
    assert_eq!(server.call("GET", "/v1/ready", "").0, 200);
}
