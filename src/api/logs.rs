//! The two log streams (`server-api` §7.5).

use std::sync::Arc;

use super::{ApiError, BUSY, Call};
use crate::{feed::Feed, http::Reply};

/// A reply that goes on with the events of `feed`, from now until the client leaves.
pub fn follow(call: &Call<'_, '_>, feed: &Arc<Feed>) -> Result<Reply, ApiError> {
    let listener = call.connection.listener(call.stream, Arc::clone(feed.lost()));
    let subscription = feed.subscribe(listener, call.record.origin.caller).ok_or(BUSY)?;
    Ok(Reply {
        content_type: "application/x-ndjson",
        tail: Some(Box::new(subscription)),
        ..Reply::empty(200)
    })
}
