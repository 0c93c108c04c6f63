//! Checks client certificates in the handshake (`server-api` §1.2): any certificate whose key the client has, or only
//! such as chain to a trusted root.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::digest;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    PeerMisbehaved, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::WebPkiSupportedAlgorithms,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};

use super::{pem, x509::Certificate};
use crate::text::time::Timestamp;

/// Where systems keep their roots, as the common TLS libraries look for them; the first file that exists is taken.
const ROOT_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Looked into if there is no such file.
const ROOT_DIRS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Roots that clients are verified against.
#[derive(Debug)]
pub struct Trust {
    chain: Option<Arc<dyn ClientCertVerifier>>,
    own: Vec<CertificateDer<'static>>,
    hints: Vec<DistinguishedName>,
    /// Over all roots.
    digest: [u8; 32],
}

impl Trust {
    /// Trusts `system` roots (what cannot be read among them is passed over) and `own` ones, which must all be readable.
    pub fn new(system: Vec<Vec<u8>>, own: Vec<Vec<u8>>) -> Result<Self, String> {
        let now = Timestamp::now().seconds;
        let mut all = digest::Context::new(&digest::SHA256);
        for der in own.iter().chain(&system) {
            all.update(der);
            // When one expires, it is no issuer any more.
            all.update(&[u8::from(is_issuer(der, now))]);
        }
        let digest = all.finish().as_ref().try_into().unwrap_or_default();
        let own: Vec<CertificateDer<'static>> = own.into_iter().map(CertificateDer::from).collect();
        let mut roots = RootCertStore::empty();
        for der in &own {
            roots.add(der.clone()).map_err(|_| "x509: malformed certificate".to_owned())?;
        }
        let system: Vec<_> = system.into_iter().map(CertificateDer::from).collect();
        roots.add_parsable_certificates(system.iter().cloned());
        // As the original: the names of all roots, if there is a `tls.ca`, else no names.
        let hints = if own.is_empty() { Vec::new() } else { roots.subjects() };
        let issuers = issuers(own.iter().chain(&system), now);
        let chain = match issuers.is_empty() {
            true => None,
            false => Some(
                WebPkiClientVerifier::builder_with_provider(Arc::new(issuers), super::server::provider())
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { chain, own, hints, digest })
    }

    /// Trusts the system's roots and those of `ca`, a file or a directory.
    pub fn load(ca: Option<&Path>) -> Result<Self, String> {
        let own = ca.map_or_else(|| Ok(Vec::new()), read_roots)?;
        Self::new(system_roots(|name| env::var_os(name)), own)
    }

    /// A line on what in `ca` is of no use, though it says that it is a CA.
    pub(super) fn warning(&self, ca: &Path) -> Option<String> {
        let now = Timestamp::now().seconds;
        let is_idle = |der: &&CertificateDer<'_>| {
            Certificate::parse(der).is_ok_and(|certificate| certificate.is_ca) && !is_issuer(der, now)
        };
        let count = self.own.iter().filter(is_idle).count();
        (count > 0).then(|| {
            format!(
                "tls.ca: {count} of the CA certificates in {} have expired or may not sign others: clients that have theirs \
                 from them are refused",
                ca.display()
            )
        })
    }

    /// Adds all roots to a digest.
    pub(super) fn add_to(&self, digest: &mut digest::Context) {
        digest.update(&self.digest);
    }

    /// Whether a client certificate that did not come through a handshake is trusted now. Whoever forwards it answers for
    /// the client's having its key.
    pub fn accepts(&self, leaf: &CertificateDer<'_>) -> bool {
        self.verify(leaf, &[], UnixTime::now()).is_ok()
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let certificate = Certificate::parse(leaf).map_err(|_| CertificateError::BadEncoding)?;
        if self.own.iter().any(|own| own.as_ref() == leaf.as_ref()) {
            return verify_listed(&certificate, now);
        }
        // The same answer for a CA's certificate as for a stranger's; webpki would call it an "other" error.
        let chain =
            self.chain.as_ref().filter(|_| !certificate.is_ca).ok_or(CertificateError::UnknownIssuer)?;
        match chain.verify_client_cert(leaf, intermediates, now) {
            Ok(_) => Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            )) => Err(WRONG_USAGE),
            // A trusted root of the same name but with another key is not the issuer: self-signed certificates of several
            // clients often share their name.
            Err(Error::InvalidCertificate(
                CertificateError::BadSignature
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            )) => Err(CertificateError::UnknownIssuer),
            Err(Error::InvalidCertificate(error)) => Err(error),
            Err(error) => Err(CertificateError::Other(OtherError(Arc::new(error)))),
        }
    }
}

/// Those of some certificates by which others may be issued now. A trust anchor is a name and a key: that it is a CA, and for
/// how long, nobody looks at later. They are looked at again whenever the TLS files are.
pub(super) fn issuers<'a>(
    certificates: impl Iterator<Item = &'a CertificateDer<'static>>,
    now: i64,
) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates.filter(|der| is_issuer(der, now)).cloned());
    store
}

fn is_issuer(der: &[u8], now: i64) -> bool {
    Certificate::parse(der).is_ok_and(|certificate| certificate.may_issue && now <= certificate.not_after)
}

/// rustls sends `unsupported_certificate` for a wrong usage, where clients of this protocol have always seen
/// `bad_certificate`. Names are never checked in client certificates, so that this error is free to carry that alert.
const WRONG_USAGE: CertificateError = CertificateError::NotValidForName;

/// A certificate that itself stands in `tls.ca` is trusted, whoever issued it (`config` §4), within its validity and usage.
fn verify_listed(certificate: &Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < certificate.not_before {
        return Err(CertificateError::NotValidYet);
    }
    if now > certificate.not_after {
        return Err(CertificateError::Expired);
    }
    if !certificate.allows_client_auth {
        return Err(WRONG_USAGE);
    }
    Ok(())
}

/// Asks for a client certificate and checks that the client has its key, also for certificates that are not of version 3.
#[derive(Debug)]
pub struct ClientVerifier {
    trust: Option<Arc<Trust>>,
    is_mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientVerifier {
    /// `trust`: verify the chain, too. `is_mandatory`: a client without certificate is refused in the handshake.
    pub fn new(trust: Option<Arc<Trust>>, is_mandatory: bool) -> Self {
        let algorithms = super::server::provider().signature_verification_algorithms;
        Self { trust, is_mandatory, algorithms }
    }

    /// Whether more is asked of a certificate than that the client has its key.
    pub fn is_verifying(&self) -> bool {
        self.trust.is_some()
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        first_only: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let public_key = SubjectPublicKeyInfoDer::from(certificate.public_key);
        let entity =
            webpki::RawPublicKeyEntity::try_from(&public_key).map_err(|_| CertificateError::BadEncoding)?;
        let (_, candidates) = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        // TLS 1.3 binds a scheme to one curve, TLS 1.2 does not.
        let count = if first_only { 1 } else { candidates.len() };
        let fits = candidates
            .iter()
            .take(count)
            .any(|algorithm| entity.verify_signature(*algorithm, message, signed.signature()).is_ok());
        if fits {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.trust.as_ref().map_or(&[], |trust| &trust.hints)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            Certificate::parse(certificate).map_err(|_| CertificateError::BadEncoding)?;
        }
        if let Some(trust) = &self.trust {
            trust.verify(end_entity, intermediates, now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446, section 4.2.3: neither PKCS #1 signatures nor SHA-1 in TLS 1.3.
        let is_of_tls12 = matches!(
            dss.scheme,
            SignatureScheme::RSA_PKCS1_SHA1
                | SignatureScheme::RSA_PKCS1_SHA256
                | SignatureScheme::RSA_PKCS1_SHA384
                | SignatureScheme::RSA_PKCS1_SHA512
                | SignatureScheme::ECDSA_SHA1_Legacy
        );
        if is_of_tls12 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.verify_signature(message, cert, dss, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What the log says of a failed handshake, in the original's words where it has some (`server-api` §1.2).
pub fn explain(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired) => {
            "tls: client offered only unsupported versions".to_owned()
        }
        Error::InvalidCertificate(error) => {
            let cause = match error {
                CertificateError::UnknownIssuer => "certificate signed by unknown authority",
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    "certificate has expired or is not yet valid"
                }
                CertificateError::NotValidForName => "certificate specifies an incompatible key usage",
                CertificateError::BadEncoding => "malformed certificate",
                other => return format!("tls: failed to verify certificate: {other}"),
            };
            format!("tls: failed to verify certificate: x509: {cause}")
        }
        other => format!("tls: {other}"),
    }
}

/// Parts of what the log says of a refused connection, and what an operator should look at then.
const HINTS: [(&str, &str); 8] = [
    (
        "didn't provide a certificate",
        "the client needs a certificate or an API key; api.PATH.skip_auth opens /v1/ready and others",
    ),
    ("signed by unknown authority", "tls.auth is on: add the certificate or its issuer to tls.ca"),
    (
        "has expired or is not yet valid",
        "tls.auth is on: renew the client's certificate, and look at both clocks",
    ),
    ("incompatible key usage", "tls.auth is on: the client's certificate must allow clientAuth"),
    ("HTTP request to an HTTPS server", "the client's endpoint must begin with https://"),
    ("UnknownCA", "the client does not trust tls.cert: give it that certificate or its issuer"),
    ("BadCertificate", "the client does not accept tls.cert: look at its names and its validity"),
    ("too many connections", "raise the limit of open files (LimitNOFILE), or look at the client"),
];

/// What an operator should look at when a connection is refused for `cause`.
pub fn hint(cause: &str) -> Option<&'static str> {
    HINTS.iter().find(|(part, _)| cause.contains(part)).map(|(_, hint)| *hint)
}

/// The certificates of a file, or of all files in a directory (sub-directories are passed over).
pub(super) fn read_roots(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let read = |path: &Path| {
        let text = pem::read_file(path)?;
        pem::parse_certificates(&text).map_err(|error| format!("{error} ({})", path.display()))
    };
    if !path.is_dir() {
        return read(path);
    }
    let failed = |error: std::io::Error| format!("open {}: {}", path.display(), pem::cause(&error));
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    let mut roots = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir()) {
        roots.append(&mut read(entry)?);
    }
    Ok(roots)
}

/// The system's roots; what cannot be read is passed over. `SSL_CERT_FILE` and `SSL_CERT_DIR` (a list with colons) take
/// the place of the usual files and directories.
pub(super) fn system_roots(variable: impl Fn(&str) -> Option<OsString>) -> Vec<Vec<u8>> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let file = set("SSL_CERT_FILE").map(Into::into);
    let file =
        file.or_else(|| ROOT_FILES.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned));
    let mut roots: Vec<Vec<u8>> = file.iter().flat_map(|path| read_lenient(path)).collect();
    let dirs: Vec<_> = match set("SSL_CERT_DIR") {
        Some(list) => env::split_paths(&list).collect(),
        None if roots.is_empty() => ROOT_DIRS.iter().map(Into::into).collect(),
        None => Vec::new(),
    };
    for dir in dirs {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            roots.append(&mut read_lenient(&entry.path()));
        }
    }
    roots.sort();
    roots.dedup();
    roots
}

/// Where [`Trust::load`] looks for the system's roots, as far as these places exist.
pub fn root_places() -> Vec<PathBuf> {
    let set = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| env::var_os(name).unwrap_or_default());
    let usual =
        ROOT_FILES.iter().filter_map(|file| Path::new(file).parent()).chain(ROOT_DIRS.iter().map(Path::new));
    // What is in these is often a link into the others.
    let behind = [
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
        "/usr/share/pki",
    ];
    let mut places: Vec<PathBuf> =
        set.iter().flat_map(|list| env::split_paths(list).collect::<Vec<_>>()).collect();
    places.extend(usual.chain(behind.iter().map(Path::new)).map(Path::to_owned));
    places.retain(|place| place.exists());
    places.sort();
    places.dedup();
    places
}

/// The certificates of a file, as far as it can be read.
pub(super) fn read_lenient(path: &Path) -> Vec<Vec<u8>> {
    let Ok(text) = pem::read_file(path) else { return Vec::new() };
    let blocks = pem::parse(&text).blocks;
    blocks.iter().filter(|block| block.label == "CERTIFICATE").map(|block| block.bytes.to_vec()).collect()
}

#[cfg(test)]
mod tests;
