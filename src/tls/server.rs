//! The server's side of TLS: certificate, key, and how connections are set up (`server-api` §1, `config` §7).

use std::{
    net::IpAddr,
    path::Path,
    sync::{Arc, LazyLock},
};

use der::{Decode, SliceReader, asn1::ObjectIdentifier};
use ring::digest;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use rustls_pki_types::CertificateDer;

use super::{
    certificate,
    key::PrivateKey,
    pem,
    verify::{ClientVerifier, Trust},
    x509::{Certificate, sequence},
};
use crate::{config::TlsConfig, text::time::Timestamp};

const DAY: i64 = 86_400;

/// How long a `--dev` certificate is valid, in seconds.
const DEVELOPMENT_LIFETIME: i64 = 90 * DAY;

/// Settings for new connections.
#[derive(Debug)]
pub struct Loaded {
    /// For `rustls::ServerConnection`.
    pub config: Arc<ServerConfig>,
    /// Lines for the operator: an expired certificate, a key that others can read.
    pub warnings: Vec<String>,
    /// End of the server certificate's validity, in seconds since 1970.
    pub not_after: i64,
    /// What clients are verified against, if they are.
    pub trust: Option<Arc<Trust>>,
    /// Differs if anything of certificate, key or roots differs.
    pub digest: [u8; 32],
}

/// Reads certificate, key and roots. With `client_optional` a client may come without certificate, because some path
/// needs none. Every call makes a new ticket key: a session that was made under other settings must not be resumed
/// under these.
pub fn load(tls: &TlsConfig, client_optional: bool) -> Result<Loaded, String> {
    let (chain, key) = read_pair(tls)?;
    let mut warnings = Vec::new();
    let read_trust = || {
        Trust::load(tls.ca.as_deref()).map_err(|error| format!("failed to read TLS CA certificates: {error}"))
    };
    let trust = if tls.verify_clients { Some(Arc::new(read_trust()?)) } else { None };
    if let (Some(trust), Some(ca)) = (&trust, &tls.ca) {
        warnings.extend(trust.warning(ca));
    }
    if trust.is_none() && tls.ca.is_some() {
        let unused = |error| format!("{error} (they are not used as long as tls.auth is off)");
        warnings.extend(read_trust().err().map(unused));
    }
    let leaf = chain.first().map(|der| Certificate::parse(der));
    let Some(Ok(leaf)) = leaf else { return Err(in_certificate(&tls.cert, "x509: malformed certificate")) };
    let not_after = leaf.not_after;
    warnings.extend(expiry_warning(&leaf, Timestamp::now().seconds, &tls.cert));
    warnings.extend(mode_warning(&tls.key));
    let mut digest = digest::Context::new(&digest::SHA256);
    chain.iter().for_each(|der| digest.update(der));
    trust.iter().for_each(|trust| trust.add_to(&mut digest));
    let digest = digest.finish().as_ref().try_into().unwrap_or_default();
    let config = server_config(chain, key, ClientVerifier::new(trust.clone(), !client_optional))?;
    Ok(Loaded { config, warnings, not_after, trust, digest })
}

/// A fresh certificate for `--dev`, for `localhost` by name and the addresses by SAN (`server-api` §8.8). A client
/// certificate is required and not verified.
pub fn development(addresses: &[IpAddr]) -> Result<Loaded, String> {
    let now = Timestamp::now().seconds;
    let request = certificate::Request {
        common_name: "localhost",
        dns: &["localhost".to_owned()],
        ips: addresses,
        not_before: now,
        not_after: now.saturating_add(DEVELOPMENT_LIFETIME),
    };
    let (der, pkcs8) = certificate::for_server(&request)?;
    let key = PrivateKey::from_pkcs8(pkcs8).signing_key().map_err(|error| error.to_string())?;
    let config = server_config(vec![der.into()], key, ClientVerifier::new(None, true))?;
    let not_after = request.not_after;
    Ok(Loaded { config, warnings: Vec::new(), not_after, trust: None, digest: [0; 32] })
}

/// The cryptography under TLS.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let provider = rustls::crypto::ring::default_provider();
        #[cfg(target_arch = "x86_64")]
        let provider = super::curve25519::accelerate(provider);
        Arc::new(provider)
    });
    PROVIDER.clone()
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    verifier: ClientVerifier,
) -> Result<Arc<ServerConfig>, String> {
    let text = |error: rustls::Error| error.to_string();
    let is_verifying = verifier.is_verifying();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(text)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions live in tickets alone: a store of the server's own is too small for the common case, many connections
    // of few clients, and would hand each ticket out once.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if is_verifying {
        // A resumed session would outlive the certificate that was verified, and the roots that it was verified against.
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(text)?;
        config.send_tls13_tickets = 1;
    }
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, Arc<dyn SigningKey>);

fn read_pair(tls: &TlsConfig) -> Result<Pair, String> {
    let failed = |error: String| format!("failed to read TLS certificate: {error}");
    let text = pem::read_file(&tls.cert).map_err(failed)?;
    let chain = pem::parse_certificates(&text).map_err(|error| in_certificate(&tls.cert, error))?;
    for der in &chain {
        Certificate::parse(der).map_err(|error| in_certificate(&tls.cert, &error.to_string()))?;
    }
    let in_key = |error: &str| failed(format!("{error} ({})", tls.key.display()));
    let text = pem::read_file(&tls.key).map_err(failed)?;
    let key =
        PrivateKey::parse(&text, tls.password.as_deref()).map_err(|error| in_key(&error.to_string()))?;
    let key = key.signing_key().map_err(|error| in_key(&error.to_string()))?;

    let malformed = || in_certificate(&tls.cert, "x509: malformed certificate");
    let leaf = chain.first().and_then(|der| Certificate::parse(der).ok()).ok_or_else(malformed)?;
    let public_key = key.public_key().ok_or_else(|| in_key("tls: failed to parse private key"))?;
    check_pair(&public_key, leaf.public_key).map_err(in_key)?;
    if !leaf.names_a_host {
        let cause = "certificate does not contain any DNS or IP address as SAN";
        return Err(format!("invalid TLS certificate: {cause} ({})", tls.cert.display()));
    }
    Ok((chain.into_iter().map(CertificateDer::from).collect(), key))
}

fn in_certificate(path: &Path, error: &str) -> String {
    format!("failed to read TLS certificate: {error} ({})", path.display())
}

/// Whether a private key and a certificate belong together, by their public keys.
pub(super) fn check_pair(of_key: &[u8], of_certificate: &[u8]) -> Result<(), &'static str> {
    if of_key == of_certificate {
        Ok(())
    } else if algorithm(of_key) != algorithm(of_certificate) {
        Err("tls: private key type does not match public key type")
    } else {
        Err("tls: private key does not match public key")
    }
}

/// The kind of a public key: the identifier inside its SubjectPublicKeyInfo.
fn algorithm(public_key: &[u8]) -> Option<ObjectIdentifier> {
    let mut reader = SliceReader::new(public_key).ok()?;
    let mut fields = sequence(&mut reader).ok()?;
    let mut algorithm = sequence(&mut fields).ok()?;
    ObjectIdentifier::decode(&mut algorithm).ok()
}

fn expiry_warning(leaf: &Certificate<'_>, now: i64, path: &Path) -> Option<String> {
    let path = path.display();
    let end = Timestamp { seconds: leaf.not_after, nanos: 0, offset_minutes: 0 };
    if now > leaf.not_after {
        Some(format!("TLS certificate '{path}' has expired on {end}"))
    } else if now < leaf.not_before {
        let start = Timestamp { seconds: leaf.not_before, nanos: 0, offset_minutes: 0 };
        Some(format!("TLS certificate '{path}' is not valid before {start}"))
    } else if leaf.not_after.saturating_sub(now) < 7 * DAY {
        Some(format!("TLS certificate '{path}' expires on {end}"))
    } else {
        None
    }
}

fn mode_warning(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        format!("TLS private key '{}' can be read by everybody (mode {:o})", path.display(), mode & 0o777)
    })
}

#[cfg(test)]
mod tests;
