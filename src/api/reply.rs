//! Replies in the API's forms, and the errors with the texts that clients compare (`server-api` §3).

use std::borrow::Cow;

use crate::{crypto::SecretBytes, http::Reply, text::json::push_string};

pub use crate::text::json::Object;

/// What goes to the client on failure: the texts are protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    /// Status code.
    pub status: u16,
    /// The text, perhaps with bytes of the request that are no UTF-8.
    pub message: Cow<'static, [u8]>,
}

impl ApiError {
    /// An error with a fixed text.
    pub const fn new(status: u16, message: &'static str) -> Self {
        Self { status, message: Cow::Borrowed(message.as_bytes()) }
    }

    /// An error whose text is `before`, bytes of the request, and `after`.
    pub fn quoting(status: u16, before: &str, quoted: &[u8], after: &str) -> Self {
        Self { status, message: Cow::Owned([before.as_bytes(), quoted, after.as_bytes()].concat()) }
    }

    /// The text, for the log.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.message).into_owned()
    }

    /// The reply: `{"message":"TEXT"`, a line feed, `}` (§3.2).
    pub fn reply(&self) -> Reply {
        let mut body = SecretBytes::with_capacity(self.message.len() + 32);
        body.extend(b"{\"message\":");
        push_string(&self.message, &mut body);
        body.extend(b"\n}");
        Reply { content_type: "application/json", body, ..Reply::empty(self.status) }
    }
}

impl Object {
    /// The object as a reply with status 200.
    pub fn reply(self) -> Reply {
        json(self.line())
    }
}

/// A reply with status 200 and finished JSON.
pub fn json(body: SecretBytes) -> Reply {
    Reply { content_type: "application/json", body, ..Reply::empty(200) }
}

/// The reply to a path that leads nowhere, as Go's router gives it (§2.3).
pub fn not_found() -> Reply {
    Reply {
        content_type: "text/plain; charset=utf-8",
        extra: Some(("x-content-type-options", "nosniff".into())),
        body: SecretBytes::from(b"404 page not found\n".to_vec()),
        ..Reply::empty(404)
    }
}

/// The reply that sends a client to another path (§2.3). GET gets a page with a link.
pub fn redirect(method: &str, to: String) -> Reply {
    let mut reply = Reply::empty(307);
    if matches!(method, "GET" | "HEAD") {
        reply.content_type = "text/html; charset=utf-8";
    }
    if method == "GET" {
        let escaped = to
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        reply.body =
            SecretBytes::from(format!("<a href=\"{escaped}\">Temporary Redirect</a>.\n\n").into_bytes());
    }
    reply.extra = Some(("location", to));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_line_feed_before_the_brace() {
        let reply = ApiError::new(404, "key does not exist").reply();
        assert_eq!(&reply.body[..], b"{\"message\":\"key does not exist\"\n}");
        assert_eq!(reply.body.len(), 33);
        let reply = ApiError::quoting(400, "key name '", b"<\xff>", "' is bad").reply();
        assert_eq!(&reply.body[..], b"{\"message\":\"key name '\\u003c\\ufffd\\u003e' is bad\"\n}");
    }

    #[test]
    fn members_stand_in_the_order_in_which_they_are_given() {
        let reply = Object::new(64)
            .bytes("plaintext", b"Hello")
            .list("names", ["a", "b"].into_iter())
            .raw("n", b"7")
            .reply();
        assert_eq!(&reply.body[..], b"{\"plaintext\":\"SGVsbG8=\",\"names\":[\"a\",\"b\"],\"n\":7}\n");
    }
}
