use super::*;
use crate::cli::table::{ROOT, flag};
use proptest::prelude::*;

fn call(line: &[&str]) -> Result<Call, Failure> {
    let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
    parse(&ROOT, &tokens)
}

fn run(line: &[&str]) -> Args {
    match call(line) {
        Ok(Call::Run(args)) => args,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn error(line: &[&str]) -> String {
    match call(line) {
        Err(Failure::Message { text, hint }) => hint.map_or(text.clone(), |hint| format!("{text} | {hint}")),
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn flags_and_positionals_may_be_mixed() {
    for line in [
        &["identity", "new", "--key", "a.key", "--cert=a.crt", "MinIO", "-f"][..],
        &["identity", "new", "MinIO", "--cert=a.crt", "-f", "--key=a.key"],
        &["identity", "new", "-f", "--key", "x", "--key=a.key", "--cert", "a.crt", "--", "MinIO"],
    ] {
        let args = run(line);
        assert_eq!(args.value("key").unwrap(), "a.key");
        assert_eq!(args.value("cert").unwrap(), "a.crt");
        assert!(args.is_on("force") && !args.is_on("encrypt"));
        assert_eq!(args.positionals(), ["MinIO"]);
    }
}

#[test]
fn two_dashes_end_the_flags_and_one_is_a_word() {
    assert_eq!(run(&["identity", "of", "--", "-odd-name", "--json"]).positionals(), ["-odd-name", "--json"]);
    assert_eq!(run(&["identity", "of", "-", "--json"]).positionals(), ["-"]);
}

#[test]
fn a_value_may_look_like_a_flag() {
    assert_eq!(run(&["identity", "new", "--key", "--cert", "--cert=c"]).value("key").unwrap(), "--cert");
    assert_eq!(run(&["identity", "new", "--expiry", "-5h"]).value("expiry").unwrap(), "-5h");
    assert_eq!(run(&["server", "--config="]).value("config").unwrap(), "");
}

#[test]
fn list_flags_repeat_and_take_commas() {
    let args = run(&["identity", "new", "--ip", "1.2.3.4,5.6.7.8", "--dns=a", "--ip", "::1"]);
    assert_eq!(args.list("ip").unwrap(), ["1.2.3.4", "5.6.7.8", "::1"]);
    assert_eq!(args.list("dns").unwrap(), ["a"]);
}

#[test]
fn booleans_take_a_value_only_with_an_equals_sign() {
    assert!(!run(&["server", "--mlock=false"]).is_on("mlock"));
    assert!(!run(&["server", "--mlock", "--mlock=F"]).is_on("mlock"));
    assert!(run(&["server", "-q=1"]).is_on("quiet"));
    assert!(error(&["server", "--mlock", "false"]).starts_with("too many arguments"));
    assert_eq!(
        error(&["server", "--mlock=maybe"]),
        "invalid argument \"maybe\" for \"--mlock\" flag: neither true nor false. See 'kes server --help'"
    );
}

static TEST: Command = Command {
    name: "test",
    flags: &[
        flag("output", Takes::Value("FILE"), "").short(&['o']),
        flag("insecure", Takes::Nothing, "").short(&['k']),
        flag("force", Takes::Nothing, "").short(&['f']),
    ],
    run: |_| Ok(std::process::ExitCode::SUCCESS),
    ..Command::GROUP
};

#[test]
fn short_flags_may_be_bundled_and_their_value_glued() {
    for line in
        [&["-kfoFILE"][..], &["-kf", "-o=FILE"], &["-f", "-ko", "FILE"], &["-o", "x", "-kf", "-oFILE"]]
    {
        let tokens: Vec<OsString> = line.iter().map(OsString::from).collect();
        let Ok(Call::Run(args)) = parse(&TEST, &tokens) else { panic!("{line:?}") };
        assert!(args.is_on("insecure") && args.is_on("force"), "{line:?}");
        assert_eq!(args.value("output").unwrap(), "FILE", "{line:?}");
    }
    let failure = |token: &str| parse(&TEST, &[token.into()]).unwrap_err();
    assert_eq!(failure("-ko"), Failure::new("flag needs an argument: 'o' in -ko. See 'test --help'"));
    assert_eq!(failure("-kx"), Failure::new("unknown shorthand flag: 'x' in -kx. See 'test --help'"));
}

#[test]
fn mistakes_are_named_with_the_right_command() {
    for (line, text) in [
        (&["foo"][..], "\"foo\" is not a kes command. See 'kes --help'"),
        (&["sever"], "\"sever\" is not a kes command. See 'kes --help' | Did you mean 'server'?"),
        (&["tool", "foo"], "\"foo\" is not a tool command. See 'kes tool --help'"),
        (&["server", "--foo"], "unknown flag: --foo. See 'kes server --help'"),
        (
            &["server", "--confg=x"],
            "unknown flag: --confg. See 'kes server --help' | Did you mean '--config'?",
        ),
        (&["server", "foo"], "too many arguments. See 'kes server --help'"),
        (&["-v", "foo"], "too many arguments. See 'kes --help'"),
        (&["identity", "new", "--key"], "flag needs an argument: --key. See 'kes identity new --help'"),
        (&["identity", "new", "a", "b"], "too many arguments. See 'kes identity new --help'"),
        (&["identity", "-x"], "unknown shorthand flag: 'x' in -x. See 'kes identity --help'"),
    ] {
        assert_eq!(error(line), text);
    }
}

#[test]
fn help_is_found_wherever_it_stands() {
    for (line, name) in [
        (&["-h"][..], "kes"),
        (&["--help"], "kes"),
        (&["server", "-qh"], "server"),
        (&["identity", "new", "--ip", "1", "--help", "--nonsense"], "new"),
        (&["tool", "identity", "of", "-h"], "of"),
    ] {
        match call(line) {
            Ok(Call::Help(path)) => assert_eq!(path.last().unwrap().name, name),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(
        words in proptest::collection::vec(
            "(identity|new|of|server|--?[a-zä=]{0,6}|-[hfqv=]{1,3}|--check|--json=x|[^a]{0,3})",
            0..6,
        ),
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = call(&words);
    }
}
