//! What holds for any text.

use super::*;

/// Lines that look like parts of a configuration.
fn line() -> impl Strategy<Value = String> {
    let keys = "(  ){0,3}(- )?(version|address|admin|identity|tls|key|cert|auth|proxy|header|policy|allow|deny|\
                identities|cache|expiry|any|api|/v1/ready|skip_auth|timeout|log|error|keys|name|keystore|fs|path|\
                seal|file|unlock|aws|root|paths|<<)";
    let values = "(: (v1|on|off|-1s|5|\\$\\{ID\\}|\\$\\{X:-y\\}|~|\\[a, b\\]|\\{a: b\\}|disabled|&a|\\*a|'x'|\"\\$\\{\")?|:)?";
    proptest::string::string_regex(&format!("{keys}{values}")).expect("the pattern is valid")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_text_is_parsed_or_refused(text in "(.|\n){0,100}") {
        if let Err(problems) = try_parse(&text) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn any_lines_of_a_configuration_are_parsed_or_refused(lines in proptest::collection::vec(line(), 0..20)) {
        if let Err(problems) = try_parse(&lines.join("\n")) {
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|problem| problem.starts_with("config.yml:")));
        }
    }

    #[test]
    fn any_value_of_any_field_is_parsed_or_refused(value in ".{0,30}", field in 0..12usize) {
        let quoted = format!("'{}'", value.replace('\'', "''"));
        let field = [
            "address: ?", "version: ?", "log: { error: ? }", "keys: [{ name: ? }]", "policy: { ?: {} }",
            "policy: { a: { identities: [?] } }", "policy: { a: { allow: [?] } }", "api: { ?: { timeout: 1s } }",
            "cache: { expiry: { any: ? } }", "api: { /v1/ready: { skip_auth: ? } }", "?: a",
            "api: { /v1/ready: { timeout: ? } }",
        ][field];
        if let Err(problems) = try_parse(&with(&field.replace('?', &quoted))) {
            prop_assert!(!problems.is_empty());
        }
    }
}
