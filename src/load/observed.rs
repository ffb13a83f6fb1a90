//! Loads with events before and after and a span around them.

use std::future::Future;
use std::time::Instant;

use tracing::Instrument;

use super::error::LoadError;
use crate::events::{Event, LoadPurpose, Observer, Outcome, span_of};
use crate::redact;
use crate::store::layout::Partition;

/// A load that is about to begin, as observers see it.
#[derive(Debug, Clone)]
pub struct ObservedLoad {
    /// What it is for.
    pub purpose: LoadPurpose,
    /// The table; for a trial load, the table for which it is made.
    pub table: String,
    /// What is loaded.
    pub partitions: Vec<Partition>,
    /// The job, where the warehouse has jobs.
    pub job: Option<String>,
}

impl ObservedLoad {
    /// Executes the load, and reports its start and end to `observer`.
    ///
    /// # Errors
    /// Those of the load.
    pub async fn run<T>(
        self,
        observer: &dyn Observer,
        load: impl Future<Output = Result<T, LoadError>>,
    ) -> Result<T, LoadError> {
        let Self {
            purpose,
            table,
            partitions,
            job,
        } = self;
        let span = tracing::error_span!(
            "load",
            table,
            partition = span_of(&partitions),
            job_id = job,
            purpose = purpose.as_str(),
            outcome = tracing::field::Empty,
            error = tracing::field::Empty,
        );
        let begun = Instant::now();
        observer.observe(&Event::LoadStarted {
            purpose,
            table: table.clone(),
            partitions,
            job: job.clone(),
        });
        let loaded = load.instrument(span.clone()).await;
        let outcome = loaded.as_ref().map_or(Outcome::Failed, |_| Outcome::Done);
        if let Err(error) = &loaded {
            span.record("error", redact::one_line(error));
        }
        span.record("outcome", outcome.as_str());
        observer.observe(&Event::LoadFinished {
            purpose,
            table,
            job,
            outcome,
            elapsed: begun.elapsed(),
        });
        loaded
    }
}
