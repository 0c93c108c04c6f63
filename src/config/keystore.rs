//! `keystore:`

use std::path::{Path, PathBuf};

use super::{
    KeyStoreConfig, SealConfig,
    read::{Fields, Reader, Reported, Topic},
    yaml::{Entry, Node, Value},
};
use crate::seal::Source;

/// Key stores that other releases of the protocol's servers have and this build has not.
const UNSUPPORTED: [&str; 9] =
    ["vault", "fortanix", "gemalto", "gcp", "aws", "azure", "entrust", "kes", "generic"];

/// Reads `keystore:`, which must name exactly one key store.
pub(super) fn keystore<'a>(
    reader: &mut Reader<'a>,
    node: Option<&'a Node>,
) -> Result<KeyStoreConfig, Reported> {
    let known: Vec<&str> = ["fs"].into_iter().chain(UNSUPPORTED).collect();
    let fields = reader.fields(node, "keystore", &known)?;
    let is_given = |entry: &&Entry| known.contains(&entry.key.as_str()) && !is_absent(&entry.value);
    let mut given = fields.entries.iter().filter(is_given);
    let Some(first) = given.next() else {
        let problem = "no keystore specified: set keystore.fs.path";
        return Err(reader.problem(Topic::KeyStore, fields.line, problem));
    };
    for entry in given {
        let problem = format!(
            "more than one keystore: {:?} is given beside {:?} of line {}",
            entry.key, first.key, first.line
        );
        reader.problem(Topic::KeyStore, Some(entry.line), problem);
    }
    if first.key != "fs" {
        let problem = format!("keystore '{}' is not supported by this build", first.key);
        return Err(reader.problem(Topic::KeyStore, Some(first.line), problem));
    }
    let fields = reader.fields(Some(&first.value), "keystore.fs", &["path", "seal"])?;
    let directory = match reader.filled(fields.get("path"), "keystore.fs.path")? {
        Some(text) => text.value.to_string(),
        None => {
            let problem = "no path specified: set keystore.fs.path";
            return Err(reader.problem(Topic::KeyStore, Some(first.line), problem));
        }
    };
    let path = reader.absolute(&directory);
    let seal = seal(reader, fields, &path)?;
    Ok(KeyStoreConfig::Fs { shown: directory, path, seal })
}

/// Nothing, or a mapping that has only fields with nothing in them.
fn is_absent(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Map(entries) => !entries.is_empty() && entries.iter().all(|entry| entry.value.is_null()),
        _ => false,
    }
}

fn seal<'a>(reader: &mut Reader<'a>, fields: Fields<'a>, directory: &Path) -> Result<SealConfig, Reported> {
    let path = "keystore.fs.seal";
    let mut file = None;
    let mut unlock = Source::None;
    match fields.get("seal") {
        Some(node) if matches!(node.value, Value::Map(_)) => {
            let fields = reader.fields(Some(node), path, &["file", "unlock"])?;
            unlock = super::unlock::unlock(reader, fields.get("unlock"))?;
            file = reader.filled(fields.get("file"), "keystore.fs.seal.file")?;
        }
        node => match reader.filled(node, path)? {
            Some(text) if text.eq_ignore_ascii_case("off") => return Ok(SealConfig::Off),
            Some(text) if !text.eq_ignore_ascii_case("on") => {
                let problem = format!("{path} must be on, off or a mapping with the fields file and unlock");
                return Err(reader.problem(Topic::KeyStore, Some(text.line), problem));
            }
            _ => {}
        },
    }
    let line = file.as_ref().map(|text| text.line).or(fields.line);
    let Some(file) = file.map(|text| reader.absolute(&text)).or_else(|| default_file(directory)) else {
        let problem =
            format!("{path}.file must be set, because the key directory's path does not end in a name");
        return Err(reader.problem(Topic::KeyStore, line, problem));
    };
    if let (true, Some(line)) = (file.starts_with(directory), line) {
        let problem =
            format!("{path}.file lies in the key directory: a copy of the directory can be read by anyone");
        reader.warn(line, problem);
    }
    Ok(SealConfig::On { file, unlock })
}

/// The key directory's path with `.seal` appended.
fn default_file(directory: &Path) -> Option<PathBuf> {
    let mut name = directory.file_name()?.to_os_string();
    name.push(".seal");
    Some(directory.with_file_name(name))
}
