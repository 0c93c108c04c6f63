//! Points in time as RFC 3339 text, and as stored in keys. Days are counted by the proleptic Gregorian calendar.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time with nanoseconds and the offset it was written with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; may be negative.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
    /// Minutes east of Greenwich; 0 is shown as `Z`.
    pub offset_minutes: i16,
}

const DAY: i64 = 86_400;

/// Seconds from which on, and before which, a year has four digits.
const RANGE: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

impl Timestamp {
    /// The zero time of Go: `0001-01-01T00:00:00Z`.
    pub const ZERO: Self = Self { seconds: -62_135_596_800, nanos: 0, offset_minutes: 0 };

    /// The present, in UTC.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self { seconds, nanos: since.subsec_nanos(), offset_minutes: 0 }
    }

    /// Reads RFC 3339 text as Go's `time.Time` does; `None` if it is no such text. Digits of the fraction beyond the
    /// ninth are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let number = |from: usize, digits: usize| -> Option<i64> {
            text.get(from..from + digits)?.iter().try_fold(0, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
            })
        };
        let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if punctuation.iter().any(|(place, byte)| text.get(*place) != Some(byte)) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        let is_valid = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        if !is_valid || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (nanos, rest) = fraction(&text[19..])?;
        let offset_minutes = offset(rest)?;
        let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Some(Self { seconds: seconds - i64::from(offset_minutes) * 60, nanos, offset_minutes })
    }
}

/// RFC 3339 with as many digits of the fraction as needed (`server-api` §3.1).
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local = self.seconds.saturating_add(i64::from(self.offset_minutes) * 60);
        let local = local.clamp(RANGE.start, RANGE.end - 1);
        let (year, month, day) = civil_from_days(local.div_euclid(DAY));
        let time = local.rem_euclid(DAY);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)?;
        if self.nanos != 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        match self.offset_minutes {
            0 => f.write_str("Z"),
            offset => {
                let sign = if offset < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", offset.unsigned_abs() / 60, offset.unsigned_abs() % 60)
            }
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01. Howard Hinnant, "chrono-compatible low-level date
/// algorithms": years begin in March, so that the leap day is the last of its year; an era is 400 years.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (days.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The other way round.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    year.div_euclid(400) * 146_097 + day_of_era - 719_468
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Nanoseconds of a fraction, if there is one, and what follows it.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let padded = digits[..count].iter().chain(std::iter::repeat(&b'0')).take(9);
    Some((padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')), &digits[count..]))
}

/// Minutes of `Z` or `+hh:mm`.
fn offset(text: &[u8]) -> Option<i16> {
    let (sign, digits) = match text {
        b"Z" => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let [a, b, b':', c, d] = digits else { return None };
    if ![a, b, c, d].iter().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digit = |byte: &u8| i16::from(byte - b'0');
    let (hours, minutes) = (digit(a) * 10 + digit(b), digit(c) * 10 + digit(d));
    (hours <= 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_shown_as_go_shows_them() {
        let show = |seconds, nanos, offset_minutes| Timestamp { seconds, nanos, offset_minutes }.to_string();
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(show(0, 0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(show(0, 100_000_000, 0), "1970-01-01T00:00:00.1Z");
        assert_eq!(show(-1, 1, 0), "1969-12-31T23:59:59.000000001Z");
        assert_eq!(show(0, 0, -300), "1969-12-31T19:00:00-05:00");
        assert_eq!(show(951_782_400, 0, 330), "2000-02-29T05:30:00+05:30");
        assert_eq!(show(i64::MAX, 0, 0), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn texts_that_are_no_times_are_refused() {
        for text in [
            "",
            "2020",
            "2020-01-02",
            "2020-01-02T03:04:05",
            "2020-13-02T03:04:05Z",
            "2021-02-29T03:04:05Z",
            "2020-01-02T24:04:05Z",
            "2020-01-02T03:60:05Z",
            "2020-01-02T03:04:60Z",
            "2020-01-02 03:04:05Z",
            "2020-01-02T03:04:05.Z",
            "2020-01-02T03:04:05+0100",
            "2020-01-02T03:04:05+01:60",
            "2020-01-02T03:04:05Zx",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        assert!(Timestamp::parse("2020-02-29T03:04:05.123456789123Z").is_some());
    }

    proptest! {
        #[test]
        fn times_round_trip(
            seconds in RANGE.start + DAY..RANGE.end - DAY,
            nanos in 0u32..1_000_000_000,
            offset_minutes in -1439i16..1440,
        ) {
            let time = Timestamp { seconds, nanos, offset_minutes };
            prop_assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        }

        #[test]
        fn days_round_trip(days in -800_000i64..4_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Timestamp::parse(&text);
        }
    }
}
