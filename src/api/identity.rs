//! Identities: describe, list, and who the caller is (`server-api` §3.4).

use super::{
    ApiError, Call,
    key::{invalid_pattern, prefix_of},
    policy::{creation, rules},
    reply::Object,
};
use crate::{
    http::Reply,
    name::{is_valid_name, is_valid_pattern},
};

const IDENTITY_NOT_FOUND: ApiError = ApiError::new(404, "identity does not exist");

pub fn describe(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let resource = call.resource();
    let identity = std::str::from_utf8(resource).ok().filter(|identity| is_valid_name(identity.as_bytes()));
    let Some(identity) = identity else {
        let after = "' is empty, too long or contains invalid characters";
        return Err(ApiError::quoting(400, "identity '", resource, after));
    };
    let policies = &call.state.policies;
    if identity == policies.admin {
        return Ok(admin(Object::new(128), call));
    }
    let policy = policies.policy_of(identity).ok_or(IDENTITY_NOT_FOUND)?;
    Ok(creation(Object::new(256).text("policy", &policy.name), call).reply())
}

pub fn list(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let pattern = call.resource();
    if !is_valid_pattern(pattern) {
        return Err(invalid_pattern(pattern));
    }
    let policies = &call.state.policies;
    let mut identities: Vec<&str> =
        policies.policies.iter().flat_map(|policy| policy.identities.iter().map(String::as_str)).collect();
    identities.push(&policies.admin);
    identities.retain(|identity| identity.starts_with(prefix_of(pattern)));
    identities.sort_unstable();
    Ok(Object::new(1024).list("identities", identities.into_iter()).text("continue_at", "").reply())
}

/// Who the caller is, in the flat shape that the SDK reads. The original answers 404 to everybody but the admin, which
/// is a defect (§9 D1).
pub fn describe_self(call: &Call<'_, '_>) -> Result<Reply, ApiError> {
    let policies = &call.state.policies;
    let caller = call.record.origin.caller.ok_or(IDENTITY_NOT_FOUND)?;
    let identity = caller.to_string();
    if policies.is_admin(&caller) {
        return Ok(admin(Object::new(128).text("identity", &identity), call));
    }
    let policy = policies.policy_of(&identity).ok_or(IDENTITY_NOT_FOUND)?;
    let object = creation(Object::new(1024).text("identity", &identity), call).text("policy", &policy.name);
    Ok(rules(object, policy).reply())
}

fn admin(object: Object, call: &Call<'_, '_>) -> Reply {
    object.raw("admin", b"true").text("created_at", &call.record.api.started.to_string()).reply()
}
