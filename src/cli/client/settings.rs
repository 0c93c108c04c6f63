//! Server and credentials of a client command, from flags and environment (`cli` §2).

use std::{env, ffi::OsString, path::Path, time::Duration};

use super::Session;
use crate::{
    cli::{Failure, args::Args, term},
    client::{Client, Endpoint, sort},
    text::duration::parse_duration,
    tls::{
        ApiKey,
        client::{Credentials, ServerTrust, config},
        key::{KeyError, PrivateKey},
        pem,
    },
};

/// Of each list the first variable that is set and not empty counts.
const SERVERS: [&str; 3] = ["MINIO_KES_SERVER", "KES_SERVER", "MINIO_KMS_KES_ENDPOINT"];
const API_KEYS: [&str; 4] = ["MINIO_KES_API_KEY", "KES_API_KEY", API_KEY_FILE, "MINIO_KMS_KES_API_KEY"];
const API_KEY_FILE: &str = "KES_API_KEY_FILE";
const KEYS: [&str; 3] = ["MINIO_KES_KEY_FILE", "KES_CLIENT_KEY", "MINIO_KES_CLIENT_KEY"];
const CERTIFICATES: [&str; 3] = ["MINIO_KES_CERT_FILE", "KES_CLIENT_CERT", "MINIO_KES_CLIENT_CERT"];

/// Those of the object server, if there is nothing else.
const MINIO_KEY: &str = "MINIO_KMS_KES_KEY_FILE";
const MINIO_CERTIFICATE: &str = "MINIO_KMS_KES_CERT_FILE";
const MINIO_ROOTS: &str = "MINIO_KMS_KES_CAPATH";

const DEFAULT_SERVER: &str = "127.0.0.1";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A client as flags and environment say.
pub fn session(args: &Args) -> Result<Session, Failure> {
    let endpoints = endpoints(args)?;
    let timeout = match args.text("timeout")? {
        None => Some(DEFAULT_TIMEOUT),
        Some(text) => Some(duration(args, "timeout", text)?).filter(|timeout| !timeout.is_zero()),
    };
    let credentials = credentials(args)?;
    let trust = if args.is_on("insecure") {
        ServerTrust::blind()
    } else {
        let ca = args.value("ca").map(OsString::from).or_else(|| set(&[MINIO_ROOTS]).map(|(_, path)| path));
        ServerTrust::load(ca.as_deref().map(Path::new))
            .map_err(|error| Failure::new(format!("reading trusted certificates: {error}")))?
    };
    let tls = config(trust, &credentials)?;
    Ok(Session { client: Client::new(endpoints, tls, timeout), identity: credentials.identity })
}

/// The value of a flag that is a duration and not negative.
pub fn duration(args: &Args, flag: &str, text: &str) -> Result<Duration, Failure> {
    match parse_duration(text) {
        Ok((false, duration)) => Ok(duration),
        Ok((true, _)) => Err(args.invalid(flag, text.as_ref(), "it must not be negative")),
        Err(cause) => Err(args.invalid(flag, text.as_ref(), &cause)),
    }
}

fn endpoints(args: &Args) -> Result<Vec<Endpoint>, Failure> {
    let list = match args.value("server") {
        Some(_) => args.list("server")?,
        None => match set(&SERVERS) {
            Some((name, value)) => {
                let text =
                    value.to_str().ok_or_else(|| Failure::new(format!("{name} is not valid UTF-8")))?;
                text.split(',').map(|part| part.trim().to_owned()).collect()
            }
            None => Vec::new(),
        },
    };
    let mut endpoints = Vec::new();
    for text in list.iter().filter(|text| !text.is_empty()) {
        endpoints.push(Endpoint::parse(text)?);
    }
    if endpoints.is_empty() {
        endpoints.push(Endpoint::parse(DEFAULT_SERVER)?);
    }
    sort(&mut endpoints);
    Ok(endpoints)
}

/// What one source says of credentials. Each value comes with the name of the flag or variable that gave it.
struct Source {
    api_key: Option<(&'static str, OsString)>,
    key: Option<(&'static str, OsString)>,
    certificate: Option<(&'static str, OsString)>,
    /// What to suggest.
    names: [&'static str; 3],
}

impl Source {
    fn is_empty(&self) -> bool {
        self.api_key.is_none() && self.key.is_none() && self.certificate.is_none()
    }
}

fn credentials(args: &Args) -> Result<Credentials, Failure> {
    let given = |name: &'static str, flag| args.value(flag).map(|value| (name, value.to_owned()));
    let flags = Source {
        api_key: given("--api-key", "api-key"),
        key: given("--key", "key"),
        certificate: given("--cert", "cert"),
        names: ["--api-key", "--key", "--cert"],
    };
    let variables = || Source {
        api_key: set(&API_KEYS),
        key: set(&KEYS),
        certificate: set(&CERTIFICATES),
        names: ["MINIO_KES_API_KEY", "MINIO_KES_KEY_FILE", "MINIO_KES_CERT_FILE"],
    };
    let fall_back = || Source {
        api_key: None,
        key: set(&[MINIO_KEY]),
        certificate: set(&[MINIO_CERTIFICATE]),
        names: ["MINIO_KES_API_KEY", MINIO_KEY, MINIO_CERTIFICATE],
    };
    let source = Some(flags).filter(|source| !source.is_empty());
    let source = source.or_else(|| Some(variables()).filter(|source| !source.is_empty()));
    let source = source.unwrap_or_else(fall_back);
    let [api_key_name, key_name, certificate_name] = source.names;
    match (source.api_key, source.key, source.certificate) {
        (Some((name, value)), None, None) => from_api_key(name, &value),
        (None, Some((_, key)), Some((_, certificate))) => {
            from_files(args, Path::new(&key), Path::new(&certificate))
        }
        (None, None, None) => Err(Failure::with_hint(
            "no API key specified",
            format!(
                "Set {api_key_name}, or MINIO_KES_KEY_FILE and MINIO_KES_CERT_FILE; or use --api-key, or --key and --cert."
            ),
        )),
        (Some((api_key, _)), Some((other, _)), _) => Err(Failure::new(format!(
            "cannot use an API key ({api_key}) and a private key file ({other}) at once"
        ))),
        (Some((api_key, _)), None, Some((other, _))) => Err(Failure::new(format!(
            "cannot use an API key ({api_key}) and a certificate file ({other}) at once"
        ))),
        (None, Some(_), None) => Err(Failure::with_hint(
            "no certificate file specified",
            format!("Name the certificate of the private key with {certificate_name}."),
        )),
        (None, None, Some(_)) => Err(Failure::with_hint(
            "no private key file specified",
            format!("Name the private key of the certificate with {key_name}."),
        )),
    }
}

fn from_api_key(name: &str, value: &OsString) -> Result<Credentials, Failure> {
    let text = match name == API_KEY_FILE {
        true => pem::read_file(Path::new(value)).map_err(|error| format!("reading API key file: {error}"))?,
        false => crate::crypto::SecretBytes::from(value.as_encoded_bytes().to_vec()),
    };
    let text = std::str::from_utf8(text.trim_ascii()).map_err(|error| {
        format!("parsing API key: illegal base64 data at input byte {}", error.valid_up_to())
    })?;
    let key = ApiKey::parse(text).map_err(|error| format!("parsing API key: {error}"))?;
    Ok(Credentials::from_api_key(&key)?)
}

fn from_files(args: &Args, key: &Path, certificate: &Path) -> Result<Credentials, Failure> {
    let certificates =
        pem::read_file(certificate).map_err(|error| format!("reading certificate file: {error}"))?;
    let text = pem::read_file(key).map_err(|error| format!("reading private key file: {error}"))?;
    let failed = |error: KeyError| match error {
        KeyError::WrongPassword => Failure::new("incorrect password"),
        error => Failure::new(format!("{error} ({})", key.display())),
    };
    let private_key = match PrivateKey::parse(&text, None) {
        Err(KeyError::PasswordRequired) => {
            PrivateKey::parse(&text, Some(&term::password_for_opening(args)?)).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    let failed = |error| Failure::new(format!("{error} ({}, {})", certificate.display(), key.display()));
    Credentials::new(&certificates, &private_key).map_err(failed)
}

/// The first of the variables that is set and not empty.
fn set(names: &[&'static str]) -> Option<(&'static str, OsString)> {
    let set = |name: &&'static str| Some((*name, env::var_os(name).filter(|value| !value.is_empty())?));
    names.iter().find_map(set)
}
