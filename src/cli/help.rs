//! Help texts and the version, printed from the command table.

use std::env::consts;

use super::{
    table::{Command, Flag, Takes},
    term,
};

/// The help of the last command on `path`.
pub fn page(path: &[&'static Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let name = path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ");
    let mut text = String::from("Usage:\n");
    let mut options = String::new();
    if command.flags.iter().any(|flag| !flag.hidden) {
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
    let flags = command.flags.iter().filter(|flag| !flag.hidden).map(|flag| (label(flag), flag.help));
    section(&mut text, "Options", flags.chain(std::iter::once(help)));
    if !command.examples.is_empty() {
        text.push_str("\nExamples:\n");
        command.examples.iter().for_each(|example| text.push_str(&format!("    $ {example}\n")));
    }
    text
}

/// The version, with where it comes from (`cli` §5.1).
pub fn version(as_json: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let commit = option_env!("KES_COMMIT").unwrap_or("<unknown>");
    let target = target();
    if as_json {
        return term::json(&[("version", version), ("commit", commit), ("target", &target)]);
    }
    let runtime = format!("rust {}/{}", consts::OS, consts::ARCH);
    format!(
        "Version    {version:<22} commit={commit}\n\
         Runtime    {runtime:<22} target={target}\n\
         License    {:<22} https://www.apache.org/licenses/LICENSE-2.0\n",
        env!("CARGO_PKG_LICENSE"),
    )
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
