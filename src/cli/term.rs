//! What goes to the terminal and what comes from it. Output never panics: a reader that is gone ends the program quietly.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    path::Path,
};

use super::Failure;
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
