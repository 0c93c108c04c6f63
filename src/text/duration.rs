//! Durations in Go's form, such as `1h30m` and `1.5s`.

use std::time::Duration;

/// Reads a duration: optional sign, decimal numbers with a unit of `ns us µs ms s m h d`; a bare `0`. The sign is
/// returned apart (`true`: negative). The error says what is wrong with the text.
pub fn parse_duration(_text: &str) -> Result<(bool, Duration), String> {
    todo!()
}

/// Prints a duration as Go does: `1h30m0s`, `1.5s`, `710.815µs`, `0s`.
pub fn format_duration(_duration: Duration) -> String {
    todo!()
}
