//! Traces and metrics for OpenTelemetry: OTLP over HTTP, as protobuf.
//!
//! Spans are those of the log ([`SpanLayer`]), metrics are computed from the events of a run ([`metrics::Meter`]). The
//! collector never affects the run: spans wait in a bounded queue, a task of its own sends them, and the end of the
//! program waits for it a few seconds at most.

mod export;
pub mod metrics;
pub mod otlp;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::export::{Delivery, Exporter, QUEUED, Queue, TIMEOUT};
use self::metrics::Meter;
use crate::config::TelemetryConfig;
use crate::events::Observer;
use crate::http::{self, HttpError};

pub use spans::SpanLayer;

/// How long the end of the program waits for the collector.
pub const LAST: Duration = Duration::from_secs(5);

/// Sends the traces and metrics of one program.
#[derive(Debug)]
pub struct Telemetry {
    queue: Queue,
    meter: Arc<Meter>,
    delivery: Arc<Delivery>,
    stop: CancellationToken,
    exporter: JoinHandle<()>,
    host: String,
}

impl Telemetry {
    /// Starts to send, on this runtime. Sends no request yet.
    ///
    /// # Errors
    /// [`HttpError`] if proxies or certificates cannot be used.
    pub fn start(config: TelemetryConfig, io: &Handle) -> Result<Self, HttpError> {
        let builder = http::builder_for(&config.http, config.endpoint.as_str())?;
        let builder = builder.timeout(TIMEOUT);
        let client = http::build(builder)?;
        let (sender, received) = mpsc::channel(QUEUED);
        let (delivery, meter, stop) = <(Arc<Delivery>, Arc<Meter>, CancellationToken)>::default();
        let host = config.endpoint.origin().ascii_serialization();
        let exporter = Exporter {
            client,
            endpoint: config.endpoint,
            headers: config.headers,
            resource: config.resource,
            meter: meter.clone(),
            delivery: delivery.clone(),
            stop: stop.clone(),
            is_silent: false,
        };
        Ok(Self {
            queue: Queue {
                spans: sender,
                delivery: delivery.clone(),
            },
            meter,
            delivery,
            stop,
            exporter: io.spawn(exporter.run(received)),
            host,
        })
    }

    /// Takes the spans of the log.
    pub fn layer(&self) -> SpanLayer {
        SpanLayer::new(self.queue.clone())
    }

    /// Takes the events of a run.
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.meter.clone()
    }

    /// Sends the rest. Returns a message if something was not delivered.
    pub async fn finish(self) -> Option<String> {
        self.finish_within(LAST).await
    }

    /// The same within another time.
    pub async fn finish_within(mut self, limit: Duration) -> Option<String> {
        self.stop.cancel();
        if tokio::time::timeout(limit, &mut self.exporter)
            .await
            .is_err()
        {
            self.exporter.abort();
            self.delivery.out_of_time(limit);
        }
        self.delivery.complaint(&self.host)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.exporter.abort();
    }
}
