use super::*;
use crate::{
    api::Peer,
    tls::{
        development,
        testing::{Authority, Client, Outcome, Scratch, VERSIONS, client_config, shake_hands},
    },
};
use rustls::{AlertDescription, ServerConfig, SupportedProtocolVersion};

const DAY: i64 = 86_400;

/// Like the settings of `--dev`, with another verifier.
fn server(verifier: ClientVerifier) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&development(&[]).unwrap().config);
    let resolver = config.cert_resolver.clone();
    let mut other = ServerConfig::builder_with_provider(crate::tls::server::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver);
    std::mem::swap(&mut other.alpn_protocols, &mut config.alpn_protocols);
    Arc::new(other)
}

fn unverified(is_mandatory: bool) -> Arc<ServerConfig> {
    server(ClientVerifier::new(None, is_mandatory))
}

fn trusting(own: &[&CertificateDer<'static>]) -> Arc<ServerConfig> {
    let own = own.iter().map(|der| der.to_vec()).collect();
    server(ClientVerifier::new(Some(Arc::new(Trust::new(Vec::new(), own).unwrap())), true))
}

fn try_it(
    client: &Client,
    server: &Arc<ServerConfig>,
    version: &'static SupportedProtocolVersion,
) -> Outcome {
    shake_hands(&client_config(Some(client), version), server)
}

fn assert_accepted(outcome: &Outcome, peer: Peer) {
    assert!(outcome.server.is_ok() && outcome.client.is_ok(), "{outcome:?}");
    assert_eq!(outcome.peer, peer);
}

fn assert_refused(outcome: &Outcome, alert: AlertDescription, cause: &str) {
    assert_eq!(outcome.client, Err(Error::AlertReceived(alert)), "{outcome:?}");
    assert_eq!(explain(outcome.server.as_ref().unwrap_err()), cause);
}

#[test]
fn without_verification_any_certificate_will_do() {
    let authority = Authority::new("nobody knows");
    let mut wrong_usage = rcgen::CertificateParams::default();
    wrong_usage.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    for version in VERSIONS {
        for client in [
            Client::new(-DAY, DAY),
            Client::new(-2 * DAY, -DAY),
            Client::new(DAY, 2 * DAY),
            Client::with_version_1(),
            Client::from_params(&wrong_usage, None),
            Client::from_params(&rcgen::CertificateParams::default(), Some(&authority)),
        ] {
            assert_accepted(&try_it(&client, &unverified(true), version), client.known());
        }
    }
}

#[test]
fn a_ca_certificate_or_two_leaves_shake_hands_and_identify_nobody() {
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for version in VERSIONS {
        let authority = Client::from_params(&ca, None);
        assert_accepted(&try_it(&authority, &unverified(true), version), Peer::NoCertificate);
        let mut two = Client::new(-DAY, DAY);
        let leaf = two.clone();
        two.chain.extend(Client::new(-DAY, DAY).chain);
        assert_accepted(&try_it(&two, &unverified(true), version), Peer::SeveralCertificates);
        let mut chain = leaf.clone();
        chain.chain.extend(authority.chain.clone());
        assert_accepted(&try_it(&chain, &unverified(true), version), leaf.known());
        let mut thief = authority;
        thief.chain.extend(leaf.chain);
        assert_accepted(&try_it(&thief, &unverified(true), version), Peer::NoCertificate);
    }
}

#[test]
fn a_client_without_certificate_is_refused_unless_certificates_are_optional() {
    for version in VERSIONS {
        let client = client_config(None, version);
        let outcome = shake_hands(&client, &unverified(true));
        assert_refused(
            &outcome,
            AlertDescription::CertificateRequired,
            "tls: client didn't provide a certificate",
        );
        assert_accepted(&shake_hands(&client, &unverified(false)), Peer::NoCertificate);
    }
}

#[test]
fn a_client_must_have_the_key_of_its_certificate() {
    for version in VERSIONS {
        for mut thief in [Client::new(-DAY, DAY), Client::with_version_1()] {
            thief.key = Client::new(-DAY, DAY).key;
            let outcome = try_it(&thief, &unverified(true), version);
            assert_eq!(outcome.server, Err(Error::InvalidCertificate(CertificateError::BadSignature)));
            assert_eq!(outcome.client, Err(Error::AlertReceived(AlertDescription::DecryptError)));
        }
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    for version in VERSIONS {
        let mut client = Client::new(-DAY, DAY);
        client.chain.push(b"junk".to_vec().into());
        let outcome = try_it(&client, &unverified(true), version);
        let cause = "tls: failed to verify certificate: x509: malformed certificate";
        assert_refused(&outcome, AlertDescription::BadCertificate, cause);
    }
}

#[test]
fn with_verification_a_certificate_must_chain_to_a_trusted_root() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let params = rcgen::CertificateParams::default();
    let mut chained = Client::from_params(&params, Some(&ours));
    chained.chain.push(ours.der.clone());
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let mut ca = params.clone();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for version in VERSIONS {
        let server = trusting(&[&ours.der]);
        let good = Client::from_params(&params, Some(&ours));
        assert_accepted(&try_it(&good, &server, version), good.known());
        assert_accepted(&try_it(&chained, &server, version), chained.known());
        for stranger in [
            Client::from_params(&params, Some(&theirs)),
            Client::from_params(&params, None),
            Client::from_params(&ca, None),
            Client::new(-DAY, DAY),
        ] {
            assert_refused(&try_it(&stranger, &server, version), AlertDescription::UnknownCA, unknown);
        }
        // Of the name of a trusted one, which has a key of another kind.
        let namesake = trusting(&[&Authority::new("client").der]);
        let stranger = Client::new(-DAY, DAY);
        assert_refused(&try_it(&stranger, &namesake, version), AlertDescription::UnknownCA, unknown);
        let nobody = trusting(&[]);
        assert_refused(&try_it(&good, &nobody, version), AlertDescription::UnknownCA, unknown);
    }
}

#[test]
fn with_verification_dates_and_usage_count() {
    let ours = Authority::new("ours");
    let mut wrong_usage = rcgen::CertificateParams::default();
    wrong_usage.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let mut expired = rcgen::CertificateParams::default();
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = rcgen::CertificateParams::default();
    early.not_before = rcgen::date_time_ymd(2200, 1, 1);
    let dated = "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    let usage = "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage";
    for version in VERSIONS {
        for issuer in [Some(&ours), None] {
            for (params, alert, cause) in [
                (&expired, AlertDescription::CertificateExpired, dated),
                (&early, AlertDescription::CertificateExpired, dated),
                (&wrong_usage, AlertDescription::BadCertificate, usage),
            ] {
                let client = Client::from_params(params, issuer);
                // Signed by a trusted authority, or itself in the list of trusted certificates.
                let server = trusting(&[&ours.der, &client.chain[0]][..if issuer.is_some() { 1 } else { 2 }]);
                assert_refused(&try_it(&client, &server, version), alert, cause);
            }
        }
    }
}

#[test]
fn a_self_signed_certificate_that_is_trusted_itself_is_accepted_and_others_are_not() {
    for version in VERSIONS {
        for client in [Client::new(-DAY, DAY), Client::with_version_1()] {
            let server = trusting(&[&client.chain[0]]);
            assert_accepted(&try_it(&client, &server, version), client.known());
            let other = try_it(&Client::new(-DAY, DAY), &server, version);
            assert_eq!(other.client, Err(Error::AlertReceived(AlertDescription::UnknownCA)));
        }
    }
}

#[test]
fn a_trusted_certificate_is_an_issuer_only_if_it_is_a_ca_within_its_validity() {
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let issuers: [(Authority, bool); 6] = [
        (Authority::new("ca"), true),
        (Authority::with("client", |params| params.is_ca = rcgen::IsCa::ExplicitNoCa), false),
        (Authority::with("plain", |params| params.is_ca = rcgen::IsCa::NoCa), false),
        (Authority::with("expired", |params| params.not_after = year(2020)), false),
        (Authority::with("early", |params| params.not_before = year(4000)), true),
        (
            Authority::with("signs", |params| {
                params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
            }),
            false,
        ),
    ];
    for (issuer, may_issue) in &issuers {
        let client = Client::from_params(&rcgen::CertificateParams::default(), Some(issuer));
        for version in VERSIONS {
            let outcome = try_it(&client, &trusting(&[&issuer.der]), version);
            assert_eq!(outcome.server.is_ok(), *may_issue, "{outcome:?}");
        }
        let trust = Trust::new(vec![issuer.der.to_vec()], Vec::new()).unwrap();
        assert_eq!(trust.accepts(&client.chain[0]), *may_issue);
    }
    let own: Vec<_> = issuers.iter().map(|(issuer, _)| issuer.der.to_vec()).collect();
    let warning = Trust::new(Vec::new(), own).unwrap().warning(std::path::Path::new("ca.pem"));
    assert!(warning.unwrap().starts_with("tls.ca: 2 of the CA certificates in ca.pem have expired"));
    let signs = Authority::with("signs", |params| {
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    });
    let client = Client::from_params(&rcgen::CertificateParams::default(), Some(&signs));
    assert!(Trust::new(Vec::new(), vec![signs.der.to_vec()]).unwrap().accepts(&client.chain[0]));
}

#[test]
fn acceptable_authorities_are_named_only_if_there_are_roots_of_ones_own() {
    let (ours, system) = (Authority::new("ours"), Authority::new("system"));
    let count = |own: &[&Authority]| {
        let own = own.iter().map(|authority| authority.der.to_vec()).collect();
        let trust = Trust::new(vec![system.der.to_vec(), b"junk".to_vec()], own).unwrap();
        ClientVerifier::new(Some(Arc::new(trust)), true).root_hint_subjects().len()
    };
    assert_eq!(count(&[]), 0);
    assert_eq!(count(&[&ours]), 2);
    assert!(ClientVerifier::new(None, true).root_hint_subjects().is_empty());
    assert!(Trust::new(Vec::new(), vec![b"junk".to_vec()]).is_err());
}

#[test]
fn roots_come_from_a_file_or_from_every_file_of_a_directory() {
    let scratch = Scratch::new();
    let certificate = |name: &str| pem::encode("CERTIFICATE", &[], &Authority::new(name).der);
    let file = scratch.write("one.pem", &[&certificate("a")[..], &certificate("b")[..]].concat());
    assert_eq!(read_roots(&file).unwrap().len(), 2);
    std::fs::create_dir(scratch.path("sub")).unwrap();
    scratch.write("two.crt", &certificate("c"));
    assert_eq!(read_roots(&scratch.path("")).unwrap().len(), 3);
    assert_eq!(read_roots(&scratch.path("sub")).unwrap().len(), 0);
    scratch.write("z.key", &pem::encode("PRIVATE KEY", &[], b"0"));
    let error = read_roots(&scratch.path("")).unwrap_err();
    assert!(error.starts_with("https: unsupported PEM data block (") && error.ends_with("z.key)"), "{error}");
    assert!(read_roots(&scratch.path("none")).unwrap_err().starts_with("open "));

    let with = |file: &str, dir: &str| {
        let (file, dir) = (scratch.path(file).into_os_string(), scratch.path(dir).into_os_string());
        system_roots(move |name| Some(if name == "SSL_CERT_FILE" { file.clone() } else { dir.clone() })).len()
    };
    assert_eq!(with("one.pem", "sub"), 2);
    assert_eq!(with("none", ""), 3, "the directory, without what is no certificate");
    assert_eq!(with("one.pem", ""), 3, "the same root counts once");
    assert_eq!(with("none", "none"), 0);
}
