//! Rates: one limiter per endpoint and one per token, shared by all workers.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

/// Samsara's documented limit per token, all endpoints together.
const PER_TOKEN: f64 = 150.0;

/// The limiters of one token.
pub(super) struct Limits {
    token: DefaultDirectRateLimiter,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    share: f64,
}

struct Endpoint {
    rate: DefaultDirectRateLimiter,
    /// A 429 pauses the whole endpoint, not only the request that got it.
    paused_until: Mutex<Option<Instant>>,
}

impl Limits {
    /// `share` is the part of each rate to use.
    pub(super) fn new(share: f64) -> Self {
        Self { token: limiter(PER_TOKEN * share), endpoints: Mutex::default(), share }
    }

    /// Waits until a request to `endpoint` may go out.
    pub(super) async fn wait(&self, endpoint: &str, per_second: f64) {
        let limiter = self.endpoint(endpoint, per_second);
        loop {
            limiter.rate.until_ready().await;
            self.token.until_ready().await;
            let paused = *limiter.paused_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match paused {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Nothing more goes to `endpoint` for `pause`.
    pub(super) fn pause(&self, endpoint: &str, per_second: f64, pause: Duration) {
        let limiter = self.endpoint(endpoint, per_second);
        let until = Instant::now() + pause;
        let mut paused = limiter.paused_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    fn endpoint(&self, endpoint: &str, per_second: f64) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        endpoints
            .entry(endpoint.to_string())
            .or_insert_with(|| {
                Arc::new(Endpoint { rate: limiter(per_second * self.share), paused_until: Mutex::new(None) })
            })
            .clone()
    }
}

fn limiter(per_second: f64) -> DefaultDirectRateLimiter {
    let period = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::from_secs(1));
    // A burst of one: requests go out evenly, so that no second holds more than the rate.
    let quota = Quota::with_period(period.max(Duration::from_nanos(1))).map(|quota| quota.allow_burst(NonZeroU32::MIN));
    RateLimiter::direct(quota.unwrap_or(Quota::per_second(NonZeroU32::MIN)))
}
