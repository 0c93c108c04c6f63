//! Commands that go on until they are ended: `kes log`, `kes metric`, `kes status --wait` (`cli` §4, §5.7, §5.9).

mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
};

use serde_json::Value;
use support::{Dir, Server};
use terminal::{Env, Running, Terminal, client, end, is_like, send_signal, wait_for};

fn with_env<T>(server: &Server, act: impl FnOnce(Env<'_>) -> T) -> T {
    let address = server.address.to_string();
    act(&[
        ("KES_SERVER", &address),
        ("KES_CLIENT_KEY", "app.key"),
        ("KES_CLIENT_CERT", "app.crt"),
        ("SSL_CERT_FILE", "server.crt"),
    ])
}

fn start(server: &Server, args: &[&str]) -> Running {
    Running::start(with_env(server, |env| client(server.dir.path(), env, args)))
}

fn terminal(server: &Server, line: &str) -> Terminal {
    with_env(server, |env| Terminal::start(server.dir.path(), env, line))
}

/// Waits until somebody reads a log stream.
fn wait_for_reader(server: &Server, log: &str) {
    wait_for("a reader of the log", || {
        server.call("GET", "/v1/metrics", "").1.contains(&format!("kes_log_{log}_readers 1\n"))
    });
}

fn create(server: &Server, name: &str) {
    assert_eq!(server.call("PUT", &format!("/v1/key/create/{name}"), "").0, 200);
}

#[test]
fn audit_events_come_as_json_lines_until_a_signal() {
    let server = Server::start("");
    for (signal, code) in [("INT", 0), ("TERM", 143)] {
        let running = start(&server, &["log", "--json"]);
        wait_for_reader(&server, "audit");
        create(&server, &format!("a-{signal}"));
        create(&server, &format!("b-{signal}"));
        wait_for("two events", || running.lines().len() >= 2);
        let event: Value = serde_json::from_str(&running.lines()[1]).unwrap();
        assert_eq!(event["request"]["path"], format!("/v1/key/create/b-{signal}"));
        assert_eq!(
            (&event["request"]["identity"], &event["response"]["code"]),
            (&server.app.as_str().into(), &200.into())
        );
        assert_eq!(running.errors(), "");
        assert_eq!(running.stop(signal), code, "{signal}");
    }
}

#[test]
fn audit_events_are_rows_on_a_terminal_and_ctrl_c_is_a_good_end() {
    let server = Server::start("");
    let mut terminal = terminal(&server, "exec \"$KES\" log");
    terminal.wait_for("the heading", |shown| shown.contains("Latency"));
    wait_for_reader(&server, "audit");
    create(&server, "my-key");
    terminal.wait_for("the event", |shown| shown.contains("my-key") && shown.ends_with("ms\n"));
    terminal.keys("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    let pattern = format!(
        "\x1b[1;4mTime        Status    Identity                IP                 API                               \
         Latency\x1b[0m\n*:*:*    \x1b[32m200       \x1b[0m{}    127.0.0.1          /v1/key/create/my-key             *ms\n",
        &server.app[..20]
    );
    assert!(is_like(shown.trim_end_matches("^C"), &pattern), "{shown:?}");
}

#[test]
fn the_error_log_is_shown_line_by_line() {
    let server = Server::start("");
    let (text, json) = (start(&server, &["log", "--error"]), start(&server, &["log", "--error", "--json"]));
    wait_for("both readers", || {
        server.call("GET", "/v1/metrics", "").1.contains("kes_log_error_readers 2\n")
    });
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let _ = socket.read(&mut [0; 64]);
    wait_for("the message", || !text.lines().is_empty() && !json.lines().is_empty());
    assert!(text.lines()[0].contains("HTTP request to an HTTPS server"), "{:?}", text.lines());
    let event: Value = serde_json::from_str(&json.lines()[0]).unwrap();
    assert_eq!(event["message"].as_str().unwrap().trim_end(), text.lines()[0]);
    assert_eq!((text.stop("INT"), json.stop("INT")), (0, 0));
}

#[test]
fn the_end_of_the_server_is_the_end_of_its_log() {
    let server = Server::start("");
    let mut running = start(&server, &["log"]);
    wait_for_reader(&server, "audit");
    drop(server.stop());
    assert_eq!(end(&mut running.child), 1);
    wait_for("the reason", || running.errors().starts_with("Error: "));
}

#[test]
fn metrics_come_as_json_lines_until_a_signal() {
    let server = Server::start("");
    for (signal, code) in [("INT", 0), ("TERM", 143)] {
        let running = start(&server, &["metric", "--rate", "20ms"]);
        wait_for("three scrapes", || running.lines().len() >= 3);
        for line in &running.lines()[..3] {
            let metrics: Value = serde_json::from_str(line).unwrap();
            // A server that has just started has been up for nothing, to the hundredth of a second.
            assert!(metrics["kes_system_up_time"].is_u64(), "{line}");
            assert!(metrics["kes_system_num_threads"].as_u64().unwrap() > 0, "{line}");
        }
        assert_eq!(running.errors(), "");
        assert_eq!(running.stop(signal), code, "{signal}");
    }
}

#[test]
fn the_table_of_metrics_is_redrawn_follows_the_terminals_size_and_outlives_the_server() {
    let server = Server::start("");
    let mut terminal =
        terminal(&server, "stty cols 100 rows 30; tty > tty.txt; exec \"$KES\" metric --rate 20ms");
    terminal.wait_for("three frames", |shown| shown.matches("\x1b[H").count() >= 3);
    let shown = terminal.shown();
    assert!(shown.starts_with("\x1b[?25l\x1b[2J\x1b[H"), "the cursor is hidden: {shown:?}");
    assert!(shown.contains("\x1b[1;4mRequest         OK [2xx]"), "{shown:?}");
    assert!(shown.contains("Req/s           Latency\x1b[0m\x1b[K\n"), "{shown:?}");
    // A narrower terminal gets shorter lines, a lower one fewer of them.
    let tty = std::fs::read_to_string(server.dir.join("tty.txt")).unwrap();
    let resize = |columns: &str, rows: &str| {
        let done = Command::new("stty").args(["-F", tty.trim(), "cols", columns, "rows", rows]).status();
        assert!(done.unwrap().success());
    };
    resize("20", "3");
    terminal
        .wait_for("a cut frame", |shown| shown.contains("\x1b[1;4mRequest         OK [\x1b[0m\x1b[K\x1b[J"));
    resize("100", "30");
    let before = terminal.shown().len();
    terminal.wait_for("a whole frame again", |shown| shown[before..].contains("Threads\x1b[0m\x1b[K\n"));
    // Without its server it says so and goes on.
    drop(server.stop());
    terminal.wait_for("the error", |shown| shown.contains("Error: \x1b[0mGet \"https://"));
    terminal.keys("\x03");
    let (code, shown) = terminal.end();
    assert_eq!(code, 0, "{shown:?}");
    assert!(shown.contains("\x1b[?25h\n"), "the cursor is back: {shown:?}");
}

#[test]
fn a_resize_is_drawn_at_once() {
    let server = Server::start("");
    let mut terminal =
        terminal(&server, "stty cols 100 rows 30; tty > tty.txt; exec \"$KES\" metric --rate 1h");
    terminal.wait_for("the table", |shown| shown.contains("Threads"));
    let tty = std::fs::read_to_string(server.dir.join("tty.txt")).unwrap();
    // The signal may come before the program waits for it.
    let mut columns = 40;
    wait_for("a cut frame", || {
        columns = if columns == 40 { 41 } else { 40 };
        let columns = columns.to_string();
        let done = Command::new("stty").args(["-F", tty.trim(), "cols", &columns]).status();
        assert!(done.unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(50));
        terminal.shown().contains("Err [4xx\x1b[0m\x1b[K")
    });
    terminal.keys("\x03");
    assert_eq!(terminal.end().0, 0);
}

#[test]
fn a_signal_ends_a_view_whose_reader_reads_nothing() {
    let server = Server::start("");
    for (signal, code) in [("INT", 0), ("TERM", 143)] {
        let command = ["metric", "--rate", "1ms", "--prometheus"];
        let mut child = with_env(&server, |env| client(server.dir.path(), env, &command)).spawn().unwrap();
        let written = || {
            let counters = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
            let line = counters.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        // Until the pipe is full, which it is when nothing more is written for a while.
        let mut last = 0;
        wait_for("a full pipe", || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let before = std::mem::replace(&mut last, written());
            last >= 30_000 && before == last
        });
        send_signal(child.id(), signal);
        assert_eq!(end(&mut child), code, "{signal}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_everything_quietly() {
    let server = Server::start("");
    create(&server, "a");
    for line in [
        &["ls"][..],
        &["status"],
        &["metric", "--rate", "10ms"],
        &["log"],
        &["log", "--json"],
        &["key", "--help"],
    ] {
        let mut child = with_env(&server, |env| client(server.dir.path(), env, line)).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(end(&mut child), 0, "{line:?}");
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert_eq!(errors, "", "{line:?}");
    }
}

#[test]
fn waiting_for_a_server_ends_when_it_is_there_or_by_a_signal() {
    // An address of the loopback interface that nobody else uses, so that the port need not be found out.
    let pid = std::process::id();
    let address = format!("127.{}.{}.{}:17373", pid / 65_536 % 100 + 100, pid / 256 % 256, pid % 254 + 1);
    let dir = Dir::new();
    dir.identity("server", &["--ip", address.split(':').next().unwrap()]);
    let app = dir.identity("app", &[]);
    dir.write(
        "config.yml",
        &format!(
            "address: {address}\nadmin: {{ identity: {app} }}\ntls: {{ key: server.key, cert: server.crt }}\n\
             keystore: {{ fs: {{ path: ./keys }} }}\n"
        ),
    );
    let env = [
        ("KES_SERVER", address.as_str()),
        ("KES_CLIENT_KEY", "app.key"),
        ("KES_CLIENT_CERT", "app.crt"),
        ("SSL_CERT_FILE", "server.crt"),
    ];
    let mut impatient = client(dir.path(), &env, &["ready", "--wait", "10m"]);
    let mut impatient = impatient.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // SIGINT would not do: who starts the tests in the background of a shell makes every process below ignore it.
    send_signal(impatient.id(), "TERM");
    assert_eq!(end(&mut impatient), 143);
    let mut waiting = client(dir.path(), &env, &["status", "--short", "--wait", "10m"]).spawn().unwrap();
    assert!(waiting.try_wait().unwrap().is_none());
    let server = Running::start(client(dir.path(), &[], &["server", "--config", "config.yml"]));
    assert_eq!(end(&mut waiting), 0);
    let mut out = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, format!("● {address}\n"));
    assert_eq!(server.stop("TERM"), 0);
}
