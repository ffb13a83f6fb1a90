//! When to try again, and after how long.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::RetryConfig;

/// Longer pauses requested by a server are not waited for at once.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Whether a status may change on its own.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504) || (505..600).contains(&status)
}

/// Exponential back-off with full jitter: `random` is in `[0, 1)`.
pub(super) fn backoff(config: &RetryConfig, attempt: u32, random: f64) -> Duration {
    let ceiling = config
        .base
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(config.cap);
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

/// Reads `Retry-After`: seconds, fractional as Samsara sends them (`0.40235`), or an HTTP date.
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::try_from_secs_f64(seconds).ok()?
        }
        Ok(_) => return None,
        Err(_) => (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now)
            .to_std()
            .unwrap_or(Duration::ZERO),
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-24T00:00:00Z".parse().unwrap();
        let ms = |value| retry_after(value, now).map(|wait| wait.as_millis());
        assert_eq!(ms("0.40235"), Some(402));
        assert_eq!(ms(" 2 "), Some(2000));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("Tue, 24 Nov 2026 00:00:07 GMT"), Some(7000));
        assert_eq!(ms("Mon, 23 Nov 2026 00:00:07 GMT"), Some(0));
        assert_eq!(ms("1e300"), None);
        for nonsense in ["", "-1", "NaN", "inf", "soon", "1e99999"] {
            assert_eq!(ms(nonsense), None, "{nonsense}");
        }
        assert_eq!(ms("86400"), Some(300_000));
    }

    #[test]
    fn waits_grow_to_the_cap_and_never_overflow() {
        let config = RetryConfig::default();
        assert_eq!(backoff(&config, 1, 1.0), config.base);
        assert_eq!(backoff(&config, 3, 1.0), config.base * 4);
        assert_eq!(backoff(&config, u32::MAX, 1.0), config.cap);
        assert_eq!(backoff(&config, 5, 0.0), Duration::ZERO);
    }
}
