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
    pub fn matches(&self, _path: &[u8]) -> bool {
        todo!()
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
#[derive(Debug)]
pub struct PolicySet {
    /// The admin as configured, trimmed and folded like identities; may be text that no certificate matches.
    pub admin: String,
    /// Sorted by name.
    pub policies: Vec<Policy>,
    by_identity: HashMap<Identity, usize>,
}

impl PolicySet {
    /// Indexes policies that the configuration has checked (no identity twice, none equal to the admin).
    pub fn new(_admin: String, _policies: Vec<Policy>) -> Self {
        todo!()
    }

    /// Whether `identity` may call the percent-decoded `path`.
    pub fn decide(&self, _identity: &Identity, _path: &[u8]) -> Decision {
        todo!()
    }

    /// Whether `identity` is the admin.
    pub fn is_admin(&self, _identity: &Identity) -> bool {
        todo!()
    }

    /// The policy of an identity, which may be any text of the configuration.
    pub fn policy_of(&self, _identity: &str) -> Option<&Policy> {
        todo!()
    }
}
