//! The client's side of TLS: which servers it trusts, and the certificate that it shows (`cli` §2).

use std::{fs, path::Path, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::WebPkiSupportedAlgorithms,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    certificate::{self, Request},
    identity::{ApiKey, identity_of},
    key::PrivateKey,
    pem,
    server::{check_pair, provider},
    verify::{self, read_lenient, read_roots},
    x509::Certificate,
};
use crate::{name::Identity, text::time::Timestamp};

/// How long the throw-away certificate of an API key is valid, in seconds: 90 days.
const LIFETIME: i64 = 90 * 86_400;

/// Who a client is: a certificate and its key.
#[derive(Debug)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
    /// What servers know the client as.
    pub identity: Identity,
}

impl Credentials {
    /// A throw-away certificate for an API key. Fails only without randomness, or under an absurd clock.
    pub fn from_api_key(key: &ApiKey) -> Result<Self, String> {
        let identity = key.identity();
        let now = Timestamp::now().seconds;
        let request = Request {
            common_name: &identity.to_string(),
            dns: &[],
            ips: &[],
            // Clocks differ.
            not_before: now.saturating_sub(3600).max(0),
            not_after: now.saturating_add(LIFETIME),
        };
        let der = certificate::self_signed(key, &request)?;
        let key = PrivateKey::from_pkcs8(key.to_pkcs8()).signing_key().map_err(|error| error.to_string())?;
        Ok(Self { chain: vec![der.into()], key, identity })
    }

    /// The certificates of a PEM file, the first of which belongs to `key`.
    pub fn new(certificates: &[u8], key: &PrivateKey) -> Result<Self, String> {
        let chain = pem::parse_certificates(certificates)?;
        let key = key.signing_key().map_err(|error| error.to_string())?;
        let leaf = chain.first().ok_or("https: no valid PEM data")?;
        let leaf = Certificate::parse(leaf).map_err(|error| error.to_string())?;
        let public_key = key.public_key().ok_or("tls: failed to parse private key")?;
        check_pair(&public_key, leaf.public_key)?;
        let identity = identity_of(leaf.public_key);
        Ok(Self { chain: chain.into_iter().map(CertificateDer::from).collect(), key, identity })
    }
}

/// Which servers are trusted.
#[derive(Debug)]
pub struct ServerTrust {
    roots: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    is_blind: bool,
}

impl ServerTrust {
    /// Trusts the system's roots and those of `ca`: a file of certificates, or a directory with such files.
    pub fn load(ca: Option<&Path>) -> Result<Self, String> {
        let mut roots = match ca {
            Some(path) if path.is_dir() => read_directory(path)?,
            Some(path) => read_roots(path)?,
            None => Vec::new(),
        };
        roots.extend(verify::system_roots(|name| std::env::var_os(name)));
        Self::new(roots)
    }

    fn new(roots: Vec<Vec<u8>>) -> Result<Self, String> {
        let roots: Vec<CertificateDer<'static>> = roots.into_iter().map(CertificateDer::from).collect();
        let store = verify::issuers(roots.iter(), Timestamp::now().seconds);
        let chain = match store.is_empty() {
            true => None,
            false => Some(
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        Ok(Self { roots, chain, algorithms: provider().signature_verification_algorithms, is_blind: false })
    }

    /// Trusts everybody (`--insecure`).
    pub fn blind() -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { roots: Vec::new(), chain: None, algorithms, is_blind: true }
    }
}

impl ServerCertVerifier for ServerTrust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_blind {
            return Ok(ServerCertVerified::assertion());
        }
        // A certificate that is itself among the roots is trusted, whoever issued it and also if it says CA:TRUE, as
        // openssl writes into self-signed ones.
        if self.roots.iter().any(|root| root.as_ref() == end_entity.as_ref()) {
            verify_listed(end_entity, server_name, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let chain = self.chain.as_ref().ok_or(CertificateError::UnknownIssuer)?;
        chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
            |error| match error {
                // A root of the same name with another key is not the issuer; a stranger's CA is a stranger.
                Error::InvalidCertificate(
                    CertificateError::BadSignature
                    | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
                    | CertificateError::Other(_),
                ) => CertificateError::UnknownIssuer.into(),
                error => error,
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn verify_listed(
    der: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let certificate = Certificate::parse(der).map_err(|_| CertificateError::BadEncoding)?;
    if !certificate.is_valid_at(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)) {
        return Err(CertificateError::Expired);
    }
    let entity = webpki::EndEntityCert::try_from(der).map_err(|_| CertificateError::BadEncoding)?;
    entity.verify_is_valid_for_subject_name(server_name).map_err(|_| CertificateError::NotValidForName)
}

/// Settings for connections to servers over HTTP/1.1.
pub fn config(trust: ServerTrust, credentials: &Credentials) -> Result<Arc<ClientConfig>, String> {
    let certified = CertifiedKey::new(credentials.chain.clone(), Arc::clone(&credentials.key));
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Each connection carries one request; there is nothing to resume.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a user is told of a failed handshake with the server called `host`.
pub fn explain(error: &Error, host: &str) -> String {
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("tls: failed to verify certificate: x509: certificate is not valid for {host}"),
        Error::AlertReceived(alert) => {
            let cause = match alert {
                AlertDescription::CertificateRequired => "certificate required".to_owned(),
                AlertDescription::BadCertificate => "bad certificate".to_owned(),
                AlertDescription::UnknownCA => "unknown certificate authority".to_owned(),
                AlertDescription::CertificateExpired => "expired certificate".to_owned(),
                AlertDescription::HandshakeFailure => "handshake failure".to_owned(),
                other => format!("alert {}", u8::from(*other)),
            };
            format!("remote error: tls: {cause}")
        }
        Error::InvalidMessage(_) => "tls: first record does not look like a TLS handshake".to_owned(),
        error => verify::explain(error),
    }
}

/// All certificates of the files in a directory; what is no certificate is passed over.
fn read_directory(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let entries =
        fs::read_dir(path).map_err(|error| format!("open {}: {}", path.display(), pem::cause(&error)))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    let roots: Vec<_> = files.flat_map(|file| read_lenient(&file)).collect();
    match roots.is_empty() {
        true => Err(format!("no certificate in {}", path.display())),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, shake_hands};

    const NOW: i64 = 1_800_000_000;

    fn key() -> ApiKey {
        ApiKey::generate().unwrap()
    }

    fn verified(trust: &ServerTrust, der: &[u8], name: &str, at: i64) -> Result<(), Error> {
        let der = CertificateDer::from(der.to_vec());
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at as u64));
        trust.verify_server_cert(&der, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_self_signed_server_is_trusted_by_name_and_within_its_validity_if_it_is_listed() {
        let request = Request {
            common_name: "kes",
            dns: &["kes.example.net".to_owned()],
            ips: &["127.0.0.1".parse().unwrap()],
            not_before: NOW,
            not_after: NOW + 100,
        };
        let der = certificate::self_signed(&key(), &request).unwrap();
        let trust = ServerTrust::new(vec![der.clone()]).unwrap();
        assert_eq!(verified(&trust, &der, "127.0.0.1", NOW), Ok(()));
        assert_eq!(verified(&trust, &der, "kes.example.net", NOW + 100), Ok(()));
        assert_eq!(verified(&trust, &der, "127.0.0.1", NOW + 101), Err(CertificateError::Expired.into()));
        let error = verified(&trust, &der, "127.0.0.2", NOW).unwrap_err();
        assert_eq!(
            explain(&error, "127.0.0.2"),
            "tls: failed to verify certificate: x509: certificate is not valid for 127.0.0.2"
        );
        // Of the same name, by another key.
        let other = certificate::self_signed(&key(), &request).unwrap();
        let other_kind = ServerTrust::new(vec![Authority::new("kes").der.to_vec()]).unwrap();
        for trust in [trust, other_kind, ServerTrust::new(Vec::new()).unwrap()] {
            let error = verified(&trust, &other, "127.0.0.1", NOW).unwrap_err();
            assert_eq!(
                explain(&error, "127.0.0.1"),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            );
        }
        assert_eq!(verified(&ServerTrust::blind(), &other, "127.0.0.2", NOW + 1_000), Ok(()));
    }

    #[test]
    fn a_listed_certificate_that_is_no_ca_vouches_for_no_other_server() {
        let params = rcgen::CertificateParams::new(vec!["kes.example.net".to_owned()]).unwrap();
        for (issuer, is_trusted) in [
            (Authority::new("kes"), true),
            (Authority::with("kes", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa), false),
        ] {
            let server = crate::tls::testing::Client::from_params(&params, Some(&issuer));
            let trust = ServerTrust::new(vec![issuer.der.to_vec()]).unwrap();
            assert_eq!(verified(&trust, &server.chain[0], "kes.example.net", NOW).is_ok(), is_trusted);
        }
    }

    #[test]
    fn a_listed_certificate_may_say_that_it_is_a_ca() {
        let mut params = rcgen::CertificateParams::new(vec!["kes.example.net".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der().to_vec();
        let trust = ServerTrust::new(vec![der.clone()]).unwrap();
        assert_eq!(verified(&trust, &der, "kes.example.net", NOW), Ok(()));
        let stranger = ServerTrust::new(vec![Authority::new("other").der.to_vec()]).unwrap();
        let error = verified(&stranger, &der, "kes.example.net", NOW).unwrap_err();
        assert!(explain(&error, "").ends_with("signed by unknown authority"), "{error}");
    }

    #[test]
    fn a_server_sees_the_identity_of_an_api_key() {
        let key = key();
        let credentials = Credentials::from_api_key(&key).unwrap();
        assert_eq!(credentials.identity, key.identity());
        let server = crate::tls::development(&["127.0.0.1".parse().unwrap()]).unwrap();
        let outcome = shake_hands(&config(ServerTrust::blind(), &credentials).unwrap(), &server.config);
        assert_eq!(outcome.peer, crate::api::Peer::Known(key.identity()), "{outcome:?}");
    }
}
