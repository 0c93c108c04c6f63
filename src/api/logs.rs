//! The two log streams (`server-api` §7.5).

use std::sync::Arc;

use super::{ApiError, BUSY, Call, NOT_ALLOWED};
use crate::{feed::Feed, http::Reply};

/// A reply that goes on with the events of `feed`, from now until the client leaves.
pub fn follow(call: &Call<'_, '_>, feed: &Arc<Feed>) -> Result<Reply, ApiError> {
    let (caller, action) = (call.record.origin.caller, call.record.route.action);
    let listener = call.connection.listener(call.stream, Arc::clone(feed.lost()));
    let subscription = feed.subscribe(listener, caller).ok_or(BUSY)?;
    // A reload since the request began ends the streams that there were then.
    if !call.record.api.state().allows(action, caller.as_ref()) {
        return Err(NOT_ALLOWED);
    }
    Ok(Reply {
        content_type: "application/x-ndjson",
        tail: Some(Box::new(subscription)),
        ..Reply::empty(200)
    })
}
