//! `keystore:` exactly one, and one that this build has.

use std::path::Path;

use super::{
    KeyStoreConfig, SealConfig,
    reader::{Reader, Section},
    sections::absolute,
    yaml::Node,
};

/// Key stores that are known by name and not built. Those of the original are here, so that none is taken for a
/// misspelt field; `kes` and `generic` are of its earlier releases.
const NOT_BUILT: [(&str, &str); 9] = [
    ("vault", ""),
    ("fortanix", "sdkms"),
    ("gemalto", "keysecure"),
    ("gcp", "secretmanager"),
    ("aws", "secretsmanager"),
    ("azure", "keyvault"),
    ("entrust", "keycontrol"),
    ("kes", ""),
    ("generic", ""),
];

const KNOWN: [&str; 10] =
    ["fs", "vault", "fortanix", "gemalto", "gcp", "aws", "azure", "entrust", "kes", "generic"];

/// Reads the key store; every error is noted in `reader`.
pub fn read(reader: &mut Reader<'_>, node: Option<&Node>, base: &Path) -> Option<KeyStoreConfig> {
    let section = match node {
        Some(node) => reader.section(node, "keystore", &KNOWN)?,
        None => {
            reader.error(0, "no keystore specified");
            return None;
        }
    };
    let mut stores: Vec<(usize, &str)> =
        section.get("fs").map(|node| (node.line, "fs")).into_iter().collect();
    for (outer, inner) in NOT_BUILT {
        if is_given(reader, &section, outer, inner) {
            stores.push((section.has(outer).unwrap_or(section.line), outer));
        }
    }
    stores.sort_unstable();
    for (line, name) in stores.iter().skip(1) {
        reader.error(*line, format!("more than one keystore specified: '{name}' beside '{}'", stores[0].1));
    }
    match stores.as_slice() {
        [] => {
            reader.error(section.line, "no keystore specified");
            None
        }
        [(_, "fs")] => read_fs(reader, section.get("fs")?, base),
        stores => {
            for (line, name) in stores.iter().filter(|(_, name)| *name != "fs") {
                reader.error(*line, format!("keystore '{name}' is not supported by this build"));
            }
            None
        }
    }
}

/// An outer name with a null inner part counts as absent (`config` §5).
fn is_given(reader: &mut Reader<'_>, section: &Section<'_>, outer: &str, inner: &str) -> bool {
    let Some(node) = section.get(outer) else { return false };
    if inner.is_empty() {
        return true;
    }
    reader.names(node, &section.name(outer)).is_some_and(|section| section.get(inner).is_some())
}

fn read_fs(reader: &mut Reader<'_>, node: &Node, base: &Path) -> Option<KeyStoreConfig> {
    let fs = reader.section(node, "keystore.fs", &["path", "seal"])?;
    let path = reader.field(&fs, "path");
    let Some(path) = path else {
        reader.error(fs.line, "no keystore.fs.path specified");
        return None;
    };
    let directory = absolute(base, &path.text);
    let default_file = || {
        let mut file = directory.clone().into_os_string();
        file.push(".seal");
        file.into()
    };
    let seal = match fs.get("seal") {
        None => SealConfig::On { file: default_file() },
        Some(node) => match read_seal(reader, node)? {
            Seal::Off => SealConfig::Off,
            Seal::On(None) => SealConfig::On { file: default_file() },
            Seal::On(Some(file)) => SealConfig::On { file: absolute(base, &file) },
        },
    };
    Some(KeyStoreConfig::Fs { shown: path.text, path: directory, seal })
}

enum Seal {
    Off,
    On(Option<String>),
}

fn read_seal(reader: &mut Reader<'_>, node: &Node) -> Option<Seal> {
    if !matches!(node.value, super::yaml::Value::Map(_)) {
        let text = reader.text(node, "keystore.fs.seal")?;
        return match text.text.trim().to_ascii_lowercase().as_str() {
            "off" => Some(Seal::Off),
            "on" => Some(Seal::On(None)),
            _ => {
                reader
                    .error(text.line, "keystore.fs.seal must be 'off' or a mapping with 'file' and 'unlock'");
                None
            }
        };
    }
    let seal = reader.section(node, "keystore.fs.seal", &["file", "unlock"])?;
    if let Some(unlock) = seal.get("unlock") {
        let unlock = reader.text(unlock, "keystore.fs.seal.unlock")?;
        if unlock.text.trim() != "none" {
            let message = format!("keystore.fs.seal.unlock '{}' is not supported by this build", unlock.text);
            reader.error(unlock.line, message);
            return None;
        }
    }
    Some(Seal::On(reader.field(&seal, "file").map(|file| file.text)))
}
