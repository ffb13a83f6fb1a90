//! Sends spans and metrics to the collector in the background: neither waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::metrics::Meter;
use super::otlp::{
    ExportMetrics, ExportResponse, ExportTraces, InstrumentationScope, KeyValue, Resource,
    ResourceMetrics, ResourceSpans, ScopeMetrics, ScopeSpans, Span, Value,
};
use crate::http::ConnectionError;
use crate::redact;

/// Spans that wait to be sent; further ones are dropped.
pub(super) const QUEUED: usize = 4096;
/// Spans in one request.
const BATCH: usize = 512;
/// Fewer spans than that are sent this often.
const SPANS_EVERY: Duration = Duration::from_secs(5);
/// Metrics are sent at this interval, and at the end.
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// Number of attempts of a request to a collector that has answered before.
const TRIES: u32 = 3;
/// The wait before the second try.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one request may take; the specification's default.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// What was recorded, and how much of it was delivered.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Spans that have ended.
    ended: AtomicU64,
    /// Those that the collector has taken.
    taken: AtomicU64,
    /// Failed exports of metrics since the last successful one.
    metrics_lost: AtomicU64,
    /// Why something was not delivered, the first time.
    reason: Mutex<Option<String>>,
}

impl Delivery {
    fn lost(&self, reason: String) {
        self.reason.lock().get_or_insert(reason);
    }

    /// What did not arrive, in one line.
    pub(super) fn complaint(&self, host: &str) -> Option<String> {
        let ended = self.ended.load(Ordering::Relaxed);
        let missing = ended.saturating_sub(self.taken.load(Ordering::Relaxed));
        let metrics = self.metrics_lost.load(Ordering::Relaxed) > 0;
        let what = match (missing, metrics) {
            (0, false) => return None,
            (0, true) => "the last metrics".to_string(),
            (missing, false) => format!("{missing} of {ended} spans"),
            (missing, true) => format!("{missing} of {ended} spans and the last metrics"),
        };
        let reason = self.reason.lock().clone();
        let reason = reason.unwrap_or_else(|| "there were more than it took in time".into());
        Some(redact::one_line(format_args!(
            "{what} did not reach the collector at {host}: {reason}"
        )))
    }

    /// The end came before everything was sent.
    pub(super) fn out_of_time(&self, limit: Duration) {
        self.metrics_lost.fetch_add(1, Ordering::Relaxed);
        self.lost(format!("no answer within {} s of the end", limit.as_secs()));
    }
}

/// Where spans wait.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) spans: mpsc::Sender<Span>,
    pub(super) delivery: Arc<Delivery>,
}

impl Queue {
    /// Never waits: spans for which there is no room are counted as lost.
    pub(super) fn push(&self, span: Span) {
        self.delivery.ended.fetch_add(1, Ordering::Relaxed);
        let _ = self.spans.try_send(span);
    }
}

/// Sends.
pub(super) struct Exporter {
    pub(super) client: reqwest::Client,
    pub(super) endpoint: Url,
    pub(super) headers: HeaderMap,
    pub(super) resource: Vec<(String, String)>,
    pub(super) meter: Arc<Meter>,
    pub(super) delivery: Arc<Delivery>,
    pub(super) stop: CancellationToken,
    /// Whether the last request failed: then the next one is tried once.
    pub(super) is_silent: bool,
}

/// Why something was not taken.
enum Refusal {
    /// Another try may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Exporter {
    /// Sends until it is told to stop, and then the rest.
    pub(super) async fn run(mut self, mut spans: mpsc::Receiver<Span>) {
        let every = |period| {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut spans_due, mut metrics_due) = (every(SPANS_EVERY), every(METRICS_EVERY));
        let (mut batch, stop) = (Vec::new(), self.stop.clone());
        loop {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = metrics_due.tick() => self.send_metrics().await,
                _ = spans_due.tick() => self.send_spans(&mut batch).await,
                count = spans.recv_many(&mut batch, room) => {
                    if count == 0 {
                        break;
                    }
                    if batch.len() >= BATCH {
                        self.send_spans(&mut batch).await;
                    }
                }
            }
        }
        // Metrics first: they are one request, and say more.
        self.send_metrics().await;
        loop {
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
            if batch.is_empty() {
                return;
            }
            self.send_spans(&mut batch).await;
        }
    }

    fn resource(&self) -> Option<Resource> {
        let attributes = self.resource.iter();
        Some(Resource {
            attributes: attributes
                .map(|(key, value)| KeyValue::text(key, redact::one_line(value)))
                .collect(),
        })
    }

    async fn send_spans(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let mut spans = std::mem::take(batch);
        spans.iter_mut().for_each(mask);
        let count = spans.len() as u64;
        let request = ExportTraces {
            resource_spans: vec![ResourceSpans {
                resource: self.resource(),
                scope_spans: vec![ScopeSpans {
                    scope: scope(),
                    spans,
                }],
            }],
        };
        let taken = match self.send("v1/traces", request.encode_to_vec()).await {
            Ok(rejected) => count.saturating_sub(rejected),
            Err(reason) => {
                self.delivery.lost(reason);
                0
            }
        };
        self.delivery.taken.fetch_add(taken, Ordering::Relaxed);
    }

    async fn send_metrics(&mut self) {
        let metrics = self.meter.metrics();
        if metrics.is_empty() {
            return;
        }
        let request = ExportMetrics {
            resource_metrics: vec![ResourceMetrics {
                resource: self.resource(),
                scope_metrics: vec![ScopeMetrics {
                    scope: scope(),
                    metrics,
                }],
            }],
        };
        let sent = self.send("v1/metrics", request.encode_to_vec()).await;
        let lost = match sent {
            Ok(0) => 0,
            Ok(_) => 1,
            Err(reason) => {
                self.delivery.lost(reason);
                1
            }
        };
        // Sums are cumulative: the next request includes these.
        self.delivery.metrics_lost.store(lost, Ordering::Relaxed);
    }

    /// Sends a message; returns how much of it the collector rejects.
    async fn send(&mut self, path: &str, body: Vec<u8>) -> Result<u64, String> {
        let tries = if self.is_silent { 1 } else { TRIES };
        let mut pause = PAUSE;
        let mut tried = 1;
        let result = loop {
            match self.attempt(path, body.clone()).await {
                Ok(response) => break Ok(response),
                Err(Refusal::Final(reason)) => break Err(reason),
                Err(Refusal::Passing(reason)) if tried == tries => break Err(reason),
                Err(Refusal::Passing(_)) => {
                    tried += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        };
        self.is_silent = result.is_err();
        let partial = result?.partial_success.unwrap_or_default();
        if partial.rejected > 0 {
            self.delivery
                .lost(format!("it rejects some: {}", partial.error_message));
        }
        Ok(u64::try_from(partial.rejected).unwrap_or_default())
    }

    async fn attempt(&self, path: &str, body: Vec<u8>) -> Result<ExportResponse, Refusal> {
        let failed =
            |error: reqwest::Error| Refusal::Passing(ConnectionError::from(error).to_string());
        let response = self
            .client
            .post(address(&self.endpoint, path))
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body)
            .send()
            .await
            .map_err(failed)?;
        let status = response.status();
        match status.as_u16() {
            200..=299 => {
                let body = response.bytes().await.map_err(failed)?;
                // Some collectors answer with nothing, or not as the protocol says: a success status is enough.
                Ok(ExportResponse::decode(body).unwrap_or_default())
            }
            // <https://opentelemetry.io/docs/specs/otlp/#failures-1>
            429 | 502..=504 => Err(Refusal::Passing(format!("it answers {status}"))),
            _ => Err(Refusal::Final(format!("it answers {status}"))),
        }
    }
}

/// The path of a signal is appended to that of the endpoint.
fn address(endpoint: &Url, path: &str) -> Url {
    let mut url = endpoint.clone();
    url.set_path(&format!("{}/{path}", endpoint.path().trim_end_matches('/')));
    url
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// Nothing leaves that is a secret.
fn mask(span: &mut Span) {
    let hide = |attributes: &mut Vec<KeyValue>| {
        for attribute in attributes {
            if let Some(Value::Text(text)) = attribute
                .value
                .as_mut()
                .and_then(|value| value.value.as_mut())
            {
                *text = redact::one_line(&*text);
            }
        }
    };
    hide(&mut span.attributes);
    for event in &mut span.events {
        event.name = redact::one_line(&event.name);
        hide(&mut event.attributes);
    }
    if let Some(status) = &mut span.status {
        status.message = redact::one_line(&status.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_behind_that_of_the_endpoint() {
        for (endpoint, expected) in [
            ("http://h:4318", "http://h:4318/v1/traces"),
            ("http://h:4318/", "http://h:4318/v1/traces"),
            ("https://h/otlp/", "https://h/otlp/v1/traces"),
            ("https://h/otlp?k=v", "https://h/otlp/v1/traces?k=v"),
        ] {
            let url = address(&endpoint.parse().unwrap(), "v1/traces");
            assert_eq!(url.as_str(), expected);
        }
    }
}
