use super::*;
use crate::{
    crypto::SecretBytes,
    tls::{
        ApiKey, key, peer_of,
        testing::{Client, Scratch, VERSIONS, client_config, now, shake_hands},
    },
};
use rustls::HandshakeKind;
use std::os::unix::fs::PermissionsExt;

fn settings(scratch: &Scratch) -> TlsConfig {
    TlsConfig {
        key: scratch.path("private.key"),
        cert: scratch.path("public.crt"),
        password: None,
        verify_clients: false,
        auth_weakened: false,
        ca: None,
        proxies: Vec::new(),
        proxy_header: String::new(),
    }
}

fn make(key: &ApiKey, dns: &[&str], not_after: i64) -> SecretBytes {
    let dns: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
    let request = certificate::Request {
        common_name: "server",
        dns: &dns,
        ips: &[],
        not_before: now() - 1000 * DAY,
        not_after,
    };
    pem::encode("CERTIFICATE", &[], &certificate::self_signed(key, &request).unwrap())
}

/// Writes a good pair for 90 days.
fn prepare(scratch: &Scratch) -> (TlsConfig, ApiKey) {
    let key = ApiKey::generate().unwrap();
    scratch.write("public.crt", &make(&key, &["localhost"], now() + 90 * DAY));
    let path = scratch.write("private.key", &pem::encode("PRIVATE KEY", &[], &key.to_pkcs8()));
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    (settings(scratch), key)
}

fn error(tls: &TlsConfig) -> String {
    load(tls, false).unwrap_err()
}

#[test]
fn a_good_pair_serves_both_versions_and_prefers_http2() {
    let scratch = Scratch::new();
    let (tls, _) = prepare(&scratch);
    let loaded = load(&tls, false).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let client = Client::new(-DAY, DAY);
    for version in VERSIONS {
        let outcome = shake_hands(&client_config(Some(&client), version), &loaded.config);
        assert!(outcome.client.is_ok() && outcome.server.is_ok(), "{outcome:?}");
        assert_eq!(outcome.alpn.as_deref(), Some(&b"h2"[..]));
        assert_eq!(outcome.peer, client.known());
    }
}

#[test]
fn an_unknown_protocol_is_refused_and_none_is_fine() {
    let loaded = development(&[]).unwrap();
    let mut client = rustls::ClientConfig::clone(&client_config(Some(&Client::new(-DAY, DAY)), VERSIONS[1]));
    client.alpn_protocols = vec![b"h3".to_vec()];
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    assert_eq!(shake_hands(&Arc::new(client.clone()), &loaded.config).client, Err(alert));
    client.alpn_protocols.clear();
    let outcome = shake_hands(&Arc::new(client), &loaded.config);
    assert!(outcome.client.is_ok() && outcome.alpn.is_none());
}

#[test]
fn a_resumed_session_keeps_the_identity_and_new_settings_end_it() {
    let scratch = Scratch::new();
    let (tls, _) = prepare(&scratch);
    let client = Client::new(-DAY, DAY);
    for version in VERSIONS {
        let (old, new) = (load(&tls, false).unwrap().config, load(&tls, false).unwrap().config);
        let connect = client_config(Some(&client), version);
        assert_eq!(shake_hands(&connect, &old).kind, Some(HandshakeKind::Full));
        let again = shake_hands(&connect, &old);
        assert_eq!(again.kind, Some(HandshakeKind::Resumed));
        assert_eq!(again.peer, client.known());
        let after = shake_hands(&connect, &new);
        assert_eq!(after.kind, Some(HandshakeKind::Full));
        assert!(after.server.is_ok() && after.client.is_ok());
    }
}

#[test]
fn no_session_outlives_a_certificate_that_was_verified() {
    let scratch = Scratch::new();
    let (mut tls, _) = prepare(&scratch);
    let client = Client::new(-DAY, DAY);
    tls.verify_clients = true;
    tls.ca = Some(scratch.write("client.crt", &pem::encode("CERTIFICATE", &[], &client.chain[0])));
    let config = load(&tls, false).unwrap().config;
    for version in VERSIONS {
        let connect = client_config(Some(&client), version);
        for _ in 0..2 {
            let outcome = shake_hands(&connect, &config);
            assert_eq!((outcome.kind, outcome.peer), (Some(HandshakeKind::Full), client.known()));
        }
    }
}

#[test]
fn roots_of_ones_own_are_read_and_bad_ones_stop_the_start() {
    let scratch = Scratch::new();
    let (mut tls, _) = prepare(&scratch);
    let client = Client::new(-DAY, DAY);
    tls.verify_clients = true;
    tls.ca = Some(scratch.write("client.crt", &pem::encode("CERTIFICATE", &[], &client.chain[0])));
    let loaded = load(&tls, false).unwrap();
    let outcome = shake_hands(&client_config(Some(&client), VERSIONS[1]), &loaded.config);
    assert_eq!(outcome.peer, client.known());
    tls.ca = Some(tls.key.clone());
    let text = error(&tls);
    assert!(
        text.starts_with("failed to read TLS CA certificates: https: unsupported PEM data block"),
        "{text}"
    );
}

#[test]
fn certificates_may_be_optional() {
    let scratch = Scratch::new();
    let (tls, _) = prepare(&scratch);
    let nobody = client_config(None, VERSIONS[1]);
    assert!(shake_hands(&nobody, &load(&tls, false).unwrap().config).client.is_err());
    assert!(shake_hands(&nobody, &load(&tls, true).unwrap().config).client.is_ok());
}

#[test]
fn errors_say_what_is_wrong_with_which_file() {
    let scratch = Scratch::new();
    let (tls, key) = prepare(&scratch);
    let good_key = std::fs::read(&tls.key).unwrap();
    let good_cert = std::fs::read(&tls.cert).unwrap();
    let (shown_key, shown_cert) = (tls.key.display(), tls.cert.display());
    let other = ApiKey::generate().unwrap();
    let rsa = pem::encode("RSA PRIVATE KEY", &[], b"0");
    let p256 = certificate::for_server(&certificate::Request {
        common_name: "x",
        dns: &[],
        ips: &[],
        not_before: 0,
        not_after: 1,
    })
    .unwrap();
    let other_key = pem::encode("PRIVATE KEY", &[], &other.to_pkcs8());
    let p256_key = pem::encode("PRIVATE KEY", &[], &p256.1);
    let nameless = make(&key, &[], now() + 90 * DAY);
    let both = [&good_cert[..], &good_key].concat();
    let wrong_block =
        format!("failed to read TLS certificate: https: unsupported PEM data block ({shown_cert})");
    let cases: [(&[u8], &[u8], String); 7] = [
        (&both, &good_key, wrong_block),
        (
            b"hello",
            &good_key,
            format!("failed to read TLS certificate: https: no valid PEM data ({shown_cert})"),
        ),
        (
            &good_cert,
            &good_cert,
            format!("failed to read TLS certificate: https: no PEM-encoded private key found ({shown_key})"),
        ),
        (
            &good_cert,
            &rsa,
            format!("failed to read TLS certificate: tls: failed to parse private key ({shown_key})"),
        ),
        (
            &good_cert,
            &other_key,
            format!(
                "failed to read TLS certificate: tls: private key does not match public key ({shown_key})"
            ),
        ),
        (
            &good_cert,
            &p256_key,
            format!(
                "failed to read TLS certificate: tls: private key type does not match public key type ({shown_key})"
            ),
        ),
        (
            &nameless,
            &good_key,
            format!(
                "invalid TLS certificate: certificate does not contain any DNS or IP address as SAN ({shown_cert})"
            ),
        ),
    ];
    for (cert, key, expected) in cases {
        std::fs::write(&tls.cert, cert).unwrap();
        std::fs::write(&tls.key, key).unwrap();
        assert_eq!(error(&tls), expected);
    }
    std::fs::remove_file(&tls.cert).unwrap();
    assert_eq!(
        error(&tls),
        format!("failed to read TLS certificate: open {shown_cert}: no such file or directory")
    );
}

#[test]
fn an_encrypted_key_needs_its_password() {
    let scratch = Scratch::new();
    let (mut tls, key) = prepare(&scratch);
    scratch.write("private.key", &key::seal_rfc1423(&key.to_pkcs8(), b"secret").unwrap());
    let required = "failed to read TLS certificate: https: private key is encrypted: password required (";
    assert!(error(&tls).starts_with(required), "{}", error(&tls));
    tls.password = Some(SecretBytes::from(b"secret".to_vec()));
    assert!(load(&tls, false).is_ok());
}

#[test]
fn an_expired_certificate_and_an_open_key_are_warned_about() {
    let scratch = Scratch::new();
    let (tls, key) = prepare(&scratch);
    for (days, warning) in [(-1, "has expired on 2"), (6, "expires on 2")] {
        scratch.write("public.crt", &make(&key, &["localhost"], now() + days * DAY));
        let warnings = load(&tls, false).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{warnings:?}");
    }
    scratch.write("public.crt", &make(&key, &["localhost"], now() + 8 * DAY));
    assert!(load(&tls, false).unwrap().warnings.is_empty());
    std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load(&tls, false).unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("read by everybody (mode 644)"), "{warnings:?}");
}

#[test]
fn a_development_certificate_is_fresh_and_for_its_addresses() {
    let address: IpAddr = "127.0.0.1".parse().unwrap();
    let loaded = development(&[address]).unwrap();
    assert!((loaded.not_after - now() - DEVELOPMENT_LIFETIME).abs() < 60);
    let nobody = shake_hands(&client_config(None, VERSIONS[1]), &loaded.config);
    assert!(nobody.client.is_err());
    assert_eq!(peer_of(&[]), nobody.peer);
    let client = Client::new(-DAY, DAY);
    assert_eq!(shake_hands(&client_config(Some(&client), VERSIONS[0]), &loaded.config).peer, client.known());
}
