//! One task: all pages that a source (or several that share calls) has for some days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::array::RecordBatch;
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::assign_day::{DayRows, day_window, rows_of_day};
use super::decode::{Decoder, Stamp};
use super::drift::DriftKey;
use super::fetch::RequestQueue;
use super::write::{RawWriter, Restored};
use crate::catalog::{Source, SourceKind};
use crate::events::{Event, Observer};
use crate::samsara::{Client, Page, SamsaraError, Watch, Window};
use crate::state::{Checkpoint, CheckpointResult, Overlap};
use crate::store::layout::{Partition, RunId};
use crate::store::{Bucket, ObjectRef, StoreError};

/// Pages that wait between network and decoder.
const PAGES_IN_FLIGHT: usize = 4;

/// What is read in one go.
#[derive(Debug, Clone)]
pub struct ExtractTask {
    /// One source, or several that share calls.
    pub sources: Vec<Source>,
    /// Which part of them.
    pub scope: Scope,
    /// Ids of the parent, for sources that fan out.
    pub parents: Vec<String>,
}

/// The part of a source that a task reads.
#[derive(Debug, Clone)]
pub enum Scope {
    /// The whole list.
    Snapshot,
    /// Consecutive UTC days.
    Days(Vec<NaiveDate>),
    /// What comes behind a cursor, or since an instant if there is none yet: at most `checkpoint_every` pages of it.
    Feed {
        /// The stored query and cursor.
        resume: Option<Position>,
        /// Where a feed without cursor begins.
        since: DateTime<Utc>,
        /// The first day that is not asked for: the feed is left before the first page that has rows of it or of later
        /// ones.
        until: Option<NaiveDate>,
        /// What its pages have shown so far.
        watch: Watch,
    },
    /// What has changed in a window of the time of the last change.
    Updates {
        /// The window.
        window: Window,
        /// The first day whose rows are left out, because it was not asked for.
        born_before: Option<NaiveDate>,
    },
}

/// A partition that was read whole, its objects written but not yet committed.
#[derive(Debug, Clone)]
pub struct Extracted {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: Partition,
    /// The raw objects.
    pub objects: Vec<ObjectRef>,
    /// Rows and readings left to other days.
    pub out_of_window: u64,
    /// Rows and readings that have no end yet.
    pub open_rows: u64,
    /// Values in its `_rescued_data`.
    pub rescued: u64,
}

/// What a task brought.
#[derive(Debug, Clone)]
pub struct TaskOutcome {
    /// One for each source and day that was asked for; for a feed, for each day that rows came for.
    pub partitions: Vec<Extracted>,
    /// Records in the pages.
    pub records: u64,
    /// Digest of the records as sent, of what stood beside them, and of whom was asked.
    pub content: String,
    /// Rows of earlier days that came because they lasted into the asked ones.
    pub overlaps: BTreeSet<Overlap>,
    /// When the task began.
    pub extracted_at: DateTime<Utc>,
    /// Where a feed goes on.
    pub feed: Option<Position>,
    /// Whether there is more behind that position: a feed is read some pages at a time.
    pub more: bool,
    /// Whether the feed was left there because the days that were asked for end on the page behind it, or before.
    pub is_past: bool,
    /// What was taken of that page: the rows of asked days. They are among `partitions` too, in objects of their own.
    pub tail: Option<CheckpointResult>,
}

/// Where a feed goes on: its query and cursor.
pub type Position = (String, String);

/// A task that failed. Nothing of it is committed.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The API.
    #[error("{tables} {scope}: {error}")]
    Api {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The API's fault.
        #[source]
        error: SamsaraError,
    },
    /// A page cannot be decoded.
    #[error("{tables} {scope}: page {page} of {request}: {reason}")]
    Page {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// Position in the task, from 1.
        page: u64,
        /// Path and query.
        request: String,
        /// What is wrong.
        reason: String,
    },
    /// The raw bucket.
    #[error("{tables} {scope}: {error}")]
    Store {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// The bucket's fault.
        #[source]
        error: StoreError,
    },
    /// The ledger does not balance.
    #[error("{table} {partition}: {owned} raw rows belong to it, its Parquet holds {written}")]
    Ledger {
        /// The source.
        table: String,
        /// The partition.
        partition: Partition,
        /// Rows of the API's records that the partition owns.
        owned: u64,
        /// Rows in its objects.
        written: u64,
    },
    /// A worker died.
    #[error("{tables} {scope}: the decoder stopped: {reason}")]
    Worker {
        /// The sources.
        tables: String,
        /// Days, or the snapshot.
        scope: String,
        /// Why.
        reason: String,
    },
}

impl ExtractError {
    /// The API's fault, if it was the API's.
    pub fn api(&self) -> Option<&SamsaraError> {
        match self {
            Self::Api { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Reads tasks into the raw bucket.
#[derive(Clone)]
pub struct Extractor {
    /// The API.
    pub client: Client,
    /// The raw bucket.
    pub bucket: Bucket,
    /// The run that names the objects.
    pub run: RunId,
    /// Objects of the run so far, so that none has the key of another.
    pub objects: Arc<AtomicU64>,
    /// Where decoding runs: never on the threads that wait for the network.
    pub cpu: Handle,
    /// Who wants to know.
    pub observer: Arc<dyn Observer>,
    /// After how many pages an unfinished task is noted, and a feed is committed.
    pub checkpoint_every: u64,
}

impl Extractor {
    /// Reads one task. Its objects are complete when this returns, and count only once the state names them.
    ///
    /// `resume` is what an earlier run noted of the same task; another task's is not used. `checkpoints` is told now and
    /// then what is safe so far. A feed has no checkpoints: its position is committed with its rows.
    pub async fn read(
        &self,
        task: Arc<ExtractTask>,
        resume: Option<Checkpoint>,
        checkpoints: Option<mpsc::Sender<Checkpoint>>,
    ) -> Result<TaskOutcome, ExtractError> {
        let again = resume.and_then(|checkpoint| {
            Some((
                RequestQueue::resume(&task, &checkpoint)?,
                checkpoint.extracted_at,
                Some(Restored::of(&checkpoint, &task)?),
            ))
        });
        let (queue, extracted_at, before) =
            again.unwrap_or_else(|| (RequestQueue::begin(&task), Utc::now(), None));
        let sink = RawWriter::new(self, task.clone(), extracted_at, before, checkpoints);
        let (pages, arrivals) = mpsc::channel(PAGES_IN_FLIGHT);
        let decoder = self.cpu.spawn(sink.drain(arrivals));
        let fetched = self.fetch(queue, pages).await;
        // The decoder's own error comes first: it is why the channel closed.
        let decoded = decoder.await.map_err(|error| ExtractError::Worker {
            tables: task.tables(),
            scope: task.scope.to_string(),
            reason: error.to_string(),
        })?;
        let written = decoded?;
        let end = fetched.map_err(|error| task.api(error))?;
        for (sources, DriftKey { path, reason }, count) in written.drift {
            self.observer.observe(&Event::DriftFound {
                sources,
                path,
                reason,
                count,
            });
        }
        let days = match &task.scope {
            Scope::Days(days) => days.first().copied(),
            _ => None,
        };
        for (source, found) in written.outside {
            let (Some(day), Some((first, last))) = (days, found.span) else {
                continue;
            };
            let (partition, count, examples) = (Partition::Day(day), found.count, found.examples);
            self.observer.observe(&Event::OutsideWindow {
                source,
                partition,
                count,
                first,
                last,
                examples,
            });
        }
        Ok(TaskOutcome {
            partitions: written.partitions,
            records: written.records,
            content: written.content,
            overlaps: written.overlaps,
            extracted_at,
            feed: end.position,
            more: end.more,
            is_past: end.is_past,
            tail: written.tail,
        })
    }
}

impl ExtractTask {
    /// Whether it is one call per row of the parent: many small requests, some at a time.
    pub(super) fn is_fan_out(&self) -> bool {
        self.sources
            .first()
            .and_then(|source| source.parent.as_ref())
            .is_some_and(|parent| parent.batch == 1)
    }

    /// Whether it reads a feed.
    pub(super) fn is_feed(&self) -> bool {
        self.sources
            .first()
            .is_some_and(|source| source.kind == SourceKind::Feed)
    }

    /// What its requests ask for, where they ask for a time.
    pub(super) fn window(&self) -> Option<Window> {
        match &self.scope {
            Scope::Snapshot => None,
            Scope::Days(days) => span(days),
            Scope::Updates { window, .. } => Some(*window),
            Scope::Feed { since, .. } => Some(Window {
                start: *since,
                end: *since,
            }),
        }
    }

    /// The sources, for messages.
    pub fn tables(&self) -> String {
        self.sources
            .iter()
            .map(|source| source.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn api(&self, error: SamsaraError) -> ExtractError {
        ExtractError::Api {
            tables: self.tables(),
            scope: self.scope.to_string(),
            error,
        }
    }

    pub(super) fn store(&self, error: StoreError) -> ExtractError {
        ExtractError::Store {
            tables: self.tables(),
            scope: self.scope.to_string(),
            error,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Snapshot => f.write_str("(snapshot)"),
            Self::Feed { .. } => f.write_str("(feed)"),
            Self::Updates { window, .. } => write!(
                f,
                "(changes of {} to {})",
                window.start.format("%Y-%m-%dT%H:%MZ"),
                window.end.format("%Y-%m-%dT%H:%MZ")
            ),
            Self::Days(days) => match (days.first(), days.last()) {
                (Some(first), Some(last)) if first != last => write!(f, "{first} to {last}"),
                (Some(day), _) => write!(f, "{day}"),
                _ => f.write_str("(no day)"),
            },
        }
    }
}

/// The window from the first day's start to the last day's end.
fn span(days: &[NaiveDate]) -> Option<Window> {
    Some(Window {
        start: day_window(*days.first()?).start,
        end: day_window(*days.last()?).end,
    })
}

/// Decodes the text of one page's list of records as `source` declares them: for benches and fuzzing.
pub fn decode_page(
    source: &Source,
    records: Bytes,
    window: Option<Window>,
    parent: Option<&str>,
) -> Result<(RecordBatch, BTreeMap<DriftKey, u64>), String> {
    let page = Page {
        number: 1,
        beside: Vec::new(),
        is_empty: false,
        records,
        cursor: None,
        has_next: false,
    };
    let stamp = Stamp {
        window,
        parent,
        extracted_at: DateTime::UNIX_EPOCH,
    };
    let (batch, drift) =
        Decoder::new(&[source]).whole(&page, 0, stamp, |rows| Ok(DayRows::all(rows)))?;
    Ok((batch, drift.into_counts()))
}

/// The raw rows that a page gives to `day` (to the snapshot, if there is none): what a task writes.
pub fn decode_for_day(
    source: &Source,
    page: &Page,
    window: Option<Window>,
    day: Option<NaiveDate>,
    parent: Option<&str>,
) -> Result<RecordBatch, String> {
    let stamp = Stamp {
        window,
        parent,
        extracted_at: DateTime::UNIX_EPOCH,
    };
    let owned = |rows: RecordBatch| match (&source.time_field, day) {
        (Some(field), Some(day)) => rows_of_day(&rows, field, day, None, None),
        _ => Ok(DayRows::all(rows)),
    };
    Ok(Decoder::new(&[source]).whole(page, 0, stamp, owned)?.0)
}
