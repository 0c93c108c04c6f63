//! Makes self-signed certificates: for `kes identity new`, for a client's API key, for `--dev`.

use std::{net::IpAddr, time::Duration};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::identity::ApiKey;
use crate::crypto::SecretBytes;

/// The last second that a certificate can name: 9999-12-31T23:59:59Z.
const END_OF_TIME: i64 = 253_402_300_799;

/// What shall stand in a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Subject and issuer.
    pub common_name: &'a str,
    /// DNS names of the subject alternative name; ASCII.
    pub dns: &'a [String],
    /// IP addresses of the subject alternative name.
    pub ips: &'a [IpAddr],
    /// Start of validity in seconds since 1970.
    pub not_before: i64,
    /// End of validity in seconds since 1970.
    pub not_after: i64,
}

/// A certificate in DER for a key pair, signed by itself, for use at either end of a connection (`cli` §5.6).
/// Fails on a name that is not ASCII and on a time before 1970 or after the year 9999.
pub fn self_signed(key: &ApiKey, request: &Request<'_>) -> Result<Vec<u8>, String> {
    let usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let pkcs8 = key.to_pkcs8();
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(&pkcs8[..]), &rcgen::PKCS_ED25519)
            .map_err(|error| error.to_string())?;
    sign(request, usages, &pair)
}

/// A fresh ECDSA P-256 key in PKCS #8 and its certificate for a server, both DER (`server-api` §8.8).
pub fn for_server(request: &Request<'_>) -> Result<(Vec<u8>, SecretBytes), String> {
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
    let certificate = sign(request, vec![ExtendedKeyUsagePurpose::ServerAuth], &pair)?;
    Ok((certificate, SecretBytes::from(pair.serialize_der())))
}

fn sign(
    request: &Request<'_>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    pair: &KeyPair,
) -> Result<Vec<u8>, String> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, request.common_name);
    let mut names = Vec::with_capacity(request.dns.len() + request.ips.len());
    for dns in request.dns {
        let text = dns.as_str().try_into().map_err(|_| format!("'{dns}' is not a valid DNS name"))?;
        names.push(SanType::DnsName(text));
    }
    names.extend(request.ips.iter().copied().map(SanType::IpAddress));

    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.subject_alt_names = names;
    params.serial_number = Some(random_serial()?);
    params.not_before = instant(request.not_before)?;
    params.not_after = instant(request.not_after)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    // rcgen's own "explicitly no CA" would add a subject key identifier, which these certificates never had.
    params.is_ca = IsCa::NoCa;
    let mut no_ca = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 0x00]);
    no_ca.set_criticality(true);
    params.custom_extensions = vec![no_ca];
    let certificate = params.self_signed(pair).map_err(|error| error.to_string())?;
    Ok(certificate.der().to_vec())
}

fn random_serial() -> Result<SerialNumber, String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no randomness available".to_owned())?;
    Ok(SerialNumber::from_slice(&bytes))
}

fn instant<T: std::ops::Add<Duration, Output = T> + From<std::time::SystemTime>>(
    seconds: i64,
) -> Result<T, String> {
    match u64::try_from(seconds) {
        Ok(since_1970) if seconds <= END_OF_TIME => {
            Ok(T::from(std::time::UNIX_EPOCH) + Duration::from_secs(since_1970))
        }
        _ => Err("a certificate cannot be valid before 1970 or after the year 9999".to_owned()),
    }
}
