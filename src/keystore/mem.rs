//! Keys in memory, for `--dev` and tests.
