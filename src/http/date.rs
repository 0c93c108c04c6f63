//! The `Date` header's value (RFC 9110 §5.6.7), made once a second and thread.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::text::time::civil_from_days;

/// The present as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn now() -> [u8; 29] {
    thread_local!(static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [0; 29])) });
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with(|last| {
        let (second, text) = last.get();
        if second == seconds {
            return text;
        }
        let text = format(seconds);
        last.set((seconds, text));
        text
    })
}

/// A time given in seconds since 1970-01-01T00:00:00Z, of a year with four digits.
fn format(seconds: u64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let days = seconds / 86_400;
    let (year, month, day) = civil_from_days(days.min(2_932_896).cast_signed());
    let mut text = *b"___, __ ___ ____ __:__:__ GMT";
    let weekday = (days % 7) as usize * 3;
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    let month = (month as usize - 1) * 3;
    text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
    let mut put = |place: usize, number: u64| {
        text[place] = b'0' + (number / 10 % 10) as u8;
        text[place + 1] = b'0' + (number % 10) as u8;
    };
    put(5, day.unsigned_abs());
    put(12, year.unsigned_abs() / 100);
    put(14, year.unsigned_abs());
    let time = seconds % 86_400;
    put(17, time / 3600);
    put(20, time / 60 % 60);
    put(23, time % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        let text = |seconds| String::from_utf8(format(seconds).to_vec()).unwrap();
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(951_827_696), "Tue, 29 Feb 2000 12:34:56 GMT");
        assert_eq!(text(u64::MAX / 2).len(), 29);
        assert_eq!(now(), format(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()));
    }
}
