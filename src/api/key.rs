//! Keys: create, import, describe, list, delete, and what is done with them (`server-api` §3.4).

use std::sync::Arc;

use super::{ApiError, BUSY, Call, INTERNAL, Outcome, Record, answer, reply::Object};
use crate::{
    crypto::{Secret, SecretBytes},
    http::{Body, Reply},
    keyring::{Algorithm, KeyVersion, KeyringError},
    keystore::StoreError,
    name::{KeyName, is_valid_pattern},
    text::json::{Member, Rest, read_object},
};

const INVALID_BODY: ApiError = ApiError::new(400, "invalid request body");
const INVALID_IMPORT: ApiError = ApiError::new(400, "invalid import key request body");
const KEY_EXISTS: ApiError = ApiError::new(400, "key already exists");
const KEY_NOT_FOUND: ApiError = ApiError::new(404, "key does not exist");
const NOT_AUTHENTIC: ApiError = ApiError::new(400, "decryption failed: ciphertext is not authentic");
const NO_HMAC: ApiError = ApiError::new(409, "key does not support HMAC");
const READ_FAILED: ApiError = ApiError::new(502, "failed to read key");
const CREATE_FAILED: ApiError = ApiError::new(502, "failed to create key");
const DELETE_FAILED: ApiError = ApiError::new(502, "failed to delete key");
const LIST_FAILED: ApiError = ApiError::new(502, "failed to list keys");
const NO_RANDOM: ApiError = ApiError::new(500, "failed to create key");
const GENERATE_FAILED: ApiError = ApiError::new(500, "failed to generate encryption key");
const ENCRYPT_FAILED: ApiError = ApiError::new(500, "failed to encrypt plaintext");

/// Bytes that a request takes while it waits for its key, in addition to what came in its body; roughly.
const WAITER: usize = 1024;

/// Most bytes of a listing; the SDK reads one mebibyte.
const MAX_LIST: usize = 1_000_000;

pub fn create<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    let name = match name(call) {
        Ok(name) => name,
        Err(error) => return Outcome::Now(Err(error)),
    };
    let keyring = Arc::clone(&call.state.keyring);
    call.later(move |record| {
        let key = KeyVersion::generate(&record.origin.identity()).ok_or(NO_RANDOM)?;
        store(record, keyring.create(&name, &key))
    })
}

pub fn import<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    let (name, key) = match name(call).and_then(|name| Ok((name, imported(call.record, body)?))) {
        Ok(both) => both,
        Err(error) => return Outcome::Now(Err(error)),
    };
    let keyring = Arc::clone(&call.state.keyring);
    call.later(move |record| store(record, keyring.create(&name, &key)))
}

/// The key in the body of an import; the algorithm is checked before the size.
fn imported(record: &Record, body: &Body) -> Result<KeyVersion, ApiError> {
    let [key, cipher] = read_object(&body.bytes, ["key", "cipher"], Rest::Ignored).map_err(|cause| {
        record.error(&cause);
        INVALID_IMPORT
    })?;
    let bytes = key.bytes().ok_or(INVALID_IMPORT)?;
    let cipher = cipher.text().ok_or(INVALID_IMPORT)?;
    let unsupported = || ApiError::quoting(406, "algorithm '", cipher.as_bytes(), "' is not supported");
    let algorithm = Algorithm::parse(cipher).ok_or_else(unsupported)?;
    let wrong_size = || ApiError::quoting(406, "invalid key size for '", cipher.as_bytes(), "'");
    let secret = Secret::from_slice(&bytes).ok_or_else(wrong_size)?;
    KeyVersion::import(algorithm, secret, &record.origin.identity()).ok_or(NO_RANDOM)
}

fn store(record: &Record, result: Result<(), StoreError>) -> Result<Reply, ApiError> {
    result.map(|()| Reply::empty(200)).map_err(|error| match error {
        StoreError::KeyExists => KEY_EXISTS,
        StoreError::KeyNotFound => KEY_NOT_FOUND,
        error => {
            record.error(&error.to_string());
            CREATE_FAILED
        }
    })
}

pub fn delete<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    let name = match name(call) {
        Ok(name) => name,
        Err(error) => return Outcome::Now(Err(error)),
    };
    let keyring = Arc::clone(&call.state.keyring);
    call.later(move |record| {
        let deleted = keyring.delete(&name);
        // After a reload meanwhile there is another cache, which may have read the key before it was deleted.
        if matches!(deleted, Ok(()) | Err(StoreError::KeyNotFound)) {
            record.api.state().keyring.forget(&name);
        }
        match deleted {
            Ok(()) => Ok(Reply::empty(200)),
            Err(StoreError::KeyNotFound) => Err(KEY_NOT_FOUND),
            Err(error) => {
                record.error(&error.to_string());
                Err(DELETE_FAILED)
            }
        }
    })
}

pub fn list<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    let pattern = call.resource();
    if !is_valid_pattern(pattern) {
        return Outcome::Now(Err(invalid_pattern(pattern)));
    }
    let prefix = prefix_of(pattern).to_owned();
    let keyring = Arc::clone(&call.state.keyring);
    call.later(move |record| {
        let names = keyring.list(&prefix).map_err(|error| {
            record.error(&error.to_string());
            LIST_FAILED
        })?;
        Ok(listing(&names))
    })
}

/// All names in one page as long as the SDK can read it; beyond that the first name that is left out is told.
fn listing(names: &[KeyName]) -> Reply {
    let mut size = 128;
    let count = names
        .iter()
        .take_while(|name| {
            size += name.as_str().len() + 3;
            size <= MAX_LIST
        })
        .count();
    let listing =
        Object::new(size.min(MAX_LIST) + 128).list("names", names[..count].iter().map(KeyName::as_str));
    match names.get(count) {
        Some(next) => listing.text("continue_at", next.as_str()),
        None => listing,
    }
    .reply()
}

pub fn describe<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    let name = match name(call) {
        Ok(name) => name,
        Err(error) => return Outcome::Now(Err(error)),
    };
    let shown = name.to_string();
    with_key(call, name, 0, move |key, _| {
        let object = Object::new(256)
            .text("name", &shown)
            .text("algorithm", key.algorithm.name())
            .text("created_at", &key.created_at.to_string());
        let object =
            if key.created_by.is_empty() { object } else { object.text("created_by", &key.created_by) };
        Ok(object.reply())
    })
}

pub fn encrypt<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    let (name, [plaintext, context]) = match arguments(call, body, ["plaintext", "context"]) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::Now(Err(error)),
    };
    with_key(call, name, plaintext.len() + context.len(), move |key, _| {
        let ciphertext = key.encrypt(&plaintext, &context).ok_or(ENCRYPT_FAILED)?;
        Ok(Object::new(ciphertext.len().div_ceil(3) * 4 + 32).bytes("ciphertext", &ciphertext).reply())
    })
}

pub fn generate<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    let arguments = match body.announced {
        true => arguments(call, body, ["context"]),
        false => name(call).map(|name| (name, [SecretBytes::new()])),
    };
    let (name, [context]) = match arguments {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::Now(Err(error)),
    };
    with_key(call, name, context.len(), move |key, _| {
        let (data_key, ciphertext) = key.generate_data_key(&context).ok_or(GENERATE_FAILED)?;
        let object = Object::new(192).bytes("plaintext", data_key.expose()).bytes("ciphertext", &ciphertext);
        Ok(object.reply())
    })
}

pub fn decrypt<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    let (name, [ciphertext, context]) = match arguments(call, body, ["ciphertext", "context"]) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::Now(Err(error)),
    };
    with_key(call, name, ciphertext.len() + context.len(), move |key, _| {
        let plaintext = key.decrypt(&ciphertext, &context).map_err(|_| NOT_AUTHENTIC)?;
        Ok(Object::new(plaintext.len().div_ceil(3) * 4 + 32).bytes("plaintext", &plaintext).reply())
    })
}

pub fn hmac<'a>(call: &Call<'a, '_>, body: &mut Body) -> Outcome<'a> {
    let (name, [message]) = match arguments(call, body, ["message"]) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::Now(Err(error)),
    };
    with_key(call, name, message.len(), move |key, _| {
        let sum = key.hmac(&message).ok_or(NO_HMAC)?;
        Ok(Object::new(80).bytes("hmac", &sum).reply())
    })
}

/// The key's name in the path.
fn name(call: &Call<'_, '_>) -> Result<KeyName, ApiError> {
    let resource = call.resource();
    let name = std::str::from_utf8(resource).ok().and_then(KeyName::parse);
    name.ok_or_else(|| {
        ApiError::quoting(400, "key name '", resource, "' is empty, too long or contains invalid characters")
    })
}

/// The name in the path, and the binary members of the body called `names`. The body's `version` must be text and is
/// ignored.
fn arguments<const N: usize>(
    call: &Call<'_, '_>,
    body: &Body,
    names: [&'static str; N],
) -> Result<(KeyName, [SecretBytes; N]), ApiError> {
    let name = name(call)?;
    let invalid = |cause: &str| {
        call.record.error(cause);
        INVALID_BODY
    };
    // One member more than asked for; an array of `N + 1` cannot be named yet, so four are always read.
    let mut asked = ["version"; 4];
    asked[..N].copy_from_slice(&names);
    let mut members = read_object(&body.bytes, asked, Rest::Ignored).map_err(|cause| invalid(&cause))?;
    if members[N].text().is_none() {
        return Err(invalid("'version' is no text"));
    }
    let mut values = std::array::from_fn(|_| SecretBytes::new());
    for (value, (member, name)) in values.iter_mut().zip(members.iter_mut().zip(names)) {
        let bytes = std::mem::take::<Member<'_>>(member).bytes();
        *value = bytes.ok_or_else(|| invalid(&format!("'{name}' is no base64 text")))?;
    }
    Ok((name, values))
}

/// Uses a key: at once if it is in the cache, else when it has been fetched. Many who wait for one key wait for one
/// fetch, and no thread waits with them. `size`: bytes that `act` holds; what all hold who wait is bounded.
fn with_key<'a>(
    call: &Call<'a, '_>,
    name: KeyName,
    size: usize,
    act: impl FnOnce(&KeyVersion, &Record) -> Result<Reply, ApiError> + Send + 'static,
) -> Outcome<'a> {
    let keyring = Arc::clone(&call.state.keyring);
    if let Some(key) = keyring.cached(&name) {
        return Outcome::Now(act(&key, call.record));
    }
    let Some(share) = call.record.api.waiting.lend(size + WAITER) else { return Outcome::Now(Err(BUSY)) };
    let (connection, stream) = (call.connection, call.stream);
    Outcome::Later(Box::new(move |record| {
        let responder = connection.responder(stream);
        let waiter = move |result: Result<Arc<KeyVersion>, KeyringError>| {
            let _share = share;
            answer(record, responder, |record| {
                act(&*result.map_err(|error| unreadable(record, &error))?, record)
            });
        };
        if keyring.wait_for(&name, Box::new(waiter)) {
            let (fetching, wanted) = (Arc::clone(&keyring), name.clone());
            if connection.submit(Box::new(move || fetching.fetch(&wanted))).is_err() {
                // Everybody who waits is told, this request among them.
                keyring.abandon(&name);
            }
        }
        None
    }))
}

fn unreadable(record: &Record, error: &KeyringError) -> ApiError {
    match error {
        KeyringError::Store(StoreError::KeyNotFound) => KEY_NOT_FOUND,
        KeyringError::Abandoned => BUSY,
        KeyringError::Store(StoreError::KeyExists) => INTERNAL,
        error => {
            record.error(&error.to_string());
            READ_FAILED
        }
    }
}

/// The error for a listing pattern that is none.
pub fn invalid_pattern(pattern: &[u8]) -> ApiError {
    ApiError::quoting(400, "listing pattern '", pattern, "' is empty, too long or is invalid")
}

/// The prefix that a valid pattern asks for.
pub fn prefix_of(pattern: &[u8]) -> &str {
    std::str::from_utf8(pattern.strip_suffix(b"*").unwrap_or(pattern)).unwrap_or("")
}
