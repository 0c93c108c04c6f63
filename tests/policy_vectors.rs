//! Policy decisions of the original, made again by this program's own functions.

use kes::{
    name::Identity,
    policy::{Decision, Pattern, Policy, PolicySet},
};
use serde_json::Value;

fn load() -> Value {
    serde_json::from_str(include_str!("vectors/policies.json")).unwrap()
}

fn patterns(value: &Value) -> Vec<Pattern> {
    value.as_array().into_iter().flatten().map(|text| Pattern::new(text.as_str().unwrap())).collect()
}

#[test]
fn every_pattern_matches_as_the_originals_does() {
    let vectors = load();
    let rows = vectors["match"].as_array().unwrap();
    for row in rows {
        let pattern = Pattern::new(row["pattern"].as_str().unwrap());
        assert_eq!(pattern.matches(row["path"].as_str().unwrap().as_bytes()), row["match"], "{row}");
    }
    println!("{} pattern rows", rows.len());
    assert_eq!(rows.len(), 154);
}

#[test]
fn every_case_is_decided_as_the_original_does() {
    let vectors = load();
    let identity = Identity::new([5; 32]);
    let mut decided = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let Some(allowed) = case["allowed"].as_bool() else { continue };
        let policy = Policy {
            name: "p".into(),
            allow: patterns(&case["allow"]),
            deny: patterns(&case["deny"]),
            identities: vec![identity.to_string()],
        };
        let path = case["path"].as_str().unwrap().split('?').next().unwrap().replace("%61", "a");
        let set = PolicySet::new("disabled".into(), vec![policy]);
        let decision = set.decide(&identity, path.as_bytes());
        assert_eq!(decision == Decision::Allow, allowed, "{case}");
        decided += 1;
    }
    println!("{decided} cases decided by the policy");
    assert!(decided >= 38);
}
