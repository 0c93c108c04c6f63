//! What a command and a flag are, and the first of the commands. Each other command stands beside its code; the parser, the
//! help, the completion and the tests of the manual read them from here.

use std::process::ExitCode;

use super::{
    Failure, args::Args, client, completion, gone, help, identity, migrate, provision, seal, server,
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
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Flags that it has in common with others.
    pub common: &'static [Flag],
    /// Commands within it.
    pub commands: &'static [&'static Command],
    /// Lines that show how it is used.
    pub examples: &'static [&'static str],
    /// Not listed in the help: kept for old scripts.
    pub hidden: bool,
    /// Its arguments are not looked at: it only says that it is not there any more.
    pub takes_anything: bool,
    /// Runs it.
    pub run: fn(&Args) -> Result<ExitCode, Failure>,
}

impl Command {
    /// What an entry is filled up from: a command that takes nothing and shows its usage.
    pub const GROUP: Self = Self {
        name: "",
        summary: "",
        about: "",
        positionals: Positionals { shown: "", min: 0, max: 0 },
        flags: &[],
        common: &[],
        commands: &[],
        examples: &[],
        hidden: false,
        takes_anything: false,
        run: help::usage,
    };

    /// All its flags.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().chain(self.common)
    }
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

/// A flag without a letter.
pub const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, shorts: &[], takes, help, hidden: false }
}

impl Flag {
    /// The flag with letters.
    pub const fn short(self, shorts: &'static [char]) -> Self {
        Self { shorts, ..self }
    }

    /// The flag, not listed in the help.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }
}

/// JSON instead of text.
pub const JSON: Flag = flag("json", Takes::Nothing, "Print JSON.");

/// `kes` itself.
pub static ROOT: Command = Command {
    name: "kes",
    about: "A key encryption server for MinIO and other clients of the KES protocol.\n",
    flags: &[
        flag("version", Takes::Nothing, "Print the version.").short(&['v', 'V']),
        flag("auto-completion", Takes::Nothing, "Add completion to the start-up file of the shell."),
        JSON.hidden(),
    ],
    commands: &[
        &server::SERVER,
        &provision::SETUP,
        &client::ls::LS,
        &client::KEY,
        &client::policy::POLICY,
        &identity::IDENTITY,
        &client::status::STATUS,
        &client::status::READY,
        &client::metric::METRIC,
        &client::log::LOG,
        &migrate::MIGRATE,
        &seal::SEAL,
        &gone::UPDATE,
        &completion::COMPLETION,
        &help::VERSION,
        &help::HELP,
        &identity::TOOL,
        &gone::INIT,
        &gone::ENCLAVE,
        &gone::SECRET,
    ],
    run: run_root,
    ..Command::GROUP
};

fn run_root(args: &Args) -> Result<ExitCode, Failure> {
    match () {
        () if args.is_on("version") => help::version(args),
        () if args.is_on("auto-completion") => completion::install(),
        () => help::usage(args),
    }
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
            let flags: Vec<&Flag> = command.flags().collect();
            for (i, flag) in flags.iter().enumerate() {
                assert!(flag.long != "help" && !flag.shorts.contains(&'h'), "{command:?}");
                for other in &flags[i + 1..] {
                    assert_ne!(flag.long, other.long, "{command:?}");
                    assert!(!flag.shorts.iter().any(|short| other.shorts.contains(short)), "{command:?}");
                }
            }
        });
    }
}
