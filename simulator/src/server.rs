//! Answers requests: authorisation, rate limits and faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::config::SimulatorConfig;
use super::cursor::Cursors;
use super::delivery::Answer;
use super::endpoints::{DEFAULT_RATE, ME, Served};
use super::faults::Fault;
use super::limits::RateLimits;
use super::paging::Call;
use super::query::{Query, Refusal};
use super::replay::Replay;
use super::request_log::{LoggedRequest, RequestLog};
use super::wire::Wire;
use super::world::World;
use super::world::draw::Draw;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: SimulatorConfig,
    pub(crate) world: World,
    pub(crate) log: RequestLog,
    limits: Option<RateLimits>,
    replay: Option<Replay>,
    count: AtomicU64,
    /// Raised when all cursors are to expire.
    cursor_age: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: SimulatorConfig) -> Self {
        Self {
            world: World::new(&config),
            log: RequestLog::default(),
            limits: config
                .enforce_rate_limits
                .then(|| RateLimits::new(config.rate_limit_scale)),
            replay: config.pages_dir.clone().map(Replay::new),
            count: AtomicU64::new(0),
            cursor_age: AtomicU64::new(0),
            config,
        }
    }

    pub(crate) fn expire_cursors(&self) {
        self.cursor_age.fetch_add(1, Ordering::SeqCst);
    }

    fn cursors(&self) -> Cursors {
        let age = self.cursor_age.load(Ordering::SeqCst);
        Cursors {
            key: Draw::new(self.config.seed, "cursors", &[age]).number(),
        }
    }
}

/// Answers one request and notes it.
pub(crate) async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    // No request has a body that matters.
    let (request, _) = request.into_parts();
    let number = shared.count.fetch_add(1, Ordering::SeqCst);
    let request_id = format!(
        "{:08x}",
        Draw::new(shared.config.seed, "request id", &[number]).number() >> 32
    );
    if let Some(latency) = shared.config.latency {
        tokio::time::sleep(latency).await;
    }
    let fault = shared.config.faults.draw(shared.config.seed, number);
    let (answer, fault) = shared.answer(&request, number, &request_id, fault).await;
    let (path, query) = (request.uri.path(), request.uri.query().unwrap_or_default());
    tracing::debug!(
        number,
        path,
        query,
        status = answer.status.as_u16(),
        ?fault,
        "simulator answered"
    );
    shared.log.add(LoggedRequest {
        number,
        method: request.method.to_string(),
        path: path.to_owned(),
        query: query.to_owned(),
        status: answer.status.as_u16(),
    });
    answer.send(&request_id, fault, shared.config.slow_body_pause)
}

impl Shared {
    /// The response, and the fault that is to damage its delivery.
    async fn answer(
        &self,
        request: &Parts,
        number: u64,
        request_id: &str,
        fault: Option<Fault>,
    ) -> (Answer, Option<Fault>) {
        let path = request.uri.path();
        let found = Served::at(path);
        let endpoint = found.map(|(endpoint, _)| endpoint);
        // Recorded pages may be of endpoints that the world does not have.
        if endpoint.is_none() && self.replay.is_none() {
            return (
                Answer::text(StatusCode::NOT_FOUND, "404 page not found"),
                None,
            );
        }
        if let Err(refusal) = self.admit(request, endpoint) {
            return (Answer::refusal(refusal, request_id), None);
        }
        if let Some(limits) = &self.limits {
            let (name, rate) = endpoint.map_or(("other", DEFAULT_RATE), |endpoint| {
                (endpoint.path(), endpoint.per_second())
            });
            if let Err(wait) = limits.take(name, rate, Instant::now()) {
                return (
                    Answer::too_many(request_id, Some(format!("{wait:.5}"))),
                    None,
                );
            }
        }
        if let Some(Fault::Status(status)) = fault {
            return (self.failure(status, number, request_id), None);
        }
        let query = Query::parse(request.uri.query().unwrap_or_default());
        let answer = match &self.replay {
            Some(replay) => self.recorded(replay, path, &query, request_id).await,
            None => found.map(|found| self.generated(found, &query, fault, request_id)),
        };
        match answer {
            Some(answer) if answer.status == StatusCode::OK => (answer, fault),
            Some(refusal) => (refusal, None),
            None => (
                Answer::text(StatusCode::NOT_FOUND, "404 page not found"),
                None,
            ),
        }
    }

    /// Whether the request may be answered at all.
    fn admit(&self, request: &Parts, endpoint: Option<Served>) -> Result<(), Refusal> {
        let given = request
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if given.and_then(|value| value.strip_prefix("Bearer ")) != Some(self.config.token.as_str())
        {
            return Err(Refusal::json(StatusCode::UNAUTHORIZED, "invalid token"));
        }
        if request.method != Method::GET {
            return Err(Refusal::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "405 method not allowed",
            ));
        }
        // An endpoint with an id in its path may be named by either path.
        let scoped = |path: &String| {
            path == request.uri.path() || endpoint.is_some_and(|known| path == known.path())
        };
        if self.config.missing_scopes.iter().any(scoped) {
            return Err(Refusal::json(
                StatusCode::FORBIDDEN,
                "The token lacks the scope this endpoint needs.",
            ));
        }
        Ok(())
    }

    fn generated(
        &self,
        (endpoint, id): (Served, &str),
        query: &Query,
        fault: Option<Fault>,
        request_id: &str,
    ) -> Answer {
        let call = Call {
            world: &self.world,
            wire: Wire {
                unknown_fields: self.config.unknown_fields,
            },
            query,
            path: endpoint.path(),
            id,
            cursors: self.cursors(),
            page_size: self.config.page_size,
            point_before_window: self.config.point_before_window,
            fuel_window: self.config.fuel_window,
            repeat_page: fault == Some(Fault::DuplicatePage),
        };
        match endpoint.answer(&call) {
            Ok(value) => Answer::value(&value),
            Err(refusal) => Answer::refusal(refusal, request_id),
        }
    }

    async fn recorded(
        &self,
        replay: &Replay,
        path: &str,
        query: &Query,
        request_id: &str,
    ) -> Option<Answer> {
        match replay.page(path, query).await {
            Ok(Some(Ok(body))) => Some(Answer::page(body)),
            Ok(Some(Err(refusal))) => Some(Answer::refusal(refusal, request_id)),
            // Whose token it is can always be requested.
            Ok(None) if path == ME => {
                Served::at(ME).map(|me| self.generated(me, query, None, request_id))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::error!(path, %error, "a recorded page cannot be read");
                Some(Answer::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "recorded page cannot be read",
                ))
            }
        }
    }

    /// A simulated failure: gateways in front of the API answer in plain text.
    fn failure(&self, status: u16, number: u64, request_id: &str) -> Answer {
        let mut draw = Draw::new(self.config.seed, "failure", &[number]);
        match status {
            429 => {
                let retry_after = match draw.below(10) {
                    0 => None,
                    1 => Some("0".to_owned()),
                    _ => Some(format!("{:.5}", draw.decimal(0.01, 0.25, 5))),
                };
                Answer::too_many(request_id, retry_after)
            }
            503 => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "upstream connect error"),
            504 => Answer::text(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
            _ => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
        }
    }
}
