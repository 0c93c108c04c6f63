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
            literal => path == literal,
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
    /// Whether the policy allows the percent-decoded `path`: deny wins, and what is not allowed is denied.
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
    /// Indexes policies that the configuration has checked (no identity twice, none equal to the admin).
    pub fn new(admin: String, mut policies: Vec<Policy>) -> Self {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let by_identity = policies
            .iter()
            .enumerate()
            .flat_map(|(index, policy)| policy.identities.iter().map(move |identity| (identity, index)))
            .filter_map(|(identity, index)| Some((Identity::parse(identity)?, index)))
            .collect();
        Self { admin_identity: Identity::parse(&admin), admin, policies, by_identity }
    }

    /// Whether `identity` may call the percent-decoded `path`.
    pub fn decide(&self, identity: &Identity, path: &[u8]) -> Decision {
        if self.is_admin(identity) {
            return Decision::Allow;
        }
        match self.by_identity.get(identity) {
            None => Decision::UnknownIdentity,
            Some(index) if self.policies[*index].allows(path) => Decision::Allow,
            Some(index) => Decision::Rejected(*index),
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
            Some(identity) => self.by_identity.get(&identity).map(|index| &self.policies[*index]),
            None => self.policies.iter().find(|policy| policy.identities.iter().any(|text| text == identity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn deny_wins_and_what_is_not_allowed_is_denied() {
        let policy = |allow: &[&str], deny: &[&str]| Policy {
            name: "p".into(),
            allow: allow.iter().map(|text| Pattern::new(text)).collect(),
            deny: deny.iter().map(|text| Pattern::new(text)).collect(),
            identities: vec![],
        };
        assert!(policy(&["/v1/key/*"], &["/v1/key/delete/*"]).allows(b"/v1/key/describe/a"));
        assert!(!policy(&["/v1/key/*"], &["/v1/key/delete/*"]).allows(b"/v1/key/delete/a"));
        assert!(!policy(&["/v1/key/describe/a"], &["*"]).allows(b"/v1/key/describe/a"));
        assert!(!policy(&[], &[]).allows(b"/v1/status"));
        assert!(policy(&["/v1/status"], &[""]).allows(b"/v1/status"));
    }

    #[test]
    fn the_admin_is_never_judged_by_a_policy() {
        let (admin, user, other) = (Identity::new([1; 32]), Identity::new([2; 32]), Identity::new([3; 32]));
        let policy =
            Policy { name: "p".into(), allow: vec![], deny: vec![], identities: vec![user.to_string()] };
        let set = PolicySet::new(admin.to_string(), vec![policy]);
        assert_eq!(set.decide(&admin, b"/v1/status"), Decision::Allow);
        assert_eq!(set.decide(&user, b"/v1/status"), Decision::Rejected(0));
        assert_eq!(set.decide(&other, b"/v1/status"), Decision::UnknownIdentity);
        assert!(set.knows(&user) && !set.knows(&other));
    }

    proptest! {
        #[test]
        fn matching_follows_the_simple_rule(pattern in "[/ab*?]{0,8}", path in "[/ab*?]{0,8}") {
            let expected = match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => !pattern.is_empty() && path == pattern,
            };
            prop_assert_eq!(Pattern::new(&pattern).matches(path.as_bytes()), expected);
        }
    }
}
