use super::*;

fn at(line: &str) -> Vec<String> {
    candidates(&ROOT, &split(line)).into_iter().map(|candidate| candidate.word).collect()
}

/// Each command with the line that calls it.
fn each(command: &'static Command, line: &str, check: &mut dyn FnMut(&'static Command, &str)) {
    check(command, line);
    for inner in command.commands {
        each(inner, &format!("{line} {}", inner.name), check);
    }
}

#[test]
fn candidates_are_exactly_the_commands_and_flags_of_the_table() {
    each(&ROOT, "kes", &mut |command, line| {
        let mut flags: Vec<String> = vec!["--help".into(), "-h".into()];
        for flag in command.flags().filter(|flag| !flag.hidden) {
            flags.push(format!("--{}", flag.long));
            flags.extend(flag.shorts.iter().map(|short| format!("-{short}")));
        }
        let mut offered = at(&format!("{line} -"));
        flags.sort();
        offered.sort();
        assert_eq!(offered, flags, "{line}");
        let listed = command.commands.iter().filter(|command| !command.hidden);
        let listed: Vec<_> = listed.map(|command| command.name).collect();
        if !listed.is_empty() {
            assert_eq!(at(&format!("{line} ")), listed, "{line}");
        }
    });
}

#[test]
fn a_word_begun_narrows_the_candidates() {
    assert_eq!(at("kes ser"), ["server"]);
    assert_eq!(at("kes server --ad"), ["--addr"]);
    assert_eq!(at("kes nothing-like-it"), [""; 0]);
}

#[test]
fn values_out_of_a_few_words_are_offered_and_others_are_left_to_the_shell() {
    assert_eq!(at("kes server --auth "), ["on", "off"]);
    assert_eq!(at("kes server --auth of"), ["off"]);
    assert_eq!(at("kes server --auth=o"), ["--auth=on", "--auth=off"]);
    assert_eq!(at("kes server --check="), ["--check=connect"]);
    assert_eq!(at("kes server --config "), [""; 0]);
    assert_eq!(at("kes identity of "), [""; 0]);
    assert_eq!(at("kes completion "), ["bash", "zsh", "fish"]);
    assert_eq!(at("kes completion zsh b"), [""; 0]);
}

#[test]
fn after_the_value_of_a_flag_and_after_two_dashes_the_line_goes_on() {
    assert_eq!(at("kes server --config --auth --stri"), ["--strict"]);
    assert_eq!(at("kes server -q --stri"), ["--strict"]);
    assert_eq!(at("kes server -- --stri"), [""; 0]);
    assert_eq!(at("kes server --strict ser"), [""; 0]);
}

#[test]
fn help_completes_the_commands_of_commands() {
    assert_eq!(at("kes help ide"), ["identity"]);
    assert_eq!(at("kes help identity o"), ["of"]);
    assert_eq!(at("kes help nothing o"), [""; 0]);
}

#[test]
fn words_are_those_of_the_shell() {
    assert_eq!(
        split("kes  identity of 'a b' \"c d\" e\\ f "),
        ["kes", "identity", "of", "a b", "c d", "e f", ""]
    );
    assert_eq!(split("kes \"open"), ["kes", "open"]);
    assert_eq!(split(""), [""]);
    assert_eq!(split("kes it\\"), ["kes", "it"]);
}
