//! `kes --auto-completion`: puts the completion where the user's shell finds it. Doing it twice does nothing more.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::SCRIPTS;
use crate::cli::{Failure, term};

/// Adds completion for the shell in `$SHELL`.
pub fn install() -> Result<ExitCode, Failure> {
    let shell = variable("SHELL").unwrap_or_default();
    let home = || variable("HOME").ok_or_else(|| Failure::new("HOME is not set"));
    let (file, lines) = match shell.file_name().and_then(|name| name.to_str()) {
        Some("bash") => (home()?.join(".bashrc"), call()?),
        Some("zsh") => {
            let folder = variable("ZDOTDIR").map_or_else(home, Ok)?;
            let first =
                "autoload -Uz compinit bashcompinit\n(( $+functions[compdef] )) || compinit\nbashcompinit";
            (folder.join(".zshrc"), format!("{first}\n{}", call()?))
        }
        Some("fish") => return install_fish(&home()?),
        _ => {
            let shell = shell.display();
            return Err(Failure::new(format!(
                "no completion for the shell '{shell}' of SHELL: only for bash, zsh and fish"
            )));
        }
    };
    let old = match fs::read_to_string(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("read", &file, &error)),
        old => old.unwrap_or_default(),
    };
    if old.contains(&format!("{lines}\n")) {
        term::print("Completion is already installed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let newline = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    let open = fs::OpenOptions::new().append(true).create(true).open(&file);
    open.and_then(|mut open| open.write_all(format!("{newline}{lines}\n").as_bytes()))
        .map_err(|error| cannot("write", &file, &error))?;
    term::print(&format!(
        "Added completion to '{}'. It works in new shells. To remove it, delete from there:\n\n{lines}\n",
        file.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// fish reads a file of its own for each command.
fn install_fish(home: &Path) -> Result<ExitCode, Failure> {
    let folder = variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let file = folder.join("fish/completions/kes.fish");
    let script = SCRIPTS.iter().find(|(shell, _)| *shell == "fish").map_or("", |(_, script)| script);
    if fs::read(&file).is_ok_and(|old| old == script.as_bytes()) {
        term::print("Completion is already installed.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let folder = file.parent().unwrap_or(&folder);
    fs::create_dir_all(folder).map_err(|error| cannot("make", folder, &error))?;
    fs::write(&file, script).map_err(|error| cannot("write", &file, &error))?;
    let file = file.display();
    term::print(&format!(
        "Added completion as '{file}'. It works in new shells. To remove it, delete the file.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The line that makes bash, and zsh with its bash emulation, ask this very program.
fn call() -> Result<String, Failure> {
    let program =
        env::current_exe().map_err(|error| Failure::new(format!("the path of kes is not known: {error}")))?;
    // Once for the shell that runs the program, and once for the one that reads this line.
    let program = program.to_str().ok_or_else(|| Failure::new("the path of kes is not UTF-8"))?;
    Ok(format!("complete -o default -C {} kes", quote(&quote(program))))
}

/// The text as one word of a shell.
fn quote(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,".contains(&b);
    if text.bytes().all(is_plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {verb} '{}': {error}", path.display()))
}
