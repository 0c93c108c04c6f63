use super::*;
use crate::{
    text::encode::{decode_hex, hex},
    tls::{certificate, pem},
};
use proptest::prelude::*;
use serde_json::Value;

fn vectors(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).unwrap();
    document["vectors"].as_array().unwrap().clone()
}

#[test]
fn api_keys_agree_with_the_vectors() {
    let vectors = vectors(include_str!("../../../tests/vectors/apikeys.json"));
    assert!(vectors.len() > 10);
    for vector in vectors {
        let text = vector["api_key"].as_str().unwrap();
        let stderr = vector["identity_of"]["stderr"].as_str();
        let Some(identity) = vector["identity"].as_str() else {
            if text.starts_with(API_KEY_PREFIX) {
                let error = ApiKey::parse(text).unwrap_err();
                assert_eq!(Some(format!("Error: {error}\n").as_str()), stderr, "{text}");
            }
            continue;
        };
        let key = ApiKey::parse(text).unwrap();
        assert_eq!(key.identity().to_string(), identity);
        assert_eq!(key.to_text().as_str(), vector["canonical"].as_str().unwrap());
        assert_eq!(hex(&key.to_pkcs8()), vector["pkcs8_der"].as_str().unwrap());
        assert_eq!(hex(&key.public_key()), vector["spki_der"].as_str().unwrap());
        assert_eq!(hex(key.0.expose()), vector["seed"].as_str().unwrap());
        let pkcs8 = decode_hex(vector["pkcs8_der"].as_str().unwrap()).unwrap();
        assert_eq!(ApiKey::from_pkcs8(&pkcs8).unwrap().to_text(), key.to_text());
        assert_eq!(ApiKey::parse(&format!("{text}\n")).unwrap().identity(), key.identity());
    }
}

#[test]
fn identities_of_certificates_agree_with_the_vectors() {
    let vectors = vectors(include_str!("../../../tests/vectors/certs.json"));
    let mut checked = 0;
    for vector in vectors.iter().filter(|vector| vector["spki_der"].is_string()) {
        let document = pem::parse(vector["pem"].as_str().unwrap().as_bytes());
        let certificate = Certificate::parse(&document.blocks[0].bytes).unwrap();
        assert_eq!(hex(certificate.public_key), vector["spki_der"].as_str().unwrap());
        assert_eq!(identity_of(certificate.public_key).to_string(), vector["identity"].as_str().unwrap());
        let der = CertificateDer::from(document.blocks[0].bytes.to_vec());
        assert_eq!(peer_of(&[der]), Peer::Known(identity_of(certificate.public_key)));
        checked += 1;
    }
    assert!(checked >= 7);
}

#[test]
fn the_place_of_bad_base64_is_named_as_go_names_it() {
    for (text, place) in [
        ("!!!!", 0),
        ("AA!A", 2),
        ("AAAA=", 4),
        ("AAAAA", 4),
        ("AAAAAA", 4),
        ("AAA", 0),
        ("=", 0),
        ("A=AA", 1),
        ("AA=A", 2),
        ("AA==A", 4),
        ("AA=", 3),
        ("AAAA\n!", 5),
        ("AA==\nA", 5),
    ] {
        assert!(decode_base64(text.as_bytes()).is_none(), "{text}");
        assert_eq!(ApiKey::parse(text).unwrap_err(), ApiKeyError::Base64(place), "{text}");
    }
}

#[test]
fn an_api_key_is_not_printed_by_debug() {
    let key = ApiKey::parse("kes:v1:AD9E7FSYWrMD+VjhI6q545cYT9YOyFxZb7UnjEepYDRc").unwrap();
    assert_eq!(
        key.identity().to_string(),
        "3ecfcdf38fcbe141ae26a1030f81e96b753365a46760ae6b578698a97c59fd22"
    );
    assert_eq!(format!("{key:?}"), "ApiKey(Secret<32>(..))");
}

#[test]
fn a_pkcs8_key_of_version_2_gives_its_api_key() {
    let document = ring::signature::Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let der = document.as_ref();
    let pair = Ed25519KeyPair::from_pkcs8(der).unwrap();
    let key = ApiKey::from_pkcs8(der).unwrap();
    assert!(key.public_key().ends_with(pair.public_key().as_ref()));
    assert!(ApiKey::from_pkcs8(&der[..der.len() - 1]).is_none());
    assert!(ApiKey::from_pkcs8(&[]).is_none());
}

fn leaf() -> (Identity, CertificateDer<'static>) {
    let key = ApiKey::generate().unwrap();
    let request = certificate::Request {
        common_name: "leaf",
        dns: &[],
        ips: &[],
        not_before: 0,
        not_after: 2_000_000_000,
    };
    (key.identity(), certificate::self_signed(&key, &request).unwrap().into())
}

fn authority() -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&key).unwrap().der().clone()
}

#[test]
fn exactly_one_certificate_that_is_no_ca_identifies_the_client() {
    let (identity, one) = leaf();
    let (_, two) = leaf();
    let ca = authority();
    assert_eq!(peer_of(&[]), Peer::NoCertificate);
    assert_eq!(peer_of(std::slice::from_ref(&ca)), Peer::NoCertificate);
    assert_eq!(peer_of(std::slice::from_ref(&one)), Peer::Known(identity));
    assert_eq!(peer_of(&[one.clone(), ca.clone()]), Peer::Known(identity));
    assert_eq!(peer_of(&[one.clone(), two.clone()]), Peer::SeveralCertificates);
    assert_eq!(peer_of(&[ca.clone(), one.clone(), two]), Peer::SeveralCertificates);
    assert_eq!(peer_of(&[one, b"junk".to_vec().into()]), Peer::SeveralCertificates);
}

#[test]
fn a_certificate_behind_ones_own_ca_certificate_is_not_ones_own() {
    let (_, victim) = leaf();
    assert_eq!(peer_of(&[authority(), victim]), Peer::NoCertificate);
}

proptest! {
    #[test]
    fn api_keys_round_trip(seed: [u8; 32]) {
        let key = ApiKey(Secret::from_slice(&seed).unwrap());
        let text = key.to_text();
        prop_assert_eq!(text.len(), 51);
        prop_assert!(text.starts_with("kes:v1:A"));
        prop_assert_eq!(*ApiKey::parse(&text).unwrap().0.expose(), seed);
        prop_assert_eq!(*ApiKey::parse(&text[7..]).unwrap().0.expose(), seed);
        prop_assert_eq!(*ApiKey::from_pkcs8(&key.to_pkcs8()).unwrap().0.expose(), seed);
    }

    #[test]
    fn arbitrary_text_is_no_reason_to_panic(text in "(kes:v1:)?[A-Za-z0-9+/=\r\n!]{0,60}", der: Vec<u8>) {
        let _ = ApiKey::parse(&text);
        let _ = ApiKey::from_pkcs8(&der);
        let _ = corrupt_at(text.as_bytes());
        let _ = peer_of(&[der.into()]);
    }
}
