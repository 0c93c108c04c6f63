//! One file per key in one directory.
