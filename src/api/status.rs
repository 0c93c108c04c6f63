//! What the server says of itself: version, readiness, status, metrics, routes (`server-api` §2.5, §7).

use std::{sync::Arc, time::Duration};

use super::{
    ApiError, BUSY, COMMIT, Call, Outcome, Record, VERSION, answer,
    reply::{Object, json},
    route::ROUTES,
};
use crate::{
    crypto::SecretBytes,
    http::Reply,
    keyring::StoreStatus,
    keystore::StoreError,
    log::WARN,
    metrics::{CONTENT_TYPE, Memory},
};

const UNREACHABLE: ApiError = ApiError::new(504, "key store is not reachable");
const UNAVAILABLE: ApiError = ApiError::new(502, "key store is unavailable");

pub fn version() -> Reply {
    Object::new(96).text("version", VERSION).text("commit", COMMIT).reply()
}

pub fn ready<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    with_status(call, |record, status| match status {
        Ok(_) => Ok(Reply::empty(200)),
        Err(error) => {
            let (reply, what) = match &error {
                StoreError::Unreachable(_) => (UNREACHABLE, "unreachable"),
                _ => (UNAVAILABLE, "unavailable"),
            };
            let cause = match error {
                StoreError::Unreachable(cause) => cause,
                error => error.to_string(),
            };
            record.log(WARN, &format!("kes: keystore {what}: {cause}"));
            Err(reply)
        }
    })
}

pub fn status<'a>(call: &Call<'a, '_>) -> Outcome<'a> {
    with_status(call, |record, store| {
        let memory = Memory::now();
        let uptime = record.api.metrics.uptime() + Duration::from_millis(500);
        let cores = crate::sys::process::cores();
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let number = |number: u64| number.to_string().into_bytes();
        let object = Object::new(320)
            .text("version", VERSION)
            .text("os", std::env::consts::OS)
            .text("arch", arch)
            .raw("uptime", &number(uptime.as_secs()))
            .raw("num_cpu", &number(cores as u64))
            .raw("num_cpu_used", &number(cores as u64))
            .raw("mem_heap_used", &number(memory.heap))
            .raw("mem_stack_used", &number(memory.stack));
        let object = match store {
            // In milliseconds, rounded, and never zero for a store that answers.
            Ok(latency) => {
                let millis = (latency + Duration::from_micros(500)).as_millis().max(1);
                object.raw("keystore_latency", millis.to_string().as_bytes())
            }
            Err(_) => object.raw("keystore_unreachable", b"true"),
        };
        Ok(object.reply())
    })
}

/// Answers when the store has said how it is, or has said nothing for too long.
fn with_status<'a>(
    call: &Call<'a, '_>,
    act: impl FnOnce(&Record, Result<Duration, StoreError>) -> Result<Reply, ApiError> + Send + 'static,
) -> Outcome<'a> {
    let keyring = Arc::clone(&call.state.keyring);
    let (connection, stream) = (call.connection, call.stream);
    Outcome::Later(Box::new(move |record| {
        let responder = connection.responder(stream);
        let waiter =
            |status: StoreStatus| answer(record, responder, |record| act(record, status.ok_or(BUSY)?));
        if keyring.wait_for_status(Box::new(waiter)) {
            let asking = Arc::clone(&keyring);
            if connection.submit(Box::new(move || asking.ask_store())).is_err() {
                keyring.abandon_status();
            }
        }
        None
    }))
}

/// Needs nothing that may hang, so that it tells how the server is when all else waits for the store.
pub fn metrics(call: &Call<'_, '_>) -> Reply {
    let body = SecretBytes::from(call.record.api.metrics_text().into_bytes());
    Reply { content_type: CONTENT_TYPE, body, ..Reply::empty(200) }
}

pub fn routes(call: &Call<'_, '_>) -> Reply {
    let mut list = SecretBytes::with_capacity(2048);
    list.extend(b"[");
    for (place, (route, (_, millis))) in ROUTES.iter().zip(call.state.settings).enumerate() {
        if place > 0 {
            list.extend(b",");
        }
        let object = Object::new(128)
            .text("method", route.method)
            .text("path", route.path)
            .raw("max_body", route.max_body.to_string().as_bytes())
            .raw("timeout", (millis / 1_000).to_string().as_bytes());
        list.extend(&object.end());
    }
    list.extend(b"]\n");
    json(list)
}
