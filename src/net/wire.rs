//! What lies between a socket and the protocol: TLS, or nothing on the listener for probes.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use rustls::{AlertDescription, PeerIncompatible, ServerConnection};

use crate::sys::memory::wipe;

/// One connection's wire.
pub(super) enum Wire {
    /// TLS, before its first byte has come: nothing is allocated yet.
    Untouched,
    /// TLS.
    Tls(Box<ServerConnection>),
    /// Bytes as they are, and those that are not sent yet.
    Plain(Vec<u8>),
    /// The connection is over.
    Gone,
}

/// Sends a single piece by the call for that, which is cheaper than the one for several.
struct Pieces<W>(W);

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.write(piece)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => self.0.write(piece),
            pieces => self.0.write_vectored(pieces),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Wire {
    /// Sets up TLS for the first bytes.
    pub(super) fn begin(&mut self, config: Arc<rustls::ServerConfig>) -> Result<(), rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is sent is bounded by the protocols and by not reading while something waits to be sent.
        connection.set_buffer_limit(None);
        *self = Self::Tls(Box::new(connection));
        Ok(())
    }

    /// Whether something waits to be sent.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Tls(tls) => tls.wants_write(),
            Self::Plain(out) => !out.is_empty(),
            Self::Untouched | Self::Gone => false,
        }
    }

    /// Sends once, as much as `socket` takes.
    pub(super) fn write_to(&mut self, mut socket: impl Write) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.write_tls(&mut Pieces(socket)),
            Self::Plain(out) => {
                let n = socket.write(out)?;
                out.drain(..n);
                Ok(n)
            }
            Self::Untouched | Self::Gone => Ok(0),
        }
    }

    /// Takes over `out` to be sent, and wipes it.
    pub(super) fn put(&mut self, out: &mut Vec<u8>) {
        match self {
            // Writing into memory without a limit cannot fail.
            Self::Tls(tls) if !out.is_empty() => drop(tls.writer().write_all(out)),
            Self::Plain(waiting) => waiting.extend_from_slice(out),
            _ => {}
        }
        wipe(out);
        out.clear();
        // A burst of big replies must not stay allocated.
        out.shrink_to(64 << 10);
    }

    /// Says that nothing more is sent.
    pub(super) fn say_goodbye(&mut self) {
        if let Self::Tls(tls) = self {
            tls.send_close_notify();
        }
    }

    /// The next decrypted bytes in `plain`: how many, none at the end of the input, an error if there are no more now.
    pub(super) fn read(&mut self, plain: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tls(tls) => tls.reader().read(plain),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// After a failed handshake: where rustls sends another alert than clients have always seen, puts that one in its
    /// place. A client of TLS 1.2 without certificate is told `handshake_failure` (RFC 5246 §7.4.6), because what rustls
    /// says is of TLS 1.3; a client of TLS 1.1, which is known by the extension that it does not have, that its version is
    /// the trouble (RFC 5246 §7.2.2).
    pub(super) fn mend_alert(&mut self, error: &rustls::Error) {
        let Self::Tls(tls) = self else { return };
        let is_tls12 = tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2);
        let alert = match error {
            rustls::Error::NoCertificatesPresented if is_tls12 => AlertDescription::HandshakeFailure,
            rustls::Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
                AlertDescription::ProtocolVersion
            }
            _ => return,
        };
        let mut out = Vec::new();
        while tls.wants_write() && tls.write_tls(&mut out).is_ok_and(|n| n > 0) {}
        // An alert this early is not encrypted: its last two bytes are the level, 2 for fatal, and the reason.
        if let [.., 2, reason] = &mut out[..] {
            *reason = alert.into();
        }
        *self = Self::Plain(out);
    }
}
