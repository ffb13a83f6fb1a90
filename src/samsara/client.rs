//! The HTTP client: sends requests, waits, retries, and returns pages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use serde::Deserialize;
use tracing::Instrument;
use url::Url;

use super::error::{AttemptError, BodyError, SamsaraError};
use super::limit::{Admission, EndpointLimiter, Limits};
use super::page::Body;
use super::request::Request;
use super::retry::{backoff, is_transient, retry_after};
use crate::clock;
use crate::config::{REGIONS, RetryConfig, SamsaraConfig, Secret};
use crate::events::{Event, Observer};
use crate::json::Scanner;
use crate::{http, redact};

/// The API version that the declared schemas were written against; Samsara recommends always sending it.
const API_VERSION: &str = "2025-10-23";
/// At most this many bytes of an error response are read: it is a message, not a page.
const LARGEST_REFUSAL: usize = 64 << 10;
/// Up to this many bytes are allocated on the word of `Content-Length`; beyond it, memory grows as the body arrives.
const LARGEST_GUESS: usize = 8 << 20;
/// Byte-order mark that some gateways and editors put before a text. Readers of JSON may ignore it (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A client of one organisation's API; clones share connections and rate limits.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    base: Url,
    /// `Bearer` and the token.
    authorization: HeaderValue,
    limits: Limits,
    retry: RetryConfig,
    observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.shared.base)
    }
}

/// Body of an error response; v1 and gateways send plain text.
#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(rename = "requestId")]
    request_id: Option<String>,
}

/// Result of a request.
enum Outcome {
    /// The body of a success: one whole JSON document.
    Body(Body),
    /// A response that is not a success.
    Refused(Answer),
}

/// An error response of the API.
struct Answer {
    status: StatusCode,
    message: String,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    /// Target of a redirect.
    location: Option<String>,
}

/// Whether a host accepts the token.
enum TokenStatus {
    Accepted,
    /// With the id of the refused request.
    Refused(Option<String>),
    /// A response that does not tell, possibly from a gateway.
    Unclear(u16),
}

/// Waits for the rate limit from this duration on are events.
const WORTH_TELLING: Duration = Duration::from_millis(1);

/// What hosts answered about a token that none accepted.
#[derive(Default)]
struct Region {
    refused: Vec<String>,
    request_id: Option<String>,
    unclear: Vec<(Client, u16)>,
    /// Hosts that could not be reached, and why.
    unreachable: Vec<(String, String)>,
}

impl Region {
    fn add(&mut self, answer: TokenStatus, host: Client) {
        match answer {
            TokenStatus::Accepted => {}
            TokenStatus::Refused(id) => {
                self.refused.push(host_of(host.base()));
                self.request_id = id;
            }
            TokenStatus::Unclear(status) => self.unclear.push((host, status)),
        }
    }

    /// Asks the hosts that did not respond again, concurrently and with the full timeout.
    async fn ask_again(mut self, silent: Vec<Client>) -> Result<Client, SamsaraError> {
        let asked = silent
            .into_iter()
            .map(|candidate| async move { (candidate.token_status().await, candidate) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some((answer, candidate)) = asked.next().await {
            match answer {
                Ok(TokenStatus::Accepted) => return Ok(candidate),
                Ok(answer) => self.add(answer, candidate),
                Err(error) => self
                    .unreachable
                    .push((host_of(candidate.base()), error.to_string())),
            }
        }
        self.only_host()
    }

    /// The one host that does not refuse the token, if all others do; an error otherwise.
    fn only_host(mut self) -> Result<Client, SamsaraError> {
        if self.unreachable.is_empty() && self.unclear.is_empty() {
            return Err(SamsaraError::TokenRefused {
                hosts: "every region".into(),
                request_id: self.request_id,
            });
        }
        if self.unreachable.is_empty()
            && self.unclear.len() == 1
            && !self.refused.is_empty()
            && let Some((host, _)) = self.unclear.pop()
        {
            return Ok(host);
        }
        let unclear = self
            .unclear
            .iter()
            .map(|(host, status)| (host_of(host.base()), format!("/me answers {status}")));
        let unreachable = self.unreachable.into_iter().chain(unclear).collect();
        Err(SamsaraError::RegionUnknown {
            unreachable,
            refused: self.refused,
        })
    }
}

impl Client {
    /// Connects. If no host is configured, asks the `/me` endpoint of each region to find the one that accepts the
    /// token.
    pub async fn connect(
        config: &SamsaraConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SamsaraError> {
        let hosts: Vec<&str> = REGIONS.iter().map(|(_, url)| *url).collect();
        Self::connect_among(config, observer, &hosts).await
    }

    /// The same, with these hosts instead of those of the regions.
    ///
    /// All hosts are asked once, in order; those that did not respond are then asked again, concurrently.
    pub async fn connect_among(
        config: &SamsaraConfig,
        observer: Arc<dyn Observer>,
        hosts: &[&str],
    ) -> Result<Self, SamsaraError> {
        let token = config.token.clone().ok_or(SamsaraError::NoToken)?;
        let authorization = authorization(&token)?;
        let http = http_client(config)?;
        let client = |base: Url, retry: RetryConfig| Self {
            shared: Arc::new(Shared {
                http: http.clone(),
                base,
                authorization: authorization.clone(),
                limits: Limits::new(config.rate_share, retry),
                retry,
                observer: observer.clone(),
            }),
        };
        if let Some(base) = &config.url {
            observer.observe(&Event::Connected { base: origin(base) });
            return Ok(client(base.clone(), config.retry));
        }
        let mut region = Region::default();
        let mut silent = Vec::new();
        // In order, so that the token is sent to as few hosts as possible.
        for url in hosts {
            let base = Url::parse(url).map_err(|_| SamsaraError::Unaddressable {
                endpoint: url.to_string(),
            })?;
            let candidate = client(
                base,
                RetryConfig {
                    attempts: 1,
                    ..config.retry
                },
            );
            match candidate.token_status().await {
                Ok(TokenStatus::Accepted) => {
                    observer.observe(&Event::Connected {
                        base: origin(candidate.base()),
                    });
                    return Ok(client(candidate.base().clone(), config.retry));
                }
                Ok(answer) => region.add(answer, client(candidate.base().clone(), config.retry)),
                Err(error) if error.ends_run() => return Err(error),
                Err(error) => {
                    tracing::warn!(host = host_of(candidate.base()), %error, "region not known yet: no answer");
                    silent.push(client(candidate.base().clone(), config.retry));
                }
            }
        }
        region.ask_again(silent).await
    }

    /// The URL of the host.
    pub fn base(&self) -> &Url {
        &self.shared.base
    }

    /// The limiter of a request's endpoint.
    pub(super) fn limiter(&self, request: &Request) -> Arc<EndpointLimiter> {
        let limits = &self.shared.limits;
        limits.endpoint(&request.endpoint, request.rate)
    }

    /// Asks `/me`, which needs no scope, whether the host accepts the token.
    async fn token_status(&self) -> Result<TokenStatus, SamsaraError> {
        let limiter = self.shared.limits.endpoint("/me", 5.0);
        Ok(match self.send("/me", "", &limiter).await? {
            Outcome::Body(_) => TokenStatus::Accepted,
            Outcome::Refused(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                TokenStatus::Refused(answer.request_id)
            }
            Outcome::Refused(answer) => TokenStatus::Unclear(answer.status.as_u16()),
        })
    }

    /// The body of one page.
    pub(super) async fn page(
        &self,
        request: &Request,
        limiter: &EndpointLimiter,
        cursor: Option<&str>,
    ) -> Result<Body, SamsaraError> {
        let query = request.query_at(cursor);
        let span = tracing::error_span!(
            "request",
            endpoint = request.path,
            status = tracing::field::Empty,
            attempts = tracing::field::Empty,
        );
        let sent = self.send(&request.path, &query, limiter);
        match sent.instrument(span).await? {
            Outcome::Body(body) => Ok(body),
            Outcome::Refused(answer) => Err(self.refusal(request, answer, cursor).await?),
        }
    }

    /// The error that an error response means.
    async fn refusal(
        &self,
        request: &Request,
        answer: Answer,
        cursor: Option<&str>,
    ) -> Result<SamsaraError, SamsaraError> {
        let Answer {
            status,
            message,
            request_id,
            location,
            ..
        } = answer;
        let endpoint = request.path.clone();
        if let Some(location) = location {
            return Ok(SamsaraError::Redirected {
                endpoint,
                status: status.as_u16(),
                location,
            });
        }
        Ok(match status.as_u16() {
            401 => match self.token_status().await? {
                TokenStatus::Refused(id) => SamsaraError::TokenRefused {
                    hosts: host_of(&self.shared.base),
                    request_id: id,
                },
                TokenStatus::Accepted | TokenStatus::Unclear(_) => SamsaraError::NotPermitted {
                    endpoint,
                    status: 401,
                    scope: request.scope.clone(),
                    request_id,
                },
            },
            403 => SamsaraError::NotPermitted {
                endpoint,
                status: 403,
                scope: request.scope.clone(),
                request_id,
            },
            404 => SamsaraError::NotFound {
                endpoint,
                message,
                request_id,
            },
            400 if cursor.is_some() && is_dead_cursor(&message) => SamsaraError::CursorRefused {
                endpoint,
                message,
                request_id,
            },
            status => SamsaraError::Refused {
                endpoint,
                status,
                message,
                request_id,
            },
        })
    }

    /// Sends until there is a body or a final error response.
    async fn send(
        &self,
        path: &str,
        query: &str,
        limiter: &EndpointLimiter,
    ) -> Result<Outcome, SamsaraError> {
        let shared = &self.shared;
        let url = address(&shared.base, path, query)?;
        let started = Instant::now();
        let attempts = match limiter.admit(tokio::time::Instant::now()) {
            Admission::Free => shared.retry.attempts,
            Admission::Probe => 1,
            Admission::Open(error) => {
                return Err(SamsaraError::Resting {
                    endpoint: path.into(),
                    error,
                });
            }
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.wait_for_turn(path, limiter).await;
            let (outcome, status) = self.observed_attempt(path, url.clone()).await;
            let (error, pause) = match judge(outcome) {
                Ok(outcome) => {
                    limiter.answered();
                    note_end(attempt, status);
                    if let Outcome::Body(body) = &outcome {
                        shared.observer.observe(&Event::PageFetched {
                            endpoint: path.into(),
                            bytes: body.text.len() as u64,
                        });
                    }
                    return Ok(outcome);
                }
                Err(Transient { error, pause }) => {
                    if error.is_too_often() {
                        limiter.slow_down(tokio::time::Instant::now());
                    }
                    (error, pause)
                }
            };
            // A retry would return a body of the same size.
            if attempt >= attempts || matches!(error, AttemptError::Size { .. }) {
                limiter.exhausted(&error, tokio::time::Instant::now());
                note_end(attempt, status);
                return Err(SamsaraError::Unavailable {
                    endpoint: path.into(),
                    attempts: attempt,
                    elapsed: started.elapsed(),
                    error,
                });
            }
            // The server's `Retry-After`, but at least a short random wait.
            let jitter = backoff(&shared.retry, attempt, rand::random());
            let wait = pause.map_or(jitter, |pause| pause + jitter.mul_f64(0.1));
            if pause.is_some() {
                limiter.pause(wait);
            }
            shared.observer.observe(&Event::RequestDelayed {
                endpoint: path.into(),
                attempt,
                wait,
                reason: error.to_string(),
            });
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits for the rate limit.
    async fn wait_for_turn(&self, path: &str, limiter: &EndpointLimiter) {
        let turn = tokio::time::Instant::now();
        limiter.wait().await;
        let wait = turn.elapsed();
        if wait >= WORTH_TELLING {
            self.shared.observer.observe(&Event::RequestWaited {
                endpoint: path.into(),
                wait,
            });
        }
    }

    /// One attempt, reported to the observer; and the status of its response.
    async fn observed_attempt(
        &self,
        path: &str,
        url: Url,
    ) -> (Result<Outcome, AttemptError>, Option<u16>) {
        let sent = Instant::now();
        let outcome = self.attempt(url).await;
        let status = match &outcome {
            Ok(Outcome::Body(_)) => Some(StatusCode::OK.as_u16()),
            Ok(Outcome::Refused(answer)) => Some(answer.status.as_u16()),
            Err(_) => None,
        };
        self.shared.observer.observe(&Event::AttemptFinished {
            endpoint: path.into(),
            status,
            elapsed: sent.elapsed(),
        });
        (outcome, status)
    }

    /// One attempt: a body, a refusal, or a fault of the connection.
    async fn attempt(&self, url: Url) -> Result<Outcome, AttemptError> {
        let fault = |error: reqwest::Error| AttemptError::Connection(error.into());
        let mut request = self
            .shared
            .http
            .get(url.clone())
            .header("X-Samsara-Version", API_VERSION);
        // The token is sent to the configured host only.
        if url.origin() == self.shared.base.origin() {
            request = request.header(AUTHORIZATION, self.shared.authorization.clone());
        }
        let mut response = request.send().await.map_err(fault)?;
        let status = response.status();
        let headers = response.headers().clone();
        let largest = self.shared.retry.largest;
        let told = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(0);
        let mut body = BytesMut::with_capacity(told.min(largest).min(LARGEST_GUESS));
        while let Some(piece) = response.chunk().await.map_err(fault)? {
            if !status.is_success() && body.len() + piece.len() > LARGEST_REFUSAL {
                body.extend_from_slice(&piece[..piece.len().min(LARGEST_REFUSAL - body.len())]);
                break;
            }
            if body.len() + piece.len() > largest {
                return Err(AttemptError::Size {
                    status,
                    limit: largest,
                });
            }
            body.extend_from_slice(&piece);
        }
        let mut body = body.freeze();
        if body.starts_with(BYTE_ORDER_MARK) {
            bytes::Buf::advance(&mut body, BYTE_ORDER_MARK.len());
        }
        if status.is_success() {
            // A gateway may answer 200 with an HTML page, or with a truncated body: an error, not data.
            return whole(body)
                .map(Outcome::Body)
                .map_err(|error| AttemptError::Body {
                    status,
                    request_id: id_of(&headers),
                    error,
                });
        }
        Ok(Outcome::Refused(Answer::read(status, &headers, &body)))
    }
}

/// Adds to the span of a request how it ended.
fn note_end(attempts: u32, status: Option<u16>) {
    let span = tracing::Span::current();
    span.record("attempts", attempts);
    span.record("status", status);
}

/// An attempt after which another may succeed.
struct Transient {
    error: AttemptError,
    /// The wait that the server asks for.
    pause: Option<Duration>,
}

/// Separates final outcomes from those that are worth another attempt.
fn judge(outcome: Result<Outcome, AttemptError>) -> Result<Outcome, Transient> {
    match outcome {
        Ok(Outcome::Refused(answer)) if is_transient(answer.status.as_u16()) => Err(Transient {
            error: AttemptError::from_status(answer.status, answer.request_id),
            pause: answer.retry_after,
        }),
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(Transient { error, pause: None }),
    }
}

impl Answer {
    fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let parsed: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        let header = |name| headers.get(name).map(HeaderValue::as_bytes);
        Self {
            status,
            message: match parsed.message.as_str() {
                "" => redact::foreign_bytes(body),
                message => redact::foreign(message),
            },
            request_id: parsed
                .request_id
                .map(redact::foreign)
                .or_else(|| id_of(headers)),
            retry_after: header(RETRY_AFTER)
                .and_then(|value| std::str::from_utf8(value).ok())
                .and_then(|value| retry_after(value, clock::now())),
            location: header(LOCATION)
                .filter(|_| status.is_redirection())
                .map(redact::foreign_bytes),
        }
    }
}

/// The HTTP client of all hosts.
fn http_client(config: &SamsaraConfig) -> Result<reqwest::Client, SamsaraError> {
    let address = config.url.as_ref().map_or("", Url::as_str);
    http::builder_for(&config.http, address)
        .map(|builder| {
            let builder = builder.connect_timeout(config.retry.connect);
            builder
                .read_timeout(config.retry.silence)
                .timeout(config.retry.whole)
        })
        .and_then(http::build)
        .map_err(|error| SamsaraError::Setup(Arc::new(error)))
}

/// The header with the token.
fn authorization(token: &Secret) -> Result<HeaderValue, SamsaraError> {
    let mut header = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| SamsaraError::TokenMalformed)?;
    header.set_sensitive(true);
    Ok(header)
}

/// Scheme, host and port, for messages.
fn origin(base: &Url) -> String {
    base.origin().ascii_serialization()
}

/// The address of a path below the base URL; always on the host of the base URL.
fn address(base: &Url, path: &str, query: &str) -> Result<Url, SamsaraError> {
    let mut url = base.clone();
    url.set_path(path);
    url.set_query(Some(query).filter(|query| !query.is_empty()));
    // `.` and `..` are never kept as segments of a URL, however they are written; most servers drop empty ones.
    if url.path() == path && !path.contains("//") && url.origin() == base.origin() {
        return Ok(url);
    }
    Err(SamsaraError::Unaddressable {
        endpoint: path.into(),
    })
}

fn host_of(base: &Url) -> String {
    base.host_str().unwrap_or_default().to_string()
}

/// Samsara's id of the request, where the body does not have it.
fn id_of(headers: &HeaderMap) -> Option<String> {
    Some(redact::foreign_bytes(headers.get("Request-Id")?.as_bytes()))
}

/// A body that is one JSON object or list, from its first byte to its last.
fn whole(text: Bytes) -> Result<Body, BodyError> {
    std::str::from_utf8(&text).map_err(|error| match &text[..] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => BodyError::Utf16,
        _ => error.into(),
    })?;
    if !matches!(Scanner::new(&text, 0).peek(), Some(b'{' | b'[')) {
        return Err(BodyError::NotContainer);
    }
    Ok(Body::read(text)?)
}

/// The two ways in which the live API says that a cursor is no longer valid.
fn is_dead_cursor(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("cursor") || message.contains("parameters differ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RetryConfig;
    use crate::events::Observers;
    use samsara_simulator::{Simulator, SimulatorConfig};

    async fn host(token: &str) -> Simulator {
        Simulator::start(SimulatorConfig {
            token: token.into(),
            ..SimulatorConfig::default()
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn the_region_accepts_the_token() {
        let (us, eu) = (host("of-the-us").await, host("of-the-eu").await);
        let hosts = [us.url(), eu.url()];
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let connect = |token: &str| {
            let token = Some(Secret::new(token));
            let (retry, http) = (RetryConfig::default(), crate::config::HttpConfig::default());
            let config = SamsaraConfig {
                token,
                url: None,
                rate_share: 1.0,
                retry,
                http,
            };
            let hosts = hosts.clone();
            async move { Client::connect_among(&config, Arc::new(Observers::default()), &hosts).await }
        };
        let client = connect("of-the-eu").await.unwrap();
        assert_eq!(client.base().as_str().trim_end_matches('/'), eu.url());
        assert!(
            us.requests()
                .iter()
                .chain(&eu.requests())
                .all(|request| request.path == "/me")
        );
        let refused = connect("of-nobody").await.unwrap_err();
        assert!(
            matches!(refused, SamsaraError::TokenRefused { .. }),
            "{refused}"
        );
        assert!(!refused.to_string().contains("of-nobody"));
    }

    #[test]
    fn a_path_never_leads_to_another_host_or_endpoint() {
        let base: Url = "https://api.example/".parse().unwrap();
        let reached = address(&base, "/fleet/vehicles/a%2Fb%20c/x", "limit=5").unwrap();
        assert_eq!(
            reached.as_str(),
            "https://api.example/fleet/vehicles/a%2Fb%20c/x?limit=5"
        );
        for path in [
            "//elsewhere.example/steal",
            "/\\elsewhere.example/steal",
            "/\t/elsewhere.example/steal",
            "/fleet/../admin",
            "/fleet/./vehicles",
            "/fleet/%2e%2E/admin",
            "/fleet//score",
            "https://elsewhere.example/",
            "@elsewhere.example/",
        ] {
            let error = address(&base, path, "")
                .map(|url| url.to_string())
                .unwrap_err();
            assert!(
                matches!(error, SamsaraError::Unaddressable { .. }),
                "{path}: {error}"
            );
        }
    }

    #[test]
    fn invalid_tokens_are_never_sent() {
        let error = authorization(&Secret::new("canary-header\nX: y")).unwrap_err();
        assert!(
            error.ends_run() && !error.to_string().contains("canary"),
            "{error}"
        );
        assert_eq!(
            format!(
                "{:?}",
                authorization(&Secret::new("canary-header")).unwrap()
            ),
            "Sensitive"
        );
    }

    #[tokio::test]
    async fn a_region_that_cannot_be_reached_does_not_stop_the_others() {
        let eu = host("of-the-eu").await;
        // A port that nothing listens on any more, and a failing server.
        let gone = host("gone").await;
        let dead = gone.url();
        gone.shutdown().await;
        let faults = "500=1".parse().unwrap();
        let config = SimulatorConfig {
            token: "of-the-us".into(),
            faults,
            ..SimulatorConfig::default()
        };
        let ill = Simulator::start(config).await.unwrap();
        let quick = Duration::from_millis(1);
        let retry = RetryConfig {
            attempts: 2,
            base: quick,
            cap: quick,
            ..RetryConfig::default()
        };
        let connect = async |token: &str, hosts: &[&str]| {
            let config = SamsaraConfig {
                token: Some(Secret::new(token)),
                url: None,
                rate_share: 1.0,
                retry,
                http: crate::config::HttpConfig::default(),
            };
            Client::connect_among(&config, Arc::new(Observers::default()), hosts).await
        };
        let (eu, ill) = (eu.url(), ill.url());
        for hosts in [[&dead, &ill, &eu], [&ill, &eu, &dead], [&eu, &dead, &ill]] {
            let hosts = hosts.map(String::as_str);
            let client = connect("of-the-eu", &hosts).await.unwrap();
            assert_eq!(client.base().as_str().trim_end_matches('/'), eu);
            // Refused by one, without an answer by the others: the token's region is unknown.
            let unknown = connect("of-the-us", &hosts).await.unwrap_err();
            assert!(!unknown.ends_run(), "{unknown}");
            let text = unknown.to_string();
            assert_eq!(
                text.matches("127.0.0.1: /me failed 2 times").count(),
                2,
                "{text}"
            );
            assert!(
                text.contains("127.0.0.1 rejects it") && !text.contains("of-the-us"),
                "{text}"
            );
        }
        // A gateway that blocks everything is not a region; one host among others that knows the token and shows no
        // `/me` is.
        let missing_scopes = vec!["/me".into()];
        let config = SimulatorConfig {
            token: "of-the-ca".into(),
            missing_scopes,
            ..SimulatorConfig::default()
        };
        let gate = Simulator::start(config).await.unwrap();
        let gate = gate.url();
        let unknown = connect("of-the-ca", &[gate.as_str(), gate.as_str()])
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(
            unknown.matches("127.0.0.1: /me answers 403").count(),
            2,
            "{unknown}"
        );
        let client = connect("of-the-ca", &[eu.as_str(), gate.as_str()])
            .await
            .unwrap();
        assert_eq!(client.base().as_str().trim_end_matches('/'), gate);
    }
}
