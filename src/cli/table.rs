//! Every command and every flag, once. The parser and the help read this table.

use std::{path::PathBuf, process::ExitCode};

use super::{
    Failure, ServerArgs,
    args::{Args, unknown_command},
    help, identity, server, term,
};

/// A command, or a group of commands.
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// What it does, for its own help; lines end in a newline.
    pub about: &'static str,
    /// What it takes beside flags.
    pub positionals: Positionals,
    /// Its flags.
    pub flags: &'static [Flag],
    /// Commands within it.
    pub commands: &'static [&'static Command],
    /// Lines that show how it is used.
    pub examples: &'static [&'static str],
    /// Not listed in the help: kept for old scripts.
    pub hidden: bool,
    /// Runs it.
    pub run: fn(&Args) -> Result<ExitCode, Failure>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}

/// The words of a command that are not flags.
#[derive(Debug)]
pub struct Positionals {
    /// As the usage line shows them.
    pub shown: &'static str,
    /// At least so many.
    pub min: usize,
    /// At most so many.
    pub max: usize,
}

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// The name after `--`.
    pub long: &'static str,
    /// The letters after `-`.
    pub shorts: &'static [char],
    /// What follows it.
    pub takes: Takes,
    /// One line; more with a newline in it.
    pub help: &'static str,
    /// Not listed in the help.
    pub hidden: bool,
}

/// What a flag is followed by; the text names it in the help.
#[derive(Debug)]
pub enum Takes {
    /// Nothing, or `=true` or `=false`.
    Nothing,
    /// One value; the last one wins.
    Value(&'static str),
    /// One value or several with commas; repeating it adds more.
    List(&'static str),
    /// Nothing, or `=VALUE`.
    Optional(&'static str),
}

const NONE: Positionals = Positionals { shown: "", min: 0, max: 0 };

const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, shorts: &[], takes, help, hidden: false }
}

const JSON: Flag = flag("json", Takes::Nothing, "Print JSON.");
const PASSWORD_FILE: Flag =
    flag("password-file", Takes::Value("FILE"), "Read the password of the private key from FILE.");

/// `kes` itself.
pub static ROOT: Command = Command {
    name: "kes",
    summary: "",
    about: "A key encryption server for MinIO and other clients of the KES protocol.\n",
    positionals: NONE,
    flags: &[
        Flag {
            long: "version",
            shorts: &['v', 'V'],
            takes: Takes::Nothing,
            help: "Print the version.",
            hidden: false,
        },
        Flag { long: "json", shorts: &[], takes: Takes::Nothing, help: "", hidden: true },
    ],
    commands: &[&SERVER, &IDENTITY, &VERSION, &HELP, &TOOL],
    examples: &[],
    hidden: false,
    run: run_root,
};

static SERVER: Command = Command {
    name: "server",
    summary: "Start a KES server.",
    about: "Starts a KES server with the given configuration file. Without --config it takes the file named by\n\
            KES_CONFIG, else ./config.yml, else /etc/kes/config.yml.\n",
    positionals: NONE,
    flags: &[
        flag("addr", Takes::Value("[IP]:PORT"), "Listen there instead of where the configuration says."),
        flag("config", Takes::Value("FILE"), "Read the configuration from FILE."),
        flag(
            "auth",
            Takes::Value("on|off"),
            "Verify client certificates, or take any: stronger than tls.auth.",
        ),
        flag("key", Takes::Value("FILE"), "The TLS private key: stronger than tls.key."),
        flag("cert", Takes::Value("FILE"), "The TLS certificate: stronger than tls.cert."),
        flag("mlock", Takes::Nothing, "Lock all memory, or refuse to start."),
        flag("dev", Takes::Nothing, "Try it out: keys in memory, a fresh certificate and admin."),
        Flag {
            long: "quiet",
            shorts: &['q'],
            takes: Takes::Nothing,
            help: "Do not print the banner.",
            hidden: false,
        },
        flag(
            "check",
            Takes::Optional("connect"),
            "Check the configuration and the files it names, and exit.\n'connect' also opens the key store.",
        ),
        flag("strict", Takes::Nothing, "With --check: treat warnings as errors."),
    ],
    commands: &[],
    examples: &["kes server --config config.yml --auth off", "kes server --check --config config.yml"],
    hidden: false,
    run: run_server,
};

static IDENTITY: Command = Command {
    name: "identity",
    summary: "Make key pairs and API keys, compute identities.",
    about: "Makes a new API key. Given an API key or a certificate it prints the identity that belongs to it; given\n\
            a private key it prints the API key, which is a secret.\n",
    positionals: Positionals { shown: "[KEY|FILE]", min: 0, max: 1 },
    flags: &[JSON, PASSWORD_FILE],
    commands: &[&IDENTITY_NEW, &IDENTITY_OF],
    examples: &["kes identity", "kes identity client.crt", "kes identity new --ip 127.0.0.1 localhost"],
    hidden: false,
    run: identity::bare,
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
        Flag {
            long: "force",
            shorts: &['f'],
            takes: Takes::Nothing,
            help: "Overwrite existing files.",
            hidden: false,
        },
        flag("show-api-key", Takes::Nothing, "Print the API key, too. It is a secret."),
        JSON,
    ],
    commands: &[],
    examples: &[
        "kes identity new --ip \"127.0.0.1\" localhost",
        "kes identity new --key=client.key --cert=client.crt MinIO",
    ],
    hidden: false,
    run: identity::new,
};

const PASSWORD_FILE_NEW: Flag =
    flag("password-file", Takes::Value("FILE"), "Encrypt the private key with the password in FILE.");

static IDENTITY_OF: Command = Command {
    name: "of",
    summary: "Compute the identity of a certificate, a private key or an API key.",
    about: "Computes the identity of certificates, private keys and API keys. '-' is standard input.\n",
    positionals: Positionals { shown: "KEY|FILE...", min: 0, max: usize::MAX },
    flags: &[JSON, PASSWORD_FILE],
    commands: &[],
    examples: &["kes identity of client.crt", "ID=$(kes identity of client.crt)"],
    hidden: false,
    run: identity::of,
};

static VERSION: Command = Command {
    name: "version",
    summary: "Print the version.",
    about: "Prints the version of this program.\n",
    positionals: NONE,
    flags: &[JSON],
    commands: &[],
    examples: &[],
    hidden: false,
    run: run_version,
};

static HELP: Command = Command {
    name: "help",
    summary: "Show the help of a command.",
    about: "Shows the help of a command.\n",
    positionals: Positionals { shown: "[COMMAND...]", min: 0, max: 8 },
    flags: &[],
    commands: &[],
    examples: &["kes help identity new"],
    hidden: false,
    run: run_help,
};

/// `kes tool identity new|of` of versions before 0.18.
static TOOL: Command = Command {
    name: "tool",
    summary: "Old names of commands.",
    about: "Old names of commands.\n",
    positionals: NONE,
    flags: &[],
    commands: &[&TOOL_IDENTITY],
    examples: &[],
    hidden: true,
    run: show_usage,
};

static TOOL_IDENTITY: Command = Command {
    name: "identity",
    summary: "Old name of 'kes identity'.",
    about: "Old name of 'kes identity'.\n",
    positionals: NONE,
    flags: &[],
    commands: &[&IDENTITY_NEW, &IDENTITY_OF],
    examples: &[],
    hidden: false,
    run: show_usage,
};

fn run_root(args: &Args) -> Result<ExitCode, Failure> {
    if args.is_on("version") { run_version(args) } else { show_usage(args) }
}

/// A command is missing: the usage on standard error, exit status 2.
fn show_usage(args: &Args) -> Result<ExitCode, Failure> {
    Err(Failure::Usage(help::page(args.path())))
}

fn run_version(args: &Args) -> Result<ExitCode, Failure> {
    term::print(&help::version(args.is_on("json")))?;
    Ok(ExitCode::SUCCESS)
}

fn run_help(args: &Args) -> Result<ExitCode, Failure> {
    let mut path = vec![&ROOT];
    let mut command = &ROOT;
    for word in args.positionals() {
        let next = command.commands.iter().copied().find(|command| word == command.name);
        command = next.ok_or_else(|| unknown_command(&path, word))?;
        path.push(command);
    }
    term::print(&help::page(&path))?;
    Ok(ExitCode::SUCCESS)
}

fn run_server(args: &Args) -> Result<ExitCode, Failure> {
    let text = |long: &str| args.text(long).map(|value| value.map(str::to_owned));
    let check = text("check")?;
    if let Some(kind) = check.as_deref().filter(|kind| !matches!(*kind, "" | "connect")) {
        return Err(args.invalid("check", kind.as_ref(), "only 'connect' is possible"));
    }
    server::run(&ServerArgs {
        addr: text("addr")?,
        config: args.value("config").map(PathBuf::from),
        dev: args.is_on("dev"),
        key: text("key")?,
        cert: text("cert")?,
        auth: text("auth")?,
        mlock: args.is_on("mlock"),
        quiet: args.is_on("quiet"),
        check,
        strict: args.is_on("strict"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &'static Command, check: &mut dyn FnMut(&'static Command)) {
        check(command);
        command.commands.iter().for_each(|inner| each(inner, check));
    }

    #[test]
    fn no_two_flags_of_a_command_share_a_name() {
        each(&ROOT, &mut |command| {
            for (i, flag) in command.flags.iter().enumerate() {
                assert!(flag.long != "help" && !flag.shorts.contains(&'h'), "{command:?}");
                for other in &command.flags[i + 1..] {
                    assert_ne!(flag.long, other.long, "{command:?}");
                    assert!(!flag.shorts.iter().any(|short| other.shorts.contains(short)), "{command:?}");
                }
            }
        });
    }

    #[test]
    fn the_manual_names_every_command_and_flag() {
        let manual = concat!(
            include_str!("../../man/kes.1"),
            include_str!("../../man/kes-identity.1"),
            // `kes server` has a page of its own.
            "server addr config auth key cert mlock dev quiet check strict",
        );
        let words: Vec<&str> = manual.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
        each(&ROOT, &mut |command| {
            if !command.hidden {
                assert!(words.contains(&command.name), "{command:?} is not in the manual");
            }
            for flag in command.flags.iter().filter(|flag| !flag.hidden) {
                let long = format!("-{}", flag.long);
                let known = words.contains(&long.as_str()) || words.contains(&flag.long);
                assert!(known, "--{} of {command:?} is not in the manual", flag.long);
            }
        });
    }
}
