//! Rate limits: one bucket per endpoint, of one second's worth of requests.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

/// The buckets of all endpoints.
#[derive(Debug)]
pub(crate) struct RateLimits {
    scale: f64,
    buckets: Mutex<HashMap<&'static str, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimits {
    pub(crate) fn new(scale: f64) -> Self {
        Self {
            scale,
            buckets: Mutex::default(),
        }
    }

    /// Takes a token of an endpoint, or returns in how many seconds there will be one.
    pub(crate) fn take(
        &self,
        path: &'static str,
        per_second: f64,
        now: Instant,
    ) -> Result<(), f64> {
        let rate = per_second * self.scale;
        let capacity = rate.max(1.0);
        let mut buckets = self.buckets.lock();
        let bucket = buckets.entry(path).or_insert(Bucket {
            tokens: capacity,
            filled: now,
        });
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * rate;
        bucket.tokens = (bucket.tokens + gained).min(capacity);
        bucket.filled = bucket.filled.max(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err((1.0 - bucket.tokens) / rate)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_at_its_rate() {
        let limits = RateLimits::new(1.0);
        let start = Instant::now();
        let taken = (0..20)
            .filter(|_| limits.take("/tags", 5.0, start).is_ok())
            .count();
        assert_eq!(taken, 5);
        let wait = limits
            .take("/tags", 5.0, start)
            .expect_err("the bucket is empty");
        assert!((wait - 0.2).abs() < 1e-6, "{wait}");
        assert!(
            limits.take("/fleet/vehicles", 25.0, start).is_ok(),
            "another endpoint has its own bucket"
        );
        assert!(
            limits
                .take("/tags", 5.0, start + Duration::from_millis(201))
                .is_ok()
        );
    }

    #[test]
    fn the_scale_multiplies_the_rate() {
        let limits = RateLimits::new(4.0);
        let start = Instant::now();
        assert_eq!(
            (0..100)
                .filter(|_| limits.take("/tags", 5.0, start).is_ok())
                .count(),
            20
        );
    }
}
