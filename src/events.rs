//! The events of a run. Progress, logs, the report, the audit tables and tests are computed from one stream of events;
//! none of them counts on its own.
//!
//! Long operations have an event when they start, with the total known by then, and one with an [`Outcome`] when they
//! end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::clock;
use crate::store::layout::Partition;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the clock.
    pub at: DateTime<Utc>,
    /// Since the run began.
    pub elapsed: Duration,
}

/// The planned work of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// API requests; each may have several pages.
    pub requests: u64,
    /// Duration at the configured rates, in seconds; endpoints are requested concurrently.
    pub request_seconds: f64,
    /// Extract tasks.
    pub tasks: u64,
    /// Partitions of tables that are derived, or found to be up to date.
    pub partitions: u64,
    /// Maximum number of load jobs; none if the warehouse has no jobs, or nothing is loaded.
    pub jobs: u64,
}

/// How a run, a task, a derivation or a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was successful.
    Done,
    /// Nothing to do: everything is up to date.
    Unchanged,
    /// The organisation does not have the endpoint.
    Absent,
    /// It failed; an [`Event::Failed`] has the reason.
    Failed,
    /// The run was stopped; the next run continues.
    Stopped,
}

impl Outcome {
    /// One word, as logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Absent => "absent",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// The kind of a failure, by who can fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The API did not respond, or not with a valid response: a later run may succeed.
    ApiUnavailable,
    /// The API does not permit it: a scope or a licence is missing.
    NotPermitted,
    /// The API refuses the request, or does not know the endpoint any more.
    ApiRefused,
    /// What the API sent cannot be read.
    Malformed,
    /// A bucket, or the state in it.
    Storage,
    /// The SQL of a model, or what it makes of the data.
    Model,
    /// A guard refuses suspicious data (a list that lost most of its rows, duplicate keys) until it is accepted.
    Guard,
    /// The warehouse refuses the load, or cannot be reached.
    Warehouse,
    /// The warehouse's quota is used up.
    Quota,
    /// The table in the warehouse has another shape.
    Shape,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Words with `_`, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiUnavailable => "api_unavailable",
            Self::NotPermitted => "not_permitted",
            Self::ApiRefused => "api_refused",
            Self::Malformed => "malformed",
            Self::Storage => "storage",
            Self::Model => "model",
            Self::Guard => "guard",
            Self::Warehouse => "warehouse",
            Self::Quota => "quota",
            Self::Shape => "shape",
            Self::Other => "other",
        }
    }
}

/// What a load is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPurpose {
    /// Partitions of a table.
    Table,
    /// A raw partition.
    Raw,
    /// Checks whether the warehouse accepts a table's data; the rows are dropped again.
    Trial,
    /// The audit tables.
    Audit,
}

impl LoadPurpose {
    /// One word, as logs have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Raw => "raw",
            Self::Trial => "trial",
            Self::Audit => "audit",
        }
    }
}

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The plan is made and the lock is held.
    RunStarted {
        /// The run's id.
        run: String,
        /// What is planned.
        totals: Totals,
    },
    /// Days that were found to have changed are read too: more than was planned.
    WorkFound {
        /// API requests.
        requests: u64,
        /// Extract tasks.
        tasks: u64,
        /// Partitions of tables.
        partitions: u64,
    },
    /// The run is over.
    RunFinished {
        /// How.
        outcome: Outcome,
    },
    /// A task begins to read.
    TaskStarted {
        /// Its sources.
        sources: Vec<String>,
        /// Its days, the snapshot or the feed.
        scope: String,
        /// API requests that were planned for it.
        requests: u64,
    },
    /// All pages of one of a task's requests were read.
    RequestFinished {
        /// The task's sources.
        sources: Vec<String>,
        /// The task's days, the snapshot or the feed.
        scope: String,
    },
    /// A task is committed, or has ended otherwise.
    TaskFinished {
        /// Its sources.
        sources: Vec<String>,
        /// Its days, the snapshot or the feed.
        scope: String,
        /// API requests that were planned for it.
        requests: u64,
        /// Partitions of tables that were counted for it and are not derived.
        missing: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A request waited for its turn at the documented rates, or because the endpoint is paused.
    RequestWaited {
        /// Path below the host.
        endpoint: String,
        /// How long.
        wait: Duration,
    },
    /// The API's host is known, and will be requested next.
    Connected {
        /// Scheme, host and port.
        base: String,
    },
    /// A page of the API arrived.
    PageFetched {
        /// Path below the host.
        endpoint: String,
        /// Size of the body after decompression.
        bytes: u64,
    },
    /// A request was sent, and answered or not: one attempt, of possibly several.
    AttemptFinished {
        /// Path below the host.
        endpoint: String,
        /// Status of the response; none if there was none, or an incomplete one.
        status: Option<u16>,
        /// From sending it to the last byte of the answer.
        elapsed: Duration,
    },
    /// A request failed and will be retried after a wait.
    RequestDelayed {
        /// Path below the host.
        endpoint: String,
        /// Number of the failed attempt, counted from 1.
        attempt: u32,
        /// Time until the next attempt.
        wait: Duration,
        /// Status or fault, with the request id if the API gave one.
        reason: String,
    },
    /// A source's partition was read completely and committed.
    PartitionExtracted {
        /// Name of the source.
        source: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// Records in the API's pages.
        records: u64,
        /// Number of raw rows committed.
        rows: u64,
        /// Rows and readings left out because they belong to another day.
        out_of_window: u64,
        /// Values that went to `_rescued_data`.
        rescued: u64,
        /// Whether the content was the same as before, so that nothing was written.
        unchanged: bool,
    },
    /// A page held a value that does not fit the declared schema.
    DriftFound {
        /// The sources of the task.
        sources: Vec<String>,
        /// Path of the field, list positions left out.
        path: String,
        /// Why it did not fit.
        reason: &'static str,
        /// How often in this task.
        count: u64,
    },
    /// Values of a derived partition are not times in the years 1 to 9999, and are NULL in the table.
    UnfitTimes {
        /// Name of the model or its table.
        model: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// Name of the column.
        column: String,
        /// Number of occurrences.
        count: u64,
        /// The first different ones, quoted and escaped, and how often they occurred.
        texts: BTreeMap<String, u64>,
    },
    /// Several rows of a derived partition have the same `unique_key`, and were accepted.
    DuplicatesAccepted {
        /// Name of the model or its table.
        model: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// The key, the number of duplicates, and an example.
        duplicates: String,
    },
    /// A response held rows or readings far outside the requested days. They are in no table, since they belong to no
    /// requested day.
    OutsideWindow {
        /// Name of the source.
        source: String,
        /// The first of the requested days.
        partition: Partition,
        /// Number of occurrences.
        count: u64,
        /// The earliest of their times.
        first: DateTime<Utc>,
        /// The latest of their times.
        last: DateTime<Utc>,
        /// Some of them as JSON.
        examples: Vec<String>,
    },
    /// A page without rows of the requested partition had an envelope field. It cannot be stored with a row, so it is
    /// reported here.
    EnvelopeFieldKept {
        /// The sources of the task.
        sources: Vec<String>,
        /// The first requested partition; none for a feed.
        partition: Option<Partition>,
        /// Path of the field: `$.warning`.
        path: String,
        /// Its exact text, truncated after some kilobytes.
        text: String,
    },
    /// A model's partition is about to be derived, if it is not up to date.
    TransformStarted {
        /// The model.
        model: String,
        /// The partition.
        partition: Partition,
    },
    /// A model's partition is up to date, or could not be derived.
    TransformFinished {
        /// The model.
        model: String,
        /// The partition.
        partition: Partition,
        /// How it ended.
        outcome: Outcome,
    },
    /// These partitions of a model are up to date: nothing is derived.
    TransformsSkipped {
        /// The model.
        model: String,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// A load job, or a load without one, begins.
    LoadStarted {
        /// What it is for.
        purpose: LoadPurpose,
        /// The table; for a trial load, the table for which it is made.
        table: String,
        /// What is loaded.
        partitions: Vec<Partition>,
        /// The job, where the warehouse has jobs.
        job: Option<String>,
    },
    /// A load has ended.
    LoadFinished {
        /// What it is for.
        purpose: LoadPurpose,
        /// The table; for a trial load, the table for which it is made.
        table: String,
        /// The job, where the warehouse has jobs.
        job: Option<String>,
        /// How it ended.
        outcome: Outcome,
        /// Since it began.
        elapsed: Duration,
    },
    /// A model's partition was derived and committed.
    PartitionTransformed {
        /// Name of the model or its table.
        model: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// Number of rows written to flattened Parquet.
        rows: u64,
        /// Size of its objects.
        bytes: u64,
        /// From the start of the query to the commit.
        elapsed: Duration,
    },
    /// A model's partition was loaded.
    PartitionLoaded {
        /// Name of the model or its table.
        model: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// Rows that the warehouse reported.
        rows: u64,
        /// Size of its objects.
        bytes: u64,
        /// The load job, which may have loaded other partitions too.
        job: Option<String>,
        /// From the start of the load to the commit.
        elapsed: Duration,
    },
    /// A source's raw partition was loaded.
    RawLoaded {
        /// Name of the source.
        source: String,
        /// The partition: a UTC day, or the snapshot.
        partition: Partition,
        /// Rows that the warehouse reported.
        rows: u64,
    },
    /// The token or the organisation does not have the source: nothing is read, and it is not a failure.
    NotAvailable {
        /// The source.
        source: String,
        /// One line.
        reason: String,
    },
    /// A remark about a source or table that is not a failure: a period that is not ready yet, or one that is no longer
    /// available.
    Noted {
        /// The source or table.
        name: String,
        /// One line.
        reason: String,
    },
    /// What the warehouse has of a table, at the end of a run. Only if an observer [asks for
    /// it](Observer::wants_table_status).
    TableStatus {
        /// The table.
        table: String,
        /// Its newest partition in the warehouse.
        newest: Option<Partition>,
        /// When a partition of its source was last read completely.
        read: Option<DateTime<Utc>>,
        /// Requested partitions that are not in the warehouse.
        missing: u64,
    },
    /// A source or model failed; others continue.
    Failed {
        /// Name of the source or model.
        name: String,
        /// The partition, if the failure concerns one.
        partition: Option<String>,
        /// One line: what, where.
        error: String,
        /// What kind of failure it is.
        kind: FailureKind,
        /// What to do, unless the error says so already.
        remedy: Option<String>,
    },
}

/// Receives the events of a run.
pub trait Observer: Send + Sync {
    /// Called for each event as it happens, from any thread; must not block.
    fn observe(&self, event: &Event);

    /// The same, with the time at which it happened.
    fn observe_at(&self, event: &Event, _moment: Moment) {
        self.observe(event);
    }

    /// Whether it wants an [`Event::TableStatus`] of each table at the end of the run, which reads the state of all
    /// their days.
    fn wants_table_status(&self) -> bool {
        false
    }
}

/// Several observers as one. It adds the time to each event.
#[derive(Clone)]
pub struct Observers {
    observers: Vec<Arc<dyn Observer>>,
    started: Instant,
}

impl Observers {
    /// All of `observers`. The run begins now.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self {
            observers,
            started: Instant::now(),
        }
    }
}

impl Default for Observers {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observers({})", self.observers.len())
    }
}

impl Observer for Observers {
    fn observe(&self, event: &Event) {
        let moment = Moment {
            at: clock::now(),
            elapsed: self.started.elapsed(),
        };
        self.observe_at(event, moment);
    }

    fn observe_at(&self, event: &Event, moment: Moment) {
        self.observers
            .iter()
            .for_each(|observer| observer.observe_at(event, moment));
    }

    fn wants_table_status(&self) -> bool {
        let mut observers = self.observers.iter();
        observers.any(|observer| observer.wants_table_status())
    }
}

/// Writes events to the log. If the current span has a table, a partition or a job, so does the line.
#[derive(Debug, Clone, Copy)]
pub struct LogEvents;

/// Target of lines about failures: a console that shows failures in another way leaves them out.
pub const FAILURES: &str = "samsara_etl::failures";
/// Target of warnings that the summary of a run repeats: a console that shows the summary leaves them out.
pub const SUMMARIZED: &str = "samsara_etl::summarized";

/// Milliseconds, for a line of a log.
fn millis(duration: &Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A partition, or the first and the last of several.
pub fn span_of(partitions: &[Partition]) -> String {
    match (partitions.iter().min(), partitions.iter().max()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (Some(only), _) => only.to_string(),
        _ => String::new(),
    }
}

impl Observer for LogEvents {
    fn observe(&self, event: &Event) {
        match event {
            Event::RunStarted { .. }
            | Event::WorkFound { .. }
            | Event::RunFinished { .. }
            | Event::TaskStarted { .. }
            | Event::TaskFinished { .. } => log_run(event),
            Event::Connected { .. }
            | Event::PageFetched { .. }
            | Event::RequestDelayed { .. }
            | Event::RequestFinished { .. } => log_request(event),
            Event::PartitionExtracted { .. }
            | Event::TransformStarted { .. }
            | Event::TransformFinished { .. }
            | Event::TransformsSkipped { .. }
            | Event::PartitionTransformed { .. }
            | Event::PartitionLoaded { .. }
            | Event::RawLoaded { .. } => log_partition(event),
            Event::LoadStarted { .. } | Event::LoadFinished { .. } => log_load(event),
            Event::DriftFound { .. }
            | Event::UnfitTimes { .. }
            | Event::DuplicatesAccepted { .. }
            | Event::OutsideWindow { .. }
            | Event::EnvelopeFieldKept { .. } => log_finding(event),
            Event::NotAvailable { .. } | Event::Noted { .. } | Event::Failed { .. } => {
                log_failure(event)
            }
            // The limiter logs long waits; failed attempts have an event of their own; `status` shows tables.
            Event::RequestWaited { .. }
            | Event::AttemptFinished { .. }
            | Event::TableStatus { .. } => {}
        }
    }
}

/// The run and its tasks.
fn log_run(event: &Event) {
    match event {
        Event::RunStarted { run, totals } => {
            let Totals {
                requests,
                request_seconds,
                tasks,
                partitions,
                jobs,
            } = totals;
            tracing::info!(
                run,
                requests,
                request_seconds,
                tasks,
                partitions,
                jobs,
                "run started"
            );
        }
        Event::WorkFound {
            requests,
            tasks,
            partitions,
        } => {
            tracing::info!(requests, tasks, partitions, "changed days are read too");
        }
        Event::RunFinished { outcome } => {
            tracing::info!(outcome = outcome.as_str(), "run ended");
        }
        Event::TaskStarted {
            sources,
            scope,
            requests,
        } => {
            tracing::info!(
                table = sources.join(", "),
                partition = scope,
                requests,
                "task started"
            );
        }
        Event::TaskFinished {
            sources,
            scope,
            outcome,
            ..
        } => {
            tracing::info!(
                table = sources.join(", "),
                partition = scope,
                outcome = outcome.as_str(),
                "task finished"
            );
        }
        _ => {}
    }
}

/// Requests to the API.
fn log_request(event: &Event) {
    match event {
        Event::Connected { base } => tracing::info!(base, "connected to the API"),
        Event::PageFetched { endpoint, bytes } => {
            tracing::debug!(endpoint, bytes, "page fetched")
        }
        Event::RequestDelayed {
            endpoint,
            attempt,
            wait,
            reason,
        } => {
            tracing::warn!(
                endpoint,
                attempt,
                wait_ms = millis(wait),
                reason,
                "request delayed"
            );
        }
        Event::RequestFinished { sources, scope } => {
            tracing::debug!(
                table = sources.join(", "),
                partition = scope,
                "request finished"
            );
        }
        _ => {}
    }
}

/// Partitions, as they pass the stages.
fn log_partition(event: &Event) {
    match event {
        Event::PartitionExtracted {
            source,
            partition,
            records,
            rows,
            out_of_window,
            rescued,
            unchanged,
        } => {
            tracing::info!(table = source, %partition, records, rows, out_of_window, rescued, unchanged, "partition extracted");
        }
        Event::TransformStarted { model, partition } => {
            tracing::debug!(table = model, %partition, "transform started");
        }
        Event::TransformFinished {
            model,
            partition,
            outcome,
        } => {
            let outcome = outcome.as_str();
            tracing::debug!(table = model, %partition, outcome, "transform finished");
        }
        Event::TransformsSkipped { model, partitions } => {
            let (partition, count) = (span_of(partitions), partitions.len());
            tracing::debug!(table = model, partition, count, "up to date");
        }
        Event::PartitionTransformed {
            model,
            partition,
            rows,
            bytes,
            elapsed,
        } => {
            tracing::info!(table = model, %partition, rows, bytes, elapsed_ms = millis(elapsed), "partition transformed");
        }
        Event::PartitionLoaded {
            model,
            partition,
            rows,
            bytes,
            job,
            elapsed,
        } => {
            tracing::info!(table = model, %partition, rows, bytes, job_id = job, elapsed_ms = millis(elapsed), "partition loaded");
        }
        Event::RawLoaded {
            source,
            partition,
            rows,
        } => {
            tracing::info!(table = source, %partition, rows, "raw partition loaded");
        }
        _ => {}
    }
}

/// Load jobs.
fn log_load(event: &Event) {
    match event {
        Event::LoadStarted {
            purpose,
            table,
            partitions,
            job,
        } => {
            tracing::info!(
                table,
                purpose = purpose.as_str(),
                partition = span_of(partitions),
                job_id = job,
                "load started"
            );
        }
        Event::LoadFinished {
            purpose,
            table,
            job,
            outcome,
            elapsed,
        } => {
            tracing::info!(
                table,
                purpose = purpose.as_str(),
                job_id = job,
                outcome = outcome.as_str(),
                elapsed_ms = millis(elapsed),
                "load finished"
            );
        }
        _ => {}
    }
}

/// Data that is not as it was expected.
fn log_finding(event: &Event) {
    match event {
        Event::DriftFound {
            sources,
            path,
            reason,
            count,
        } => {
            tracing::warn!(
                target: SUMMARIZED,
                table = sources.join(", "),
                path,
                reason,
                count,
                "schema drift found"
            );
        }
        Event::UnfitTimes {
            model,
            partition,
            column,
            count,
            texts,
        } => {
            tracing::warn!(target: SUMMARIZED, table = model, %partition, column, count, ?texts, "schema drift found: values that are not valid times");
        }
        Event::DuplicatesAccepted {
            model,
            partition,
            duplicates,
        } => {
            tracing::warn!(table = model, %partition, duplicates, "duplicate keys accepted");
        }
        Event::OutsideWindow {
            source,
            partition,
            count,
            first,
            last,
            examples,
        } => {
            let examples = examples.join(" ");
            tracing::warn!(table = source, %partition, count, %first, %last, examples, "rows outside the requested days");
        }
        Event::EnvelopeFieldKept {
            sources,
            partition,
            path,
            text,
        } => {
            tracing::warn!(
                table = sources.join(", "),
                partition = partition.map(|partition| partition.to_string()),
                path,
                text,
                "envelope field beside an empty list of records"
            );
        }
        _ => {}
    }
}

/// What is not done, or only with a note.
fn log_failure(event: &Event) {
    match event {
        Event::NotAvailable { source, reason } => {
            tracing::info!(table = source, reason, "not available")
        }
        Event::Noted { name, reason } => {
            tracing::warn!(target: SUMMARIZED, table = name, reason, "noted");
        }
        Event::Failed {
            name,
            partition,
            error,
            kind,
            remedy,
        } => {
            tracing::error!(
                target: FAILURES,
                table = name,
                partition,
                error,
                kind = kind.as_str(),
                remedy,
                "failed"
            );
        }
        _ => {}
    }
}
