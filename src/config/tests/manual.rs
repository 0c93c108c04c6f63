//! kes-config(5) describes each field that the program reads, and no other.

use std::{cell::RefCell, collections::BTreeSet};

use super::*;

thread_local! {
    static KNOWN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Called for each section that is read: remembers its fields.
pub fn record(section: &str, fields: &[&str]) {
    let section = section.replace("/v1/ready", "PATH").replace("an entry of keys", "keys[]");
    KNOWN.with_borrow_mut(|known| {
        known.extend(
            fields.iter().map(|field| format!("{section}.{field}").trim_start_matches('.').to_owned()),
        );
    });
}

/// Fields that are read only to say what to write instead, which the page tells in its last section.
fn is_older_form(field: &str) -> bool {
    let unsupported = ["vault", "fortanix", "gemalto", "gcp", "aws", "azure", "entrust", "kes", "generic"];
    matches!(field, "root" | "proxy" | "policy.NAME.paths")
        || field.strip_prefix("keystore.").is_some_and(|store| unsupported.contains(&store))
}

/// `.It Cm policy Ns \&. Ns Ar NAME Ns Cm \&.allow Pq list` is `policy.NAME.allow`.
fn described(line: &str) -> Option<String> {
    let words = line.strip_prefix(".It Cm ")?.split(' ').take_while(|word| !matches!(*word, "Pq" | "Po"));
    let name: String = words.filter(|word| !matches!(*word, "Cm" | "Ns" | "Ar")).collect();
    Some(name.replace("\\&", ""))
}

#[test]
fn the_manual_describes_each_field_and_no_other() {
    let text = "
probe: { address: 127.0.0.1:0 }
admin: { identity: disabled }
tls: { key: a, cert: b, proxy: { identities: [], header: { cert: X } } }
policy: { NAME: { allow: [] } }
cache: { expiry: { any: 1s } }
api: { /v1/ready: { timeout: 1s } }
log: { error: on }
keys: [ { name: a } ]
keystore: { fs: { path: keys, seal: { unlock: { passphrase: { file: a } } } } }
";
    parse(text, "config.yml", Path::new("/base"), &Overrides::default(), &|_| None).unwrap();
    let known = KNOWN.take();
    let is_section = |field: &str| {
        let parts = [".", "[]."].map(|part| format!("{field}{part}"));
        known.iter().any(|other| parts.iter().any(|part| other.starts_with(part)))
    };
    let fields = known.iter().filter(|field| !is_section(field) && !is_older_form(field));
    let fields: BTreeSet<String> = fields.cloned().collect();

    let page = include_str!("../../../man/kes-config.5");
    // A section may have an item, too, for what it can be instead of a mapping.
    let page: BTreeSet<String> = page
        .lines()
        .filter_map(described)
        .filter(|name| name.contains('.') || fields.contains(name))
        .collect();
    let page: BTreeSet<String> = page.into_iter().filter(|name| !is_section(name)).collect();
    assert_eq!(page, fields, "left: kes-config(5), right: the program");
}
