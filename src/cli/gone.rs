//! Commands that this program does not have, so that nobody who knows them is surprised (`cli` §5.11, §5.13).

use std::process::ExitCode;

use super::{
    Failure,
    args::Args,
    table::{Command, Positionals, Takes, flag},
};

/// `kes update`: there is nothing that updates itself.
pub static UPDATE: Command = Command {
    name: "update",
    summary: "Tell how to upgrade.",
    about: "This program does not update itself: upgrades come as packages, or as archives of a release.\n",
    positionals: Positionals { shown: "", min: 0, max: 1 },
    flags: &[
        flag("insecure", Takes::Nothing, "").short(&['k']).hidden(),
        flag("downgrade", Takes::Nothing, "").short(&['d']).hidden(),
        flag("output", Takes::Value("FILE"), "").short(&['o']).hidden(),
        flag("os", Takes::Value("OS"), "").hidden(),
        flag("arch", Takes::Value("ARCH"), "").hidden(),
        flag("minisign-key", Takes::Value("KEY"), "").hidden(),
    ],
    run: |_| {
        Err(Failure::with_hint(
            "kes does not update itself",
            "Upgrade the package that it came with, or put the binary of a newer release in its place.",
        ))
    },
    ..Command::GROUP
};

/// A command of older releases of the protocol's servers, with whatever arguments it had.
const fn gone(name: &'static str) -> Command {
    Command {
        name,
        summary: "Not supported.",
        about: "Not supported: policies, identities and keys are in the server's configuration and its key store.\n",
        positionals: Positionals { shown: "", min: 0, max: usize::MAX },
        hidden: true,
        takes_anything: true,
        run: refuse,
        ..Command::GROUP
    }
}

/// `kes init`.
pub static INIT: Command = gone("init");
/// `kes enclave`.
pub static ENCLAVE: Command = gone("enclave");
/// `kes secret`.
pub static SECRET: Command = gone("secret");
/// `kes policy assign`.
pub static ASSIGN: Command = gone("assign");
/// `kes policy create`.
pub static CREATE: Command = gone("create");
/// `kes policy rm`, `kes identity rm`.
pub static RM: Command = gone("rm");

fn refuse(args: &Args) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = args.path().iter().map(|command| command.name).collect();
    let hint = match words.get(1) {
        Some(&("policy" | "identity")) => {
            "Policies and their identities are in the configuration of the server, which reads it again on SIGHUP."
        }
        _ => "See 'kes --help' for what there is.",
    };
    Err(Failure::with_hint(format!("'{}' is not supported", words.join(" ")), hint))
}
