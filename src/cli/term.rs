//! What goes to the terminal and what comes from it. Output never panics: a reader that is gone ends the program quietly.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Write},
    os::{fd::AsFd, unix::ffi::OsStringExt},
    path::Path,
};

use super::{Failure, args::Args};
use crate::{crypto::SecretBytes, sys::tty::Terminal, tls::pem};

/// Writes text to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::new(format!("cannot write to standard output: {}", pem::cause(&error))),
    })
}

/// Writes to standard error, if anybody listens there.
pub fn print_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// `Error: …` and perhaps `Hint: …`, one line each.
pub fn print_error(text: &str, hint: Option<&str>) {
    let (red, plain) =
        if has_colour(io::stderr().is_terminal()) { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    let hint = hint.map_or_else(String::new, |hint| format!("Hint: {hint}\n"));
    print_stderr(&format!("{red}Error: {plain}{text}\n{hint}"));
}

/// Whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output is a regular file.
pub fn is_regular_file() -> bool {
    let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata()).is_ok_and(|data| data.is_file())
}

/// Asks for a password on the terminal; `None` if there is none.
pub fn ask_password(prompt: &str) -> Result<Option<SecretBytes>, Failure> {
    let Ok(mut terminal) = Terminal::open() else { return Ok(None) };
    match terminal.ask(prompt) {
        Ok(password) => Ok(Some(password)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::Interrupted),
        Err(error) => Err(Failure::new(format!("reading password: {}", pem::cause(&error)))),
    }
}

/// The first line of a file is a password; it must not be empty.
pub fn read_password_file(path: &Path) -> Result<SecretBytes, Failure> {
    let mut text = pem::read_file(path)?;
    let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    text.truncate(end);
    if text.ends_with(b"\r") {
        text.truncate(text.len() - 1);
    }
    match text.is_empty() {
        true => Err(Failure::new(format!("the password in '{}' is empty", path.display()))),
        false => Ok(text),
    }
}

/// `text` without characters that a terminal would obey: what servers and their clients wrote is for reading only.
pub fn visible(text: &str) -> String {
    text.chars().map(|c| if crate::log::is_odd(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// How standard output is decorated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint(bool);

impl Paint {
    /// Not at all.
    pub const PLAIN: Self = Self(false);

    /// `--color always|auto|never`; `auto` and nothing leave it to the terminal and the environment.
    pub fn new(args: &Args) -> Result<Self, Failure> {
        let Some(text) = args.text("color")? else { return Ok(Self(has_colour(is_terminal()))) };
        if text.eq_ignore_ascii_case("always") {
            Ok(Self(true))
        } else if text.eq_ignore_ascii_case("never") {
            Ok(Self(false))
        } else if text.eq_ignore_ascii_case("auto") {
            Ok(Self(has_colour(is_terminal())))
        } else {
            Err(args.invalid("color", text.as_ref(), "it is one of always, auto, never"))
        }
    }

    /// The heading of a table.
    pub fn heading(self, text: &str) -> String {
        self.with("1;4", text)
    }

    /// Something good.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Something bad.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => ["\x1b[", code, "m", text, "\x1b[0m"].concat(),
            false => text.to_owned(),
        }
    }
}

/// Holds the password of an encrypted private key where there is no terminal to ask at.
const PASSWORD_VARIABLE: &str = "MINIO_KMS_KES_KEY_PASSWORD";

/// The password of an encrypted private key: from `--password-file`, the terminal, or the environment.
pub fn password_for_opening(args: &Args) -> Result<SecretBytes, Failure> {
    if let Some(path) = args.value("password-file") {
        return read_password_file(Path::new(path));
    }
    if let Some(password) = ask_password("Enter password for private key: ")? {
        return Ok(password);
    }
    match env::var_os(PASSWORD_VARIABLE).filter(|value| !value.is_empty()) {
        Some(value) => Ok(SecretBytes::from(value.into_vec())),
        None => Err(Failure::with_hint(
            "the private key is encrypted and there is no terminal to ask for its password",
            format!("Use --password-file FILE or set {PASSWORD_VARIABLE}."),
        )),
    }
}

fn has_colour(is_terminal: bool) -> bool {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if set("NO_COLOR").is_some() {
        return false;
    }
    if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    is_terminal && set("TERM").is_some_and(|value| value != "dumb")
}
