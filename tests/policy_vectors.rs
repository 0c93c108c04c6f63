//! The policy rules against recorded decisions of the protocol's first server, and against the table of `server-api` §5.

use kes::{
    name::Identity,
    policy::{Decision, Pattern, Policy, PolicySet},
};
use serde_json::Value;

const CLIENT: &str = "02ef5321ca409dbc7b10e7e8ee44d1c3b91e4bf6e2198befdebee6312745267b";

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/policies.json")).expect("the vectors are JSON")
}

fn patterns(list: &Value) -> Vec<Pattern> {
    let texts = list.as_array().into_iter().flatten();
    texts.map(|text| Pattern::new(text.as_str().expect("a pattern is text"))).collect()
}

/// What the server compares with patterns: the target without query, percent-decoded.
fn decoded(target: &str) -> Vec<u8> {
    let path = target.split('?').next().unwrap_or_default().as_bytes();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let escape = (path[at] == b'%').then(|| std::str::from_utf8(&path[at + 1..at + 3]).unwrap());
        bytes.push(escape.map_or(path[at], |digits| u8::from_str_radix(digits, 16).unwrap()));
        at += if escape.is_some() { 3 } else { 1 };
    }
    bytes
}

fn decide(allow: Vec<Pattern>, deny: Vec<Pattern>, target: &str) -> Decision {
    let policy = Policy { name: "p".into(), allow, deny, identities: vec![CLIENT.into()] };
    let policies = PolicySet::new("disabled".into(), vec![policy]);
    policies.decide(&Identity::parse(CLIENT).unwrap(), &decoded(target))
}

#[test]
fn patterns_match_as_recorded() {
    let vectors = vectors();
    let rows = vectors["match"].as_array().unwrap();
    for row in rows {
        let (pattern, path) = (row["pattern"].as_str().unwrap(), row["path"].as_str().unwrap());
        let matches = Pattern::new(pattern).matches(path.as_bytes());
        assert_eq!(matches, row["match"].as_bool().unwrap(), "{pattern} {path}");
    }
    println!("{} rows of patterns", rows.len());
    assert_eq!(rows.len(), 154);
}

#[test]
fn policies_decide_as_recorded() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().unwrap();
    let mut decided = 0;
    for case in cases {
        let decision =
            decide(patterns(&case["allow"]), patterns(&case["deny"]), case["path"].as_str().unwrap());
        // Null: the answer does not depend on the policy.
        let Some(allowed) = case["allowed"].as_bool() else { continue };
        let expected = if allowed { Decision::Allow } else { Decision::Rejected(0) };
        assert_eq!(decision, expected, "{case}");
        decided += 1;
    }
    println!("{} cases, {decided} decided by the policy", cases.len());
    assert_eq!(cases.len(), 44);
}

#[test]
fn the_table_of_the_protocol_holds() {
    const A: &str = "/v1/key/describe/a";
    const MY: &str = "/v1/key/describe/my-*";
    const D: &str = "/v1/key/describe/";
    let row = |number: u32, allow: &str, deny: &str, target: &str, allowed: bool| {
        let list = |text: &str| match text {
            "" => vec![],
            "\"\"" => vec![Pattern::new("")],
            text => vec![Pattern::new(text)],
        };
        let decision = decide(list(allow), list(deny), target);
        assert_eq!(decision == Decision::Allow, allowed, "row {number}: {allow} {deny} {target}");
        1
    };
    let at = |rest: &str| format!("{D}{rest}");
    // Rows 37 and 55 to 57 are decided before or without the policy.
    let rows = [
        row(1, "/v1/status", "", "/v1/status", true),
        row(2, "/v1/status", "", "/v1/ready", false),
        row(3, "/v1/status/", "", "/v1/status", false),
        row(4, "/v1/status*", "", "/v1/status", true),
        row(5, "/v1/*", "", "/v1/status", true),
        row(6, "/v1/*", "", A, true),
        row(7, "*", "", A, true),
        row(8, "/*", "", A, true),
        row(9, "v1/*", "", "/v1/status", false),
        row(10, "/v1/*/a", "", A, false),
        row(11, "/v1/key/*/a", "", A, false),
        row(12, "/v1/key/describe/*", "", A, true),
        row(13, "/v1/key/describe/*", "", D, true),
        row(14, D, "", D, true),
        row(15, D, "", A, false),
        row(16, "/v1/key/describe", "", A, false),
        row(17, "/v1/key/describe*", "", A, true),
        row(18, MY, "", &at("my-key"), true),
        row(19, MY, "", &at("my-"), true),
        row(20, MY, "", &at("my"), false),
        row(21, MY, "", &at("My-key"), false),
        row(22, MY, "", &at("my-a%2Fb"), true),
        row(23, MY, "", &at("my-a/b"), true),
        row(24, "/v1/key/describe/my-?", "", &at("my-a"), false),
        row(25, "/v1/key/describe/my-?", "", &at("my-%3F"), true),
        row(26, "/v1/key/describe/[a-z]", "", A, false),
        row(27, "/v1/key/describe/[a-z]*", "", A, false),
        row(28, "/v1/key/describe/[a-z]*", "", &at("[a-z]x"), true),
        row(29, "/v1/key/describe/a**", "", &at("ab"), false),
        row(30, "/v1/key/describe/a**", "", &at("a*b"), true),
        row(31, "/v1/key/describe/a\\*", "", &at("a*"), false),
        row(32, "/v1/key/describe/a\\*", "", &at("a%5Cz"), true),
        row(33, A, "", &at("%61"), true),
        row(34, "/v1/key/describe/%61", "", A, false),
        row(35, A, "", &at("a?x=1"), true),
        row(36, "/v1/key/describe/a?x=1", "", &at("a?x=1"), false),
        row(38, "/v1/key/*", "/v1/key/delete/*", "/v1/key/delete/a", false),
        row(39, "/v1/key/*", "/v1/key/delete/*", A, true),
        row(40, A, "/v1/key/*", A, false),
        row(41, A, "*", A, false),
        row(42, "", "/v1/key/delete/*", A, false),
        row(43, "", "", "/v1/status", false),
        row(44, "\"\"", "", "/v1/status", false),
        row(45, "/v1/status", "\"\"", "/v1/status", true),
        row(46, " /v1/status", "", "/v1/status", false),
        row(47, "/v1/status ", "", "/v1/status", false),
        row(48, "/V1/STATUS", "", "/v1/status", false),
        row(49, "/v1/key/create/*", "", "/v1/key/create/pa", true),
        row(50, "/v1/key/list/*", "", "/v1/key/list/", true),
        row(51, "/v1/key/list/", "", "/v1/key/list/abc", false),
        row(52, "/v1/key/list/my*", "", "/v1/key/list/", false),
        row(53, "/v1/key/list/my*", "", "/v1/key/list/m", false),
        row(54, "/v1/key/list/my*", "", "/v1/key/list/my", true),
    ];
    println!("{} rows of the table", rows.len());
    assert_eq!(rows.len(), 53);
}
