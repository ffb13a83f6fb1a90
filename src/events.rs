//! Events of a run. Progress, logs, the report and tests are all made from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::store::layout::Partition;

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The API's host is known; requests follow.
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
    /// A request failed and will be retried after a wait.
    RequestDelayed {
        /// Path below the host.
        endpoint: String,
        /// Number of the failed attempt, counted from 1.
        attempt: u32,
        /// Time until the next attempt.
        wait: Duration,
        /// Status or fault, with the request id where the API gave one.
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
        /// The first different ones, quoted and escaped, and how often they came.
        texts: BTreeMap<String, u64>,
    },
    /// Several rows of a derived partition have one `unique_key`, and were accepted all the same.
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
    /// A page without rows of the requested partition held an envelope field. No row can hold it, so this event does.
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
        /// The load job, which may have brought other partitions too.
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
    /// The token or the organisation does not have the source: nothing to read, and no failure.
    NotAvailable {
        /// The source.
        source: String,
        /// One line.
        reason: String,
    },
    /// A source or model failed; others continue.
    Failed {
        /// Name of the source or model.
        name: String,
        /// The partition, if the failure concerns one.
        partition: Option<String>,
        /// One line: what, where, what to do.
        error: String,
    },
}

/// Receives the events of a run.
pub trait Observer: Send + Sync {
    /// Called for each event as it happens, from any thread; must not block.
    fn observe(&self, event: &Event);
}

/// Several observers as one.
#[derive(Clone, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// Combines `observers`: each event goes to each of them, in order.
    pub fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers)
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Observers({})", self.0.len())
    }
}

impl Observer for Observers {
    fn observe(&self, event: &Event) {
        self.0.iter().for_each(|observer| observer.observe(event));
    }
}

/// Writes events to the log.
#[derive(Debug, Clone, Copy)]
pub struct LogEvents;

impl Observer for LogEvents {
    fn observe(&self, event: &Event) {
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
                    wait_ms = wait.as_millis() as u64,
                    reason,
                    "request delayed"
                );
            }
            Event::PartitionExtracted {
                source,
                partition,
                records,
                rows,
                out_of_window,
                rescued,
                unchanged,
            } => {
                tracing::info!(source, %partition, records, rows, out_of_window, rescued, unchanged, "partition extracted");
            }
            Event::DriftFound {
                sources,
                path,
                reason,
                count,
            } => {
                tracing::warn!(
                    sources = sources.join(","),
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
                tracing::warn!(model, %partition, column, count, ?texts, "schema drift found: values that are not valid times");
            }
            Event::DuplicatesAccepted {
                model,
                partition,
                duplicates,
            } => {
                tracing::warn!(model, %partition, duplicates, "duplicate keys accepted");
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
                tracing::warn!(source, %partition, count, %first, %last, examples, "rows outside the requested days");
            }
            Event::EnvelopeFieldKept {
                sources,
                partition,
                path,
                text,
            } => {
                let (sources, partition) = (
                    sources.join(","),
                    partition.map(|partition| partition.to_string()),
                );
                tracing::warn!(
                    sources,
                    partition,
                    path,
                    text,
                    "envelope field beside an empty list of records"
                );
            }
            Event::PartitionTransformed {
                model,
                partition,
                rows,
                ..
            } => {
                tracing::info!(model, %partition, rows, "partition transformed");
            }
            Event::PartitionLoaded {
                model,
                partition,
                rows,
                ..
            } => {
                tracing::info!(model, %partition, rows, "partition loaded");
            }
            Event::RawLoaded {
                source,
                partition,
                rows,
            } => {
                tracing::info!(source, %partition, rows, "raw partition loaded");
            }
            Event::NotAvailable { source, reason } => {
                tracing::info!(source, reason, "not available")
            }
            Event::Failed {
                name,
                partition,
                error,
            } => tracing::info!(name, partition, error, "failed"),
        }
    }
}
