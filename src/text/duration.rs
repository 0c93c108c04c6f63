//! Durations in Go's form, such as `1h30m` and `1.5s`.

use std::time::Duration;

/// Units by name, in nanoseconds. Both ways of writing the letter of the microsecond are taken, as Go does.
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

/// Longest duration, as in Go: the nanoseconds fit in 63 bits, which is about 292 years.
const MAX_NANOS: u128 = i64::MAX as u128;

/// Reads a duration: optional sign, decimal numbers with a unit of `ns us µs ms s m h d`; a bare `0`. The sign is
/// returned apart (`true`: negative). The error says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<(bool, Duration), String> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest.is_empty() {
        return Err(format!("{text:?} is no duration: write for example 30s, 5m or 1h30m"));
    }
    if rest == "0" {
        return Ok((false, Duration::ZERO));
    }
    let mut total: u128 = 0;
    let mut left = rest;
    while !left.is_empty() {
        let (nanos, after) = parse_part(left).map_err(|problem| format!("{text:?} {problem}"))?;
        total += nanos;
        if total > MAX_NANOS {
            return Err(format!("{text:?} is too long: a duration has at most 292 years"));
        }
        left = after;
    }
    // At most MAX_NANOS / 10^9 seconds, which fits.
    let duration = Duration::new((total / 1_000_000_000) as u64, (total % 1_000_000_000) as u32);
    Ok((negative && total > 0, duration))
}

/// Prints a duration as Go does: `1h30m0s`, `1.5s`, `710.815µs`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.subsec_nanos();
    if duration.as_secs() == 0 {
        return match nanos {
            0 => "0s".into(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", decimal(u64::from(nanos / 1_000), nanos % 1_000, 3)),
            _ => format!("{}ms", decimal(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)),
        };
    }
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let seconds = decimal(seconds, nanos, 9);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads one number with its unit; gives its nanoseconds and what follows. Digits after the 18th of a fraction are
/// below a nanosecond for every unit and are dropped.
fn parse_part(text: &str) -> Result<(u128, &str), String> {
    let whole_end = digits_end(text);
    let (whole, mut rest) = text.split_at(whole_end);
    let mut fraction = "";
    if let Some(after_point) = rest.strip_prefix('.') {
        (fraction, rest) = after_point.split_at(digits_end(after_point));
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err("is no duration: write for example 30s, 5m or 1h30m".into());
    }
    let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    if unit.is_empty() {
        return Err("has no unit: add one of ns, us, ms, s, m, h, d".into());
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("has the unknown unit {unit:?}: use one of ns, us, ms, s, m, h, d"));
    };
    let scale = u128::from(*scale);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(u128::MAX) };
    let nanos = whole.min(MAX_NANOS + 1) * scale;
    Ok((nanos + fraction_of(fraction) * scale / 1_000_000_000_000_000_000, rest))
}

/// How many bytes at the start of `text` are digits.
fn digits_end(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// Digits after a point in units of 10⁻¹⁸.
fn fraction_of(digits: &str) -> u128 {
    let padded = digits.bytes().chain(std::iter::repeat(b'0')).take(18);
    padded.fold(0, |value, digit| value * 10 + u128::from(digit - b'0'))
}

/// `whole` and, unless it is zero, a point and `fraction` of `width` digits without zeros at the end.
fn decimal(whole: u64, fraction: u32, width: usize) -> String {
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them_and_days_too() {
        for (text, nanos) in [
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("5m0s", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("1s1ns", 1_000_000_001),
            ("1m1m", 120_000_000_000),
            ("1.0000000000000000000000009s", 1_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("2d", 172_800_000_000_000),
            ("+3s", 3_000_000_000),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(parse_duration(text), Ok((false, Duration::from_nanos(nanos))), "{text}");
        }
        assert_eq!(parse_duration("-5h"), Ok((true, Duration::from_secs(5 * 3600))));
        assert_eq!(parse_duration("-1.5s"), Ok((true, Duration::from_millis(1500))));
    }

    #[test]
    fn an_error_says_what_is_wrong_with_a_duration() {
        for (text, part) in [
            ("5", "no unit"),
            ("5.5", "no unit"),
            ("1h5", "no unit"),
            ("", "is no duration"),
            ("-", "is no duration"),
            ("s", "is no duration"),
            (".s", "is no duration"),
            ("--1s", "is no duration"),
            ("abc", "is no duration"),
            ("1w", "unknown unit"),
            ("1S", "unknown unit"),
            ("1 s", "unknown unit"),
            ("1s ", "unknown unit"),
            ("1h-5m", "unknown unit"),
            ("9223372036854775808ns", "too long"),
            ("300000d", "too long"),
            ("999999999999999999999999999999999999999999999999h", "too long"),
        ] {
            let problem = parse_duration(text).expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (999, "999ns"),
            (1_100, "1.1µs"),
            (710_815, "710.815µs"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (5_400_000_000_000, "1h30m0s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (i64::MAX as u64, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
        assert!(format_duration(Duration::MAX).ends_with("s"));
    }

    proptest! {
        #[test]
        fn a_printed_duration_is_read_back(nanos in 0..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok((false, duration)));
        }

        #[test]
        fn a_short_printed_duration_is_read_back(nanos in 0..2_000_000_000u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok((false, duration)));
        }

        #[test]
        fn any_text_is_a_duration_or_refused(text in "[-+.0-9a-zµ]{0,40}|.{0,20}") {
            if let Ok((_, duration)) = parse_duration(&text) {
                prop_assert!(duration.as_nanos() <= MAX_NANOS);
            }
        }
    }
}
