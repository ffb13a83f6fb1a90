//! Time limits of calls and jobs, and the pauses in between.

use std::time::Duration;

use backon::{Backoff, BackoffBuilder, ExponentialBuilder};

use crate::config::WaitScale;

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// The first pause between two attempts or polls; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest such pause.
    pub longest_wait: Duration,
    /// A call that fails with a transient error is repeated as long as its last attempt began within this time of the
    /// first.
    pub retry_for: Duration,
    /// How long a job may take.
    pub job_for: Duration,
    /// How long a job of an earlier run is looked for before it counts as never started.
    pub look_for: Duration,
    /// A job that failed for a reason within BigQuery is repeated under this many ids.
    pub attempts: u32,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            // The default deadline of Google's own clients: `DEFAULT_RETRY` of `google-cloud-bigquery`.
            retry_for: Duration::from_secs(600),
            // "Load job execution-time limit: 6 hours", https://cloud.google.com/bigquery/quotas#load_jobs
            job_for: Duration::from_secs(6 * 3600),
            look_for: Duration::from_secs(3),
            attempts: 5,
        }
    }
}

impl Timings {
    /// The same with shorter pauses. The time limits of the service stay.
    pub(super) fn scaled(self, scale: WaitScale) -> Self {
        Self {
            first_wait: scale.of(self.first_wait),
            longest_wait: scale.of(self.longest_wait),
            look_for: scale.of(self.look_for),
            ..self
        }
    }

    /// The pauses between attempts or polls, without end. Each is shortened by up to half at random, so that loads that
    /// failed together are not repeated together.
    pub(super) fn pauses(&self) -> impl Backoff + use<> {
        ExponentialBuilder::new()
            .with_min_delay(self.first_wait.min(self.longest_wait))
            .with_max_delay(self.longest_wait)
            .without_max_times()
            .build()
            .map(|pause| pause.mul_f64(0.5 + 0.5 * rand::random::<f64>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let timings = Timings::default();
        for (pause, whole) in timings
            .pauses()
            .zip([100, 200, 400, 800, 1600, 3200, 5000, 5000])
        {
            let range = Duration::from_millis(whole / 2 - 1)..=Duration::from_millis(whole + 1);
            assert!(range.contains(&pause), "{pause:?} of {whole} ms");
        }
        assert!(timings.pauses().nth(10_000).is_some());
    }
}
