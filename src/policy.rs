//! Who may call what: policies of allowed and denied paths (`server-api` §5).

use std::collections::HashMap;

use crate::name::Identity;

/// A path, or all paths with a prefix: a single `*` at the very end is special, everything else is literal. The empty
/// pattern matches nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Any text is a pattern.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether the percent-decoded `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self.0.as_bytes() {
            [] => false,
            [prefix @ .., b'*'] => path.starts_with(prefix),
            exact => path == exact,
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One named set of rules and the identities that it is for.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name, valid by [`crate::name::is_valid_name`].
    pub name: String,
    /// Paths that may be called unless denied.
    pub allow: Vec<Pattern>,
    /// Paths that may not be called.
    pub deny: Vec<Pattern>,
    /// Identities as written in the configuration, trimmed; those of 64 hexadecimal digits folded to lower case.
    pub identities: Vec<String>,
}

impl Policy {
    /// Whether the percent-decoded `path` is allowed and not denied.
    pub fn allows(&self, path: &[u8]) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(path));
        !any(&self.deny) && any(&self.allow)
    }
}

/// What a policy set says about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The admin, or allowed by a policy.
    Allow,
    /// The identity is in no policy and is not the admin.
    UnknownIdentity,
    /// The policy at this index denies it or does not allow it.
    Rejected(usize),
}

/// All policies of a configuration and the admin.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// The admin as configured, trimmed and folded like identities; may be text that no certificate matches.
    pub admin: String,
    /// Sorted by name.
    pub policies: Vec<Policy>,
    admin_identity: Option<Identity>,
    by_identity: HashMap<Identity, usize>,
}

impl PolicySet {
    /// Indexes policies that the configuration has checked (no identity twice, none equal to the admin). Names that are
    /// no identities of certificates are kept for listings and decide nothing.
    pub fn new(admin: String, mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let by_identity = policies
            .iter()
            .enumerate()
            .flat_map(|(index, policy)| {
                policy.identities.iter().filter_map(move |text| Some((Identity::parse(text)?, index)))
            })
            .collect();
        Self { admin_identity: Identity::parse(&admin), admin, policies, by_identity }
    }

    /// Whether `identity` may call the percent-decoded `path`. Deny wins over allow; nothing matched is a refusal.
    pub fn decide(&self, identity: &Identity, path: &[u8]) -> Decision {
        if self.is_admin(identity) {
            return Decision::Allow;
        }
        let Some(&index) = self.by_identity.get(identity) else { return Decision::UnknownIdentity };
        match self.policies.get(index) {
            Some(policy) if policy.allows(path) => Decision::Allow,
            _ => Decision::Rejected(index),
        }
    }

    /// Whether `identity` is the admin.
    pub fn is_admin(&self, identity: &Identity) -> bool {
        self.admin_identity.as_ref() == Some(identity)
    }

    /// Whether `identity` is the admin or in a policy.
    pub fn knows(&self, identity: &Identity) -> bool {
        self.is_admin(identity) || self.by_identity.contains_key(identity)
    }

    /// The policy of an identity, which may be any text of the configuration.
    pub fn policy_of(&self, identity: &str) -> Option<&Policy> {
        match Identity::parse(identity) {
            Some(identity) => self.policies.get(*self.by_identity.get(&identity)?),
            None => self.policies.iter().find(|policy| policy.identities.iter().any(|text| text == identity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADMIN: &str = "00000000000000000000000000000000000000000000000000000000000000ad";
    const ALICE: &str = "000000000000000000000000000000000000000000000000000000000000a11c";
    const BOB: &str = "0000000000000000000000000000000000000000000000000000000000000b0b";

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text)).collect()
    }

    fn policy(name: &str, allow: &[&str], deny: &[&str], identities: &[&str]) -> Policy {
        Policy {
            name: name.into(),
            allow: patterns(allow),
            deny: patterns(deny),
            identities: identities.iter().map(|text| text.to_string()).collect(),
        }
    }

    fn id(text: &str) -> Identity {
        Identity::parse(text).unwrap()
    }

    fn example() -> PolicySet {
        let minio = policy("minio", &["/v1/key/*"], &["/v1/key/delete/*"], &[ALICE, "nobody"]);
        PolicySet::new(ADMIN.into(), vec![minio, policy("empty", &[], &[], &[BOB])])
    }

    #[test]
    fn the_admin_is_allowed_everything() {
        let set = example();
        assert!(set.is_admin(&id(ADMIN)) && !set.is_admin(&id(ALICE)));
        assert_eq!(set.decide(&id(ADMIN), b"/v1/key/delete/a"), Decision::Allow);
    }

    #[test]
    fn an_admin_that_is_no_identity_is_nobody() {
        let set = PolicySet::new("disabled".into(), vec![]);
        assert_eq!(set.decide(&id(ADMIN), b"/v1/status"), Decision::UnknownIdentity);
    }

    #[test]
    fn deny_wins_and_a_refusal_names_the_policy_in_sorted_order() {
        let set = example();
        assert_eq!(set.decide(&id(ALICE), b"/v1/key/create/a"), Decision::Allow);
        assert_eq!(set.decide(&id(ALICE), b"/v1/key/delete/a"), Decision::Rejected(1));
        assert_eq!(set.decide(&id(ALICE), b"/v1/status"), Decision::Rejected(1));
        assert_eq!(
            set.decide(&id(BOB), b"/v1/status"),
            Decision::Rejected(0),
            "an empty policy allows nothing"
        );
        assert_eq!(set.policies[0].name, "empty");
    }

    #[test]
    fn a_policy_is_found_by_any_text_of_the_configuration() {
        let set = example();
        assert_eq!(set.policy_of(ALICE).unwrap().name, "minio");
        assert_eq!(set.policy_of(&BOB.to_uppercase()).unwrap().name, "empty");
        assert_eq!(set.policy_of("nobody").unwrap().name, "minio");
        assert!(set.policy_of(ADMIN).is_none() && set.policy_of("else").is_none());
    }

    /// The rule in other words: cut a final star off and compare as many bytes as are left.
    fn model(pattern: &str, path: &str) -> bool {
        if pattern.is_empty() {
            return false;
        }
        match pattern.ends_with('*') {
            true => {
                let length = pattern.len() - 1;
                path.len() >= length && path.bytes().take(length).eq(pattern.bytes().take(length))
            }
            false => path == pattern,
        }
    }

    proptest! {
        #[test]
        fn matching_equals_the_model(pattern in "[/a*?]{0,5}", path in "[/a*?]{0,6}") {
            prop_assert_eq!(Pattern::new(&pattern).matches(path.as_bytes()), model(&pattern, &path));
        }

        #[test]
        fn a_pattern_that_ends_in_a_star_matches_every_extension(
            prefix in ".{0,20}",
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let path = [prefix.as_bytes(), &rest].concat();
            let starred = Pattern::new(&format!("{prefix}*"));
            prop_assert!(starred.matches(&path));
            if !rest.is_empty() && !prefix.ends_with('*') {
                prop_assert!(!Pattern::new(&prefix).matches(&path));
            }
        }
    }
}
