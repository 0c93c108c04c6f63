//! TLS: the server's settings, who the client is, API keys. Knows nothing of HTTP.
