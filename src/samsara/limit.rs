//! Rate limits: one limiter per endpoint and one per token, shared by all workers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::error::AttemptError;
use crate::config::RetryConfig;

/// Samsara's documented limit per token, all endpoints together.
const PER_TOKEN: f64 = 150.0;

/// The limiters of one token.
pub(super) struct Limits {
    token: Arc<RollingWindow>,
    endpoints: Mutex<HashMap<String, Arc<EndpointLimiter>>>,
    share: f64,
    retry: RetryConfig,
}

/// The limiter of one endpoint, within that of its token. A request resolves it once, with [`Limits::endpoint`].
pub(super) struct EndpointLimiter {
    /// For messages.
    endpoint: String,
    token: Arc<RollingWindow>,
    rate: RollingWindow,
    /// The time between two requests at the documented rate.
    period: Duration,
    retry: RetryConfig,
    /// A 429 pauses the whole endpoint, not only the request that got it.
    paused_until: Mutex<Option<Instant>>,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
}

impl std::fmt::Debug for EndpointLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EndpointLimiter({})", self.endpoint)
    }
}

/// The turns of an endpoint's requests, which follow each other evenly.
struct Pace {
    /// The next turn. Turns are counted from turn to turn, however late a request took its own: at a rate of 50 a second,
    /// the millisecond by which timers are late would otherwise cost every twentieth request.
    next: Instant,
    /// How much more slowly than documented the endpoint is requested, since it returned 429.
    slowdown: f64,
    slowed: Option<Instant>,
}

/// Requests in a row that used up their attempts.
#[derive(Default)]
struct Breaker {
    exhausted: u32,
    /// How the last of them failed.
    error: Option<AttemptError>,
    open_until: Option<Instant>,
}

/// How a request may go out.
#[derive(Debug, Clone)]
pub(super) enum Admission {
    /// With all its attempts.
    Free,
    /// A probe: one request, to see whether the endpoint is back.
    Probe,
    /// Not at all: the circuit is open since this failure.
    Open(AttemptError),
}

/// An endpoint is never requested more slowly than its documented rate divided by this.
const SLOWEST: f64 = 16.0;
/// Refusals within this time count as one: the requests were in flight together.
const ONE_REFUSAL: Duration = Duration::from_secs(1);

/// The time between two requests at the lowest rate: a catalog's lower ones count as this one.
const LONGEST_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

fn seconds(seconds: f64) -> Duration {
    let duration = Duration::try_from_secs_f64(seconds);
    duration.map_or(LONGEST_PERIOD, |it| it.min(LONGEST_PERIOD))
}

impl Pace {
    /// Reserves the next turn, at this time or later.
    fn reserve(&mut self, now: Instant, period: Duration) -> Instant {
        let turn = self.next.max(now);
        self.next = turn + period.mul_f64(self.slowdown);
        turn
    }
}

/// Lets through a number of requests within any period of this length, as soon as they come: a run with little to ask
/// does not wait for turns at an even pace.
struct RollingWindow {
    at_most: usize,
    length: Duration,
    /// The times of the last requests, at most `at_most`, in order.
    recent: Mutex<VecDeque<Instant>>,
}

impl RollingWindow {
    /// `per_second` requests a second; with less than one, one in as many seconds as that takes.
    fn new(per_second: f64) -> Self {
        let at_most = per_second.floor().max(1.0);
        Self {
            at_most: at_most as usize,
            length: seconds(at_most / per_second),
            recent: Mutex::default(),
        }
    }

    /// As [`RollingWindow::new`], with room for one more: evenly spaced requests of which one was late need it, or each
    /// delay would last to the end of the run. The API tells in fractions of a second when it has room again
    /// (<https://developers.samsara.com/docs/rate-limits>), as a bucket does that fills steadily and holds a second's worth;
    /// of less than two requests a second, it has none to spare.
    fn with_spare_turn(per_second: f64) -> Self {
        let window = Self::new(per_second);
        let spare = usize::from(window.at_most > 1);
        Self {
            at_most: window.at_most.saturating_add(spare),
            ..window
        }
    }

    /// Reserves the time at which the next request may be sent: first come, first served.
    fn reserve(&self, now: impl FnOnce() -> Instant) -> Instant {
        let mut recent = locked(&self.recent);
        let now = now();
        let earliest = match recent.len() < self.at_most {
            true => None,
            false => recent.pop_front(),
        };
        let at = earliest.map_or(now, |earliest| now.max(earliest + self.length));
        recent.push_back(at);
        at
    }

    async fn turn(&self) {
        tokio::time::sleep_until(self.reserve(Instant::now)).await;
    }

    /// Lets a request through at this time, or returns from when on there is room for it.
    fn admit(&self, now: Instant) -> Result<(), Instant> {
        let mut recent = locked(&self.recent);
        let is_over = |sent: &Instant| *sent + self.length <= now;
        while recent.front().is_some_and(is_over) {
            recent.pop_front();
        }
        match recent.front() {
            Some(earliest) if recent.len() >= self.at_most => Err(*earliest + self.length),
            _ => {
                recent.push_back(now);
                Ok(())
            }
        }
    }

    /// Waits until there is room for a request that comes in its turn: as turns may be late, the next ones may follow too
    /// closely.
    async fn room(&self) {
        while let Err(until) = self.admit(Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Limits {
    /// `share` is the part of each rate to use.
    pub(super) fn new(share: f64, retry: RetryConfig) -> Self {
        Self {
            token: Arc::new(RollingWindow::new(PER_TOKEN * share)),
            endpoints: Mutex::default(),
            share,
            retry,
        }
    }

    /// The limiter of an endpoint that allows this many requests per second; the first caller sets the rate.
    pub(super) fn endpoint(&self, endpoint: &str, per_second: f64) -> Arc<EndpointLimiter> {
        let mut endpoints = locked(&self.endpoints);
        if let Some(known) = endpoints.get(endpoint) {
            return known.clone();
        }
        let rate = per_second * self.share;
        let period = seconds(1.0 / rate);
        let made = Arc::new(EndpointLimiter {
            endpoint: endpoint.to_string(),
            token: self.token.clone(),
            rate: RollingWindow::with_spare_turn(rate),
            period,
            retry: self.retry,
            paused_until: Mutex::default(),
            pace: Mutex::new(Pace {
                slowdown: 1.0,
                next: Instant::now(),
                slowed: None,
            }),
            breaker: Mutex::default(),
        });
        endpoints.insert(endpoint.to_string(), made.clone());
        made
    }
}

impl EndpointLimiter {
    /// Waits until a request may go out.
    pub(super) async fn wait(&self) {
        let endpoint = self.endpoint.as_str();
        let begun = Instant::now();
        loop {
            let turn = locked(&self.pace).reserve(Instant::now(), self.period);
            tokio::time::sleep_until(turn).await;
            self.rate.room().await;
            self.token.turn().await;
            let wait_ms = begun.elapsed().as_millis() as u64;
            match wait_ms {
                0 => {}
                // Spaces requests at the documented rate.
                1..1000 => tracing::debug!(endpoint, wait_ms, "request waited for the rate limit"),
                _ => tracing::info!(endpoint, wait_ms, "request waited for the rate limit"),
            }
            let paused = *locked(&self.paused_until);
            match paused {
                Some(until) if until > Instant::now() => {
                    let wait_ms = (until - Instant::now()).as_millis() as u64;
                    tracing::info!(endpoint, wait_ms, "request waits: the endpoint is paused");
                    tokio::time::sleep_until(until).await;
                }
                _ => return,
            }
        }
    }

    /// How the endpoint may be requested at this time.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut breaker = locked(&self.breaker);
        match (breaker.open_until, &breaker.error) {
            (Some(until), Some(error)) if now < until => Admission::Open(error.clone()),
            (Some(_), Some(_)) => {
                // One request probes the endpoint; the others wait for its result.
                breaker.open_until = Some(now + self.retry.cool_down);
                Admission::Probe
            }
            _ => Admission::Free,
        }
    }

    /// The endpoint gave an answer that counts.
    pub(super) fn answered(&self) {
        *locked(&self.breaker) = Breaker::default();
        let mut pace = locked(&self.pace);
        pace.slowdown = (pace.slowdown * 0.95).max(1.0);
    }

    /// A request to it has used up its tries.
    pub(super) fn exhausted(&self, error: &AttemptError, now: Instant) {
        let mut breaker = locked(&self.breaker);
        breaker.exhausted = breaker.exhausted.saturating_add(1);
        breaker.error = Some(error.clone());
        if breaker.exhausted >= self.retry.give_up_after {
            breaker.open_until = Some(now + self.retry.cool_down);
            let (endpoint, seconds) = (&self.endpoint, self.retry.cool_down.as_secs());
            tracing::warn!(
                endpoint,
                seconds,
                %error,
                "circuit open: no requests meanwhile"
            );
        }
    }

    /// The endpoint returned 429: its rate is halved, and slowly raised again.
    pub(super) fn slow_down(&self, now: Instant) {
        let mut pace = locked(&self.pace);
        if pace.slowed.is_none_or(|slowed| now >= slowed + ONE_REFUSAL) {
            pace.slowdown = (pace.slowdown * 2.0).min(SLOWEST);
            pace.slowed = Some(now);
            let (endpoint, times_slower) = (&self.endpoint, pace.slowdown);
            tracing::warn!(endpoint, times_slower, "endpoint is requested more slowly");
        }
    }

    /// Nothing more is sent to the endpoint for `pause`.
    pub(super) fn pause(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut paused = locked(&self.paused_until);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    fn limits() -> Limits {
        let retry = RetryConfig {
            give_up_after: 3,
            cool_down: Duration::from_secs(30),
            ..RetryConfig::default()
        };
        Limits::new(1.0, retry)
    }

    #[test]
    fn a_dead_endpoint_is_probed_by_one_request() {
        let (limits, mut now) = (limits(), Instant::now());
        let failed = |id: Option<&str>| {
            AttemptError::from_status(StatusCode::SERVICE_UNAVAILABLE, id.map(str::to_string))
        };
        let admitted = |path: &str, now| match limits.endpoint(path, 5.0).admit(now) {
            Admission::Free => "free".to_string(),
            Admission::Probe => "probe".to_string(),
            Admission::Open(error) => error.to_string(),
        };
        for _ in 0..2 {
            limits.endpoint("/a", 5.0).exhausted(&failed(None), now);
            assert_eq!(admitted("/a", now), "free");
        }
        limits
            .endpoint("/a", 5.0)
            .exhausted(&failed(Some("7")), now);
        assert_eq!(admitted("/a", now), "503, request 7");
        assert_eq!(admitted("/b", now), "free", "another endpoint's circuit");
        now += Duration::from_secs(31);
        assert_eq!(admitted("/a", now), "probe");
        assert_eq!(admitted("/a", now), "503, request 7", "only one probes");
        limits.endpoint("/a", 5.0).exhausted(&failed(None), now);
        assert_eq!(admitted("/a", now), "503");
        now += Duration::from_secs(31);
        assert_eq!(admitted("/a", now), "probe");
        limits.endpoint("/a", 5.0).answered();
        assert_eq!(admitted("/a", now), "free");
    }

    #[tokio::test]
    async fn a_slower_pace_is_kept() {
        let limits = limits();
        let period = Duration::from_millis(1);
        let mut now = Instant::now();
        for _ in 0..10 {
            limits.endpoint("/a", 1000.0).slow_down(now);
            now += Duration::from_secs(2);
        }
        let begun = Instant::now();
        for _ in 0..5 {
            limits.endpoint("/a", 1000.0).wait().await;
        }
        // The first is sent at once, each other one sixteen periods after the previous one.
        assert!(
            begun.elapsed() >= period.mul_f64(SLOWEST) * 4,
            "{:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn a_pause_holds_for_one_endpoint() {
        let limits = limits();
        let (begun, pause) = (Instant::now(), Duration::from_millis(100));
        limits.endpoint("/a", 1000.0).pause(pause);
        // A shorter pause that comes later does not cut the longer one short.
        limits
            .endpoint("/a", 1000.0)
            .pause(Duration::from_millis(1));
        // If requests of other endpoints counted, this would take an hour.
        limits
            .endpoint("/c", 1000.0)
            .pause(Duration::from_secs(3600));
        limits.endpoint("/b", 1000.0).wait().await;
        limits.endpoint("/a", 1000.0).wait().await;
        assert!(begun.elapsed() >= pause);
    }

    #[tokio::test]
    async fn the_token_s_own_rate_is_kept() {
        // A hundred-thousandth of the rate: a request every eleven minutes.
        let limits = Limits::new(1e-5, RetryConfig::default());
        limits.endpoint("/a", 1e9).wait().await;
        let endpoint = limits.endpoint("/b", 1e9);
        let waiting = endpoint.wait();
        tokio::pin!(waiting);
        for _ in 0..1000 {
            assert!(
                futures::poll!(&mut waiting).is_pending(),
                "/b has a rate of its own, but not a token of its own"
            );
            tokio::task::yield_now().await;
        }
        let other = limits.endpoint("/c", 1e9);
        assert!(other.rate.admit(Instant::now()).is_ok());
        assert!(limits.token.reserve(Instant::now) > Instant::now() + Duration::from_secs(600));
    }

    #[test]
    fn any_second_holds_at_most_the_token_s_rate() {
        let window = RollingWindow::new(150.0);
        let begun = Instant::now();
        let mut now = begun;
        let mut sent = Vec::new();
        for _ in 0..500 {
            now = now.max(window.reserve(|| now));
            sent.push(now);
            // A pause in which some of the window passes.
            if sent.len() == 200 {
                now += Duration::from_millis(700);
            }
        }
        assert_eq!(sent[149], begun, "a burst of one window at once");
        for times in sent.windows(151) {
            assert!(times[150] - times[0] >= Duration::from_secs(1));
        }
        // At 0 s, 1 s, 1.7 s, 2 s, 2.7 s and 3 s.
        assert_eq!(sent[499] - begun, Duration::from_secs(3));
    }

    #[test]
    fn any_rate_of_a_catalog_is_possible() {
        for (rate, period) in [
            (f64::MIN_POSITIVE, LONGEST_PERIOD),
            (1e-19, LONGEST_PERIOD),
            (f64::MAX, Duration::ZERO),
        ] {
            let limits = limits();
            let (endpoint, now) = (limits.endpoint("/a", rate), Instant::now());
            assert_eq!(endpoint.period, period);
            endpoint.slow_down(now);
            let turns = [0; 2].map(|_| locked(&endpoint.pace).reserve(now, period));
            assert_eq!(turns[1] - turns[0], 2 * period);
            assert!(endpoint.rate.admit(now).is_ok());
        }
    }

    #[test]
    fn turns_are_even_and_late_ones_are_made_up_for() {
        let (limits, begun) = (limits(), Instant::now());
        let endpoint = limits.endpoint("/a", 50.0);
        let ms = Duration::from_millis;
        let reserve = |now| locked(&endpoint.pace).reserve(now, endpoint.period);
        let first = reserve(begun + ms(1));
        // Requests queue up; what wakes one late does not move the others.
        let turns: Vec<Duration> = (0..3).map(|_| reserve(begun + ms(3)) - first).collect();
        assert_eq!(turns, [ms(20), ms(40), ms(60)]);
        assert_eq!(reserve(begun + ms(79)) - first, ms(80));
        // A pause is not made up for.
        assert_eq!(reserve(begun + ms(501)) - first, ms(500));
        assert_eq!(reserve(begun + ms(502)) - first, ms(520));
        limits.endpoint("/a", 50.0).slow_down(begun);
        assert_eq!(reserve(begun + ms(503)) - first, ms(540));
        assert_eq!(reserve(begun + ms(503)) - first, ms(580), "half as many");
    }

    #[test]
    fn no_second_holds_more_than_one_late_request_in_addition() {
        for (rate, at_most, length) in [(5.0, 6, 1000), (2.5, 3, 800), (0.5, 1, 2000)] {
            let window = RollingWindow::with_spare_turn(rate);
            let begun = Instant::now();
            let (mut sent, mut late) = (Vec::new(), 0);
            for turn in 0..200_u32 {
                // Each is a little late, and some of them by much.
                late = (late * 31 + 17) % 23;
                let late_by = if turn % 40 == 7 { 400 } else { late };
                let mut now = begun
                    + Duration::from_secs_f64(f64::from(turn) / rate)
                    + Duration::from_millis(late_by);
                now = now.max(sent.last().copied().unwrap_or(begun));
                while let Err(until) = window.admit(now) {
                    assert!(until > now);
                    now = until;
                }
                sent.push(now);
            }
            for times in sent.windows(at_most + 1) {
                assert!(times[at_most] - times[0] >= Duration::from_millis(length));
            }
            let took = (sent[199] - begun).as_secs_f64();
            assert!(took <= 200.0 / rate + 1.0, "{took} s at {rate} a second");
        }
    }

    #[test]
    fn a_429_halves_the_pace_which_recovers() {
        let (limits, mut now) = (limits(), Instant::now());
        let slowdown = |limits: &Limits| locked(&limits.endpoint("/a", 5.0).pace).slowdown;
        limits.endpoint("/a", 5.0).slow_down(now);
        limits.endpoint("/a", 5.0).slow_down(now);
        assert_eq!(
            slowdown(&limits),
            2.0,
            "refusals of requests under way together are one"
        );
        for _ in 0..10 {
            now += Duration::from_secs(2);
            limits.endpoint("/a", 5.0).slow_down(now);
        }
        assert_eq!(slowdown(&limits), SLOWEST);
        for _ in 0..100 {
            limits.endpoint("/a", 5.0).answered();
        }
        assert_eq!(slowdown(&limits), 1.0);
    }
}
