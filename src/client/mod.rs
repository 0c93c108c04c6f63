//! Asks servers of the protocol: a small synchronous HTTPS client. Each request has a connection of its own; if one
//! endpoint fails another is tried, and a request that found no server is repeated, as the public SDK does (`cli` §2).

mod endpoint;
mod http;

use std::{
    fmt,
    io::{self, Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::{
    crypto::SecretBytes,
    sys::network::keep_alive,
    text::json::{Rest, read_object},
    tls::{client::explain, pem},
};

pub use endpoint::{Endpoint, sort};
pub use http::Request;

/// Largest body of a reply in bytes, apart from streams.
const MAX_BODY: usize = 8 << 20;

/// How often a request is made that finds no server, or one that is not ready.
const ROUNDS: u32 = 3;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// No connection; the server knows nothing of the request.
    Connect {
        /// What was asked for.
        url: String,
        /// What went wrong.
        cause: String,
        /// It will not be better next time: the server is not trusted, or does not trust the client.
        is_final: bool,
    },
    /// The connection broke after the request was sent.
    Broken {
        /// What was asked for.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// The server's own words.
    Refused {
        /// The status code.
        status: u16,
        /// The message.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { url, cause, .. } | Self::Broken { url, cause } => {
                f.write_str(url)?;
                f.write_str(": ")?;
                f.write_str(cause)
            }
            Self::Refused { message, .. } => f.write_str(message),
        }
    }
}

/// A whole reply with a status of success.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: SecretBytes,
    /// The endpoint that answered, as `HOST:PORT`.
    pub from: String,
}

/// A body that is read as it comes.
pub type Stream = http::Reply<StreamOwned<ClientConnection, Timed>>;

/// A client of one server, or of several that hold the same keys.
#[derive(Debug)]
pub struct Client {
    endpoints: Vec<Endpoint>,
    tls: Arc<ClientConfig>,
    timeout: Option<Duration>,
    rounds: u32,
}

impl Client {
    /// `timeout` is for a whole request, with everything that is repeated; `None` for no limit.
    pub fn new(endpoints: Vec<Endpoint>, tls: Arc<ClientConfig>, timeout: Option<Duration>) -> Self {
        Self { endpoints, tls, timeout, rounds: ROUNDS }
    }

    /// From now on nothing is repeated, and a request may take no longer than `limit`.
    pub fn try_once(&mut self, limit: Duration) {
        self.rounds = 1;
        self.timeout = Some(self.timeout.map_or(limit, |timeout| timeout.min(limit)));
    }

    /// Makes a request and reads the reply.
    pub fn call(&mut self, request: &Request<'_>) -> Result<Answer, Error> {
        self.attempt(request, &mut |mut stream, from, url| {
            let body = stream.body(MAX_BODY).map_err(|error| broken(url, &error, from))?;
            Ok(Answer { body, from: from.authority() })
        })
    }

    /// Asks for a stream without end. Only its beginning is under the timeout.
    pub fn stream(&mut self, target: &str) -> Result<Stream, Error> {
        let request = Request { method: "GET", target, body: None, is_repeatable: true };
        self.attempt(&request, &mut |mut stream, _, _| {
            let socket = &mut stream.stream().sock;
            socket.deadline = None;
            // A server that has vanished is noticed; without that the stream waits until somebody ends it.
            let _ = keep_alive(socket.inner.as_fd());
            Ok(stream)
        })
    }

    /// Tries the endpoints one after the other, and all of them again, until there is an answer.
    fn attempt<T>(
        &mut self,
        request: &Request<'_>,
        finish: &mut dyn FnMut(Stream, &Endpoint, &str) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut last = None;
        for round in 0..self.rounds {
            if round > 0 && !pause(deadline) {
                break;
            }
            let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
            order.sort_by_key(|index| self.endpoints.get(*index).is_some_and(Endpoint::is_avoided));
            let mut is_hopeless = true;
            for (tried, index) in order.iter().enumerate() {
                let Some(endpoint) = self.endpoints.get_mut(*index) else { continue };
                // The time that is left is for all that are left.
                let share = u32::try_from(order.len() - tried).unwrap_or(1);
                let error = match exchange(endpoint, &self.tls, request, share_of(deadline, share), finish) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                match &error {
                    Error::Connect { is_final, .. } => is_hopeless &= *is_final,
                    // It may have been done.
                    Error::Broken { .. } if !request.is_repeatable => return Err(error),
                    Error::Broken { .. } => is_hopeless = false,
                    Error::Refused { status, .. } if *status < 500 || *status == 501 => return Err(error),
                    Error::Refused { status, .. } => is_hopeless &= *status != 503,
                }
                endpoint.avoid();
                // What a server says is worth more than that another one says nothing.
                if !(matches!(last, Some(Error::Refused { .. })) && matches!(error, Error::Connect { .. })) {
                    last = Some(error);
                }
            }
            if is_hopeless {
                break;
            }
        }
        Err(last.unwrap_or_else(|| Error::Refused { status: 0, message: "no endpoint".to_owned() }))
    }
}

/// Sleeps for 200 to 1000 ms; false if there is no time left for that.
fn pause(deadline: Option<Instant>) -> bool {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let time = Duration::from_millis(200 + u64::from(nanos / 1_000 % 800));
    if deadline.is_some_and(|deadline| deadline.saturating_duration_since(Instant::now()) <= time) {
        return false;
    }
    std::thread::sleep(time);
    true
}

fn share_of(deadline: Option<Instant>, parts: u32) -> Option<Instant> {
    let now = Instant::now();
    deadline.map(|deadline| now + deadline.saturating_duration_since(now) / parts.max(1))
}

/// One request to one endpoint.
fn exchange<T>(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    request: &Request<'_>,
    deadline: Option<Instant>,
    finish: &mut dyn FnMut(Stream, &Endpoint, &str) -> Result<T, Error>,
) -> Result<T, Error> {
    let authority = endpoint.authority();
    let url = format!("{} \"https://{authority}{}\"", title(request.method), request.target);
    let mut stream = connect(endpoint, tls, deadline).map_err(|(cause, is_final)| Error::Connect {
        url: url.clone(),
        cause,
        is_final,
    })?;
    let sent = http::send(&mut stream, &authority, request);
    // A server that refuses the client's certificate says so after the handshake of TLS 1.3; the reply has the reason.
    let mut reply = match (sent, http::Reply::read(stream)) {
        (_, Ok(reply)) => reply,
        (Err(error), Err(later)) if tls_error(&later).is_none() => {
            return Err(broken(&url, &error, endpoint));
        }
        (_, Err(error)) => return Err(broken(&url, &error, endpoint)),
    };
    if !(200..300).contains(&reply.status) {
        let status = reply.status;
        let body = reply.body(MAX_BODY).map_err(|error| broken(&url, &error, endpoint))?;
        return Err(Error::Refused { status, message: message(status, &body) });
    }
    finish(reply, endpoint, &url)
}

/// A connection with its handshake done. The error says whether it is of no use to try again.
fn connect(
    endpoint: &Endpoint,
    tls: &Arc<ClientConfig>,
    deadline: Option<Instant>,
) -> Result<StreamOwned<ClientConnection, Timed>, (String, bool)> {
    let host = endpoint.host.clone();
    let lookup = |cause: &str| (format!("dial tcp: lookup {host}: {cause}"), false);
    let name = ServerName::try_from(host.clone())
        .map_err(|_| (format!("dial tcp: lookup {host}: it is no host name"), true))?;
    let addresses = endpoint.resolve().map_err(|_| lookup("no such host"))?;
    let mut failure = lookup("no such host");
    for (tried, address) in addresses.iter().enumerate() {
        let share = u32::try_from(addresses.len() - tried).unwrap_or(1);
        let limit = share_of(deadline, share).map(|until| until.saturating_duration_since(Instant::now()));
        let connected = match limit {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            Some(limit) => TcpStream::connect_timeout(address, limit),
            None => TcpStream::connect(address),
        };
        let inner = match connected {
            Ok(inner) => inner,
            Err(error) => {
                failure = (format!("dial tcp {address}: connect: {}", describe(&error, endpoint)), false);
                continue;
            }
        };
        let _ = inner.set_nodelay(true);
        let mut socket = Timed { inner, deadline };
        let mut connection = ClientConnection::new(Arc::clone(tls), name.clone())
            .map_err(|error| (explain(&error, &host), true))?;
        while connection.is_handshaking() {
            if let Err(error) = connection.complete_io(&mut socket) {
                return Err((describe(&error, endpoint), tls_error(&error).is_some()));
            }
        }
        return Ok(StreamOwned::new(connection, socket));
    }
    Err(failure)
}

/// A socket whose every call ends by the deadline.
#[derive(Debug)]
pub struct Timed {
    inner: TcpStream,
    deadline: Option<Instant>,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.set_read_timeout(self.left()?)?;
        self.inner.read(out).map_err(timed_out)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.set_write_timeout(self.left()?)?;
        self.inner.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The system says `EAGAIN` when a timeout of a socket is over.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

fn broken(url: &str, error: &io::Error, endpoint: &Endpoint) -> Error {
    let (url, cause) = (url.to_owned(), describe(error, endpoint));
    match tls_error(error) {
        // The handshake had failed, from the server's point of view.
        Some(rustls::Error::AlertReceived(_)) => Error::Connect { url, cause, is_final: true },
        _ => Error::Broken { url, cause },
    }
}

fn describe(error: &io::Error, endpoint: &Endpoint) -> String {
    match (tls_error(error), error.kind()) {
        (Some(error), _) => explain(error, &endpoint.host),
        (None, io::ErrorKind::TimedOut) => "timeout exceeded while waiting for the server".to_owned(),
        (None, io::ErrorKind::UnexpectedEof) => "the server closed the connection".to_owned(),
        (None, _) => pem::cause(error),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// `Get`, as the SDK's language writes it into errors.
fn title(method: &str) -> String {
    let (first, rest) = method.split_at_checked(1).unwrap_or((method, ""));
    format!("{first}{}", rest.to_ascii_lowercase())
}

/// The message of a reply that is no success.
fn message(status: u16, body: &[u8]) -> String {
    let from_json = read_object(body, ["message"], Rest::Ignored).ok();
    let text = match &from_json {
        Some([message]) => message.text().unwrap_or("").to_owned(),
        None => String::from_utf8_lossy(body.get(..200).unwrap_or(body)).trim().to_owned(),
    };
    match text.is_empty() {
        true => format!("the server answered with status {status}"),
        false => text,
    }
}

/// `text` with everything percent-encoded that is not a letter, a digit, `-` or `_`: one segment of a path.
pub fn segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*') {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_refusal_is_the_servers() {
        assert_eq!(message(404, b"{\"message\":\"key does not exist\"\n}"), "key does not exist");
        assert_eq!(message(404, b"404 page not found\n"), "404 page not found");
        assert_eq!(message(502, b""), "the server answered with status 502");
        assert_eq!(message(502, b"{\"message\":5}"), "the server answered with status 502");
    }

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("my-key_1"), "my-key_1");
        assert_eq!(segment("../a b?ä*"), "%2E%2E%2Fa%20b%3F%C3%A4*");
    }
}
