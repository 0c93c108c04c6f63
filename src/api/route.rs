//! The routes, and how a request target finds its own (`server-api` §2.1, §2.3).

use std::borrow::Cow;

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Auth {
    /// Anybody; no identity is looked at.
    None,
    /// Whom a policy allows.
    Standard,
    /// Anybody; the identity is used if there is one.
    Own,
}

/// What a route does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// `/version`
    Version,
    /// `/v1/ready`
    Ready,
    /// `/v1/status`
    Status,
    /// `/v1/metrics`
    Metrics,
    /// `/v1/api`
    Routes,
    /// `/v1/key/create/`
    CreateKey,
    /// `/v1/key/import/`
    ImportKey,
    /// `/v1/key/describe/`
    DescribeKey,
    /// `/v1/key/list/`
    ListKeys,
    /// `/v1/key/delete/`
    DeleteKey,
    /// `/v1/key/encrypt/`
    Encrypt,
    /// `/v1/key/generate/`
    Generate,
    /// `/v1/key/decrypt/`
    Decrypt,
    /// `/v1/key/hmac/`
    Hmac,
    /// `/v1/policy/describe/`
    DescribePolicy,
    /// `/v1/policy/read/`
    ReadPolicy,
    /// `/v1/policy/list/`
    ListPolicies,
    /// `/v1/identity/describe/`
    DescribeIdentity,
    /// `/v1/identity/list/`
    ListIdentities,
    /// `/v1/identity/self/describe`
    DescribeSelf,
    /// `/v1/log/error`
    ErrorLog,
    /// `/v1/log/audit`
    AuditLog,
}

/// One entry of the API.
#[derive(Debug)]
pub struct Route {
    /// The method; where it is PUT, POST is accepted too.
    pub method: &'static str,
    /// The whole path, or with a slash at the end the beginning of it; the rest is the resource.
    pub path: &'static str,
    /// Most bytes of a body.
    pub max_body: usize,
    /// Seconds until the reply must be complete; 0 for no limit.
    pub timeout: u64,
    /// Who may call it.
    pub auth: Auth,
    /// Whether its requests are counted in the metrics.
    pub is_counted: bool,
    /// What it does.
    pub action: Action,
}

const fn open(path: &'static str, timeout: u64, auth: Auth, action: Action) -> Route {
    Route { method: "GET", path, max_body: 0, timeout, auth, is_counted: false, action }
}

const fn standard(method: &'static str, path: &'static str, max_body: usize, action: Action) -> Route {
    Route { method, path, max_body, timeout: 15, auth: Auth::Standard, is_counted: true, action }
}

/// 1 MB is a million bytes here.
const MB: usize = 1_000_000;

/// All routes, sorted by path.
pub const ROUTES: [Route; 22] = [
    open("/v1/api", 10, Auth::Standard, Action::Routes),
    standard("GET", "/v1/identity/describe/", 0, Action::DescribeIdentity),
    standard("GET", "/v1/identity/list/", 0, Action::ListIdentities),
    Route { auth: Auth::Own, ..standard("GET", "/v1/identity/self/describe", 0, Action::DescribeSelf) },
    standard("PUT", "/v1/key/create/", 0, Action::CreateKey),
    standard("PUT", "/v1/key/decrypt/", MB, Action::Decrypt),
    standard("DELETE", "/v1/key/delete/", 0, Action::DeleteKey),
    standard("GET", "/v1/key/describe/", 0, Action::DescribeKey),
    standard("PUT", "/v1/key/encrypt/", MB, Action::Encrypt),
    standard("PUT", "/v1/key/generate/", MB, Action::Generate),
    standard("PUT", "/v1/key/hmac/", MB, Action::Hmac),
    standard("PUT", "/v1/key/import/", MB, Action::ImportKey),
    standard("GET", "/v1/key/list/", 0, Action::ListKeys),
    open("/v1/log/audit", 0, Auth::Standard, Action::AuditLog),
    open("/v1/log/error", 0, Auth::Standard, Action::ErrorLog),
    open("/v1/metrics", 15, Auth::Standard, Action::Metrics),
    standard("GET", "/v1/policy/describe/", 0, Action::DescribePolicy),
    standard("GET", "/v1/policy/list/", 0, Action::ListPolicies),
    standard("GET", "/v1/policy/read/", 0, Action::ReadPolicy),
    open("/v1/ready", 15, Auth::Standard, Action::Ready),
    open("/v1/status", 15, Auth::Standard, Action::Status),
    open("/version", 10, Auth::None, Action::Version),
];

impl Route {
    /// Whether the listener for probes answers it.
    pub fn is_for_probes(&self) -> bool {
        matches!(self.action, Action::Version | Action::Ready | Action::Status | Action::Metrics)
    }

    /// Whether `method` is the right one.
    pub fn accepts(&self, method: &str) -> bool {
        method == self.method || (method == "POST" && self.method == "PUT")
    }
}

/// Where a target leads.
#[derive(PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// To the route at this index of [`ROUTES`], with this percent-decoded path.
    Route(usize, Cow<'a, [u8]>),
    /// Elsewhere: a path and query of the same server.
    Redirect(String),
    /// Nowhere.
    Unknown,
}

/// Finds the route of a request target in origin form.
pub fn find(target: &[u8]) -> Target<'_> {
    let query = target.iter().position(|b| *b == b'?');
    let (path, query) = target.split_at(query.unwrap_or(target.len()));
    if let Some(clean) = clean(path) {
        return redirect(&clean, query);
    }
    let is_escaped = path.contains(&b'%');
    // An escaped slash separates nothing, so it stays as it is for the comparison with the routes.
    let compared = if is_escaped { Cow::Owned(decode(path, true)) } else { Cow::Borrowed(path) };
    for (index, route) in ROUTES.iter().enumerate() {
        let wanted = route.path.as_bytes();
        let is_tree = wanted.ends_with(b"/");
        if *compared == *wanted || (is_tree && compared.starts_with(wanted)) {
            return Target::Route(index, if is_escaped { Cow::Owned(decode(path, false)) } else { compared });
        }
        if is_tree && wanted.strip_suffix(b"/") == Some(&compared) {
            return redirect(wanted, query);
        }
    }
    Target::Unknown
}

fn redirect(path: &[u8], query: &[u8]) -> Target<'static> {
    Target::Redirect(String::from_utf8_lossy(&[path, query].concat()).into_owned())
}

/// The path without empty, `.` and `..` segments; `None` if it has none of them. A slash at the end stays.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let last = inner.iter().filter(|b| **b == b'/').count();
    let is_odd = |(place, segment): (usize, &[u8])| {
        matches!(segment, b"." | b"..") || (segment.is_empty() && place < last)
    };
    if !inner.split(|b| *b == b'/').enumerate().any(is_odd) {
        return None;
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in inner.split(|b| *b == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for segment in &kept {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    if clean.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    Some(clean)
}

/// Percent-decodes; with `keep_slash` an escaped slash stays escaped. A bad escape stays too: HTTP has refused it.
fn decode(path: &[u8], keep_slash: bool) -> Vec<u8> {
    let digit = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
    let mut decoded = Vec::with_capacity(path.len());
    let mut place = 0;
    while let Some(&byte) = path.get(place) {
        let escaped = match (byte, digit(path.get(place + 1)), digit(path.get(place + 2))) {
            (b'%', Some(high), Some(low)) => Some((high << 4 | low) as u8),
            _ => None,
        };
        match escaped {
            Some(byte) if !(keep_slash && byte == b'/') => {
                decoded.push(byte);
                place += 3;
            }
            _ => {
                decoded.push(byte);
                place += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resource(target: &str) -> Option<(&'static str, String)> {
        match find(target.as_bytes()) {
            Target::Route(index, path) => {
                let route = ROUTES[index].path;
                Some((route, String::from_utf8_lossy(&path[route.len()..]).into_owned()))
            }
            _ => None,
        }
    }

    fn redirected(target: &str) -> Option<String> {
        match find(target.as_bytes()) {
            Target::Redirect(to) => Some(to),
            _ => None,
        }
    }

    #[test]
    fn routes_are_sorted_by_path() {
        assert!(ROUTES.windows(2).all(|pair| pair[0].path < pair[1].path));
    }

    #[test]
    fn targets_find_their_routes() {
        for (target, route, rest) in [
            ("/version", "/version", ""),
            ("/v1/status?x=1", "/v1/status", ""),
            ("/v1/key/create/a", "/v1/key/create/", "a"),
            ("/v1/key/describe/a/b", "/v1/key/describe/", "a/b"),
            ("/v1/key/describe/a/", "/v1/key/describe/", "a/"),
            ("/v1/key/describe/%61%2Fb%20%2e%2e", "/v1/key/describe/", "a/b .."),
            ("/v1/%6bey/list/", "/v1/key/list/", ""),
            ("/v1/key/list/minio-%2A", "/v1/key/list/", "minio-*"),
            ("/v1/identity/self/describe", "/v1/identity/self/describe", ""),
        ] {
            assert_eq!(resource(target), Some((route, rest.to_owned())), "{target}");
        }
    }

    #[test]
    fn targets_without_a_route_are_unknown() {
        for target in [
            "/",
            "/v1",
            "/v1/",
            "/V1/status",
            "/v1/key",
            "/version/",
            "/v1/status/",
            "/v1/identity/self/describe/",
            "/v1/identity/self",
            "/v1/log",
            "/v1%2fstatus",
            "/v1/key%2Flist/",
            "*",
            "",
        ] {
            assert_eq!(find(target.as_bytes()), Target::Unknown, "{target}");
        }
    }

    #[test]
    fn odd_paths_are_redirected() {
        for (target, to) in [
            ("/v1/key/list", "/v1/key/list/"),
            ("/v1/key/list?a=b", "/v1/key/list/?a=b"),
            ("//v1/status", "/v1/status"),
            ("/v1//key/list/", "/v1/key/list/"),
            ("/v1/key/describe/..", "/v1/key"),
            ("/v1/./status", "/v1/status"),
            ("/v1/key/describe//a", "/v1/key/describe/a"),
            ("/../..", "/"),
            ("//", "/"),
        ] {
            assert_eq!(redirected(target).as_deref(), Some(to), "{target}");
        }
    }

    proptest! {
        #[test]
        fn a_redirect_leads_to_no_other_cleaning(target in "/[a./%?]{0,20}") {
            if let Some(to) = redirected(&target) {
                prop_assert_eq!(redirected(&to).filter(|again| *again != to.clone() + "/"), None);
            }
        }
    }
}
