//! `kes server --print-config`: the configuration as it is understood, with all defaults and without secrets (`cli` §7).
//! What is printed is a configuration again, apart from the secrets.

use std::path::Path;

use super::{Failure, output, term};
use crate::{
    config::{Config, KeyStoreConfig, SealConfig},
    crypto::SecretBytes,
    log::level_name,
    seal::{Source, unlock::Passphrase},
    text::{
        duration::format_duration,
        json::{Object, push_string},
    },
};

/// What stands in the place of a secret.
const MASK: &str = "********";

/// A part of the configuration.
enum Tree {
    Map(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Text(String),
    /// A truth value.
    Bool(bool),
}

/// Prints a configuration as YAML or as JSON.
pub fn print(config: &Config, as_json: bool) -> Result<(), Failure> {
    let tree = tree(config);
    if as_json {
        return output::json(&json(&tree));
    }
    let mut text = String::new();
    yaml(&tree, 0, &mut text);
    term::print(&text)
}

fn tree(config: &Config) -> Tree {
    let mut top = vec![field("version", text("v1")), field("address", text(config.address))];
    if let Some(probe) = config.probe {
        top.push(field("probe", map([field("address", text(probe))])));
    }
    top.push(field("admin", map([field("identity", text(&config.policies.admin))])));
    top.push(field("tls", tls(config)));
    let policies = config.policies.policies.iter().map(|policy| {
        let patterns = |patterns: &[crate::policy::Pattern]| {
            Tree::List(patterns.iter().map(|pattern| text(pattern.as_str())).collect())
        };
        let rules = map([
            field("allow", patterns(&policy.allow)),
            field("deny", patterns(&policy.deny)),
            field("identities", Tree::List(policy.identities.iter().map(text).collect())),
        ]);
        field(&policy.name, rules)
    });
    top.push(field("policy", Tree::Map(policies.collect())));
    let expiry = [
        field("any", text(format_duration(config.cache.any))),
        field("unused", text(format_duration(config.cache.unused))),
        field("offline", text(format_duration(config.cache.offline))),
    ];
    top.push(field("cache", map([field("expiry", map(expiry))])));
    let routes = config.api.iter().map(|route| {
        let mut fields = vec![field("skip_auth", Tree::Bool(route.skip_auth))];
        fields.extend(route.timeout.map(|timeout| field("timeout", text(format_duration(timeout)))));
        field(&route.path, Tree::Map(fields))
    });
    top.push(field("api", Tree::Map(routes.collect())));
    let mut log = vec![field("error", level(config.log.error)), field("audit", level(config.log.audit))];
    log.extend(config.log.file.as_deref().map(|file| field("file", path(file))));
    top.push(field("log", Tree::Map(log)));
    top.push(field(
        "keys",
        Tree::List(config.keys.iter().map(|name| map([field("name", text(name))])).collect()),
    ));
    if let KeyStoreConfig::Fs { path: directory, seal, .. } = &config.keystore {
        let fs = map([field("path", path(directory)), field("seal", sealing(seal))]);
        top.push(field("keystore", map([field("fs", fs)])));
    }
    top.push(field("sandbox", on_or_off(config.sandbox)));
    Tree::Map(top)
}

fn tls(config: &Config) -> Tree {
    let tls = &config.tls;
    let mut fields = vec![field("key", path(&tls.key)), field("cert", path(&tls.cert))];
    fields.extend(tls.password.as_ref().map(|_| field("password", text(MASK))));
    fields.push(field("auth", on_or_off(tls.verify_clients)));
    fields.extend(tls.ca.as_deref().map(|ca| field("ca", path(ca))));
    if !tls.proxies.is_empty() {
        let identities = Tree::List(tls.proxies.iter().map(text).collect());
        let header = map([field("cert", text(&tls.proxy_header))]);
        fields.push(field("proxy", map([field("identities", identities), field("header", header)])));
    }
    Tree::Map(fields)
}

fn sealing(seal: &SealConfig) -> Tree {
    let SealConfig::On { file, unlock } = seal else { return text("off") };
    let unlock = match unlock {
        Source::None => text("none"),
        Source::Passphrase(Passphrase::Terminal) => map([field("passphrase", text("terminal"))]),
        Source::Passphrase(Passphrase::File(file)) => {
            map([field("passphrase", map([field("file", path(file))]))])
        }
        Source::Passphrase(Passphrase::Variable(name)) => {
            map([field("passphrase", map([field("env", text(name))]))])
        }
        Source::Credential(name) => map([field("credential", text(name))]),
        // Somebody may have put a password among the arguments.
        Source::Command { program, time } => {
            let words = program.iter().enumerate();
            let words =
                words.map(|(place, word)| if place == 0 { path(Path::new(word)) } else { text(MASK) });
            map([
                field("command", Tree::List(words.collect())),
                field("timeout", text(format_duration(*time))),
            ])
        }
    };
    map([field("file", path(file)), field("unlock", unlock)])
}

fn field(name: &str, value: Tree) -> (String, Tree) {
    (name.to_owned(), value)
}

fn map<const N: usize>(fields: [(String, Tree); N]) -> Tree {
    Tree::Map(fields.into())
}

fn text(value: impl ToString) -> Tree {
    Tree::Text(value.to_string())
}

fn path(path: &Path) -> Tree {
    text(path.display())
}

fn on_or_off(is_on: bool) -> Tree {
    text(if is_on { "on" } else { "off" })
}

/// The level above all others is that of a log that is off.
fn level(level: i32) -> Tree {
    text(if level == 9 { "off".to_owned() } else { level_name(level).to_ascii_lowercase() })
}

fn quoted(value: &str) -> SecretBytes {
    let mut out = SecretBytes::new();
    push_string(value.as_bytes(), &mut out);
    out
}

fn json(tree: &Tree) -> SecretBytes {
    match tree {
        Tree::Map(fields) => {
            let object = Object::new(256);
            fields.iter().fold(object, |object, (name, value)| object.raw(name, &json(value))).end()
        }
        Tree::List(items) => output::array(items.iter().map(json)),
        Tree::Text(value) => quoted(value),
        Tree::Bool(value) => SecretBytes::from(value.to_string().into_bytes()),
    }
}

/// Block style; texts are quoted as JSON quotes them, which YAML reads alike. `depth` is that of the fields.
fn yaml(tree: &Tree, depth: usize, out: &mut String) {
    let push_scalar = |tree: &Tree, out: &mut String| {
        out.push_str(&String::from_utf8_lossy(&json(tree)));
        out.push('\n');
    };
    let is_block = |tree: &Tree| {
        matches!(tree, Tree::Map(fields) if !fields.is_empty())
            || matches!(tree, Tree::List(items) if !items.is_empty())
    };
    match tree {
        Tree::Map(fields) => {
            for (name, value) in fields {
                let is_plain =
                    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte));
                (0..depth).for_each(|_| out.push_str("  "));
                match is_plain && name.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                    true => out.push_str(name),
                    false => out.push_str(&String::from_utf8_lossy(&quoted(name))),
                }
                out.push(':');
                if is_block(value) {
                    out.push('\n');
                    yaml(value, depth + 1, out);
                } else {
                    out.push(' ');
                    push_scalar(value, out);
                }
            }
        }
        Tree::List(items) => {
            for item in items {
                (0..depth).for_each(|_| out.push_str("  "));
                out.push_str("- ");
                // Lists hold texts and flat maps, which fit on a line.
                push_scalar(item, out);
            }
        }
        scalar => push_scalar(scalar, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    const FULL: &str = "
address: 127.0.0.1:7373
probe: { address: 127.0.0.1:8080 }
admin: { identity: disabled }
tls:
  key: server.key
  cert: server.crt
  password: 'a secret'
  auth: on
  ca: roots
  proxy:
    identities: [0000000000000000000000000000000000000000000000000000000000000001]
    header: { cert: X-Tls-Client-Cert }
policy:
  my-app: { allow: ['/v1/key/*', '/v1/status'], deny: ['/v1/key/delete/*'], identities: [0000000000000000000000000000000000000000000000000000000000000002] }
  '1': { allow: ['/v1/status'] }
cache: { expiry: { any: 1m30s, unused: 20s, offline: 1h } }
api:
  /v1/ready: { skip_auth: true, timeout: 20s }
log: { error: warn+1, audit: off, file: audit.json }
keys: [{ name: a }, { name: b }]
keystore:
  fs:
    path: keys
    seal: { file: keys.seal, unlock: { command: [/bin/echo, 'another secret'], timeout: 20s } }
sandbox: off
";

    fn printed(config: &str) -> (String, serde_json::Value) {
        let config = parse(config, "c", Path::new("/etc/kes"), &Overrides::default(), &|_| None).unwrap();
        let tree = tree(&config);
        let mut text = String::new();
        yaml(&tree, 0, &mut text);
        (text, serde_json::from_slice(&json(&tree)).unwrap())
    }

    #[test]
    fn what_is_printed_is_the_same_configuration_without_its_secrets() {
        for config in [
            FULL,
            &FULL
                .replace("{ file: keys.seal", "{ file: x.seal")
                .replace("command: [/bin/echo, 'another secret'], timeout: 20s", "passphrase: { env: PASS }"),
            "
admin: { identity: 00000000000000000000000000000000000000000000000000000000000000ad }
tls: { key: /k, cert: /c }
keystore: { fs: { path: keys, seal: off } }
",
        ] {
            let (text, value) = printed(config);
            assert!(!text.contains("secret"), "{text}");
            assert_eq!(printed(&text), (text.clone(), value), "{text}");
        }
        let (text, value) = printed(FULL);
        assert_eq!(value["tls"]["password"], MASK);
        assert_eq!(value["tls"]["key"], "/etc/kes/server.key");
        assert_eq!(value["keystore"]["fs"]["seal"]["unlock"]["command"][1], MASK);
        assert_eq!(value["cache"]["expiry"]["any"], "1m30s");
        assert!(
            text.contains("policy:\n  \"1\":\n    allow:\n      - \"/v1/status\"\n    deny: []\n"),
            "{text}"
        );
        assert!(text.contains("log:\n  error: \"warn+1\"\n  audit: \"off\"\n"), "{text}");
    }
}
