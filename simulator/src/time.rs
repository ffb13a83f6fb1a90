//! Instants as milliseconds since the Unix epoch, UTC days, and the ways the API writes them.

use chrono::{DateTime, Utc};

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// One second, one minute, one hour and one day in milliseconds.
pub(crate) const SECOND: Millis = 1_000;
pub(crate) const MINUTE: Millis = 60 * SECOND;
pub(crate) const HOUR: Millis = 60 * MINUTE;
pub(crate) const DAY: Millis = 24 * HOUR;

/// The UTC day, counted from 1970-01-01, that holds an instant.
pub(crate) fn day_of(at: Millis) -> i64 {
    at.div_euclid(DAY)
}

/// Midnight UTC at which a day starts.
pub(crate) fn day_start(day: i64) -> Millis {
    day.saturating_mul(DAY)
}

/// The days that a half-open window touches.
pub(crate) fn days_touching(from: Millis, to: Millis) -> std::ops::Range<i64> {
    if from >= to {
        0..0
    } else {
        day_of(from)..day_of(to - 1) + 1
    }
}

fn utc(at: Millis) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at).unwrap_or_default()
}

/// RFC 3339 as the v2 endpoints write it: `Z`, and only as many fractional digits as the instant needs.
pub(crate) fn wire_time(at: Millis) -> String {
    let seconds = utc(at).format("%Y-%m-%dT%H:%M:%S");
    match at.rem_euclid(SECOND) {
        0 => format!("{seconds}Z"),
        millis => format!(
            "{seconds}.{}Z",
            format!("{millis:03}").trim_end_matches('0')
        ),
    }
}

/// RFC 3339 with a numeric offset, which some endpoints send instead of `Z`.
pub(crate) fn wire_time_with_offset(at: Millis) -> String {
    utc(at).format("%Y-%m-%dT%H:%M:%S%.3f+00:00").to_string()
}

/// The form in which the truth states a timestamp: microseconds and `Z`.
pub(crate) fn truth_time(at: Millis) -> String {
    utc(at).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// An RFC 3339 request parameter, with any offset.
pub(crate) fn parse_time(text: &str) -> Option<Millis> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.timestamp_millis())
}

/// Midnight of the date in an RFC 3339 parameter, in the parameter's zone.
pub(crate) fn parse_date(text: &str) -> Option<Millis> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let offset = Millis::from(time.offset().local_minus_utc()) * SECOND;
    let local = time.timestamp_millis() + offset;
    Some(day_start(day_of(local)) - offset)
}

/// A date written as `2024-01-31`, as a number of days.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    let midnight = (text.len() == 10).then(|| parse_time(&format!("{text}T00:00:00Z")))??;
    Some(day_of(midnight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_as_many_digits_as_they_need() {
        let at = parse_time("2024-01-01T00:00:03Z").expect("a valid time");
        assert_eq!(wire_time(at), "2024-01-01T00:00:03Z");
        assert_eq!(wire_time(at + 62), "2024-01-01T00:00:03.062Z");
        assert_eq!(wire_time(at + 500), "2024-01-01T00:00:03.5Z");
        assert_eq!(truth_time(at), "2024-01-01T00:00:03.000000Z");
        assert_eq!(parse_time(&wire_time_with_offset(at + 7)), Some(at + 7));
    }

    #[test]
    fn a_date_is_cut_in_its_own_zone() {
        let date = parse_date("2024-01-01T23:30:00-02:00").expect("a valid time");
        assert_eq!(wire_time(date), "2024-01-01T02:00:00Z");
    }

    #[test]
    fn a_day_is_a_date_and_nothing_else() {
        assert_eq!(parse_day("1970-01-02"), Some(1));
        for text in ["1970-02-30", "1970-1-2", "1970-01-02Z", "yesterday!", ""] {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }

    #[test]
    fn days_of_a_window_end_before_its_exclusive_end() {
        assert_eq!(days_touching(0, DAY), 0..1);
        assert_eq!(days_touching(0, DAY + 1), 0..2);
        assert!(days_touching(5, 5).is_empty());
    }
}
