//! BigQuery's limit of updates per table: "50 partition modifications every 10 seconds" for a partitioned table, "5
//! operations every 10 seconds" for another one (<https://cloud.google.com/bigquery/quotas#partitioned_tables>).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::WaitScale;

/// One limiter per table.
pub(super) struct UpdateLimits {
    tables: Mutex<HashMap<String, Arc<DefaultDirectRateLimiter>>>,
    scale: WaitScale,
}

impl UpdateLimits {
    /// `scale` is the part of each wait that is really waited.
    pub(super) fn new(scale: WaitScale) -> Self {
        Self {
            tables: Mutex::default(),
            scale,
        }
    }

    /// Waits until the table may be updated again.
    pub(super) async fn wait(&self, table: &str, partitioned: bool) {
        let limiter = {
            let mut tables = self.tables.lock();
            tables
                .entry(table.to_string())
                .or_insert_with(|| Arc::new(RateLimiter::direct(quota(partitioned, self.scale))))
                .clone()
        };
        limiter.until_ready().await;
    }
}

/// Burst and refill together stay within the limit in every ten seconds, not only on average.
fn quota(partitioned: bool, scale: WaitScale) -> Quota {
    let (burst, period) = if partitioned {
        (10, Duration::from_millis(250))
    } else {
        (3, Duration::from_secs(5))
    };
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    Quota::with_period(scale.of(period))
        .unwrap_or(Quota::per_second(NonZeroU32::MIN))
        .allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    #[test]
    fn updates_keep_to_the_quota() {
        for (partitioned, most) in [(true, 50), (false, 5)] {
            let clock = FakeRelativeClock::default();
            let limiter = RateLimiter::direct_with_clock(
                quota(partitioned, WaitScale::default()),
                clock.clone(),
            );
            let mut since = Duration::ZERO;
            let mut taken = Vec::new();
            for _ in 0..600 {
                while limiter.check().is_ok() {
                    taken.push(since);
                }
                clock.advance(Duration::from_millis(100));
                since += Duration::from_millis(100);
            }
            let busiest = taken.iter().map(|from| {
                taken
                    .iter()
                    .filter(|at| (*from..*from + Duration::from_secs(10)).contains(*at))
                    .count()
            });
            let busiest = busiest.max().unwrap_or_default();
            assert!(busiest <= most && busiest > most / 2, "{busiest} of {most}");
        }
    }
}
