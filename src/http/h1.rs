//! h1: to be written.
