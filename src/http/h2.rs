//! h2: to be written.
