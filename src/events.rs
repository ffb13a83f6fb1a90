//! What happened, past tense. Progress, logs, report and tests all feed on the same events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::store::layout::Partition;

/// Something that happened during a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The API's host is known, and about to be asked.
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
    /// A request was put off and will be sent again.
    RequestDelayed {
        /// Path below the host.
        endpoint: String,
        /// Which try failed, from 1.
        attempt: u32,
        /// How long the program waits.
        wait: Duration,
        /// Status or fault, with the request id where the API gave one.
        reason: String,
    },
    /// A source's partition was read whole and committed.
    PartitionExtracted {
        /// The source.
        source: String,
        /// The partition.
        partition: Partition,
        /// Records in the API's pages.
        records: u64,
        /// Raw rows committed.
        rows: u64,
        /// Rows and readings left out because another day owns them.
        out_of_window: u64,
        /// Values that went to `_rescued_data`.
        rescued: u64,
        /// Whether the content was the same as before, so that nothing was written.
        unchanged: bool,
    },
    /// A page held something that the declared schema does not.
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
    /// Values of a derived partition are no times between the years 1 and 9999, and are NULL in the table.
    UnfitTimes {
        /// The model.
        model: String,
        /// The partition.
        partition: Partition,
        /// The column.
        column: String,
        /// How many.
        count: u64,
        /// The first different ones, quoted and escaped, and how often they came.
        texts: BTreeMap<String, u64>,
    },
    /// Several rows of a derived partition have one `unique_key`, and were accepted all the same.
    DuplicatesAccepted {
        /// The model.
        model: String,
        /// The partition.
        partition: Partition,
        /// Which key, how many, one of them.
        duplicates: String,
    },
    /// An answer held rows or readings that lie far outside the asked days. They are in no table: no day that is
    /// asked for owns them.
    OutsideWindow {
        /// The source.
        source: String,
        /// The first of the days that were asked for.
        partition: Partition,
        /// How many.
        count: u64,
        /// The earliest of their times.
        first: DateTime<Utc>,
        /// The latest of their times.
        last: DateTime<Utc>,
        /// Some of them as JSON.
        examples: Vec<String>,
    },
    /// A page without a row of the asked partition held something beside its list of records. No row can carry it, so
    /// this event does.
    EnvelopeFieldKept {
        /// The sources of the task.
        sources: Vec<String>,
        /// The first partition that was asked for; a feed has none.
        partition: Option<Partition>,
        /// Path of the field: `$.warning`.
        path: String,
        /// Its exact text; cut after some kilobytes.
        text: String,
    },
    /// A model's partition was derived and committed.
    PartitionTransformed {
        /// The model.
        model: String,
        /// The partition.
        partition: Partition,
        /// Rows written.
        rows: u64,
        /// Size of its objects.
        bytes: u64,
        /// From the start of the query to the commit.
        elapsed: Duration,
    },
    /// A model's partition was loaded.
    PartitionLoaded {
        /// The model.
        model: String,
        /// The partition.
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
        /// The source.
        source: String,
        /// The partition.
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
    /// A source or model failed; the others go on.
    Failed {
        /// Name of the source or model.
        name: String,
        /// The partition, if it was one.
        partition: Option<String>,
        /// One line: what, where, what to do.
        error: String,
    },
}

/// Something that wants to know.
pub trait Observer: Send + Sync {
    /// Called as it happens; must not block.
    fn observe(&self, event: &Event);
}

/// Several observers as one.
#[derive(Clone, Default)]
pub struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    /// All of `observers`.
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
                tracing::warn!(model, %partition, column, count, ?texts, "schema drift found: no times");
            }
            Event::DuplicatesAccepted {
                model,
                partition,
                duplicates,
            } => {
                tracing::warn!(model, %partition, duplicates, "rows with one key accepted");
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
                tracing::warn!(source, %partition, count, %first, %last, examples, "rows outside the asked days");
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
                    "beside an empty list of records"
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
