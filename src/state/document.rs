//! The JSON document of one source.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StateError;
use crate::store::ObjectRef;
use crate::store::layout::Partition;

/// Version of the document that this program writes. A newer one is refused, not guessed at.
///
/// Version 1 noted unfinished walks in another form; those begin anew. Version 2 did not have `asked_from`,
/// `shrunken_from` and `raw_started`, version 3 no `open_rows` and `overlaps`.
pub const VERSION: u32 = 4;

/// Everything that is known about one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceState {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the source.
    pub source: String,
    /// By day (`2024-01-31`), or `snapshot`.
    #[serde(default)]
    pub partitions: BTreeMap<String, PartitionState>,
    /// The first day that any run has asked for. Days are read some at a time: one that a run did not come to leaves
    /// no other trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_from: Option<NaiveDate>,
    /// Where a feed goes on: the source itself, or the one that tells which of its days have changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// Where a feed goes on: the cursor and the query it is bound to, committed together with the rows before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The rendered query without cursor; the API refuses the cursor with any other.
    pub query: String,
    /// The opaque cursor.
    pub cursor: String,
    /// When it was received. Cursors live 30 days.
    pub at: DateTime<Utc>,
    /// Where the feed begins again, should its cursor be forgotten: a little before it had come to its end, or where
    /// it began, if it was left in its middle. None: a day before `at`. Of a feed of changed days: up to when it has told
    /// all, if it was left in its middle; None: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// From when on a feed of changed days was heard without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_from: Option<DateTime<Utc>>,
}

/// Everything that is known about one partition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    /// The committed raw rows; none as long as the partition was never read whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawState>,
    /// The last try to read it, if that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How many of the committed rows had no end yet when they were read: they still last, and are read again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_rows: u64,
    /// When readings of this day were found that may not be among its rows: the source's feed has brought them, or they
    /// came with a later day, into which they last. It is forgotten once the day was read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<DateTime<Utc>>,
    /// How many rows the list had before it lost so many that nobody believes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunken_from: Option<u64>,
    /// Where the raw rows themselves were loaded, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_load: Option<Load>,
    /// A load of the raw rows that was started and whose end is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_started: Option<Started>,
    /// A walk that begins with this partition and was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
    /// What was made of them, by model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelState>,
}

/// What an unfinished walk has brought so far, and where it goes on.
///
/// It stands at the walk's first source and partition, and speaks for all of them, so that it changes as one step.
/// It makes nothing complete: some endpoints page by vehicle, and half their pages are all days of some vehicles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// Digest of the declared columns and of the requests that are whole: a walk that asks otherwise begins anew.
    pub asked: String,
    /// How many of the walk's requests, from its first, were sent.
    pub requests: u64,
    /// What is left of those: windows that the server could not manage in one go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rest: Vec<UnfinishedWindow>,
    /// Where the next request goes on, if some of its pages are safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// When the walk began.
    pub extracted_at: DateTime<Utc>,
    /// What the requests brought that are whole.
    pub whole: Gathered,
    /// What the pages before `resume` brought.
    #[serde(default)]
    pub part: Gathered,
}

/// A part of a request's window that is still to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfinishedWindow {
    /// Number of the request in its walk, from 0.
    pub request: u64,
    /// First instant.
    pub start: DateTime<Utc>,
    /// The instant after the last.
    pub end: DateTime<Utc>,
}

/// The position behind the last page of a request that is safe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Path and query without cursor. The cursor is bound to them.
    pub query: String,
    /// The opaque cursor.
    pub cursor: String,
    /// Pages before it.
    pub pages: u64,
}

/// What pages brought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gathered {
    /// Records in them.
    pub records: u64,
    /// Values of theirs that went to `_rescued_data`.
    pub rescued: u64,
    /// Digest of their records.
    pub content: String,
    /// Their rows, by source and partition.
    pub parts: Vec<UnfinishedPart>,
    /// What they showed of rows that belong to earlier days.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub overlaps: BTreeSet<Overlap>,
}

/// A row of an earlier day, which came because it lasted into the days that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// The source.
    pub source: String,
    /// The day on which the row starts, and to which it belongs.
    pub day: NaiveDate,
    /// The row, if it has ended; none stands for all rows of the day that still last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedRow>,
}

/// A row that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndedRow {
    /// Digest of what tells it apart.
    pub row: u64,
    /// Its end.
    pub end: DateTime<Utc>,
}

impl Unfinished {
    /// All raw objects that it names.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.whole.parts.iter().chain(&self.part.parts).flat_map(|part| &part.objects)
    }
}

/// The rows of one source and partition in an unfinished walk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfinishedPart {
    /// The source.
    pub source: String,
    /// The partition.
    pub partition: String,
    /// The raw objects.
    pub objects: Vec<ObjectRef>,
    /// Rows and readings that the partition owns.
    pub kept: u64,
    /// And all that were looked at.
    pub total: u64,
    /// Those of the partition's own that have no end yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open_rows: u64,
}

/// The raw rows of a complete partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawState {
    /// The objects that hold them. None at all: asked for, and nothing was there.
    pub objects: Vec<ObjectRef>,
    /// Records in the API's pages.
    pub records: u64,
    /// Rows and readings left out because another day owns them.
    pub not_owned: u64,
    /// Values that did not fit the declared schema and went to `_rescued_data`.
    pub rescued: u64,
    /// Digest of the records as the API sent them: equal digests are equal content.
    pub content: String,
    /// When the read began. A day read before it and its late data were over is read again.
    pub extracted_at: DateTime<Utc>,
}

impl RawState {
    /// Rows in its objects.
    pub fn rows(&self) -> u64 {
        self.objects.iter().map(|object| object.rows).sum()
    }
}

/// A try that failed. It is forgotten once the partition was read whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// When.
    pub at: DateTime<Utc>,
    /// One line: what failed, where.
    pub error: String,
}

/// What a model made of a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelState {
    /// Digest of the SQL, the contract and the raw objects; another one means stale.
    pub fingerprint: String,
    /// The flattened objects. A partition without rows has one, with none: it empties what was loaded before.
    pub objects: Vec<ObjectRef>,
    /// Where they were loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// A load that was started and whose end is not known: the program died while it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Started>,
    /// Job ids that are used up for these objects: an id can never run again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

/// A load job that may still be at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Started {
    /// The warehouse and dataset.
    pub target: String,
    /// The job's id without its attempt; empty in a warehouse without jobs.
    pub job: String,
    /// The first attempt.
    pub attempt: u32,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// A finished load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// The warehouse and dataset.
    pub target: String,
    /// Fingerprint of the model state that was loaded.
    pub fingerprint: String,
    /// The job, in warehouses that have jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Rows that the warehouse reported.
    pub rows: u64,
}

impl PartitionState {
    /// Takes note of a read that began at `began`: it has what had arrived by then.
    pub fn read_again(&mut self, began: DateTime<Utc>) {
        (self.unfinished, self.failure) = (None, None);
        self.changed = self.changed.filter(|changed| *changed > began);
    }
}

impl SourceState {
    /// The state of a source that was never read.
    pub fn new(source: &str) -> Self {
        Self { version: VERSION, source: source.into(), asked_from: None, partitions: BTreeMap::new(), feed: None }
    }

    /// Reads a document, and refuses one that a newer program wrote.
    pub fn from_json(bytes: &[u8], uri: &str) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let malformed = |error: serde_json::Error| StateError::Malformed { uri: uri.into(), reason: error.to_string() };
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.version > VERSION {
            return Err(StateError::Newer { uri: uri.into(), found: head.version });
        }
        if head.version == VERSION {
            return serde_json::from_slice(bytes).map_err(malformed);
        }
        let mut older: serde_json::Map<String, Value> = serde_json::from_slice(bytes).map_err(malformed)?;
        older.insert("version".into(), VERSION.into());
        let partitions = older.get_mut("partitions").filter(|_| head.version < 2).and_then(Value::as_object_mut);
        for partition in partitions.into_iter().flat_map(|all| all.values_mut()).filter_map(Value::as_object_mut) {
            partition.remove("unfinished");
        }
        serde_json::from_value(older.into()).map_err(malformed)
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Maps have string keys and no value is a float: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A partition, if anything is known of it.
    pub fn partition(&self, partition: Partition) -> Option<&PartitionState> {
        self.partitions.get(&partition.to_string())
    }

    /// A partition, made if nothing was known of it.
    pub fn partition_mut(&mut self, partition: Partition) -> &mut PartitionState {
        self.partitions.entry(partition.to_string()).or_default()
    }

    /// The partitions whose raw rows are complete.
    pub fn complete(&self) -> impl Iterator<Item = (Partition, &RawState)> {
        self.partitions.iter().filter_map(|(key, state)| Some((Partition::parse(key)?, state.raw.as_ref()?)))
    }

    /// Whether any run has asked for the day.
    pub fn is_asked(&self, day: NaiveDate) -> bool {
        self.partition(Partition::Day(day)).is_some() || self.asked_from.is_some_and(|from| from <= day)
    }

    /// Days that are complete, and changed since.
    pub fn changed_days(&self) -> impl Iterator<Item = NaiveDate> {
        let changed =
            self.partitions.iter().filter(|(_, partition)| partition.changed.is_some() && partition.raw.is_some());
        changed.filter_map(|(key, _)| Partition::parse(key)?.day())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_document_is_refused_and_a_broken_one_named() {
        let newer = br#"{"version":5,"source":"a","something":"new"}"#;
        assert!(matches!(SourceState::from_json(newer, "gs://b/s"), Err(StateError::Newer { found: 5, .. })));
        let unknown = [&b"{\"version\":1,\"source\":\"a\",\"x\":1}"[..], b"{\"version\":4,\"source\":\"a\",\"x\":1}"];
        let broken = [&b"{}"[..], b"", b"\xff", b"[1]", b"{\"version\":1,\"partitions\":1}", b"{\"version\":1}"];
        for broken in unknown.into_iter().chain(broken) {
            let error = SourceState::from_json(broken, "gs://b/s").unwrap_err().to_string();
            assert!(error.starts_with("gs://b/s is no state document"), "{error}");
        }
        let state = SourceState::new("a");
        assert_eq!(SourceState::from_json(&state.to_json(), "").unwrap(), state);
    }

    #[test]
    fn a_document_of_version_1_is_read_and_its_unfinished_walks_begin_anew() {
        let old = r#"{"version":1,"source":"a","feed":{"query":"q","cursor":"c","at":"2024-01-02T00:00:00Z"},"partitions":
            {"2024-01-01":{"failure":{"at":"2024-01-02T00:00:00Z","error":"e"},"unfinished":{"query":"q","cursor":"c",
            "pages":1,"records":1,"rescued":0,"content":"","extracted_at":"2024-01-02T00:00:00Z","parts":[]}}}}"#;
        let state = SourceState::from_json(old.as_bytes(), "").unwrap();
        assert_eq!((state.version, state.feed.as_ref().unwrap().cursor.as_str()), (VERSION, "c"));
        let partition = &state.partitions["2024-01-01"];
        assert!(partition.failure.is_some() && partition.unfinished.is_none());
        assert_eq!(SourceState::from_json(&state.to_json(), "").unwrap(), state);
    }

    #[test]
    fn rows_that_last_are_kept_with_the_day_and_with_what_an_unfinished_walk_has_shown() {
        let overlap = |ended| Overlap { source: "a".into(), day: NaiveDate::default(), ended };
        let ended = EndedRow { row: u64::MAX, end: DateTime::UNIX_EPOCH };
        let part = Gathered { overlaps: [overlap(None), overlap(Some(ended))].into(), ..Gathered::default() };
        let mut state = SourceState::new("a");
        let found = state.partition_mut(Partition::Day(NaiveDate::default()));
        found.open_rows = 2;
        found.unfinished = Some(Unfinished {
            asked: "a".into(),
            requests: 1,
            rest: vec![],
            resume: None,
            extracted_at: DateTime::UNIX_EPOCH,
            whole: Gathered::default(),
            part,
        });
        assert_eq!(SourceState::from_json(&state.to_json(), "").unwrap(), state);
    }

    #[test]
    fn documents_of_versions_2_and_3_are_read_with_their_unfinished_walks() {
        let note = Unfinished {
            asked: "a".into(),
            requests: 1,
            rest: vec![],
            resume: None,
            extracted_at: DateTime::UNIX_EPOCH,
            whole: Gathered::default(),
            part: Gathered::default(),
        };
        let mut state = SourceState::new("a");
        state.partition_mut(Partition::Snapshot).unfinished = Some(note);
        for version in ["\"version\":2", "\"version\":3"] {
            let old = String::from_utf8(state.to_json()).unwrap().replace("\"version\":4", version);
            assert!(old.contains(version));
            assert_eq!(SourceState::from_json(old.as_bytes(), "").unwrap(), state);
        }
    }
}
