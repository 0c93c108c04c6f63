//! hpack: to be written.
