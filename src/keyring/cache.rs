//! Keys in memory between uses.
