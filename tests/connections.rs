//! What clients see of connections: order, deadlines, half-closed sockets, shutdown.

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use support::{Client, PATIENCE, Server, client_config, request};

#[test]
fn pipelined_requests_are_answered_in_order_also_when_some_are_late() {
    let server = Server::start("");
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let mut client = server.connect("app", "http/1.1");
    // create and list wait for the disk, version does not.
    let wire = [
        request("PUT", "/v1/key/create/b", ""),
        request("GET", "/version", ""),
        request("PUT", "/v1/key/generate/a", ""),
        request("GET", "/v1/key/list/", ""),
        request("GET", "/v1/key/describe/none", ""),
    ];
    client.send(wire.concat());
    let answers: Vec<_> = (0..5).map(|_| client.read_reply()).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404]);
    assert!(answers[1].body.starts_with("{\"version\":"));
    assert!(answers[2].body.starts_with("{\"plaintext\":"));
    assert_eq!(answers[3].body, "{\"names\":[\"a\",\"b\"]}\n");
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answer() {
    let server = Server::start("");
    let mut client = server.connect("app", "http/1.1");
    client.send(request("PUT", "/v1/key/create/half", ""));
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    client.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read_reply().status, 200);
    assert!(client.is_closed());
}

/// A connection whose handshake is complete, and a record for each of `pieces`, which are not sent.
fn records(server: &Server, pieces: &[&str]) -> (Client, Vec<u8>) {
    let mut client = server.connect("app", "http/1.1");
    client.send(request("GET", "/version", ""));
    assert_eq!(client.read_reply().status, 200);
    let mut records = Vec::new();
    for piece in pieces {
        client.stream.conn.writer().write_all(piece.as_bytes()).unwrap();
    }
    while client.stream.conn.wants_write() {
        client.stream.conn.write_tls(&mut records).unwrap();
    }
    (client, records)
}

#[test]
fn replies_of_a_connection_that_fails_reach_no_other_connection() {
    let server = Server::start("");
    let mut others: Vec<Client> = (0..8).map(|_| server.connect("app", "http/1.1")).collect();
    for _ in 0..4 {
        // A whole request, the beginning of another that is longer than TLS takes at a time, and no TLS.
        let cut = &request("PUT", "/v1/key/decrypt/a", &"x".repeat(6000))[..6000];
        let (client, mut wire) = records(&server, &[&request("GET", "/nothing", ""), cut]);
        wire.extend([&[0x17, 3, 3, 0, 32][..], &[0x55; 32]].concat());
        (&client.stream.sock).write_all(&wire).unwrap();
        let mut rest = Vec::new();
        let _ = (&client.stream.sock).read_to_end(&mut rest);
        for other in &mut others {
            other.send(request("GET", "/version", ""));
            let answer = other.read_reply();
            assert!(answer.status == 200 && answer.body.starts_with("{\"version\":"), "{answer:?}");
        }
    }
}

#[test]
fn what_follows_the_end_of_tls_is_ignored() {
    let server = Server::start("");
    for _ in 0..4 {
        let (mut client, mut wire) = records(&server, &[&request("PUT", "/v1/key/create/last", "")]);
        client.stream.conn.send_close_notify();
        while client.stream.conn.wants_write() {
            client.stream.conn.write_tls(&mut wire).unwrap();
        }
        wire.extend([0x55; 9000]);
        (&client.stream.sock).write_all(&wire).unwrap();
        assert!(matches!(client.read_reply().status, 200 | 400));
        assert!(client.is_closed());
    }
    assert_eq!(server.call("GET", "/version", "").0, 200);
    server.stop();
}

#[test]
fn plain_http_on_the_tls_port_gets_a_plain_answer() {
    let mut server = Server::start("");
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert_eq!(answer, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    server.wait_for(
        |server| server.errors().contains("client sent an HTTP request to an HTTPS server"),
        "a log line",
    );
}

#[test]
fn a_client_without_certificate_is_refused_in_the_handshake_and_logged() {
    let mut server = Server::start("");
    let config = client_config(&server.dir, None, &["http/1.1"]);
    let mut client = Client::new(server.address, config);
    // TLS 1.3: the client believes that the handshake is complete until it reads.
    let _ = client.stream.write_all(request("GET", "/version", "").as_bytes());
    let error = client.stream.read(&mut [0; 1]).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    server.wait_for(
        |server| server.errors().contains("tls: client didn't provide a certificate"),
        "a log line",
    );
}

#[test]
fn silent_and_half_finished_clients_are_closed_after_their_deadline() {
    let server = Server::start("");
    let silent = TcpStream::connect(server.address).unwrap();
    let mut half_handshake = TcpStream::connect(server.address).unwrap();
    half_handshake.write_all(&[0x16, 3, 1, 0, 200, 1]).unwrap();
    let mut half_head = server.connect("app", "http/1.1");
    half_head.send("GET /version HTTP/1.1\r\nHost:");
    for mut socket in [silent, half_handshake] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = socket.read(&mut [0; 64]);
        assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
    assert!(half_head.is_closed());
}

#[test]
fn a_request_whose_body_never_ends_is_closed_at_the_route_timeout() {
    let server = Server::start("api: { /v1/ready: { timeout: 1s }, /v1/key/generate/: { timeout: 1s } }\n");
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let mut client = server.connect("app", "http/1.1");
    client.send("PUT /v1/key/generate/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    assert!(client.is_closed());
}

#[test]
fn a_stop_refuses_new_connections_and_ends_idle_ones() {
    let mut server = Server::start("");
    let mut idle = server.connect("app", "http/1.1");
    idle.send(request("GET", "/version", ""));
    assert_eq!(idle.read_reply().status, 200);
    server.signal("TERM");
    assert!(idle.is_closed());
    assert_eq!(server.wait(), Some(0));
    assert!(server.output().ends_with("=> Stopping server... Goodbye.\n"), "{}", server.output());
    assert!(TcpStream::connect(server.address).is_err());
}

#[test]
fn a_stop_says_goaway_over_http2() {
    let mut server = Server::start("");
    let mut client = server.connect("app", "h2");
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // Wait for the server's settings, so that the connection is established.
    let mut seen = vec![0; 9];
    client.stream.read_exact(&mut seen).unwrap();
    server.signal("TERM");
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    seen.extend(rest);
    let goaway = frames(&seen).into_iter().find(|(kind, _)| *kind == 7);
    assert!(goaway.is_some_and(|(_, payload)| payload[4..8] == [0; 4]), "GOAWAY with NO_ERROR");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn one_client_cannot_take_all_connections() {
    let server = Server::start("");
    server.dir.identity("stranger", &[]);
    // Clients without a policy share an eighth of all connections, at least 16.
    let mut refused = 0;
    let mut held = Vec::new();
    for _ in 0..20_000 {
        let mut client = server.connect("stranger", "http/1.1");
        if client.stream.write_all(request("GET", "/v1/status", "").as_bytes()).is_err() {
            refused += 1;
            break;
        }
        let mut byte = [0; 1];
        if !matches!(client.stream.read(&mut byte), Ok(1)) {
            refused += 1;
            break;
        }
        held.push(client);
        if held.len() > 3_000 {
            break;
        }
    }
    assert_eq!(refused, 1, "{} connections were held", held.len());
    assert_eq!(server.call("GET", "/version", "").0, 200);
}

#[test]
fn a_connection_serves_on_after_a_long_pause_between_requests() {
    let server = Server::start("");
    let mut client = server.connect("app", "http/1.1");
    for _ in 0..3 {
        client.send(request("GET", "/version", ""));
        assert_eq!(client.read_reply().status, 200);
        // Longer than the deadline of a head would be if it were counted from the reply.
        std::thread::sleep(Duration::from_millis(5_300));
    }
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let Some(payload) = rest.get(..length) else { break };
        frames.push((*kind, payload.to_vec()));
        bytes = &rest[length..];
    }
    frames
}
