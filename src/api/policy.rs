//! Policies: describe, read, list (`server-api` §3.4).

use super::{
    ApiError, Call,
    key::{invalid_pattern, prefix_of},
    reply::Object,
};
use crate::{
    http::Reply,
    name::{is_valid_name, is_valid_pattern},
    policy::{Pattern, Policy},
};

const POLICY_NOT_FOUND: ApiError = ApiError::new(404, "policy does not exist");

pub fn describe(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let object = Object::new(256).text("name", &find(call)?.name);
    Ok(creation(object, call).reply())
}

pub fn read(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let policy = find(call)?;
    let object = rules(Object::new(1024).text("name", &policy.name), policy);
    Ok(creation(object, call).reply())
}

pub fn list(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let pattern = call.resource();
    if !is_valid_pattern(pattern) {
        return Err(invalid_pattern(pattern));
    }
    let names = call.state.policies.policies.iter().map(|policy| &*policy.name);
    let names = names.filter(|name| name.starts_with(prefix_of(pattern)));
    Ok(Object::new(1024).list("names", names).text("continue_at", "").reply())
}

/// The rules of a policy: objects whose names are the patterns, left out where there is none.
pub fn rules(mut object: Object, policy: &Policy) -> Object {
    for (name, patterns) in [("allow", &policy.allow), ("deny", &policy.deny)] {
        if !patterns.is_empty() {
            object = object.raw(name, &set(patterns));
        }
    }
    object
}

/// When and by whom policies and identities were made: at the start of the server, by the admin.
pub fn creation(object: Object, call: &Call<'_, '_>) -> Object {
    let created_at = call.record.api.started.to_string();
    object.text("created_at", &created_at).text("created_by", &call.state.policies.admin)
}

fn find<'a>(call: &Call<'_, 'a>) -> Result<&'a Policy, ApiError> {
    let name = call.resource();
    if !is_valid_name(name) {
        let after = "' is empty, too long or contains invalid characters";
        return Err(ApiError::quoting(400, "policy name '", name, after));
    }
    let found = call.state.policies.policies.iter().find(|policy| policy.name.as_bytes() == name);
    found.ok_or(POLICY_NOT_FOUND)
}

fn set(patterns: &[Pattern]) -> crate::crypto::SecretBytes {
    let mut names: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().fold(Object::new(256), |object, name| object.raw(name, b"{}")).end()
}
