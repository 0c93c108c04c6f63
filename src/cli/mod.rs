//! The command line: finds the command in the table, calls it, turns what comes of it into an exit status.

mod args;
mod banner;
mod client;
mod completion;
mod gone;
mod help;
mod identity;
#[cfg(test)]
mod manual;
mod migrate;
pub mod output;
mod pair;
mod print_config;
pub mod progress;
mod provision;
mod sandbox;
mod seal;
pub mod server;
pub mod setup;
mod table;
pub mod term;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use args::Call;

/// Runs the program.
pub fn run() -> ExitCode {
    let done = match std::env::var_os("COMP_LINE") {
        Some(line) => completion::answer(&line),
        None => dispatch(&std::env::args_os().skip(1).collect::<Vec<_>>()),
    };
    match done {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn dispatch(tokens: &[OsString]) -> Result<ExitCode, Failure> {
    match args::parse(&table::ROOT, tokens)? {
        Call::Help(path) => term::print(&help::page(&path)).map(|()| ExitCode::SUCCESS),
        Call::Run(args) => (args.command().run)(&args),
    }
}

/// What `kes server` was told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServerArgs {
    /// `--addr`: instead of the configuration's address.
    pub addr: Option<String>,
    /// `--config`: the configuration file.
    pub config: Option<PathBuf>,
    /// `--dev`: keys in memory, a fresh certificate, a fresh admin.
    pub dev: bool,
    /// `--key`: instead of `tls.key`.
    pub key: Option<String>,
    /// `--cert`: instead of `tls.cert`.
    pub cert: Option<String>,
    /// `--auth`: instead of `tls.auth`; not yet checked.
    pub auth: Option<String>,
    /// `--mlock`: lock the memory or do not start.
    pub mlock: bool,
    /// `--quiet`: no banner.
    pub quiet: bool,
    /// `--check` (empty text) or `--check=connect`: look at everything, and do not serve.
    pub check: Option<String>,
    /// `--strict`: with `--check`, warnings are errors.
    pub strict: bool,
}

/// Why a command ends without success.
#[derive(PartialEq, Eq, Debug)]
pub enum Failure {
    /// One line for the user, and perhaps what helps.
    Message {
        /// Lower case, no full stop.
        text: String,
        /// A whole sentence.
        hint: Option<String>,
    },
    /// No command was given: the usage goes to standard error, exit status 2.
    Usage(String),
    /// Ctrl-C at a prompt: exit status 130.
    Interrupted,
    /// Nobody reads standard output any more (`kes … | head -1`), which is no failure of ours.
    OutputClosed,
}

impl Failure {
    /// A failure with no more to say than `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Message { text: text.into(), hint: None }
    }

    /// A failure and what helps against it.
    pub fn with_hint(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Message { text: text.into(), hint: Some(hint.into()) }
    }

    /// Says it on standard error and gives the exit status.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Message { text, hint } => {
                term::print_error(&text, hint.as_deref());
                ExitCode::FAILURE
            }
            Self::Usage(text) => {
                term::print_stderr(&text);
                ExitCode::from(2)
            }
            Self::Interrupted => ExitCode::from(130),
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}
