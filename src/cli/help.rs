//! `kes help` and `kes version`: help texts are printed from the command table.

use std::{env::consts, process::ExitCode};

use super::{
    Failure,
    args::{Args, unknown_command},
    output,
    table::{Command, Flag, JSON, Positionals, ROOT, Takes},
    term,
};
use crate::text::json::Object;

/// `kes version`.
pub static VERSION: Command = Command {
    name: "version",
    summary: "Print the version.",
    about: "Prints the version of this program.\n",
    flags: &[JSON],
    run: version,
    ..Command::GROUP
};

/// `kes help`.
pub static HELP: Command = Command {
    name: "help",
    summary: "Show the help of a command.",
    about: "Shows the help of a command.\n",
    positionals: Positionals { shown: "[COMMAND...]", min: 0, max: 8 },
    examples: &["kes help identity new"],
    run: run_help,
    ..Command::GROUP
};

/// The help of the last command on `path`.
pub fn page(path: &[&'static Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let name = path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
    let mut text = String::from("Usage:\n");
    let mut options = String::new();
    if command.flags().any(|flag| !flag.hidden) {
        options.push_str(" [options]");
    }
    let groups = command.commands.iter().any(|command| !command.hidden);
    if groups {
        text.push_str(&format!("    {name} COMMAND\n"));
    }
    if !groups || command.positionals.max > 0 {
        let shown = command.positionals.shown;
        text.push_str(format!("    {name}{options} {shown}").trim_end());
        text.push('\n');
    }
    text.push_str(&format!("\n{}", command.about));
    section(
        &mut text,
        "Commands",
        command
            .commands
            .iter()
            .filter(|command| !command.hidden)
            .map(|command| (command.name.to_owned(), command.summary)),
    );
    let help = ("-h, --help".to_owned(), "Show this help.");
    let flags = command.flags().filter(|flag| !flag.hidden).map(|flag| (label(flag), flag.help));
    section(&mut text, "Options", flags.chain(std::iter::once(help)));
    if !command.examples.is_empty() {
        text.push_str("\nExamples:\n");
        command.examples.iter().for_each(|example| text.push_str(&format!("    $ {example}\n")));
    }
    text
}

/// `kes version`: the version, with where it comes from (`cli` §5.1).
pub fn version(args: &Args) -> Result<ExitCode, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("KES_COMMIT").unwrap_or("<unknown>");
    let target = target();
    if args.is_on("json") {
        let object = Object::new(128).text("version", version).text("commit", commit);
        output::json(&object.text("target", &target).end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = format!("rust {}/{}", consts::OS, consts::ARCH);
    term::print(&format!(
        "Version    {version:<22} commit={commit}\n\
         Runtime    {runtime:<22} target={target}\n\
         License    {:<22} https://www.apache.org/licenses/LICENSE-2.0\n",
        env!("CARGO_PKG_LICENSE"),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A command is missing: its usage on standard error, exit status 2.
pub fn usage(args: &Args) -> Result<ExitCode, Failure> {
    Err(Failure::Usage(page(args.path())))
}

fn run_help(args: &Args) -> Result<ExitCode, Failure> {
    let mut path = vec![&ROOT];
    let mut command = &ROOT;
    for word in args.positionals() {
        let next = command.commands.iter().copied().find(|command| word == command.name);
        command = next.ok_or_else(|| unknown_command(&path, word))?;
        path.push(command);
    }
    term::print(&page(&path))?;
    Ok(ExitCode::SUCCESS)
}

fn target() -> String {
    let library = if cfg!(target_env = "musl") {
        "-musl"
    } else if cfg!(target_env = "gnu") {
        "-gnu"
    } else {
        ""
    };
    format!("{}-{}{library}", consts::ARCH, consts::OS)
}

fn label(flag: &Flag) -> String {
    let shorts: String = flag.shorts.iter().map(|short| format!("-{short}, ")).collect();
    let indent = if shorts.is_empty() { "    " } else { "" };
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Value(name) | Takes::List(name) => format!(" {name}"),
        Takes::Optional(name) => format!("[={name}]"),
    };
    format!("{indent}{shorts}--{}{value}", flag.long)
}

fn section(text: &mut String, title: &str, rows: impl Iterator<Item = (String, &'static str)>) {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0) + 3;
    text.push_str(&format!("\n{title}:\n"));
    for (label, help) in rows {
        let help = help.replace('\n', &format!("\n{:indent$}", "", indent = width + 4));
        text.push_str(&format!("    {label:<width$}{help}\n"));
    }
}
