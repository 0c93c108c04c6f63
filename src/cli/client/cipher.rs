//! `kes key encrypt|decrypt|dek|hmac` (`cli` §5.4, §7): what is secret is wiped, and need not stand on the command line.

use std::{ffi::OsString, io, path::Path, process::ExitCode};

use super::{FLAGS, Session, key::FILE, key::is_stdin, odd_reply, word};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        table::{Command, Positionals, Takes, flag},
        term,
    },
    client::{Request, segment},
    crypto::SecretBytes,
    text::{
        encode::{base64_into, corrupt_at, decode_base64},
        json::{Object, Rest, read_object},
    },
    tls::pem,
};

/// `kes key encrypt`.
pub static ENCRYPT: Command = Command {
    name: "encrypt",
    summary: "Encrypt a message.",
    about: "Encrypts a message with a key. CONTEXT, in base64, must be given again for decryption. The message is taken\n\
            byte by byte, and can be read from standard input ('-') or from a file.\n",
    positionals: Positionals { shown: "NAME MESSAGE|- [CONTEXT]", min: 1, max: 3 },
    flags: &[FILE],
    common: FLAGS,
    examples: &["kes key encrypt my-key Hello", "kes key encrypt my-key --file secret.txt"],
    run: |args| {
        let (message, rest) = input(args, 1)?;
        let context = context(args, rest)?;
        let body =
            Object::new(message.len() * 2 + 64).bytes("plaintext", &message).bytes("context", &context);
        let [ciphertext] = ask(args, "encrypt with", "encrypt", Some(&body.end()), ["ciphertext"])?;
        show(args, &[("ciphertext", &ciphertext)])
    },
    ..Command::GROUP
};

/// `kes key decrypt`.
pub static DECRYPT: Command = Command {
    name: "decrypt",
    summary: "Decrypt a ciphertext.",
    about: "Decrypts a ciphertext, given in base64, with a key and the CONTEXT that it was encrypted with. The ciphertext\n\
            can be read from standard input ('-') or from a file. The plaintext is printed in base64.\n",
    positionals: Positionals { shown: "NAME CIPHERTEXT|- [CONTEXT]", min: 1, max: 3 },
    flags: &[FILE, flag("raw", Takes::Nothing, "Print the plaintext itself and nothing else.")],
    common: FLAGS,
    examples: &["kes key decrypt my-key --raw --file ciphertext.txt"],
    run: decrypt,
    ..Command::GROUP
};

/// `kes key dek`.
pub static DEK: Command = Command {
    name: "dek",
    summary: "Generate a data encryption key.",
    about: "Generates a new data encryption key and prints it both in plain and encrypted with the key NAME.\n",
    positionals: Positionals { shown: "NAME [CONTEXT]", min: 1, max: 2 },
    common: FLAGS,
    examples: &["kes key dek my-key"],
    run: |args| {
        let context = context(args, args.positionals().get(1..).unwrap_or(&[]))?;
        let body = Object::new(context.len() * 2 + 32).bytes("context", &context).end();
        let what = "generate a data key with";
        let [plaintext, ciphertext] = ask(args, what, "generate", Some(&body), ["plaintext", "ciphertext"])?;
        show(args, &[("plaintext", &plaintext), ("ciphertext", &ciphertext)])
    },
    ..Command::GROUP
};

/// `kes key hmac`.
pub static HMAC: Command = Command {
    name: "hmac",
    summary: "Compute a checksum that only the key can make.",
    about: "Computes the HMAC-SHA256 of a message with a key. The message is taken byte by byte, and can be read from\n\
            standard input ('-') or from a file.\n",
    positionals: Positionals { shown: "NAME MESSAGE|-", min: 1, max: 2 },
    flags: &[FILE],
    common: FLAGS,
    examples: &["kes key hmac my-key Hello"],
    run: |args| {
        let (message, rest) = input(args, 1)?;
        if !rest.is_empty() {
            return Err(args.mistake("too many arguments"));
        }
        let body = Object::new(message.len() * 2 + 32).bytes("message", &message).end();
        let [sum] = ask(args, "compute an HMAC with", "hmac", Some(&body), ["hmac"])?;
        show(args, &[("hmac", &sum)])
    },
    ..Command::GROUP
};

fn decrypt(args: &Args) -> Result<ExitCode, Failure> {
    if args.is_on("raw") && args.is_on("json") {
        return Err(args.mistake("--raw cannot be used with --json"));
    }
    let (text, rest) = input(args, 1)?;
    let ciphertext = from_base64(args, "ciphertext", &text)?;
    let context = context(args, rest)?;
    let body = Object::new(text.len() * 2 + 64).bytes("ciphertext", &ciphertext).bytes("context", &context);
    let [plaintext] = ask(args, "decrypt with", "decrypt", Some(&body.end()), ["plaintext"])?;
    if args.is_on("raw") {
        term::print_bytes(&plaintext)?;
        return Ok(ExitCode::SUCCESS);
    }
    show(args, &[("plaintext", &plaintext)])
}

/// What the word at `place` says, standard input if that is `-`, or the content of `--file`; and the words after it.
pub fn input(args: &Args, place: usize) -> Result<(SecretBytes, &[OsString]), Failure> {
    let words = args.positionals();
    if let Some(path) = args.value("file") {
        return Ok((pem::read_file(Path::new(path))?, words.get(place..).unwrap_or(&[])));
    }
    let Some(word) = words.get(place) else { return Err(args.mistake("not enough arguments")) };
    let bytes = match is_stdin(word) {
        true => {
            pem::read_all(io::stdin().lock(), 0).map_err(|error| format!("read standard input: {error}"))?
        }
        false => SecretBytes::from(word.as_encoded_bytes().to_vec()),
    };
    Ok((bytes, words.get(place + 1..).unwrap_or(&[])))
}

/// Decodes base64, with blanks and line feeds around it.
pub fn from_base64(args: &Args, what: &str, text: &[u8]) -> Result<SecretBytes, Failure> {
    let text = text.trim_ascii();
    decode_base64(text).ok_or_else(|| {
        args.mistake(&format!("invalid {what}: illegal base64 data at input byte {}", corrupt_at(text)))
    })
}

fn context(args: &Args, rest: &[OsString]) -> Result<SecretBytes, Failure> {
    match rest {
        [] => Ok(SecretBytes::new()),
        [word] => from_base64(args, "context", word.as_encoded_bytes()),
        _ => Err(args.mistake("too many arguments")),
    }
}

/// Asks the server to do something with the key that is named, and takes binary values out of its reply.
fn ask<const N: usize>(
    args: &Args,
    what: &str,
    action: &str,
    body: Option<&[u8]>,
    members: [&str; N],
) -> Result<[SecretBytes; N], Failure> {
    let name = word(args, 0)?;
    let mut session = Session::new(args)?;
    let target = format!("/v1/key/{action}/{}", segment(name));
    let request = Request { method: "PUT", target: &target, body, is_repeatable: true };
    let failed =
        |session: &Session, error| session.failure_of(&format!("failed to {what} key \"{name}\""), error);
    let answer = session.client.call(&request).map_err(|error| failed(&session, error))?;
    let odd = || failed(&session, odd_reply());
    let members = read_object(&answer.body, members, Rest::Ignored).map_err(|_| odd())?;
    let mut values = std::array::from_fn(|_| SecretBytes::new());
    for (value, member) in values.iter_mut().zip(members) {
        *value = member.bytes().ok_or_else(odd)?;
    }
    Ok(values)
}

/// A blank line and labelled values on a terminal, else JSON.
fn show(args: &Args, values: &[(&str, &[u8])]) -> Result<ExitCode, Failure> {
    if args.is_on("json") || !term::is_terminal() {
        let size = values.iter().map(|(_, value)| value.len() * 2 + 32).sum();
        let object = values.iter().fold(Object::new(size), |object, (name, value)| object.bytes(name, value));
        output::json(&object.end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = values.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    let mut text = SecretBytes::with_capacity(256);
    text.extend(b"\n");
    for (name, value) in values {
        text.extend(format!("{:<width$}", [name, ":"].concat()).as_bytes());
        base64_into(value, &mut text);
        text.extend(b"\n");
    }
    term::print_bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}
