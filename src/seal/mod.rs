//! Sealing of values at rest under root keys.
