//! The manual pages, the help and the command table say the same (a test).

use super::{
    args, completion, help,
    table::{Command, Flag, ROOT},
};

/// A command with the commands that lead to it.
type Path = Vec<&'static Command>;

/// Every command that the help lists.
fn listed() -> Vec<Path> {
    fn add(path: &[&'static Command], all: &mut Vec<Path>) {
        all.push(path.to_vec());
        let Some(command) = path.last() else { return };
        for inner in command.commands.iter().filter(|command| !command.hidden) {
            add(&[path, &[inner]].concat(), all);
        }
    }
    let mut all = Vec::new();
    add(&[&ROOT], &mut all);
    all
}

fn name(path: &Path) -> String {
    path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
}

/// The pages that describe commands, with their file names.
fn pages() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/man");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|section| section == "1" || section == "8"));
    let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    pages.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The lines of a page's synopsis that belong to a command.
fn synopsis<'p>(page: &'p str, command: &str) -> Option<Vec<&'p str>> {
    let section = page.split("\n.Sh ").find(|section| section.starts_with("SYNOPSIS\n"))?;
    let calls = section.split("\n.Nm ").skip(1);
    let own = calls.filter(|call| call.lines().next() == Some(command));
    let lines: Vec<&str> = own.flat_map(|call| call.lines().skip(1)).collect();
    (section.lines().any(|line| line.strip_prefix(".Nm ") == Some(command))).then_some(lines)
}

/// The names of each flag that a line of mdoc speaks of: `Fl f , -force` is one flag with two names.
fn flags_of(line: &str) -> Vec<Vec<&str>> {
    let mut flags: Vec<Vec<&str>> = Vec::new();
    let mut in_flag = false;
    for token in line.trim_start_matches('.').split_whitespace() {
        let is_macro = token.len() == 2
            && token.starts_with(|c: char| c.is_ascii_uppercase())
            && token.ends_with(|c: char| c.is_ascii_lowercase());
        match token {
            "Fl" => {
                flags.push(Vec::new());
                in_flag = true;
            }
            "," | "|" => {}
            _ if is_macro => in_flag = false,
            _ if in_flag => flags.last_mut().unwrap().push(token),
            _ => {}
        }
    }
    flags
}

/// All names of a flag as mdoc writes them, sorted.
fn names(flag: &Flag) -> Vec<String> {
    let mut names = vec![format!("-{}", flag.long)];
    names.extend(flag.shorts.iter().map(char::to_string));
    names.sort();
    names
}

fn shown(flags: &[Flag]) -> Vec<&Flag> {
    flags.iter().filter(|flag| !flag.hidden).collect()
}

/// The synopsis has every flag of its command by one of its names, and no other. A group of letters stands for each.
#[test]
fn the_synopsis_of_each_command_has_its_flags_and_no_other() {
    let pages = pages();
    for path in listed() {
        let command = path.last().unwrap();
        let (own, common) = (shown(command.flags), shown(command.common));
        if own.is_empty() && !command.commands.is_empty() && command.positionals.max == 0 {
            continue; // A group: only its commands are called.
        }
        let name = name(&path);
        let found: Vec<_> =
            pages.iter().filter_map(|(file, page)| Some((file, synopsis(page, &name)?))).collect();
        let [(file, lines)] = &found[..] else {
            panic!("'{name}' is in the synopsis of {} pages instead of one", found.len())
        };
        let mut given: Vec<String> = Vec::new();
        for word in lines.iter().flat_map(|line| flags_of(line)).flatten() {
            match word.strip_prefix('-') {
                Some(_) => given.push(word.into()),
                None => given.extend(word.chars().map(String::from)),
            }
        }
        for flag in &own {
            let known = names(flag).iter().any(|name| given.contains(name));
            assert!(known, "{file}: the synopsis of '{name}' lacks --{}", flag.long);
        }
        let for_clients = lines.iter().any(|line| line.contains("Ar client options"));
        for flag in common.iter().filter(|_| !for_clients) {
            let known = names(flag).iter().any(|name| given.contains(name));
            assert!(known, "{file}: the synopsis of '{name}' lacks --{}", flag.long);
        }
        assert!(!for_clients || !common.is_empty(), "{file}: '{name}' has no client options");
        let known: Vec<String> = own.iter().chain(&common).flat_map(|flag| names(flag)).collect();
        for name_given in given.iter().filter(|name| !["h", "-help"].contains(&name.as_str())) {
            assert!(known.contains(name_given), "{file}: '{name}' has no flag {name_given}");
        }
    }
}

/// Each flag has an item with all its names in the page of its command, flags in common one in kes.1 or there.
#[test]
fn each_flag_has_an_item_in_the_manual_and_no_item_is_without_a_flag() {
    let mut wanted: Vec<(String, Vec<String>)> = vec![("kes.1".into(), vec!["-help".into(), "h".into()])];
    let pages = pages();
    let mut items = Vec::new();
    for (file, page) in &pages {
        for line in page.lines().filter(|line| line.starts_with(".It Fl")) {
            for names in flags_of(line) {
                let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
                names.sort();
                items.push((file.clone(), names));
            }
        }
    }
    for path in listed() {
        let name = name(&path);
        let Some((file, _)) = pages.iter().find(|(_, page)| synopsis(page, &name).is_some()) else {
            continue;
        };
        let command = path.last().unwrap();
        for flag in shown(command.flags) {
            let item = (file.clone(), names(flag));
            assert!(items.contains(&item), "{file} has no item for --{} of '{name}'", flag.long);
            wanted.push(item);
        }
        for flag in shown(command.common) {
            let in_one = |file: &str| items.contains(&(file.to_owned(), names(flag)));
            let everywhere = in_one("kes.1") || in_one(file);
            assert!(everywhere, "neither kes.1 nor {file} has an item for --{} of '{name}'", flag.long);
            wanted.push(("kes.1".into(), names(flag)));
            wanted.push((file.clone(), names(flag)));
        }
    }
    for (file, names) in &items {
        assert!(wanted.contains(&(file.clone(), names.clone())), "{file}: no command has a flag {names:?}");
    }
}

#[test]
fn the_help_lists_every_command_and_flag() {
    for path in listed() {
        let command = path.last().unwrap();
        let page = help::page(&path);
        let first_words: Vec<&str> = page.lines().filter_map(|line| line.split_whitespace().next()).collect();
        for flag in command.flags() {
            let long = format!("--{}", flag.long);
            let in_help = page.split([' ', ',', '[', '\n']).any(|word| word == long);
            assert_eq!(in_help, !flag.hidden, "--{} of {}", flag.long, name(&path));
        }
        for inner in command.commands {
            assert_eq!(first_words.contains(&inner.name), !inner.hidden, "{} of {}", inner.name, name(&path));
        }
    }
}

#[test]
fn the_examples_of_the_help_are_calls_that_the_parser_takes() {
    for path in listed() {
        for example in path.last().unwrap().examples {
            let from = example.find("kes ").expect(example);
            let call = example[from..].split([')', '|', '>']).next().unwrap().trim_end();
            let words: Vec<_> = completion::split(call).into_iter().skip(1).map(Into::into).collect();
            assert!(args::parse(&ROOT, &words).is_ok(), "{example}");
        }
    }
}

#[test]
fn the_synopsis_of_no_page_has_a_command_that_is_not_there() {
    let all: Vec<String> = listed().iter().map(name).collect();
    for (file, page) in pages() {
        let calls =
            page.split("\n.Sh ").find(|section| section.starts_with("SYNOPSIS\n")).unwrap().to_owned();
        for command in calls.lines().filter_map(|line| line.strip_prefix(".Nm ")) {
            assert!(all.iter().any(|known| known == command), "{file}: there is no '{command}'");
        }
    }
}
