//! Where objects lie. Table before date, so that keys spread over a bucket's ranges.
//!
//! Folders are named as Hive does, `name=value`, and tools that read a folder (pandas, DuckDB, Spark) make a column of
//! that. So the name is one that no table has: `date=`, which it was before, is a column of several tables. Nor does it
//! begin with `_`, which pyarrow takes for hidden. Objects under the older name are found by the state, which keeps
//! whole paths.

use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};

/// The unit of work, commit, retry and reload: a source's UTC day, or its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partition {
    /// The whole list, as of the last time it was asked for.
    Snapshot,
    /// A UTC day.
    Day(NaiveDate),
}

impl Partition {
    /// The day, if it is one.
    pub fn day(self) -> Option<NaiveDate> {
        match self {
            Self::Day(day) => Some(day),
            Self::Snapshot => None,
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "snapshot" => Some(Self::Snapshot),
            day => NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().map(Self::Day),
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot => f.write_str("snapshot"),
            Self::Day(day) => write!(f, "{}", day.format("%Y-%m-%d")),
        }
    }
}

/// One execution of the pipeline: names its objects, so that no two runs ever write the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId {
    started: DateTime<Utc>,
    text: String,
}

impl RunId {
    /// A new id: the start time and a random tail.
    pub fn new(started: DateTime<Utc>) -> Self {
        let tail: u32 = rand::random();
        Self { started, text: format!("{}-{tail:08x}", started.format("%Y%m%dT%H%M%SZ")) }
    }

    /// When the run started.
    pub fn started(&self) -> DateTime<Utc> {
        self.started
    }

    /// The id as text, fit for keys and job ids.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the folders of days are called. No table has a column of this name.
pub const DAY_FOLDER: &str = "partition_day";
/// What they were called before; such objects are read, loaded and swept as long as there are any.
pub const OLD_DAY_FOLDER: &str = "date";

fn folder(partition: Partition, run: &RunId) -> String {
    match partition {
        Partition::Day(day) => format!("{DAY_FOLDER}={}", day.format("%Y-%m-%d")),
        Partition::Snapshot => format!("snapshot={}", run.started().format("%Y%m%dT%H%M%SZ")),
    }
}

/// Key of a raw object in the raw bucket.
pub fn raw_object(source: &str, partition: Partition, run: &RunId, number: u64) -> String {
    format!("raw/{source}/{}/{run}-{number:05}.parquet", folder(partition, run))
}

/// Key of a flattened object in the flattened bucket.
pub fn flattened_object(model: &str, partition: Partition, run: &RunId, number: u64) -> String {
    format!("flattened/{model}/{}/{run}-{number:05}.parquet", folder(partition, run))
}

/// Prefix of raw objects in the raw bucket.
pub const RAW: &str = "raw";
/// Prefix of flattened objects in the flattened bucket.
pub const FLATTENED: &str = "flattened";
/// Prefix of the state documents in the raw bucket.
pub const STATE: &str = "state";
/// Prefix of shipped logs in the raw bucket.
pub const LOGS: &str = "logs";

/// Whether an object is the program's own business, and none of those who may read the data: state, locks and logs.
pub(super) fn is_private(key: &str) -> bool {
    let first = key.split('/').next().unwrap_or_default();
    matches!(first, STATE | LOGS | LOCK_OBJECT)
}

/// Key of the run lock in the raw bucket.
pub const LOCK_OBJECT: &str = "lock.json";

/// Key of a source's state document in the raw bucket.
pub fn state_object(source: &str) -> String {
    format!("state/{source}.json")
}
