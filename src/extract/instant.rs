//! Instants as the API writes them: RFC 3339 text, or milliseconds since 1970.
//!
//! BigQuery's TIMESTAMP covers the years 1 to 9999 in microseconds, and so do the instants here. Nothing is converted
//! to nanoseconds, which end in 1677 and 2262.

use std::ops::RangeInclusive;

use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::{NaiveDate, Utc};

/// The range of BigQuery's TIMESTAMP, in microseconds since 1970: 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z.
pub const INSTANTS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// The microseconds since 1970 of a text; none if it is not an instant of the years 1 to 9999.
///
/// A text without offset is UTC, one without a time of day is midnight. Digits beyond the microsecond are truncated,
/// also before 1970. A leap second is the first instant of the next minute, as in POSIX time and in BigQuery.
pub fn instant_of_text(text: &str) -> Option<i64> {
    let micros = utc_instant(text.as_bytes()).or_else(|| {
        string_to_datetime(&Utc, text)
            .ok()
            .map(|instant| instant.timestamp_micros())
    })?;
    INSTANTS.contains(&micros).then_some(micros)
}

/// Parses many texts of the same day, as those of a page are: the day is parsed once.
#[derive(Debug, Default)]
pub struct InstantReader {
    /// `2024-01-31T`, and the microseconds since 1970 at which that day begins.
    day: Option<([u8; 11], i64)>,
}

impl InstantReader {
    /// What [`instant_of_text`] says.
    #[inline]
    pub fn read(&mut self, text: &str) -> Option<i64> {
        let Some((day, time)) = text.as_bytes().split_first_chunk::<11>() else {
            return instant_of_text(text);
        };
        if let Some((known, start)) = &self.day
            && known == day
            && let Some(micros) = micros_of_day(time)
        {
            return Some(start + micros);
        }
        self.read_day(day, text)
    }

    #[cold]
    fn read_day(&mut self, day: &[u8; 11], text: &str) -> Option<i64> {
        let mut midnight = *b"yyyy-mm-ddT00:00:00Z";
        midnight[..11].copy_from_slice(day);
        if let Some(start) = utc_instant(&midnight).filter(|start| INSTANTS.contains(start)) {
            self.day = Some((*day, start));
        }
        instant_of_text(text)
    }
}

/// The microseconds since midnight of `23:59:59.123456Z`, with or without a fraction. A leap second belongs to the next
/// day, and is not read here.
#[inline]
fn micros_of_day(text: &[u8]) -> Option<i64> {
    let (&[h1, h2, b':', m1, m2, b':', s1, s2], rest) = text.split_first_chunk::<8>()? else {
        return None;
    };
    let two = |tens: u8, ones: u8| {
        let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
    };
    let (hour, minute, second) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (mut micros, mut unit) = (0, 100_000);
    match rest {
        [b'Z'] => {}
        [b'.', digits @ .., b'Z'] if !digits.is_empty() => {
            for digit in digits {
                let digit = digit.wrapping_sub(b'0');
                if digit > 9 {
                    return None;
                }
                micros += i64::from(digit) * unit;
                unit /= 10;
            }
        }
        _ => return None,
    }
    Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros)
}

/// The same for milliseconds since 1970.
pub fn instant_of_millis(millis: i64) -> Option<i64> {
    millis
        .checked_mul(1000)
        .filter(|micros| INSTANTS.contains(micros))
}

/// Parses `2024-01-31T23:59:59.123456Z`, with or without a fraction: the form of nearly all times.
fn utc_instant(text: &[u8]) -> Option<i64> {
    let [head @ .., b'Z'] = text else { return None };
    let (head, fraction) = head.split_at_checked(19)?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        hour @ ..,
        b':',
        min1,
        min2,
        b':',
        s1,
        s2,
    ] = head
    else {
        return None;
    };
    let [h1, h2] = hour else { return None };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_u32, |number, digit| {
            digit
                .is_ascii_digit()
                .then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let kept = &digits[..digits.len().min(6)];
            number(kept)? * 10_u32.pow(6 - u32::try_from(kept.len()).ok()?)
        }
        _ => return None,
    };
    let year = i32::try_from(number(&[*y1, *y2, *y3, *y4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[*m1, *m2])?, number(&[*d1, *d2])?)?;
    let time = date.and_hms_micro_opt(
        number(&[*h1, *h2])?,
        number(&[*min1, *min2])?,
        number(&[*s1, *s2])?,
        micros,
    )?;
    Some(time.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_text_is_an_instant_of_the_years_1_to_9999_or_none() {
        let cases = [
            ("2024-01-01T00:00:00Z", Some("2024-01-01T00:00:00Z")),
            (
                "2024-02-29T23:59:59.123456789Z",
                Some("2024-02-29T23:59:59.123456Z"),
            ),
            ("2024-01-01T00:00:00.1Z", Some("2024-01-01T00:00:00.100Z")),
            ("2024-01-01T02:30:00+05:30", Some("2023-12-31T21:00:00Z")),
            (
                "2024-01-01T02:30:00.25-0800",
                Some("2024-01-01T10:30:00.250Z"),
            ),
            ("2024-01-01t00:00:00z", Some("2024-01-01T00:00:00Z")),
            ("2024-01-01 00:00:00", Some("2024-01-01T00:00:00Z")),
            ("2024-01-01", Some("2024-01-01T00:00:00Z")),
            // The bounds of BigQuery's TIMESTAMP, and those of nanoseconds.
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00Z")),
            ("0001-01-01T00:00:00+00:01", None),
            ("0000-12-31T23:59:59.999999Z", None),
            ("0000-12-31T23:30:00-01:00", Some("0001-01-01T00:30:00Z")),
            (
                "9999-12-31T23:59:59.9999999Z",
                Some("9999-12-31T23:59:59.999999Z"),
            ),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("9999-12-31T23:59:59-00:01", None),
            ("10000-01-01T00:00:00Z", None),
            ("1677-09-21T00:12:43Z", Some("1677-09-21T00:12:43Z")),
            ("2262-04-12T00:00:00Z", Some("2262-04-12T00:00:00Z")),
            // Never rounded up, on neither side of 1970.
            (
                "1969-12-31T23:59:59.9999999Z",
                Some("1969-12-31T23:59:59.999999Z"),
            ),
            (
                "1969-12-31T23:59:59.9999999+00:00",
                Some("1969-12-31T23:59:59.999999Z"),
            ),
            ("1970-01-01T00:00:00.0000009Z", Some("1970-01-01T00:00:00Z")),
            // Leap seconds.
            ("2016-12-31T23:59:60Z", Some("2017-01-01T00:00:00Z")),
            ("2016-12-31T23:59:60.5Z", Some("2017-01-01T00:00:00.500Z")),
            ("9999-12-31T23:59:60Z", None),
            ("2016-12-31T23:59:61Z", None),
            ("", None),
            (" ", None),
            ("N/A", None),
            ("2024-02-30T00:00:00Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T00:60:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00,5Z", None),
            ("2024-01-01T00:00:00Z ", None),
            (" 2024-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00 nowhere", None),
            ("-024-01-01T00:00:00Z", None),
            ("1704067200000", None),
            ("1704067200", None),
            ("20240101", None),
            ("é024-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00Ä", None),
        ];
        for (text, expected) in cases {
            let expected =
                expected.map(|text| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros());
            assert_eq!(instant_of_text(text), expected, "{text:?}");
            // Whichever day was read before: the same, another, or none.
            let day = text.get(..11).map(|day| format!("{day}12:00:00Z"));
            for before in [None, day.as_deref(), Some("2024-01-01T12:00:00Z")] {
                let mut reader = InstantReader::default();
                before.map(|before| reader.read(before));
                assert_eq!(reader.read(text), expected, "{text:?} behind {before:?}");
                assert_eq!(reader.read(text), expected, "{text:?} again");
            }
        }
    }

    #[test]
    fn milliseconds_are_an_instant_of_the_years_1_to_9999_or_none() {
        let cases = [
            (0, true),
            (-1, true),
            (-62_135_596_800_000, true),
            (-62_135_596_800_001, false),
            (253_402_300_799_999, true),
            (253_402_300_800_000, false),
            (9_223_372_036_854_775_000, false),
            (i64::MIN, false),
        ];
        for (millis, is_one) in cases {
            assert_eq!(
                instant_of_millis(millis),
                is_one.then_some(millis.wrapping_mul(1000)),
                "{millis}"
            );
        }
    }
}
