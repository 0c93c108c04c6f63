//! `kes identity`: API keys, key pairs, identities (`cli` §5.6 and rules N1 to N7, O1 to O3).

pub(super) mod new;

use std::{
    ffi::OsStr,
    io::{self, IsTerminal},
    path::Path,
    process::ExitCode,
};

use zeroize::Zeroizing;

use super::{
    Failure,
    args::Args,
    client, gone, output,
    table::{Command, Flag, JSON, Positionals, Takes, flag},
    term,
};
use crate::{
    name::Identity,
    text::json::Object,
    tls::{
        ApiKey,
        identity::{API_KEY_PREFIX, identity_of},
        key::{KeyError, PrivateKey},
        pem,
        x509::Certificate,
    },
};

use new::new;

/// The password of a private key that is to be opened.
pub const PASSWORD_FILE: Flag =
    flag("password-file", Takes::Value("FILE"), "Read the password of the private key from FILE.");

/// `kes identity`.
pub static IDENTITY: Command = Command {
    name: "identity",
    summary: "Make key pairs and API keys, look at identities.",
    about: "Makes a new API key. Given an API key or a certificate it prints the identity that belongs to it; given\n\
            a private key it prints the API key, which is a secret.\n",
    positionals: Positionals { shown: "[KEY|FILE]", min: 0, max: 1 },
    flags: &[JSON, PASSWORD_FILE],
    commands: &[&IDENTITY_NEW, &IDENTITY_OF, &client::identity::INFO, &client::identity::LS, &gone::RM],
    examples: &["kes identity", "kes identity client.crt", "kes identity new --ip 127.0.0.1 localhost"],
    run: bare,
    ..Command::GROUP
};

static IDENTITY_NEW: Command = Command {
    name: "new",
    summary: "Make a new identity: key pair and certificate, or an API key.",
    about: "Makes a private key and a certificate for SUBJECT and prints their identity. Without SUBJECT and without\n\
            options for files it makes an API key and writes no file.\n",
    positionals: Positionals { shown: "[SUBJECT]", min: 0, max: 1 },
    flags: &[
        flag("key", Takes::Value("FILE"), "Write the private key to FILE (default: private.key)."),
        flag("cert", Takes::Value("FILE"), "Write the certificate to FILE (default: public.crt)."),
        flag("ip", Takes::List("IP"), "Put the IP address into the certificate."),
        flag("dns", Takes::List("NAME"), "Put the DNS name into the certificate."),
        flag("expiry", Takes::Value("DURATION"), "How long the certificate is valid (default: 720h)."),
        flag("encrypt", Takes::Nothing, "Ask for a password and encrypt the private key with it."),
        PASSWORD_FILE_NEW,
        flag("force", Takes::Nothing, "Overwrite existing files.").short(&['f']),
        flag("show-api-key", Takes::Nothing, "Print the API key, too. It is a secret."),
        JSON,
    ],
    examples: &[
        "kes identity new --ip \"127.0.0.1\" localhost",
        "kes identity new --key=client.key --cert=client.crt MinIO",
    ],
    run: new,
    ..Command::GROUP
};

const PASSWORD_FILE_NEW: Flag =
    flag("password-file", Takes::Value("FILE"), "Encrypt the private key with the password in FILE.");

static IDENTITY_OF: Command = Command {
    name: "of",
    summary: "Compute the identity of a certificate, a private key or an API key.",
    about: "Computes the identity of certificates, private keys and API keys. '-' is standard input.\n",
    positionals: Positionals { shown: "KEY|FILE...", min: 0, max: usize::MAX },
    flags: &[JSON, PASSWORD_FILE],
    examples: &["kes identity of client.crt", "ID=$(kes identity of client.crt)"],
    run: of,
    ..Command::GROUP
};

/// `kes tool identity new|of` and `kes tool migrate` of versions before 0.18.
pub static TOOL: Command = Command {
    name: "tool",
    summary: "Old names of commands.",
    about: "Old names of commands.\n",
    commands: &[&TOOL_IDENTITY, &super::migrate::MIGRATE],
    hidden: true,
    ..Command::GROUP
};

static TOOL_IDENTITY: Command = Command {
    name: "identity",
    summary: "Old name of 'kes identity'.",
    about: "Old name of 'kes identity'.\n",
    commands: &[&IDENTITY_NEW, &IDENTITY_OF],
    ..Command::GROUP
};

/// `kes identity [KEY|FILE]`.
fn bare(args: &Args) -> Result<ExitCode, Failure> {
    let Some(source) = args.positionals().first() else {
        print_api_key(&ApiKey::generate()?, args.is_on("json"), !term::is_terminal())?;
        return Ok(ExitCode::SUCCESS);
    };
    // A key is a secret: one without its prefix is not to be taken for the name of a file, and shown in the error.
    let is_key = |text: &&str| ApiKey::parse(text.trim()).is_ok() && !Path::new(text).exists();
    let argument = source.to_str().filter(is_key).and_then(|text| ApiKey::parse(text.trim()).ok());
    let is_argument = argument.is_some();
    let found = match argument {
        Some(key) => Found::ApiKey(key),
        None => inspect(source, args).map_err(|failure| suggest_command(failure, source, args))?,
    };
    let identity = found.identity().to_string();
    let text = match &found {
        // Who gives the key asks for the identity; who gives the file asks for the key.
        Found::ApiKey(key) if !is_argument => {
            let text = key.to_text();
            if args.is_on("json") {
                output::json(&Object::new(192).text("api_key", &text).text("identity", &identity).end())?;
                return Ok(ExitCode::SUCCESS);
            }
            Zeroizing::new(match term::is_terminal() {
                true => format!("\nYour API key:\n\n   {}\n\n", *text),
                false => format!("{}\n", *text),
            })
        }
        Found::OtherKey(_) => {
            let source = source.to_string_lossy();
            return Err(Failure::with_hint(
                format!("the private key in '{source}' is not an Ed25519 key and so has no API key"),
                "'kes identity of' prints its identity.",
            ));
        }
        _ if args.is_on("json") => {
            output::json(&Object::new(96).text("identity", &identity).end())?;
            return Ok(ExitCode::SUCCESS);
        }
        _ if term::is_terminal() => Zeroizing::new(format!("\nIdentity:\n\n   {identity}\n\n")),
        _ => Zeroizing::new(format!("{identity}\n")),
    };
    term::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `kes identity of KEY|FILE...`.
fn of(args: &Args) -> Result<ExitCode, Failure> {
    let stdin = [OsStr::new("-").to_owned()];
    let sources = match args.positionals() {
        [] if io::stdin().is_terminal() => return Err(args.mistake("not enough arguments")),
        [] => &stdin[..],
        sources => sources,
    };
    for source in sources {
        let identity = inspect(source, args)?.identity().to_string();
        print_identity(source, &identity, sources.len() == 1, args.is_on("json"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows one identity.
///
/// For a single argument the decorated form is for people and the bare one for programs. Programs read from a pipe
/// (`$(kes identity of x)`, `… | cat`) and get the bare value. Output that is sent to a regular file counts as meant for
/// people: there the older releases wrote the same text as on a terminal, and scripts look for its label.
fn print_identity(source: &OsStr, identity: &str, is_single: bool, json: bool) -> Result<(), Failure> {
    let name = match source.to_str() {
        // The name of an API key would be the secret itself.
        Some(text) if text.starts_with(API_KEY_PREFIX) => "(API key)".into(),
        _ => source.to_string_lossy(),
    };
    match is_single && !json {
        true if term::is_terminal() || term::is_regular_file() => {
            term::print(&format!("\n  Identity:  {identity}\n"))
        }
        true => term::print(&format!("{identity}\n")),
        false if term::is_terminal() && !json => term::print(&format!("{name}: {identity}\n")),
        false => output::json(&Object::new(128).text("name", &name).text("identity", identity).end()),
    }
}

/// What a key or file turned out to be.
enum Found {
    /// A certificate's identity.
    Certificate(Identity),
    /// An API key, or the private key that is one.
    ApiKey(ApiKey),
    /// The identity of a private key that is no API key.
    OtherKey(Identity),
}

impl Found {
    fn identity(&self) -> Identity {
        match self {
            Self::Certificate(identity) | Self::OtherKey(identity) => *identity,
            Self::ApiKey(key) => key.identity(),
        }
    }
}

/// Looks at an API key, a file, or standard input (`-`).
fn inspect(source: &OsStr, args: &Args) -> Result<Found, Failure> {
    if let Some(text) = source.to_str().map(str::trim).filter(|text| text.starts_with(API_KEY_PREFIX)) {
        return ApiKey::parse(text).map(Found::ApiKey).map_err(|error| Failure::new(error.to_string()));
    }
    let name = source.to_string_lossy();
    let text = match source == "-" {
        true => {
            pem::read_all(io::stdin().lock(), 0).map_err(|error| format!("read standard input: {error}"))?
        }
        false => pem::read_file(Path::new(source))?,
    };
    if let Some(key) = api_key_in(&text) {
        let failed = |error| Failure::new(format!("failed to parse API key in '{name}': {error}"));
        return ApiKey::parse(&key).map(Found::ApiKey).map_err(failed);
    }
    let failed = |error: &str| Failure::new(format!("failed to parse certificate in '{name}': {error}"));
    let document = pem::parse(&text);
    if let Some(block) = document.blocks.iter().find(|block| block.label == "CERTIFICATE") {
        if document.has_trailing_text {
            return Err(failed("https: no valid PEM data"));
        }
        let certificate = Certificate::parse(&block.bytes).map_err(|error| failed(&error.to_string()))?;
        return Ok(Found::Certificate(identity_of(certificate.public_key)));
    }
    if document.blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) {
        return read_private_key(&text, &name, args);
    }
    Err(failed(match document.blocks.is_empty() {
        true => "https: no valid PEM data",
        false => "https: unsupported PEM data block",
    }))
}

/// The API key, if that is what the file holds.
fn api_key_in(text: &[u8]) -> Option<Zeroizing<String>> {
    let text = text.trim_ascii();
    if !text.starts_with(API_KEY_PREFIX.as_bytes()) {
        return None;
    }
    Some(Zeroizing::new(String::from_utf8_lossy(text).into_owned()))
}

fn read_private_key(text: &[u8], name: &str, args: &Args) -> Result<Found, Failure> {
    let failed = |error: KeyError| match error {
        KeyError::WrongPassword => Failure::new("incorrect password"),
        error => Failure::new(format!("failed to parse private key in '{name}': {error}")),
    };
    let key = match PrivateKey::parse(text, None) {
        Err(KeyError::PasswordRequired) => {
            let password = term::password_for_opening(args)?;
            PrivateKey::parse(text, Some(&password)).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    if let Some(key) = key.pkcs8().and_then(ApiKey::from_pkcs8) {
        return Ok(Found::ApiKey(key));
    }
    let public_key = key.signing_key().map_err(failed)?;
    let public_key = public_key.public_key().ok_or_else(|| failed(KeyError::Malformed))?;
    Ok(Found::OtherKey(identity_of(&public_key)))
}

/// A new API key: labelled, or bare for programs.
fn print_api_key(key: &ApiKey, json: bool, bare: bool) -> Result<(), Failure> {
    let (text, identity) = (key.to_text(), key.identity().to_string());
    if json {
        return output::json(&Object::new(192).text("api_key", &text).text("identity", &identity).end());
    }
    term::print(&Zeroizing::new(match bare {
        true => format!("{}\n", *text),
        false => format!(
            "\nYour API key:\n\n   {}\n\n\
             This is the only time it is shown. Keep it secret and secure!\n\n\
             Your Identity:\n\n   {identity}\n\n\
             The identity is not a secret. Put it into a policy to give the API key its rights.\n\n",
            *text
        ),
    }))
}

/// `kes identity nwe`: the word is taken for a file; if there is none, it may have been meant as a command.
fn suggest_command(failure: Failure, word: &OsStr, args: &Args) -> Failure {
    let word = word.to_string_lossy();
    let names = args.command().commands.iter().filter(|command| !command.hidden).map(|command| command.name);
    match (failure, crate::text::suggest::nearest(&word, names)) {
        (Failure::Message { text, hint: None }, Some(name)) if !Path::new(&*word).exists() => {
            Failure::with_hint(text, format!("Did you mean 'kes identity {name}'?"))
        }
        (failure, _) => failure,
    }
}
