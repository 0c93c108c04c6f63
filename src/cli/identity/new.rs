//! `kes identity new`: an API key, or a key pair with its certificate.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use zeroize::Zeroizing;

use crate::{
    cli::{Failure, args::Args, output, pair::Pair, term},
    crypto::SecretBytes,
    text::{duration::parse_duration, json::Object, time::Timestamp},
    tls::{ApiKey, certificate, key, pem},
};

/// 720 hours, in seconds.
const DEFAULT_EXPIRY: i64 = 720 * 3600;

/// Flags that ask for files.
const FILE_FLAGS: [&str; 8] = ["key", "cert", "ip", "dns", "expiry", "encrypt", "password-file", "force"];

/// `kes identity new [SUBJECT]`.
pub fn new(args: &Args) -> Result<ExitCode, Failure> {
    let wants_files = !args.positionals().is_empty() || FILE_FLAGS.iter().any(|flag| args.given(flag));
    match wants_files {
        true => make_pair(args)?,
        false => super::print_api_key(&ApiKey::generate()?, args.is_on("json"), false)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn make_pair(args: &Args) -> Result<(), Failure> {
    let key_path = path(args, "key", "private.key")?;
    let certificate_path = path(args, "cert", "public.crt")?;
    let subject = match args.positionals().first() {
        Some(word) => word.to_str().ok_or_else(|| args.mistake("the subject is not valid UTF-8"))?,
        None => "",
    };
    let names = Names::new(args, subject)?;
    let lifetime = lifetime(args, DEFAULT_EXPIRY)?;
    let pair = Pair::new(&key_path, &certificate_path, args.is_on("force"))?;
    let password = password_for_sealing(args)?;

    let key = ApiKey::generate()?;
    let identity = key.identity().to_string();
    let now = Timestamp::now().seconds;
    let request = certificate::Request {
        common_name: if subject.is_empty() { &identity } else { subject },
        dns: &names.dns,
        ips: &names.ips,
        not_before: now,
        not_after: now.saturating_add(lifetime),
    };
    let der = certificate::self_signed(&key, &request)?;
    let pkcs8 = key.to_pkcs8();
    let key_text = match password {
        Some(password) => key::seal_rfc1423(&pkcs8, &password)?,
        None => pem::encode("PRIVATE KEY", &[], &pkcs8),
    };
    pair.write(&key_text, &pem::encode("CERTIFICATE", &[], &der))?;

    let shown = Shown {
        key: &key_path.to_string_lossy(),
        certificate: &certificate_path.to_string_lossy(),
        identity: &identity,
        expires_at: &Timestamp { seconds: request.not_after, nanos: 0, offset_minutes: 0 }.to_string(),
        api_key: args.is_on("show-api-key").then(|| key.to_text()),
    };
    if args.is_on("json") { output::json(&shown.json()) } else { term::print(&shown.text()) }
}

/// What is told about a new pair.
struct Shown<'a> {
    key: &'a str,
    certificate: &'a str,
    identity: &'a str,
    expires_at: &'a str,
    api_key: Option<Zeroizing<String>>,
}

impl Shown<'_> {
    fn json(&self) -> SecretBytes {
        let object = Object::new(512)
            .text("private_key", self.key)
            .text("certificate", self.certificate)
            .text("identity", self.identity)
            .text("expires_at", self.expires_at);
        match &self.api_key {
            Some(key) => object.text("api_key", key).end(),
            None => object.end(),
        }
    }

    fn text(&self) -> Zeroizing<String> {
        let api_key = self.api_key.as_ref().map(|key| key.as_str());
        let mut text = Zeroizing::new(String::with_capacity(512));
        for (label, value) in
            [("Private key:", self.key), ("Certificate:", self.certificate), ("Identity:", self.identity)]
                .into_iter()
                .chain(api_key.map(|key| ("API key:", key)))
        {
            if text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("  {label:<14}"));
            text.push_str(value);
            text.push('\n');
        }
        text
    }
}

/// The names in the certificate beside its subject.
#[derive(PartialEq, Eq, Debug)]
pub(in crate::cli) struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

impl Names {
    /// What `--dns` and `--ip` say, and the subject.
    pub fn new(args: &Args, subject: &str) -> Result<Self, Failure> {
        let mut ips = Vec::new();
        for text in args.list("ip")? {
            let ip = text.parse().map_err(|_| args.invalid("ip", text.as_ref(), "not an IP address"))?;
            ips.push(ip);
        }
        let dns = args.list("dns")?;
        if let Some(bad) = dns.iter().find(|name| name.is_empty() || !name.is_ascii()) {
            return Err(args.invalid("dns", bad.as_ref(), "not a DNS name"));
        }
        Ok(Self { dns, ips }.with_subject(subject))
    }

    /// The subject is a name of the certificate, too, if it looks like that of a server (rule N3).
    pub fn with_subject(mut self, subject: &str) -> Self {
        let is_for_server = !self.ips.is_empty() || subject == "localhost" || subject.contains('.');
        if !is_for_server || !self.dns.is_empty() {
            return self;
        }
        match subject.parse() {
            Ok(ip) if self.ips.contains(&ip) => {}
            Ok(ip) => self.ips.push(ip),
            Err(_) if is_host_name(subject) => self.dns.push(subject.to_owned()),
            Err(_) => {}
        }
        self
    }
}

/// RFC 1123, section 2.1: labels of letters, digits and inner hyphens.
fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

fn path(args: &Args, flag: &str, default: &str) -> Result<PathBuf, Failure> {
    match args.value(flag) {
        None => Ok(PathBuf::from(default)),
        Some(value) if value.is_empty() => Err(args.invalid(flag, value, "empty path")),
        Some(value) => Ok(PathBuf::from(value)),
    }
}

/// Seconds of validity: what `--expiry` says, or `default`.
pub(in crate::cli) fn lifetime(args: &Args, default: i64) -> Result<i64, Failure> {
    let Some(text) = args.text("expiry")? else { return Ok(default) };
    let invalid = |cause: &str| args.invalid("expiry", text.as_ref(), cause);
    let (is_negative, duration) = parse_duration(text).map_err(|cause| invalid(&cause))?;
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds > 0 && !is_negative => Ok(seconds),
        Ok(_) => Err(invalid("must be at least one second")),
        Err(_) => Err(invalid("too long")),
    }
}

fn password_for_sealing(args: &Args) -> Result<Option<SecretBytes>, Failure> {
    if let Some(path) = args.value("password-file") {
        return term::read_password_file(Path::new(path)).map(Some);
    }
    if !args.is_on("encrypt") {
        return Ok(None);
    }
    let ask = |prompt| {
        term::ask_password(prompt)?.ok_or_else(|| {
            Failure::with_hint("there is no terminal to ask for a password", "Use --password-file FILE.")
        })
    };
    let password = ask("Enter password for private key: ")?;
    if password.is_empty() {
        return Err(Failure::new("the password must not be empty"));
    }
    if ask("Confirm password for private key: ")?[..] != password[..] {
        return Err(Failure::new("passwords don't match"));
    }
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_becomes_a_name_only_if_it_looks_like_a_server() {
        let with = |dns: &[&str], ips: &[&str], subject: &str| {
            let dns = dns.iter().map(|&name| name.to_owned()).collect();
            let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            let names = Names { dns, ips }.with_subject(subject);
            let ips = names.ips.iter().map(IpAddr::to_string);
            names.dns.iter().cloned().chain(ips).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(with(&[], &["127.0.0.1"], "localhost"), "localhost 127.0.0.1");
        assert_eq!(with(&[], &[], "MinIO"), "");
        assert_eq!(with(&[], &["::1"], "MinIO"), "MinIO ::1");
        assert_eq!(with(&[], &[], "localhost"), "localhost");
        assert_eq!(with(&[], &[], "kes.example.net"), "kes.example.net");
        assert_eq!(with(&["other"], &["::1"], "kes.example.net"), "other ::1");
        assert_eq!(with(&[], &[], "10.1.2.3"), "10.1.2.3");
        assert_eq!(with(&[], &["10.1.2.3"], "10.1.2.3"), "10.1.2.3");
        assert_eq!(with(&[], &[], "::1"), "");
        assert_eq!(with(&[], &["10.1.2.3"], "::1"), "10.1.2.3 ::1");
        for odd in ["a..b", ".", "-a.b", "a b.c", "*.example.net", "ö.de", ""] {
            assert_eq!(with(&[], &["::1"], odd), "::1", "{odd}");
        }
    }
}
