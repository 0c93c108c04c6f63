//! Starts the real program on loopback for the integration tests, and talks to it as a client would.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// Nothing that a test waits for takes this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test: `KES_BIN`, or the one that cargo built.
pub fn program() -> PathBuf {
    std::env::var_os("KES_BIN").map_or_else(|| env!("CARGO_BIN_EXE_kes").into(), PathBuf::from)
}

/// A directory of its own, removed at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kes-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        // A killed test of the same number may have left one.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.join(name), text).unwrap();
    }

    /// Runs the program in this directory to its end.
    pub fn kes(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(&self.0).stdin(Stdio::null()).env_remove("KES_CONFIG");
        command
    }

    /// Makes `NAME.key` and `NAME.crt` and returns the identity.
    pub fn identity(&self, name: &str, more: &[&str]) -> String {
        let (key, cert) = (format!("--key={name}.key"), format!("--cert={name}.crt"));
        let mut args = vec!["identity", "new", &key, &cert];
        args.extend(more);
        args.push(name);
        let output = self.kes(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.trim().strip_prefix("Identity:")).unwrap().trim().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A directory with the files that a server needs, which listens at a free port.
pub fn house() -> (Dir, String) {
    let dir = Dir::new();
    dir.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
    let app = dir.identity("app", &[]);
    dir.write(
        "config.yml",
        &format!(
            "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\ntls: {{ key: server.key, cert: server.crt }}\n\
             policy: {{ app: {{ allow: ['/v1/*'], identities: [{app}] }} }}\nkeystore: {{ fs: {{ path: ./keys }} }}\n"
        ),
    );
    (dir, app)
}

/// A running server: its own directory with `server.key`, `app.key` and so on; ended by its process id.
pub struct Server {
    pub dir: Dir,
    pub address: SocketAddr,
    pub app: String,
    child: Child,
    errors: Arc<Mutex<String>>,
    output: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a server whose policy lets the identity `app` do everything; `more` is added to the configuration.
    pub fn start(more: &str) -> Self {
        let dir = Dir::new();
        dir.identity("server", &["--ip", "127.0.0.1", "--dns", "localhost"]);
        let app = dir.identity("app", &[]);
        let config = format!(
            "address: 127.0.0.1:0\nadmin: {{ identity: disabled }}\ntls: {{ key: server.key, cert: server.crt }}\n\
             policy:\n  app:\n    allow: ['/v1/*']\n    identities: [{app}]\nkeystore: {{ fs: {{ path: ./keys }} }}\n{more}"
        );
        dir.write("config.yml", &config);
        Self::start_in(dir, app, &[])
    }

    /// Starts a server with the `config.yml` of `dir`.
    pub fn start_in(dir: Dir, app: String, more: &[&str]) -> Self {
        let mut args = vec!["server", "--config", "config.yml"];
        args.extend(more);
        let command = dir.command(&args);
        Self::run(dir, app, command)
    }

    /// As [`Server::start_in`], as another user if one is given.
    pub fn start_as(dir: Dir, app: String, user: Option<u32>) -> Self {
        let mut command = dir.command(&["server", "--config", "config.yml"]);
        if let Some(user) = user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        Self::run(dir, app, command)
    }

    /// Starts a server by `command`, which becomes it in the end.
    pub fn run(dir: Dir, app: String, mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let errors = collect(child.stderr.take().unwrap());
        let output = collect(child.stdout.take().unwrap());
        let mut server = Self { dir, address: ([127, 0, 0, 1], 0).into(), app, child, errors, output };
        server.wait_for(|server| server.output().contains("up and running"), "the banner");
        let output = server.output();
        let url = output.split("https://127.0.0.1:").nth(1).expect("the banner names the address");
        let port = url.split_whitespace().next().unwrap().parse().unwrap();
        server.address.set_port(port);
        server
    }

    /// What the server has printed to stdout.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// What the server has printed to stderr.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something is so; fails the test if it never is.
    pub fn wait_for(&mut self, is_so: impl Fn(&Self) -> bool, what: &str) {
        let start = Instant::now();
        while !is_so(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended with {ended:?} before {what}:\n{}", self.errors());
            assert!(start.elapsed() < PATIENCE, "no sign of {what}:\n{}\n{}", self.output(), self.errors());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process and returns its exit code (`None`: ended by a signal).
    pub fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the server and gives its directory back, for a second start.
    pub fn stop(mut self) -> (Dir, String) {
        self.signal("TERM");
        assert_eq!(self.wait(), Some(0), "{}", self.errors());
        (std::mem::replace(&mut self.dir, Dir::new()), self.app.clone())
    }

    /// Kills the server, if it still runs, and gives its directory back.
    pub fn kill(mut self) -> (Dir, String) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (std::mem::replace(&mut self.dir, Dir::new()), self.app.clone())
    }

    /// A TLS connection as the identity `name`, speaking `protocol` (`http/1.1` or `h2`).
    pub fn connect(&self, name: &str, protocol: &str) -> Client {
        let config = client_config(&self.dir, Some(name), &[protocol]);
        Client::new(self.address, config)
    }

    /// One request over a connection of its own: status and body.
    pub fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut client = self.connect("app", "http/1.1");
        client.send(request(method, path, body));
        let answer = client.read_reply();
        (answer.status, answer.body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&text);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = shared.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

/// A client configuration that trusts `server.crt` and shows `NAME.crt`, or no certificate at all.
pub fn client_config(dir: &Dir, name: Option<&str>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("server.crt")).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::pem_file_iter(dir.join(&format!("{name}.crt"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(dir.join(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A connection that sends raw bytes and reads whole replies.
pub struct Client {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    pending: Vec<u8>,
}

/// One HTTP/1.1 reply.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Client {
    pub fn new(address: SocketAddr, config: ClientConfig) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let name = ServerName::from(address.ip());
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        Self { stream: StreamOwned::new(tls, socket), pending: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Reads one reply; the connection must not end before it is whole.
    pub fn read_reply(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break String::from_utf8(self.pending.drain(..end + 4).collect()).unwrap();
            }
            self.fill();
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse::<usize>().unwrap());
        while self.pending.len() < length {
            self.fill();
        }
        let body = String::from_utf8(self.pending.drain(..length).collect()).unwrap();
        Answer { status: head[9..12].parse().unwrap(), head, body }
    }

    /// Whether the server ends the connection, without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 64];
        self.pending.is_empty() && matches!(self.stream.read(&mut rest), Ok(0) | Err(_))
    }

    fn fill(&mut self) {
        let mut bytes = [0; 16384];
        let n = self.stream.read(&mut bytes).expect("the server answers");
        assert!(n > 0, "the connection ended after {:?}", String::from_utf8_lossy(&self.pending));
        self.pending.extend_from_slice(&bytes[..n]);
    }
}

/// An HTTP/1.1 request with a body of known length.
pub fn request(method: &str, path: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
