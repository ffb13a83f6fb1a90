//! The JSON document of one source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{
    DocumentError, ModelStates, Sha256Digest, StateError, interned, read_document, read_unique,
    unique_names,
};
use crate::bounds::MAX_STATE_TEXT;
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// Version of the document that this program writes. Newer ones are refused.
///
/// Version 1 had checkpoints in another form; they are ignored, and those tasks start over. Version 2 did not have
/// `asked_from`, `shrunken_from` and `raw_started`; version 3 did not have `open_rows` and `overlaps`; version 4 did
/// not have `archives`.
pub const VERSION: u32 = 5;

/// The states of partitions. Unchanged partitions are shared between a state and its predecessor.
pub type Partitions = BTreeMap<Partition, Arc<PartitionState>>;

/// The state of a source: which partitions are complete, derived and loaded, and where its feed continues.
///
/// The stored document holds the recently changed days, and lists the archives with the others, see `archive.rs`;
/// in memory, all days are here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceState {
    /// Version of the format, [`VERSION`] when written.
    pub version: u32,
    /// Name of the source.
    pub source: String,
    /// Keyed by day (`2024-01-31`), or `snapshot`.
    #[serde(default, with = "shared")]
    pub partitions: Partitions,
    /// The first day that any run has requested. A requested day that no run has reached yet leaves no other trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_from: Option<NaiveDate>,
    /// Where to continue a feed: the source itself, or its change feed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
    /// How far a source of the kind `updates` was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updates: Option<Updates>,
    /// A window of `updates` of which a part was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Box<UnfinishedWindow>>,
    /// Set if the API refused the source at the last request, because the token or the organisation does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_available: Option<NotAvailable>,
    /// The archives, by year. A partition in the document itself takes the place of the one in its archive.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique_names"
    )]
    pub(super) archives: BTreeMap<i32, ArchiveRef>,
    /// The partitions in the archives that have not changed since: the same values as in `partitions`.
    #[serde(skip)]
    pub(super) archived: Arc<Partitions>,
}

/// Maps whose values are shared in memory, and whose names are unique.
pub(super) mod shared {
    use std::fmt::Display;

    use super::{Arc, BTreeMap};
    use crate::state::unique_names_with;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::state) fn serialize<S: Serializer, K: Serialize, V: Serialize>(
        map: &BTreeMap<K, Arc<V>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, value)| (key, &**value)))
    }

    pub(in crate::state) fn deserialize<'de, D, K, V>(
        deserializer: D,
    ) -> Result<BTreeMap<K, Arc<V>>, D::Error>
    where
        D: Deserializer<'de>,
        K: Deserialize<'de> + Ord + Display,
        V: Deserialize<'de>,
    {
        unique_names_with(deserializer, Arc::new)
    }
}

/// Reads objects without the room for more of them that a vector begins with: most partitions have one.
fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ObjectRef>, D::Error> {
    deserializer.deserialize_seq(Few)
}

struct Few;

impl<'de> Visitor<'de> for Few {
    type Value = Vec<ObjectRef>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(object) = items.next_element()? {
            if objects.is_empty() {
                objects.reserve_exact(1);
            }
            objects.push(object);
        }
        Ok(objects)
    }
}

/// An archive that a document names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArchiveRef {
    /// Distinguishes its key from those of earlier and later archives.
    pub(super) mark: String,
    /// SHA-256 of its bytes.
    pub(super) digest: Sha256Digest,
}

/// How far the changes of a source were read, committed together with their rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Updates {
    /// Start of the period whose changes were all read, inclusive.
    pub from: DateTime<Utc>,
    /// End of that period, exclusive.
    pub until: DateTime<Utc>,
    /// For rows created before `until`: up to when their later changes were read, too. A run for past days reads these
    /// rows as they are now, and leaves rows that were created later to a run for those days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<DateTime<Utc>>,
}

/// A window of the time of the last change of which a part was read, as it was planned. The next run begins with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfinishedWindow {
    /// First instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
    /// The first day whose rows are left out, because it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_before: Option<NaiveDate>,
    /// The position after it; none: it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Updates>,
    /// How far it was read.
    pub checkpoint: Checkpoint,
}

/// A source that was refused for scope, licence or absence. It is requested again after a week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotAvailable {
    /// When it was last asked.
    pub at: DateTime<Utc>,
    /// One line: what the API said, and which scope it wants.
    pub reason: String,
}

/// Where to continue a feed: the cursor and the query it is bound to, committed together with the rows before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The rendered query without the cursor; the API accepts the cursor only with this query.
    pub query: String,
    /// The opaque cursor; empty before the first page.
    pub cursor: String,
    /// When the cursor was received. Cursors are valid for 30 days.
    pub at: DateTime<Utc>,
    /// Where to start over if the cursor is lost: shortly before the feed's end was reached, or where the read began, if it
    /// was interrupted. None: a day before `at`. Of a change feed: the time up to which it has reported everything, if
    /// it was interrupted; none: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Of a change feed: the time since which it was read without a gap. Of any other feed: the midnight up to which its
    /// rows were requested, if reading stopped there; rows before it on the page after the cursor are already stored, as
    /// [`SourceState::tail`] says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "heard_from")]
    pub contiguous_since: Option<DateTime<Utc>>,
    /// Spans of time of which rows may be lost, oldest first: the position was gone, and the feed reached no further back.
    /// One goes when the feed was read from before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
}

/// A span of time that a feed may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The last instant up to which all was read before it.
    pub from: DateTime<Utc>,
    /// The instant at which the feed began again.
    pub until: DateTime<Utc>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "{} to {}", whole(self.from), whole(self.until))
    }
}

impl Feed {
    /// Up to when all of it was read.
    pub fn read_until(&self) -> DateTime<Utc> {
        let day_before = |at: DateTime<Utc>| at - TimeDelta::days(1);
        // After an interrupted read, it is the position at which that began.
        let interrupted = self.since.filter(|since| *since != day_before(self.at));
        let until = self.contiguous_since.or(interrupted).unwrap_or(self.at);
        until.min(self.at)
    }

    /// The known gaps and a new one once the feed has begun again at `since`.
    pub fn gaps_from(&self, since: DateTime<Utc>) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        let lost = Gap {
            from: self.read_until(),
            until: since,
        };
        for gap in self.gaps.iter().chain([&lost]) {
            let until = gap.until.min(since);
            match gaps.last_mut() {
                Some(last) if gap.from <= last.until => last.until = last.until.max(until),
                _ if gap.from < until => gaps.push(Gap { until, ..*gap }),
                _ => {}
            }
        }
        // What is older is of less and less interest, and a document has bounds.
        let surplus = gaps.len().saturating_sub(MAX_GAPS);
        gaps.drain(..surplus);
        gaps
    }
}

/// So many gaps of a feed are kept.
const MAX_GAPS: usize = 100;

/// The state of a partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    /// The committed raw rows; none until the partition was read completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawState>,
    /// The last attempt to read it, if that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// Number of committed rows that had no end yet when they were read, so that the day is read again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_rows: u64,
    /// When it was found that rows of this day may be missing: the source's change feed reported readings, or a later
    /// day returned rows that start on this day. Cleared when the day was read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<DateTime<Utc>>,
    /// Number of rows that the list had before the row-count guard refused the new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunken_from: Option<u64>,
    /// The finished load of the raw rows (`--load-raw`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_load: Option<Box<Load>>,
    /// A load of the raw rows that was started and whose outcome is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_started: Option<Box<Started>>,
    /// The checkpoint of an unfinished extract task that begins with this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "unfinished")]
    pub checkpoint: Option<Box<Checkpoint>>,
    /// The derived rows, keyed by table.
    #[serde(default, skip_serializing_if = "ModelStates::is_empty")]
    pub models: ModelStates,
}

/// The partial result of an unfinished extract task, and where to resume.
///
/// It is stored with the task's first source and partition and covers all of them, so that it changes atomically. It
/// does not make any partition complete: some endpoints page by vehicle, so half of the pages hold all days of half of
/// the vehicles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Digest of the declared columns and of the finished requests: a task that differs ignores the checkpoint.
    pub asked: String,
    /// Number of the task's requests that were sent, from the first.
    pub requests: u64,
    /// Slices of windows that are still to be read, because a window was too large for the server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<CheckpointWindow>,
    /// Where to resume the next request, if some of its pages are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<CheckpointCursor>,
    /// When the task began.
    pub extracted_at: DateTime<Utc>,
    /// Result of the finished requests.
    pub whole: CheckpointResult,
    /// Result of the pages before `resume`.
    #[serde(default)]
    pub part: CheckpointResult,
}

/// A part of a request's window that is still to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointWindow {
    /// Number of the request in its task, from 0.
    pub request: u64,
    /// Start of the slice, inclusive.
    pub start: DateTime<Utc>,
    /// End of the slice, exclusive.
    pub end: DateTime<Utc>,
}

/// The position after the last stored page of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointCursor {
    /// Path and query without the cursor, which is bound to them.
    pub query: String,
    /// The cursor of the API, opaque.
    pub cursor: String,
    /// Number of pages read before the cursor.
    pub pages: u64,
}

/// The partial result of an extract task: counts, digest and raw objects.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointResult {
    /// Number of API records.
    pub records: u64,
    /// Number of values in `_rescued_data`.
    pub rescued: u64,
    /// Content digest of the records.
    pub content: String,
    /// The rows, by source and partition.
    pub parts: Vec<CheckpointPartition>,
    /// Rows of earlier days that were returned as well.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub overlaps: BTreeSet<Overlap>,
}

/// A row of an earlier day, returned because it lasts into the requested days.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// Name of the source.
    pub source: String,
    /// The day on which the row starts, and to which it belongs.
    pub day: NaiveDate,
    /// The row, if it has ended; none represents all rows of the day that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedRow>,
}

/// A row that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedRow {
    /// Digest of the fields that identify it.
    pub row: u64,
    /// End of the row.
    pub end: DateTime<Utc>,
}

impl Checkpoint {
    /// All raw objects that it lists.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.whole
            .parts
            .iter()
            .chain(&self.part.parts)
            .flat_map(|part| &part.objects)
    }
}

/// The rows of one source and partition in an unfinished task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPartition {
    /// Name of the source.
    pub source: String,
    /// Key of the partition: `2024-01-31` or `snapshot`.
    pub partition: String,
    /// The raw objects written so far.
    pub objects: Vec<ObjectRef>,
    /// Rows and readings that belong to the partition.
    pub kept: u64,
    /// All rows and readings that were returned.
    pub total: u64,
    /// Those that belong to the partition and have no end yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_rows: u64,
}

/// The raw rows of a complete partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawState {
    /// The objects with the rows. Empty: the read was complete and found nothing.
    #[serde(deserialize_with = "few")]
    pub objects: Vec<ObjectRef>,
    /// Records in the API's pages.
    pub records: u64,
    /// Rows and readings left out because they belong to another day.
    #[serde(rename = "not_owned")]
    pub out_of_window: u64,
    /// Values that did not fit the declared schema and went to `_rescued_data`.
    pub rescued: u64,
    /// Digest of the records as the API sent them: equal digests are equal content.
    pub content: String,
    /// When the read began. A day read before it and its late data were over is read again.
    pub extracted_at: DateTime<Utc>,
}

impl RawState {
    /// Number of rows in its objects.
    pub fn rows(&self) -> u64 {
        self.objects.iter().map(|object| object.rows).sum()
    }
}

/// A failed attempt. Cleared once the partition was read completely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// When the attempt failed.
    pub at: DateTime<Utc>,
    /// One line: what failed, where.
    pub error: String,
}

/// The derived partition of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelState {
    /// Digest of the SQL, the contract and the raw objects; another one means stale.
    pub fingerprint: Sha256Digest,
    /// The flattened objects. A partition without rows has one empty object, which replaces what was loaded before.
    #[serde(deserialize_with = "few")]
    pub objects: Vec<ObjectRef>,
    /// The finished load of these objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// A load that was started and whose outcome is not known, because the program died while it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Box<Started>>,
    /// Number of job ids already used for these objects: an id can never run twice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

/// A load job that may still be running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The warehouse and dataset.
    pub target: String,
    /// The job's id without its attempt; empty in a warehouse without jobs.
    pub job: String,
    /// Attempt number, counted from the first job id that is not used up.
    pub attempt: u32,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// A load job that has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The warehouse and dataset.
    #[serde(with = "interned")]
    pub target: Arc<str>,
    /// Fingerprint of the model state that was loaded.
    pub fingerprint: Sha256Digest,
    /// The job, in warehouses that have jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Rows that the warehouse reported.
    pub rows: u64,
}

impl PartitionState {
    /// Records a complete read that began at `began`: everything that had arrived by then is included.
    pub fn read_again(&mut self, began: DateTime<Utc>) {
        (self.checkpoint, self.failure) = (None, None);
        self.changed = self.changed.filter(|changed| *changed > began);
    }
}

impl SourceState {
    /// The state of a source that was never read.
    pub fn new(source: &str) -> Self {
        Self {
            version: VERSION,
            source: source.into(),
            asked_from: None,
            partitions: BTreeMap::new(),
            feed: None,
            updates: None,
            unfinished: None,
            not_available: None,
            archives: BTreeMap::new(),
            archived: Arc::default(),
        }
    }

    /// Parses the document of the source `name`.
    ///
    /// # Errors
    /// [`StateError::Malformed`] if it is invalid or belongs to another source.
    pub fn of(name: &str, bytes: &[u8], uri: &str) -> Result<Self, StateError> {
        let state = Self::from_json(bytes, uri)?;
        if state.source == name {
            return Ok(state);
        }
        let reason = format!("it belongs to source {}, expected {name}", state.source);
        Err(StateError::Malformed {
            uri: uri.into(),
            error: reason.into(),
        })
    }

    /// Reads a document, and refuses one that a newer program wrote, or with content that this program does not write:
    /// keys of other objects, times and numbers out of range.
    pub fn from_json(bytes: &[u8], uri: &str) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let malformed = |error: DocumentError| StateError::Malformed {
            uri: uri.into(),
            error,
        };
        let mut state = match read_unique::<Self>(bytes) {
            Ok(state) if state.version == VERSION => state,
            // Another version, or malformed: the slower look tells which.
            _ => {
                let head: Head = read_document(bytes).map_err(malformed)?;
                if head.version > u64::from(VERSION) {
                    let found = u32::try_from(head.version).unwrap_or(u32::MAX);
                    return Err(StateError::Newer {
                        uri: uri.into(),
                        found,
                    });
                }
                Self::of_earlier(head.version, bytes).map_err(malformed)?
            }
        };
        // Earlier versions stored server messages of any length.
        let is_long = |failure: &Failure| failure.error.len() > MAX_STATE_TEXT;
        for partition in state.partitions.values_mut() {
            if partition.failure.as_deref().is_some_and(is_long)
                && let Some(failure) = &mut Arc::make_mut(partition).failure
            {
                let end = failure.error.floor_char_boundary(MAX_STATE_TEXT);
                failure.error.truncate(end);
            }
        }
        state.check().map_err(|reason| malformed(reason.into()))?;
        Ok(state)
    }

    /// Reads a document of this version or an earlier one.
    fn of_earlier(version: u64, bytes: &[u8]) -> Result<Self, DocumentError> {
        if version == u64::from(VERSION) {
            return read_document(bytes);
        }
        let mut older: serde_json::Map<String, Value> = read_document(bytes)?;
        older.insert("version".into(), VERSION.into());
        if older.contains_key("archives") {
            return Err(format!("version {version} has no `archives`").into());
        }
        let partitions = older
            .get_mut("partitions")
            .filter(|_| version < 2)
            .and_then(Value::as_object_mut);
        for partition in partitions
            .into_iter()
            .flat_map(|all| all.values_mut())
            .filter_map(Value::as_object_mut)
        {
            partition.remove("unfinished");
        }
        Ok(serde_json::from_value(older.into())?)
    }

    /// The document as JSON, without the partitions that are unchanged in an archive.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let loose = self
            .loose()
            .map(|(partition, state)| (partition, state.clone()));
        serde_json::to_vec(&Self {
            partitions: loose.collect(),
            ..self.clone()
        })
    }

    /// The partitions that are not, or not unchanged, in an archive.
    pub(super) fn loose(&self) -> impl Iterator<Item = (Partition, &Arc<PartitionState>)> {
        let is_loose = |(partition, state): &(&Partition, &Arc<PartitionState>)| {
            let archived = self.archived.get(partition);
            archived.is_none_or(|archived| !Arc::ptr_eq(archived, state))
        };
        self.partitions
            .iter()
            .filter(is_loose)
            .map(|(partition, state)| (*partition, state))
    }

    /// A partition, if the state has it.
    pub fn partition(&self, partition: Partition) -> Option<&PartitionState> {
        self.partitions.get(&partition).map(Arc::as_ref)
    }

    /// A partition, created if the state does not have it.
    pub fn partition_mut(&mut self, partition: Partition) -> &mut PartitionState {
        Arc::make_mut(self.partitions.entry(partition).or_default())
    }

    /// The partitions whose raw rows are complete.
    pub fn complete(&self) -> impl Iterator<Item = (Partition, &RawState)> {
        self.partitions
            .iter()
            .filter_map(|(partition, state)| Some((*partition, state.raw.as_ref()?)))
    }

    /// Whether any partition of the source was ever read completely.
    pub fn was_read(&self) -> bool {
        self.feed.is_some() || self.updates.is_some() || self.complete().next().is_some()
    }

    /// Whether any run has requested the day.
    pub fn is_asked(&self, day: NaiveDate) -> bool {
        self.partition(Partition::Day(day)).is_some()
            || self.asked_from.is_some_and(|from| from <= day)
    }

    /// The rows of a feed's page after its cursor, if reading stopped in the middle of a page. They are stored as an
    /// unfinished task of their first day.
    pub fn tail(&self) -> Option<&CheckpointResult> {
        self.feed.as_ref()?.contiguous_since?;
        self.partitions
            .values()
            .find_map(|partition| partition.checkpoint.as_ref())
            .map(|note| &note.part)
    }

    /// Spans of time of which its feed may have lost rows.
    pub fn gaps(&self) -> &[Gap] {
        self.feed.as_ref().map_or(&[], |feed| &feed.gaps)
    }

    /// Complete days that have changed since they were read.
    pub fn changed_days(&self) -> impl Iterator<Item = NaiveDate> {
        let changed = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.changed.is_some() && partition.raw.is_some());
        changed.filter_map(|(partition, _)| partition.day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_begins_again_has_a_gap() {
        let at = |hour: i64| DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
        let gaps = |feed: &Feed, since: i64| -> Vec<(i64, i64)> {
            let hours = |at: DateTime<Utc>| (at - DateTime::UNIX_EPOCH).num_hours();
            let gaps = feed.gaps_from(at(since)).into_iter();
            gaps.map(|gap| (hours(gap.from), hours(gap.until)))
                .collect()
        };
        let mut feed = Feed {
            query: String::new(),
            cursor: "c".into(),
            at: at(100),
            since: Some(at(76)),
            contiguous_since: None,
            gaps: Vec::new(),
        };
        // Read to its end, interrupted, and left at a midnight.
        assert_eq!(gaps(&feed, 120), [(100, 120)]);
        assert_eq!(gaps(&feed, 100), []);
        assert_eq!(gaps(&feed, 76), []);
        feed.since = Some(at(50));
        assert_eq!(gaps(&feed, 120), [(50, 120)]);
        (feed.since, feed.contiguous_since) = (Some(at(48)), Some(at(72)));
        assert_eq!(gaps(&feed, 120), [(72, 120)]);
        // Known gaps stay until the feed was read from before them.
        (feed.since, feed.contiguous_since) = (Some(at(76)), None);
        let gap = |from, until| Gap {
            from: at(from),
            until: at(until),
        };
        feed.gaps = vec![gap(10, 20), gap(40, 60)];
        assert_eq!(gaps(&feed, 120), [(10, 20), (40, 60), (100, 120)]);
        assert_eq!(gaps(&feed, 100), [(10, 20), (40, 60)]);
        assert_eq!(gaps(&feed, 50), [(10, 20), (40, 50)]);
        assert_eq!(gaps(&feed, 40), [(10, 20)]);
        assert_eq!(gaps(&feed, 10), []);
        feed.gaps = vec![gap(80, 110)];
        assert_eq!(gaps(&feed, 120), [(80, 120)]);
    }

    #[test]
    fn newer_and_broken_documents_are_refused() {
        let newer = br#"{"version":6,"source":"a","something":"new"}"#;
        assert!(matches!(
            SourceState::from_json(newer, "gs://b/s"),
            Err(StateError::Newer { found: 6, .. })
        ));
        let unknown = [
            &b"{\"version\":1,\"source\":\"a\",\"x\":1}"[..],
            b"{\"version\":4,\"source\":\"a\",\"x\":1}",
            b"{\"version\":4,\"source\":\"a\",\"archives\":{}}",
            b"{\"version\":5,\"source\":\"a\",\"x\":1}",
        ];
        let twice = [
            r#""source":"a""#,
            r#""partitions":{"2024-01-01":{},"2024-01-01":{}}"#,
            r#""partitions":{"2024-01-01":{"models":{"t":{"fingerprint":"","objects":[]},"t":{"fingerprint":"","objects":[]}}}}"#,
            r#""archives":{"2024":{"mark":"","digest":""},"2024":{"mark":"","digest":""}}"#,
        ];
        for twice in twice {
            let document = format!(r#"{{"version":5,"source":"a",{twice}}}"#);
            let error = SourceState::from_json(document.as_bytes(), "gs://b/s").unwrap_err();
            assert!(error.to_string().contains("appears twice"), "{error}");
            assert!(read_unique::<SourceState>(document.as_bytes()).is_err());
        }
        let broken = [
            &b"{}"[..],
            b"",
            b"\xff",
            b"[1]",
            b"{\"version\":1,\"partitions\":1}",
            b"{\"version\":1}",
        ];
        let huge = br#"{"version":99999999999,"source":"a"}"#;
        assert!(matches!(
            SourceState::from_json(huge, "gs://b/s"),
            Err(StateError::Newer { .. })
        ));
        for broken in unknown.into_iter().chain(broken) {
            let error = SourceState::from_json(broken, "gs://b/s")
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("gs://b/s is not a state document"),
                "{error}"
            );
        }
        let state = SourceState::new("a");
        assert_eq!(
            SourceState::from_json(&state.to_json().unwrap(), "").unwrap(),
            state
        );
    }

    #[test]
    fn version_1_is_read_without_checkpoints() {
        let old = r#"{"version":1,"source":"a","feed":{"query":"q","cursor":"c","at":"2024-01-02T00:00:00Z"},"partitions":
            {"2024-01-01":{"failure":{"at":"2024-01-02T00:00:00Z","error":"e"},"unfinished":{"query":"q","cursor":"c",
            "pages":1,"records":1,"rescued":0,"content":"","extracted_at":"2024-01-02T00:00:00Z","parts":[]}}}}"#;
        let state = SourceState::from_json(old.as_bytes(), "").unwrap();
        assert_eq!(
            (state.version, state.feed.as_ref().unwrap().cursor.as_str()),
            (VERSION, "c")
        );
        let partition = &state.partitions[&Partition::parse("2024-01-01").unwrap()];
        assert!(partition.failure.is_some() && partition.checkpoint.is_none());
        assert_eq!(
            SourceState::from_json(&state.to_json().unwrap(), "").unwrap(),
            state
        );
    }

    #[test]
    fn open_rows_are_kept_in_the_state() {
        let overlap = |ended| Overlap {
            source: "a".into(),
            day: NaiveDate::default(),
            ended,
        };
        let ended = EndedRow {
            row: u64::MAX,
            end: DateTime::UNIX_EPOCH,
        };
        let part = CheckpointResult {
            overlaps: [overlap(None), overlap(Some(ended))].into(),
            ..CheckpointResult::default()
        };
        let mut state = SourceState::new("a");
        let found = state.partition_mut(Partition::Day(NaiveDate::default()));
        found.open_rows = 2;
        found.checkpoint = Some(Box::new(Checkpoint {
            asked: "0a".repeat(32),
            requests: 1,
            rest: vec![],
            resume: None,
            extracted_at: DateTime::UNIX_EPOCH,
            whole: CheckpointResult::default(),
            part,
        }));
        assert_eq!(
            SourceState::from_json(&state.to_json().unwrap(), "").unwrap(),
            state
        );
    }

    #[test]
    fn versions_2_to_4_keep_their_checkpoints() {
        let note = Checkpoint {
            asked: "0a".repeat(32),
            requests: 1,
            rest: vec![],
            resume: None,
            extracted_at: DateTime::UNIX_EPOCH,
            whole: CheckpointResult::default(),
            part: CheckpointResult::default(),
        };
        let mut state = SourceState::new("a");
        state.partition_mut(Partition::Snapshot).checkpoint = Some(Box::new(note));
        for version in ["\"version\":2", "\"version\":3", "\"version\":4"] {
            let old = String::from_utf8(state.to_json().unwrap())
                .unwrap()
                .replace("\"version\":5", version);
            assert!(old.contains(version));
            assert_eq!(SourceState::from_json(old.as_bytes(), "").unwrap(), state);
        }
    }

    /// A document with something of everything.
    fn whole() -> Value {
        let digest = "0123456789abcdef".repeat(4);
        let at = "2024-01-02T03:04:05Z";
        let run = "20240102T030405Z-0123abcd-00000.parquet";
        let object = |place: &str| serde_json::json!({"path": format!("{place}/{run}"), "rows": 2, "bytes": 300});
        let load = serde_json::json!({"target": "t", "fingerprint": digest, "job": "j", "rows": 2});
        let result = serde_json::json!({"records": 1, "rescued": 0, "content": digest, "parts": [{"source": "other",
            "partition": "2024-01-01", "objects": [object("raw/other/date=2024-01-01")], "kept": 1, "total": 2,
            "open_rows": 1}], "overlaps": [{"source": "other", "day": "2023-12-31", "ended": {"row": 7, "end": at}}]});
        serde_json::json!({"version": VERSION, "source": "trips", "asked_from": "2024-01-01",
            "archives": {"2023": {"mark": "0123456789abcdef", "digest": digest}},
            "feed": {"query": "/q", "cursor": "c", "at": at, "since": at, "heard_from": at},
            "partitions": {
                "2024-01-01": {
                    "raw": {"objects": [object("raw/trips/date=2024-01-01")], "records": 3, "not_owned": 1, "rescued": 0,
                        "content": digest, "extracted_at": at},
                    "failure": {"at": at, "error": "e"}, "changed": at, "shrunken_from": 9, "open_rows": 2,
                    "raw_load": load, "raw_started": {"target": "t", "job": "j", "attempt": 1},
                    "unfinished": {"asked": digest, "requests": 1, "extracted_at": at, "whole": result, "part": result,
                        "rest": [{"request": 0, "start": at, "end": at}],
                        "resume": {"query": "q", "cursor": "c", "pages": 1}},
                    "models": {"fleet_trips": {"fingerprint": digest, "attempts": 2, "load": load,
                        "objects": [object("flattened/fleet_trips/date=2024-01-01")],
                        "started": {"target": "t", "job": "j", "attempt": 1}}}},
                "snapshot": {"raw": {"objects": [object("raw/trips/snapshot=20240102T030405Z")], "records": 3,
                    "not_owned": 1, "rescued": 0, "content": "", "extracted_at": at}}}})
    }

    #[test]
    fn invalid_state_documents_are_refused() {
        let read = |document: &Value| {
            SourceState::from_json(document.to_string().as_bytes(), "gs://b/state/trips.json")
        };
        let state = read(&whole()).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&state.to_json().unwrap()).unwrap(),
            whole()
        );

        let day = "/partitions/2024-01-01";
        let object = |part: &str| format!("{day}{part}/objects/0");
        let objects = [
            object("/raw"),
            object("/models/fleet_trips"),
            object("/unfinished/whole/parts/0"),
            object("/unfinished/part/parts/0"),
            "/partitions/snapshot/raw/objects/0".into(),
        ];
        let mut cases: Vec<(String, Value)> = Vec::new();
        for object in &objects {
            for path in [
                "../../../../outside.parquet",
                "raw/../../outside.parquet",
                "/etc/passwd",
                "file:///etc/passwd",
                "raw/drivers/date=2024-01-01/20240102T030405Z-0123abcd-00000.parquet",
                "raw/trips/date=2024-01-02/20240102T030405Z-0123abcd-00000.parquet",
                "flattened/other/date=2024-01-01/20240102T030405Z-0123abcd-00000.parquet",
                "raw/trips/date=2024-01-01/export.parquet",
                "",
            ] {
                cases.push((format!("{object}/path"), path.into()));
            }
            cases.push((format!("{object}/rows"), u64::MAX.into()));
            cases.push((format!("{object}/bytes"), u64::MAX.into()));
            cases.push((format!("{object}/rows"), (-1).into()));
        }
        for mark in ["", "../../../x", "0123456789abcdef0", "0123456789ABCDEF"] {
            cases.push(("/archives/2023/mark".into(), mark.into()));
            cases.push(("/archives/2023/digest".into(), mark.into()));
        }
        let digests = [
            "/raw/content",
            "/raw_load/fingerprint",
            "/models/fleet_trips/fingerprint",
            "/models/fleet_trips/load/fingerprint",
            "/unfinished/asked",
            "/unfinished/whole/content",
        ];
        for digest in digests {
            for text in [
                "a\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".to_string(),
                "f".into(),
                "F".repeat(64),
                "g".repeat(64),
            ] {
                cases.push((format!("{day}{digest}"), text.into()));
            }
        }
        for instant in ["/feed/at", "/feed/since", "/feed/heard_from"] {
            cases.push((instant.into(), "+262142-12-31T23:59:59Z".into()));
        }
        for instant in [
            "/raw/extracted_at",
            "/changed",
            "/failure/at",
            "/unfinished/extracted_at",
            "/unfinished/rest/0/end",
            "/unfinished/part/overlaps/0/ended/end",
        ] {
            for at in [
                "+262142-12-31T23:59:59Z",
                "-0001-01-01T00:00:00Z",
                "0001-01-01T00:00:00Z",
                "soon",
            ] {
                cases.push((format!("{day}{instant}"), at.into()));
            }
        }
        for number in [
            "/raw/records",
            "/raw/not_owned",
            "/raw/rescued",
            "/shrunken_from",
            "/open_rows",
            "/unfinished/part/parts/0/open_rows",
            "/raw_load/rows",
            "/unfinished/requests",
        ] {
            cases.push((format!("{day}{number}"), u64::MAX.into()));
        }
        for number in [
            "/models/fleet_trips/attempts",
            "/raw_started/attempt",
            "/models/fleet_trips/started/attempt",
        ] {
            cases.push((format!("{day}{number}"), u32::MAX.into()));
        }
        let long = "x".repeat(MAX_STATE_TEXT + 1);
        for text in [
            "/feed/query".to_string(),
            "/feed/cursor".into(),
            format!("{day}/raw_load/target"),
        ] {
            cases.push((text, long.clone().into()));
        }
        cases.push(("/source".into(), "../trips".into()));
        cases.push(("/asked_from".into(), "-0001-01-01".into()));
        cases.push((
            format!("{day}/unfinished/whole/parts/0/source"),
            "../x".into(),
        ));
        cases.push((
            format!("{day}/unfinished/whole/parts/0/partition"),
            "2024-1-1".into(),
        ));
        cases.push((
            format!("{day}/unfinished/whole/overlaps/0/source"),
            "../x".into(),
        ));
        cases.push((
            format!("{day}/unfinished/whole/overlaps/0/day"),
            "0001-01-01".into(),
        ));
        for (pointer, value) in cases {
            let mut document = whole();
            *document
                .pointer_mut(&pointer)
                .unwrap_or_else(|| panic!("{pointer}")) = value.clone();
            let error = read(&document).unwrap_err().to_string();
            assert!(
                error.starts_with("gs://b/state/trips.json is not a state document"),
                "{pointer}: {error}"
            );
            assert!(
                error.len() < 500 && !error.contains('\n'),
                "{pointer} {value}: {error}"
            );
        }
        for name in [
            "2024-1-1",
            "2024-13-01",
            "0001-01-01",
            "+12024-01-01",
            "Snapshot",
            "",
        ] {
            let mut document = whole();
            document["partitions"][name] = serde_json::json!({});
            assert!(read(&document).is_err(), "{name}");
        }
        for year in ["1969", "10000", "-1", "02023", "2023x", ""] {
            let mut document = whole();
            document["archives"][year] = document["archives"]["2023"].clone();
            assert!(read(&document).is_err(), "{year}");
        }
        let mut document = whole();
        document["partitions"]["2024-01-01"]["models"]["../x"] =
            serde_json::json!({"fingerprint": "0".repeat(64), "objects": []});
        assert!(read(&document).is_err());
    }

    #[test]
    fn state_sums_and_names_are_checked() {
        let mut document = whole();
        let object = document["partitions"]["2024-01-01"]["raw"]["objects"][0].clone();
        let mut many = vec![object.clone(); 1025];
        for object in &mut many {
            object["rows"] = (1u64 << 40).into();
        }
        document["partitions"]["2024-01-01"]["raw"]["objects"] = many.into();
        let error = SourceState::from_json(document.to_string().as_bytes(), "s")
            .unwrap_err()
            .to_string();
        assert!(error.contains("out of range"), "{error}");
        let twice =
            whole()
                .to_string()
                .replacen("\"snapshot\":", "\"2024-01-01\":{},\"2024-01-01\":", 1);
        for version in ["1", "2", "3", "4", "5"] {
            let twice = twice.replace("\"version\":5", &format!("\"version\":{version}"));
            let error = SourceState::from_json(twice.as_bytes(), "s")
                .unwrap_err()
                .to_string();
            assert!(error.contains("`2024-01-01` appears twice"), "{error}");
        }
    }

    #[test]
    fn state_documents_belong_to_their_source() {
        let trips = whole().to_string();
        assert!(SourceState::of("trips", trips.as_bytes(), "s").is_ok());
        let error = SourceState::of("vehicles", trips.as_bytes(), "s")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("it belongs to source trips, expected vehicles"),
            "{error}"
        );
        let mut document = whole();
        document["partitions"]["2024-01-01"]["failure"]["error"] =
            "\u{e9}".repeat(MAX_STATE_TEXT).into();
        let state = SourceState::from_json(document.to_string().as_bytes(), "s").unwrap();
        assert!(
            state
                .partition(Partition::parse("2024-01-01").unwrap())
                .unwrap()
                .failure
                .as_ref()
                .unwrap()
                .error
                .len()
                <= MAX_STATE_TEXT
        );
    }
}
