//! A double of an OpenTelemetry collector: receives traces and metrics by OTLP over HTTP, and keeps them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use prost::Message;
use samsara_etl::telemetry::otlp::{
    Data, ExportMetrics, ExportResponse, ExportTraces, KeyValue, Metric, Number, PartialSuccess,
    Resource, Span, Value,
};

use super::wire::Server;

/// What has come.
#[derive(Default)]
struct Seen {
    traces: Vec<ExportTraces>,
    metrics: Vec<ExportMetrics>,
    headers: Vec<HeaderMap>,
    bodies: Vec<Bytes>,
}

/// How it answers.
#[derive(Clone, Copy)]
pub enum Manner {
    /// It takes everything.
    Takes,
    /// It answers with this status, and takes nothing.
    Refuses(u16),
    /// It takes all but so many spans or data points of each request.
    Rejects(i64),
    /// It never answers.
    Silent,
}

/// A running collector, whose paths begin with `/otlp`.
pub struct Collector {
    server: Server,
    seen: Arc<Mutex<Seen>>,
}

impl Collector {
    pub fn start(manner: Manner) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let keeper = seen.clone();
        let answer = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let keeper = keeper.clone();
            async move {
                let rejected = match manner {
                    Manner::Takes => None,
                    Manner::Refuses(status) => {
                        return StatusCode::from_u16(status).unwrap().into_response();
                    }
                    Manner::Rejects(rejected) => Some(PartialSuccess {
                        rejected,
                        error_message: "the disk is full".into(),
                    }),
                    Manner::Silent => return std::future::pending().await,
                };
                let mut seen = keeper.lock().unwrap();
                match uri.path() {
                    "/otlp/v1/traces" => {
                        let traces = ExportTraces::decode(body.clone()).unwrap();
                        seen.traces.push(traces);
                    }
                    "/otlp/v1/metrics" => {
                        let metrics = ExportMetrics::decode(body.clone()).unwrap();
                        seen.metrics.push(metrics);
                    }
                    other => panic!("nobody sends anything to {other}"),
                }
                assert_eq!(headers["content-type"], "application/x-protobuf");
                seen.headers.push(headers);
                seen.bodies.push(body);
                let partial_success = rejected;
                ExportResponse { partial_success }
                    .encode_to_vec()
                    .into_response()
            }
        };
        Self {
            server: Server::start(Router::new().fallback(answer)),
            seen,
        }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub fn endpoint(&self) -> String {
        format!("{}/otlp", self.server.url())
    }

    /// The headers of all requests.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.seen.lock().unwrap().headers.clone()
    }

    /// Whether these bytes were sent in any body.
    pub fn has_seen(&self, text: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        let mut bodies = seen.bodies.iter();
        bodies.any(|body| String::from_utf8_lossy(body).contains(text))
    }

    /// The attributes of what traces and metrics are of.
    pub fn resources(&self) -> Vec<BTreeMap<String, String>> {
        let seen = self.seen.lock().unwrap();
        let of_traces = seen.traces.iter().flat_map(|it| &it.resource_spans);
        let of_metrics = seen.metrics.iter().flat_map(|it| &it.resource_metrics);
        let resources = of_traces
            .map(|it| &it.resource)
            .chain(of_metrics.map(|it| &it.resource));
        let attributes =
            |resource: &Option<Resource>| texts(&resource.as_ref().unwrap().attributes);
        resources.map(attributes).collect()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let scopes = seen.traces.iter().flat_map(|it| &it.resource_spans);
        let spans = scopes.flat_map(|it| &it.scope_spans);
        spans.flat_map(|it| it.spans.clone()).collect()
    }

    /// The metrics that came last: sums are since the start.
    pub fn metrics(&self) -> Vec<Metric> {
        let seen = self.seen.lock().unwrap();
        let last = seen.metrics.last().into_iter();
        let scopes = last.flat_map(|it| &it.resource_metrics);
        let metrics = scopes.flat_map(|it| &it.scope_metrics);
        metrics.flat_map(|it| it.metrics.clone()).collect()
    }

    /// The values of a metric with their attributes: sum, last value, or number of values.
    pub fn values(&self, name: &str) -> Vec<(BTreeMap<String, String>, f64)> {
        let metrics = self.metrics();
        let metric = metrics.into_iter().find(|metric| metric.name == name);
        let points = match metric.and_then(|metric| metric.data) {
            None => return Vec::new(),
            Some(Data::Histogram(histogram)) => {
                let points = histogram.data_points.iter();
                return points
                    .map(|point| (texts(&point.attributes), point.count as f64))
                    .collect();
            }
            Some(Data::Sum(sum)) => sum.data_points,
            Some(Data::Gauge(gauge)) => gauge.data_points,
        };
        let value = |number: Number| match number {
            Number::Double(value) => value,
            Number::Int(value) => value as f64,
        };
        let points = points.iter();
        points
            .map(|point| (texts(&point.attributes), value(point.value.unwrap())))
            .collect()
    }

    /// The sum of a metric's values that have these attributes.
    pub fn sum(&self, name: &str, attributes: &[(&str, &str)]) -> f64 {
        let values = self.values(name).into_iter();
        let has = |known: &BTreeMap<String, String>| {
            let mut wanted = attributes.iter();
            wanted.all(|(key, value)| known.get(*key).is_some_and(|known| known == value))
        };
        values
            .filter(|(known, _)| has(known))
            .map(|(_, value)| value)
            .sum()
    }
}

/// Attributes as texts.
pub fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
    };
    let pairs = attributes.iter().map(|attribute| {
        let value = attribute.value.as_ref().and_then(|it| it.value.as_ref());
        (attribute.key.clone(), text(value.unwrap()))
    });
    pairs.collect()
}
