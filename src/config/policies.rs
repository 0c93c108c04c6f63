//! `policy:` and the rules for identities, which the admin and proxies follow as well.

use std::collections::HashMap;

use super::{
    read::{Fields, Reader, Reported, Text, Topic},
    yaml::{Entry, Node},
};
use crate::{
    name::{Identity, is_valid_name},
    policy::{Pattern, Policy},
};

/// Words that stand for nobody on purpose.
const NOBODY: [&str; 2] = ["disabled", "_"];

/// Identities that policies must not contain.
pub(super) struct Taken<'t> {
    /// The admin, empty if not known.
    pub admin: &'t str,
    /// TLS proxies.
    pub proxies: &'t [String],
}

/// An identity as it is compared from here on: trimmed, and folded to lower case if it is one of a certificate. An API
/// key is refused without being printed.
pub(super) fn identity(reader: &mut Reader<'_>, text: &Text, path: &str) -> Result<String, Reported> {
    let trimmed = text.trim();
    if trimmed.starts_with("kes:v1:") {
        let problem = format!("{path}: this is an API key, a secret; use its identity (kes identity of)");
        return Err(reader.problem(Topic::Name, Some(text.line), problem));
    }
    Ok(match Identity::parse(trimmed) {
        Some(identity) => identity.to_string(),
        None => trimmed.into(),
    })
}

/// Warns about an identity that no certificate can have, unless it is a word for nobody.
pub(super) fn warn_if_nobody(reader: &mut Reader<'_>, identity: &str, line: usize, path: &str) {
    if Identity::parse(identity).is_none() && !NOBODY.contains(&identity) {
        reader.warn(line, format!("{path}: {identity:?} matches nobody: it is not 64 hexadecimal digits"));
    }
}

/// Reads `policy:`. Policies with problems are left out.
pub(super) fn policies<'a>(
    reader: &mut Reader<'a>,
    node: Option<&'a Node>,
    taken: &Taken<'_>,
) -> Result<Vec<Policy>, Reported> {
    let mut policies = Vec::new();
    let mut owners = HashMap::new();
    for entry in reader.map(node, "policy")?.entries {
        policies.extend(policy(reader, entry, taken, &mut owners));
    }
    Ok(policies)
}

/// Policy and line by identity.
type Owners = HashMap<String, (String, usize)>;

fn policy<'a>(
    reader: &mut Reader<'a>,
    entry: &'a Entry,
    taken: &Taken<'_>,
    owners: &mut Owners,
) -> Result<Policy, Reported> {
    let name = entry.key.as_str();
    if !is_valid_name(name.as_bytes()) {
        let problem = format!("policy name {name:?} is not 1 to 80 of 0-9 A-Z a-z _ - (no - first or last)");
        reader.problem(Topic::Name, Some(entry.line), problem);
    }
    let path = format!("policy.{name}");
    // `paths` was the list of allowed patterns in releases up to v0.16.
    let known = ["allow", "deny", "identities", "paths"];
    let fields = reader.fields(Some(&entry.value), &path, &known)?;
    if let Some(old) = fields.get("paths") {
        let problem = format!("{path}.paths is an older form: name it {path}.allow");
        reader.problem(Topic::Name, Some(old.line), problem);
    }
    let allow = patterns(reader, fields, &path, "allow");
    let deny = patterns(reader, fields, &path, "deny");
    let identities = identities(reader, fields, &path, taken, (name, owners));
    Ok(Policy { name: name.into(), allow: allow?, deny: deny?, identities: identities? })
}

fn patterns<'a>(
    reader: &mut Reader<'a>,
    fields: Fields<'a>,
    path: &str,
    list: &str,
) -> Result<Vec<Pattern>, Reported> {
    let path = format!("{path}.{list}");
    let mut patterns = Vec::new();
    for item in reader.list(fields.get(list), &path)? {
        let pattern = match reader.literal(Some(item), &path)? {
            Some(text) => text.value.to_string(),
            None => String::new(),
        };
        if let Some(oddity) = oddity(&pattern) {
            reader.warn(item.line, format!("{path}: the pattern {pattern:?} {oddity}"));
        }
        patterns.push(Pattern::new(&pattern));
    }
    Ok(patterns)
}

/// Why a pattern does not mean what it seems to mean.
fn oddity(pattern: &str) -> Option<&'static str> {
    let literal = pattern.strip_suffix('*').unwrap_or(pattern);
    if pattern.is_empty() {
        return Some("is empty and matches nothing");
    }
    if pattern.trim().starts_with("${") {
        return Some("is taken as written: environment variables are not replaced in patterns");
    }
    if literal.contains(['*', '?', '[', '{', '\\']) {
        return Some("is no glob: only a * at its very end is special, everything else is taken as written");
    }
    (pattern != "*" && !pattern.starts_with('/')).then_some("matches nothing: it does not start with a slash")
}

fn identities<'a>(
    reader: &mut Reader<'a>,
    fields: Fields<'a>,
    path: &str,
    taken: &Taken<'_>,
    (name, owners): (&str, &mut Owners),
) -> Result<Vec<String>, Reported> {
    let path = format!("{path}.identities");
    let mut identities = Vec::new();
    for item in reader.list(fields.get("identities"), &path)? {
        let found = match reader.text(Some(item), &path) {
            Ok(Some(text)) => identity(reader, &text, &path),
            Ok(None) => Ok(String::new()),
            Err(reported) => Err(reported),
        };
        let Ok(identity) = found else { continue };
        if let Err(problem) = check(&identity, taken) {
            let (topic, problem) = problem;
            reader.problem(topic, Some(item.line), format!("{path}: identity {identity:?} {problem}"));
            continue;
        }
        if let Some((owner, line)) = owners.insert(identity.clone(), (name.into(), item.line)) {
            let problem =
                format!("{path}: identity {identity:?} already has the policy {owner:?} (line {line})");
            reader.problem(Topic::Name, Some(item.line), problem);
            continue;
        }
        warn_if_nobody(reader, &identity, item.line, &path);
        identities.push(identity);
    }
    Ok(identities)
}

/// Whether a policy may contain the identity.
fn check(identity: &str, taken: &Taken<'_>) -> Result<(), (Topic, &'static str)> {
    if !is_valid_name(identity.as_bytes()) {
        return Err((Topic::Name, "is empty, too long or contains other characters than 0-9 A-Z a-z _ -"));
    }
    if identity == taken.admin {
        return Err((Topic::Clash, "is already admin"));
    }
    if taken.proxies.iter().any(|proxy| proxy == identity) {
        return Err((Topic::Clash, "is already a TLS proxy"));
    }
    Ok(())
}
