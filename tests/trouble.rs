//! What is around the server does not do its part: nobody reads its output, file systems come and go, a service manager
//! keeps the listeners.

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use support::{Client, Dir, PATIENCE, Server, client_config, house, request};

/// A process that does not outlive its test.
struct Ended(Child);

impl Ended {
    /// Asks it to stop and returns its exit code.
    fn stop(mut self) -> Option<i32> {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the server does not end");
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server as a service manager does: listeners are the descriptors from 3 on, and variables name the process.
fn start_with_listeners(dir: &Dir, api: &TcpListener, probe: &TcpListener, more: &str) -> Command {
    let script = format!(
        "exec 3<&0 4<&1 0</dev/null {more}; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=api:probe; \
         exec \"$KES\" server --config config.yml"
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .env("KES", support::program())
        .current_dir(dir.path())
        .stdin(OwnedFd::from(api.try_clone().unwrap()))
        .stdout(OwnedFd::from(probe.try_clone().unwrap()));
    command
}

fn listeners() -> (TcpListener, TcpListener, [SocketAddr; 2]) {
    let (api, probe) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [api.local_addr().unwrap(), probe.local_addr().unwrap()];
    (api, probe, addresses)
}

fn call(dir: &Dir, address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut client = Client::new(address, client_config(dir, Some("app"), &["http/1.1"]));
    client.send(request(method, path, body));
    let answer = client.read_reply();
    (answer.status, answer.body)
}

#[test]
fn listeners_of_the_service_manager_are_used_and_outlive_the_server() {
    let (dir, _) = house();
    let (api, probe, addresses) = listeners();
    let start = || {
        let mut command = start_with_listeners(&dir, &api, &probe, "1>/dev/null");
        Ended(command.stderr(Stdio::null()).spawn().unwrap())
    };
    let first = start();
    assert_eq!(call(&dir, addresses[0], "PUT", "/v1/key/create/a", "").0, 200);
    let ready = |mut socket: TcpStream| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    };
    let ask = || {
        let mut socket = TcpStream::connect(addresses[1]).unwrap();
        socket.write_all(b"GET /v1/ready HTTP/1.0\r\n\r\n").unwrap();
        socket
    };
    ready(ask());
    assert_eq!(first.stop(), Some(0));
    // Nobody is refused between two servers: who comes now waits for the next one.
    let waiting = ask();
    let second = start();
    ready(waiting);
    assert_eq!(call(&dir, addresses[0], "PUT", "/v1/key/generate/a", "").0, 200);
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn what_is_odd_is_told_before_what_is_wrong() {
    let (dir, _) = house();
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write("config.yml", &config.replace("cert: server.crt", "cert: missing.crt, pasword: x"));
    let output = dir.kes(&["server", "--check", "--config=config.yml"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("\"pasword\" (did you mean \"password\"?)") && errors.contains("missing.crt"),
        "{errors}"
    );
    dir.write("config.yml", &config.replace("cert: server.crt", "cert: server.crt, ca: missing"));
    let output = dir.kes(&["server", "--check", "--config=config.yml"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.contains("not used as long as tls.auth is off"), "{errors}");
    for flag in ["--auth=on", "--key=a", "--cert=a"] {
        let output = dir.kes(&["server", "--dev", "--addr=127.0.0.1:0", flag]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains("cannot be used with --dev"), "{errors}");
    }
}

#[test]
fn output_that_nobody_reads_holds_up_nobody() {
    let (dir, _) = house();
    let (api, probe, addresses) = listeners();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let mut command = start_with_listeners(&dir, &api, &probe, "1>&2");
    let server = Ended(command.stderr(writer.try_clone().unwrap()).spawn().unwrap());
    // Fills the pipe and waits for ever; the end of the reader ends this.
    std::thread::spawn(move || writer.write_all(&vec![b'x'; 1 << 20]));
    let mut client = Client::new(addresses[0], client_config(&dir, Some("app"), &["http/1.1"]));
    let name = "x".repeat(3_000);
    let dropped = || {
        let (status, text) = call(&dir, addresses[0], "GET", "/v1/metrics", "");
        assert_eq!(status, 200);
        let count = text.lines().find_map(|line| line.strip_prefix("kes_log_lines_dropped_total "));
        count.unwrap().parse::<f64>().unwrap()
    };
    let mut sent = 0;
    while dropped() == 0.0 {
        for _ in 0..100 {
            client.send(request("PUT", &format!("/v1/key/encrypt/a?{name}"), "junk"));
            assert_eq!(client.read_reply().status, 400);
            sent += 1;
        }
        assert!(sent < 100_000, "nothing was dropped");
    }
    // An audit event goes to the same pipe, and so does what a reload and the end say.
    assert_eq!(call(&dir, addresses[0], "PUT", "/v1/key/create/a", "").0, 200);
    Command::new("kill").args(["-HUP", &server.0.id().to_string()]).status().unwrap();
    let reloads = || call(&dir, addresses[0], "GET", "/v1/metrics", "").1.contains("\nkes_reloads_total 1\n");
    let start = Instant::now();
    while !reloads() {
        assert!(start.elapsed() < PATIENCE, "the reload is held up");
    }
    assert_eq!(server.stop(), Some(0));
}

/// A file system of its own at `place`, if one can be mounted here.
fn mount(place: PathBuf, options: &str) -> Option<Mount> {
    fs::create_dir_all(&place).unwrap();
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&place).status();
    if status.is_ok_and(|status| status.success()) {
        return Some(Mount(place));
    }
    println!("skipped: a small tmpfs cannot be mounted here");
    None
}

struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Asks for a reload that must be refused for a reason that contains `why`.
fn refuse_reload(server: &mut Server, why: &str) {
    let refusals = |server: &Server| server.errors().matches("Failed to reload server config").count();
    let before = refusals(server);
    server.signal("HUP");
    server.wait_for(|server| refusals(server) > before, "the refusal");
    let errors = server.errors();
    let refusal = errors.lines().rfind(|line| line.contains("Failed to reload server config")).unwrap();
    assert!(refusal.contains(why), "{refusal}");
}

#[test]
fn a_reload_makes_no_new_store_where_the_old_one_was() {
    let mut server = Server::start("");
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    let (keys, away) = (server.dir.join("keys"), server.dir.join("away"));
    fs::rename(&keys, &away).unwrap();
    refuse_reload(&mut server, "key directory './keys' is not there any more: is it mounted?");
    assert!(!keys.exists());
    fs::rename(&away, &keys).unwrap();
    let (seal, hidden) = (server.dir.join("keys.seal"), server.dir.join("hidden"));
    fs::rename(&seal, &hidden).unwrap();
    refuse_reload(&mut server, "keys.seal' is not there any more");
    assert!(!seal.exists());
    fs::rename(&hidden, &seal).unwrap();
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 200);
}

#[test]
fn a_reload_while_the_keys_are_not_mounted_is_refused() {
    let (dir, app) = house();
    let Some(mounted) = mount(dir.join("keys"), "size=1m,mode=0700") else { return };
    // In the sandbox the bare directory would be out of reach anyway.
    dir.write("config.yml", &(fs::read_to_string(dir.join("config.yml")).unwrap() + "sandbox: off\n"));
    let mut server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 200);
    drop(mounted);
    refuse_reload(&mut server, "is on another file system than before: is it mounted?");
    assert_eq!(fs::read_dir(server.dir.join("keys")).unwrap().count(), 0);
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 200, "the key is in memory still");
}

#[test]
fn a_full_disk_refuses_new_keys_and_nothing_else() {
    let (dir, app) = house();
    let Some(mounted) = mount(dir.join("small"), "size=64k,nr_inodes=64,mode=0700") else { return };
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write("config.yml", &config.replace("./keys", "./small/keys"));
    let server = Server::start_in(dir, app, &[]);
    let mut made = Vec::new();
    let refusal = loop {
        let name = format!("k{}", made.len());
        match server.call("PUT", &format!("/v1/key/create/{name}"), "") {
            (200, _) => made.push(name),
            other => break other,
        }
        assert!(made.len() < 1_000, "the disk is never full");
    };
    assert_eq!(refusal, (502, "{\"message\":\"failed to create key\"\n}".into()));
    assert!(!made.is_empty());
    let (status, list) = server.call("GET", "/v1/key/list/", "");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let mut expected = made.clone();
    expected.sort();
    assert_eq!(
        (status, &list["names"]),
        (200, &expected.into()),
        "what was acknowledged is there, and nothing else"
    );
    for name in &made {
        assert_eq!(server.call("PUT", &format!("/v1/key/generate/{name}"), "").0, 200);
    }
    assert_eq!(server.call("DELETE", "/v1/key/delete/k0", "").0, 200);
    assert_eq!(server.call("PUT", "/v1/key/create/again", "").0, 200, "room makes it work again");
    // Before the directory, which could not be removed.
    let stopped = server.stop();
    drop((mounted, stopped));
}

#[test]
fn no_key_is_made_where_the_store_was_mounted() {
    let (dir, app) = house();
    let Some(mounted) = mount(dir.join("keys"), "size=1m,mode=0700") else { return };
    let config = fs::read_to_string(dir.join("config.yml")).unwrap();
    dir.write("config.yml", &(config + "sandbox: off\n"));
    let server = Server::start_in(dir, app, &[]);
    assert_eq!(server.call("PUT", "/v1/key/create/a", "").0, 200);
    drop(mounted);
    assert_eq!(server.call("PUT", "/v1/key/create/b", "").0, 502);
    assert_eq!(server.call("PUT", "/v1/key/generate/a", "").0, 502, "this is not a missing key");
    assert_eq!(server.call("DELETE", "/v1/key/delete/a", "").0, 502);
    assert_eq!(server.call("GET", "/v1/ready", "").0, 504);
    assert_eq!(fs::read_dir(server.dir.join("keys")).unwrap().count(), 0);
}
