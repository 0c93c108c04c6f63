//! Durations in Go's form, such as `1h30m` and `1.5s`.

use std::time::Duration;

/// Units by their names; `us` has three spellings (two characters for the micro sign).
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads a duration: optional sign, decimal numbers with a unit of `ns us µs ms s m h d`; a bare `0`. The sign is
/// returned apart (`true`: negative). The error says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<(bool, Duration), String> {
    let (is_negative, mut rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok((false, Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(format!("invalid duration '{text}'"));
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.is_empty() || number == "." {
            return Err(format!("invalid duration '{text}'"));
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("missing unit in duration '{text}' (such as '{text}s')"));
        }
        let nanos = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos);
        let nanos = nanos.ok_or_else(|| format!("unknown unit '{unit}' in duration '{text}'"))?;
        let part = scale(number, nanos).ok_or_else(|| format!("invalid duration '{text}'"))?;
        // Go's durations have 63 bits.
        total = total
            .checked_add(part)
            .filter(|total| *total <= i64::MAX as u64)
            .ok_or_else(|| format!("duration '{text}' is too long"))?;
        rest = after;
    }
    Ok((is_negative && total != 0, Duration::from_nanos(total)))
}

/// A decimal number times a unit, in nanoseconds; what is smaller than one is cut off.
fn scale(number: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut value = u128::from(whole) * u128::from(nanos);
    // Digits beyond the eighteenth are below a nanosecond for every unit.
    let (mut digits, mut divisor) = (0u128, 1u128);
    for digit in fraction.bytes().take(18) {
        digits = digits * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    value += digits * u128::from(nanos) / divisor;
    u64::try_from(value).ok()
}

/// Prints a duration as Go does: `1h30m0s`, `1.5s`, `710.815µs`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000) + "µs",
        1_000_000..1_000_000_000 => decimal(nanos, 1_000_000) + "ms",
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = decimal(rest, 1_000_000_000) + "s";
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// `value / unit` with as many digits of the fraction as needed.
fn decimal(value: u128, unit: u128) -> String {
    let width = unit.ilog10() as usize;
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let seconds = |text| parse_duration(text).unwrap().1.as_secs_f64();
        for (text, expected) in [
            ("5m0s", 300.0),
            ("1h30m", 5400.0),
            ("1.5h", 5400.0),
            ("500ms", 0.5),
            ("10us", 1e-5),
            ("10µs", 1e-5),
            ("1d", 86400.0),
            ("0", 0.0),
            ("0s", 0.0),
            ("+5s", 5.0),
            (".5s", 0.5),
            ("5.s", 5.0),
        ] {
            assert!((seconds(text) - expected).abs() < 1e-12, "{text}");
        }
        assert_eq!(parse_duration("-5s").unwrap(), (true, Duration::from_secs(5)));
        assert!(parse_duration("5").unwrap_err().contains("missing unit"));
        for text in ["", "-", "5.5", "s", "5x", "5s5", "1..5s", ".s", "9999999999h", "5 s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        let print = |nanos| format_duration(Duration::from_nanos(nanos));
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (710_815, "710.815µs"),
            (1_500_000, "1.5ms"),
            (1_500_000_000, "1.5s"),
            (300_000_000_000, "5m0s"),
            (5_400_000_000_000, "1h30m0s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(print(nanos), text);
        }
    }

    proptest! {
        #[test]
        fn durations_round_trip(nanos in 0..i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok((false, duration)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.µa-z]{0,30}") {
            let _ = parse_duration(&text);
        }
    }
}
