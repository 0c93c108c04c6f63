//! `kes policy info|ls|show|check` (`cli` §5.5, §7).

use std::{path::Path, process::ExitCode};

use serde_json::Value;

use super::{
    FLAGS, Session, date, labelled,
    ls::{Kind, list, list_long},
    text, word,
};
use crate::{
    cli::{
        Failure,
        args::Args,
        output,
        setup::offline_config,
        table::{Command, Positionals, Takes, flag},
        term::{self, Paint},
    },
    client::segment,
    policy::Pattern,
    text::json::Object,
};

const NAME: Positionals = Positionals { shown: "NAME", min: 1, max: 1 };

/// `kes policy`.
pub static POLICY: Command = Command {
    name: "policy",
    summary: "Look at policies.",
    about: "Looks at the policies of a server: which identities may call which paths. They are made in the server's\n\
            configuration.\n",
    commands: &[
        &INFO,
        &LS,
        &SHOW,
        &CHECK,
        &super::super::gone::ASSIGN,
        &super::super::gone::CREATE,
        &super::super::gone::RM,
    ],
    ..Command::GROUP
};

static INFO: Command = Command {
    name: "info",
    summary: "Describe a policy.",
    about: "Tells when a policy was made and by whom. Times are in UTC.\n",
    positionals: NAME,
    common: FLAGS,
    examples: &["kes policy info my-app"],
    run: info,
    ..Command::GROUP
};

static LS: Command = Command {
    name: "ls",
    summary: "List policies.",
    about: "Lists the policies whose names begin with PATTERN; a star at its end changes nothing.\n",
    positionals: Positionals { shown: "[PATTERN]", min: 0, max: 1 },
    flags: &[flag("long", Takes::Nothing, "Show also when each was made and by whom.").short(&['l'])],
    common: FLAGS,
    examples: &["kes policy ls"],
    run: |args| match args.is_on("long") {
        true => list_long(args, Kind::Policy, "/v1/policy/describe/", "Policy"),
        false => list(args, Kind::Policy),
    },
    ..Command::GROUP
};

static SHOW: Command = Command {
    name: "show",
    summary: "Show the rules of a policy.",
    about: "Shows what a policy allows and denies: as a list on a terminal or with --color, as JSON otherwise.\n",
    positionals: NAME,
    common: FLAGS,
    examples: &["kes policy show my-app"],
    run: show,
    ..Command::GROUP
};

static CHECK: Command = Command {
    name: "check",
    summary: "Tell whether a policy allows a path.",
    about: "Tells whether the policy NAME allows a call of PATH, and which rule decides. The exit status is 0 if it is\n\
            allowed, else 1. With --config no server is asked.\n",
    positionals: Positionals { shown: "NAME PATH", min: 2, max: 2 },
    flags: &[flag("config", Takes::Value("FILE"), "Take the policy from the configuration FILE.")],
    common: FLAGS,
    examples: &[
        "kes policy check my-app /v1/key/create/my-key",
        "kes policy check --config config.yml my-app /v1/key/delete/my-key",
    ],
    run: check,
    ..Command::GROUP
};

fn info(args: &Args) -> Result<ExitCode, Failure> {
    let name = word(args, 0)?;
    Paint::new(args)?;
    let mut session = Session::new(args)?;
    let policy = session
        .get_json(&format!("/v1/policy/describe/{}", segment(name)))
        .map_err(|error| session.failure(error))?;
    let (created_at, created_by) = (text(&policy, "created_at"), text(&policy, "created_by"));
    // Servers of the protocol leave the name out.
    let name = Some(text(&policy, "name")).filter(|name| !name.is_empty()).unwrap_or(name);
    if args.is_on("json") {
        let object = Object::new(256).text("name", name).text("created_at", created_at);
        output::json(&object.text("created_by", created_by).end())?;
    } else {
        term::print(&labelled(&[("Name", name), ("Date", &date(created_at)), ("Created by", created_by)]))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args) -> Result<ExitCode, Failure> {
    let paint = Paint::new(args)?;
    let mut session = Session::new(args)?;
    let policy = read(args, &mut session)?;
    let (created_at, created_by) = (text(&policy, "created_at"), text(&policy, "created_by"));
    let is_for_people = term::is_terminal() || args.value("color").is_some_and(|color| color != "auto");
    if args.is_on("json") || !is_for_people {
        let mut object = Object::new(1024);
        for member in ["allow", "deny"] {
            let rules = rules(&policy, member);
            let set = rules.iter().fold(Object::new(256), |object, rule| object.raw(rule, b"{}"));
            object = object.raw(member, &set.end());
        }
        output::json(&object.text("created_at", created_at).text("created_by", created_by).end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let by = if created_by.is_empty() { "<unknown>" } else { created_by };
    term::print(&format!(
        "{}\nCreated at: {}\nCreated by: {}\n",
        rule_lists(paint, &policy),
        date(created_at),
        term::visible(by)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The rules of a policy for people: a list of those that allow and one of those that deny, each only if there are any.
pub fn rule_lists(paint: Paint, policy: &Value) -> String {
    let mut text = String::new();
    let headings = [("allow", paint.good("Allow:")), ("deny", paint.bad("Deny:"))];
    for (member, heading) in headings {
        let rules = rules(policy, member);
        if rules.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&heading);
        rules.iter().for_each(|rule| text.push_str(&format!("\n  · {}", term::visible(rule))));
        text.push('\n');
    }
    text
}

/// The rules that allow or deny, sorted.
pub fn rules<'a>(policy: &'a Value, member: &str) -> Vec<&'a str> {
    let set = policy.get(member).and_then(Value::as_object);
    let mut rules: Vec<&str> = set.map_or_else(Vec::new, |set| set.keys().map(String::as_str).collect());
    rules.sort_unstable();
    rules
}

fn read(args: &Args, session: &mut Session) -> Result<Value, Failure> {
    let name = word(args, 0)?;
    session
        .get_json(&format!("/v1/policy/read/{}", segment(name)))
        .map_err(|error| session.failure_of(&format!("failed to read policy \"{name}\""), error))
}

fn check(args: &Args) -> Result<ExitCode, Failure> {
    let (name, path) = (word(args, 0)?, word(args, 1)?);
    Paint::new(args)?;
    if !path.starts_with('/') {
        return Err(args.mistake(&format!("the path \"{path}\" does not begin with a slash")));
    }
    let (allow, deny) = match args.value("config") {
        Some(file) => rules_in(Path::new(file), name)?,
        None => {
            let mut session = Session::new(args)?;
            let policy = read(args, &mut session)?;
            let patterns = |member| rules(&policy, member).into_iter().map(Pattern::new).collect();
            (patterns("allow"), patterns("deny"))
        }
    };
    // Deny wins over allow; nothing matched is a refusal.
    let decides = |patterns: &'_ [Pattern]| {
        patterns.iter().find(|pattern| pattern.matches(path.as_bytes())).map(|rule| rule.as_str().to_owned())
    };
    let (is_allowed, rule) = match (decides(&deny), decides(&allow)) {
        (Some(rule), _) => (false, Some(rule)),
        (None, Some(rule)) => (true, Some(rule)),
        (None, None) => (false, None),
    };
    let verdict = if is_allowed { "allowed" } else { "denied" };
    if args.is_on("json") {
        let object = Object::new(256).text("policy", name).text("path", path);
        let object = object.raw("allowed", if is_allowed { b"true" } else { b"false" });
        let object = match &rule {
            Some(rule) => object.text("rule", rule),
            None => object,
        };
        output::json(&object.end())?;
    } else {
        let by = rule.map_or("no rule allows it".to_owned(), |rule| term::visible(&rule));
        term::print(&format!("{verdict}: {by}\n"))?;
    }
    Ok(if is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Rules = (Vec<Pattern>, Vec<Pattern>);

/// The rules of a policy in a configuration file.
fn rules_in(file: &Path, name: &str) -> Result<Rules, Failure> {
    let (_, config) = offline_config(Some(file))?;
    let policy = config.policies.policies.into_iter().find(|policy| policy.name == name);
    let policy =
        policy.ok_or_else(|| Failure::new(format!("there is no policy \"{name}\" in {}", file.display())))?;
    Ok((policy.allow, policy.deny))
}
