//! What an extract task brought.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::state::{CheckpointResult, Overlap, Position};
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// A completely read partition; its objects are written but not committed yet.
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
    /// One for each source and day that was requested; for a feed, for each day with rows.
    pub partitions: Vec<Extracted>,
    /// Records in the pages.
    pub records: u64,
    /// Digest of the records as sent, of the envelope fields, and of the parents requested.
    pub content: String,
    /// Rows of earlier days that were returned because they lasted into the requested ones.
    pub overlaps: BTreeSet<Overlap>,
    /// When the task began.
    pub extracted_at: DateTime<Utc>,
    /// Where a feed continues.
    pub feed: Option<Position>,
    /// Whether there are more pages after that position: a feed is read some pages at a time.
    pub more: bool,
    /// Whether reading stopped there because the requested days end on the next page, or before.
    pub is_past: bool,
    /// The rows of requested days on that page. They are in `partitions` too, in objects of their own.
    pub tail: Option<CheckpointResult>,
}
