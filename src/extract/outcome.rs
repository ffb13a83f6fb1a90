//! What an extract task brought.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::state::{CheckpointResult, Overlap, Position};
use crate::store::ObjectRef;
use crate::store::layout::Partition;

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
    /// One for each source and day that was requested; for a feed, for each day that rows came for.
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
    /// Whether the feed was left there because the days that were requested end on the page behind it, or before.
    pub is_past: bool,
    /// What was taken of that page: the rows of asked days. They are among `partitions` too, in objects of their own.
    pub tail: Option<CheckpointResult>,
}
