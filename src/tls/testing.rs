//! Handshakes in memory, certificates of every sort, and scratch directories, for this room's tests.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection, SignatureScheme,
    SupportedProtocolVersion, client::ResolvesClientCert, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName};

use super::{certificate, client::ServerTrust, key::PrivateKey, server::provider};
use crate::{api::Peer, name::Identity, tls::ApiKey};

/// A client's certificates with the key of the first.
#[derive(Clone, Debug)]
pub struct Client {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Arc<PrivateKey>,
    pub identity: Identity,
}

impl Client {
    /// Self-signed, valid in the given span of seconds from now, for both ends of a connection.
    pub fn new(from: i64, to: i64) -> Self {
        let key = ApiKey::generate().unwrap();
        let now = now();
        let request = certificate::Request {
            common_name: "client",
            dns: &[],
            ips: &["127.0.0.1".parse::<IpAddr>().unwrap()],
            not_before: now + from,
            not_after: now + to,
        };
        let der = certificate::self_signed(&key, &request).unwrap();
        let identity = key.identity();
        Self { chain: vec![der.into()], key: Arc::new(PrivateKey::from_pkcs8(key.to_pkcs8())), identity }
    }

    /// With a self-signed certificate of version 1, which has no extensions.
    pub fn with_version_1() -> Self {
        let key = ApiKey::generate().unwrap();
        let algorithm = tlv(0x30, &[&[0x06, 3, 0x2b, 0x65, 0x70]]);
        let text = tlv(0x30, &[&[0x06, 3, 0x55, 4, 3], &tlv(0x0c, &[b"old"])]);
        let name = tlv(0x30, &[&tlv(0x31, &[&text])]);
        let validity = tlv(0x30, &[&tlv(0x17, &[b"200101000000Z"]), &tlv(0x17, &[b"490101000000Z"])]);
        let public_key = key.public_key();
        let fields = [&[0x02, 1, 7][..], &algorithm, &name, &validity, &name, &public_key];
        let to_be_signed = tlv(0x30, &fields);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key.to_pkcs8()).unwrap();
        assert!(public_key.ends_with(pair.public_key().as_ref()));
        let signature = tlv(0x03, &[&[0], pair.sign(&to_be_signed).as_ref()]);
        let der = tlv(0x30, &[&to_be_signed, &algorithm, &signature]);
        Self {
            chain: vec![der.into()],
            identity: key.identity(),
            key: Arc::new(PrivateKey::from_pkcs8(key.to_pkcs8())),
        }
    }

    /// What rcgen makes of `params`, signed by `issuer` or by itself.
    pub fn from_params(params: &rcgen::CertificateParams, issuer: Option<&Authority>) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = match issuer {
            Some(authority) => {
                let issuer = rcgen::Issuer::from_params(&authority.params, &authority.pair);
                params.signed_by(&pair, &issuer).unwrap()
            }
            None => params.self_signed(&pair).unwrap(),
        };
        let key = PrivateKey::from_pkcs8(pair.serialize_der().into());
        let identity =
            super::identity::identity_of(key.signing_key().unwrap().public_key().unwrap().as_ref());
        Self { chain: vec![certificate.der().clone()], key: Arc::new(key), identity }
    }

    pub fn known(&self) -> Peer {
        Peer::Known(self.identity)
    }
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = content.len();
    let head = match len {
        0..128 => vec![tag, len as u8],
        128..256 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [head, content].concat()
}

/// A certificate authority.
pub struct Authority {
    params: rcgen::CertificateParams,
    pair: rcgen::KeyPair,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    /// As `change` makes it, perhaps none any more.
    pub fn with(name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        change(&mut params);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let der = params.self_signed(&pair).unwrap().der().clone();
        Self { params, pair, der }
    }
}

pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// Sends its certificate whatever the server asks for.
#[derive(Debug)]
struct Resolver(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// Settings of a client that trusts every server. Its sessions are shared between its connections.
pub fn client_config(
    client: Option<&Client>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let certified = client
        .map(|client| Arc::new(CertifiedKey::new(client.chain.clone(), client.key.signing_key().unwrap())));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerTrust::blind()))
        .with_client_cert_resolver(Arc::new(Resolver(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    Arc::new(config)
}

/// What came of a handshake.
#[derive(Debug)]
pub struct Outcome {
    /// As the server sees its client.
    pub peer: Peer,
    pub kind: Option<HandshakeKind>,
    pub alpn: Option<Vec<u8>>,
    pub server: Result<(), Error>,
    pub client: Result<(), Error>,
}

/// Lets a client and a server talk until neither has anything more to say.
pub fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let (mut at_server, mut at_client) = (Ok(()), Ok(()));
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut back = Vec::new();
        let mut input = &wire[..];
        while !input.is_empty() && at_server.is_ok() {
            server.read_tls(&mut input).unwrap();
            at_server = server.process_new_packets().map(|_| ());
        }
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        let mut input = &back[..];
        while !input.is_empty() && at_client.is_ok() {
            client.read_tls(&mut input).unwrap();
            at_client = client.process_new_packets().map(|_| ());
        }
        if wire.is_empty() && back.is_empty() {
            break;
        }
    }
    Outcome {
        peer: super::peer_of(server.peer_certificates().unwrap_or(&[])),
        kind: server.handshake_kind(),
        alpn: server.alpn_protocol().map(<[u8]>::to_vec),
        server: at_server,
        client: at_client,
    }
}

/// A directory that is gone after the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("kes-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
