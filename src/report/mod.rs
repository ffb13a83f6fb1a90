//! What a run did: events added up, as a value and as text; and its log.

pub mod logs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use serde::Serialize;

use crate::events::{Event, Observer};

/// What a run did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunReport {
    /// The run's id.
    pub run: String,
    /// By source.
    pub sources: BTreeMap<String, SourceReport>,
    /// By model.
    pub models: BTreeMap<String, ModelReport>,
    /// Pages that arrived.
    pub pages: u64,
    /// Their size after decompression.
    pub page_bytes: u64,
    /// Requests that had to be sent again.
    pub delayed_requests: u64,
    /// What did not fit the declared schemas: `source: path (reason)` → how often.
    pub drift: BTreeMap<String, u64>,
    /// Sources that the organisation does not have, and why that is known.
    pub skipped: BTreeMap<String, String>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Why nothing was done, if nothing was, nothing has failed, and the run has come to its end.
    pub idle: Option<Idle>,
    /// Whether the run was told to stop.
    pub cancelled: bool,
    /// Wall time.
    pub elapsed: Duration,
}

/// Why a run had nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Everything that was asked for is in the warehouse.
    Complete,
    /// This day, the first that was asked for, has not begun.
    NotBegun(NaiveDate),
    /// Every endpoint that was asked answers 404, and none ever answered otherwise.
    NotFound,
    /// So many partitions are not in the warehouse, but nothing of that was this run's to do: other stages', or days
    /// that the organisation has no endpoint for.
    Missing {
        /// Not read whole.
        unread: u64,
        /// Read, and some table not derived.
        not_derived: u64,
        /// Derived, and some table not loaded.
        not_loaded: u64,
    },
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("nothing to do: everything asked for is complete and loaded"),
            Self::NotBegun(day) => write!(f, "nothing to do: {day} has not begun yet"),
            Self::NotFound => f.write_str(
                "nothing was read: every endpoint answers 404 (is SAMSARA_API_URL right, and does the organisation \
                 have these products?)",
            ),
            Self::Missing { unread, not_derived, not_loaded } => write!(
                f,
                "nothing was done, and not everything asked for is in the warehouse: {unread} partitions not read, \
                 {not_derived} not derived, {not_loaded} not loaded (`samsara-etl status --missing` lists them)"
            ),
        }
    }
}

/// What happened to one source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SourceReport {
    /// Partitions committed.
    pub partitions: u64,
    /// Records in the API's pages.
    pub records: u64,
    /// Raw rows committed.
    pub rows: u64,
    /// Rows and readings left to the day that owns them.
    pub not_owned: u64,
    /// Values that went to `_rescued_data`.
    pub rescued: u64,
    /// Partitions read again and found unchanged.
    pub unchanged: u64,
    /// Raw rows loaded into the staging dataset.
    pub staged_rows: u64,
}

/// What happened to one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModelReport {
    /// Partitions derived.
    pub transformed: u64,
    /// Rows in them.
    pub rows: u64,
    /// Partitions loaded.
    pub loaded: u64,
    /// Rows that the warehouse reported.
    pub loaded_rows: u64,
}

/// Something that failed while the rest went on.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Source or model.
    pub name: String,
    /// The partition, if it was one.
    pub partition: Option<String>,
    /// One line.
    pub error: String,
}

/// Adds events up.
#[derive(Debug)]
pub struct Tally {
    report: Mutex<RunReport>,
    started: Instant,
}

impl Default for Tally {
    fn default() -> Self {
        Self { report: Mutex::default(), started: Instant::now() }
    }
}

impl Tally {
    /// The sum so far.
    pub fn report(&self) -> RunReport {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        report.elapsed = self.started.elapsed();
        report
    }
}

impl Observer for Tally {
    fn observe(&self, event: &Event) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::PageFetched { bytes, .. } => {
                report.pages += 1;
                report.page_bytes += bytes;
            }
            Event::RequestDelayed { .. } => report.delayed_requests += 1,
            Event::PartitionExtracted { source, records, rows, not_owned, rescued, unchanged, .. } => {
                let source = report.sources.entry(source.clone()).or_default();
                source.partitions += 1;
                source.records += records;
                source.rows += rows;
                source.not_owned += not_owned;
                source.rescued += rescued;
                source.unchanged += u64::from(*unchanged);
            }
            Event::DriftFound { sources, path, reason, count } => {
                *report.drift.entry(format!("{}: {path} ({reason})", sources.join(", "))).or_default() += count;
            }
            Event::PartitionTransformed { model, rows, .. } => {
                let model = report.models.entry(model.clone()).or_default();
                model.transformed += 1;
                model.rows += rows;
            }
            Event::PartitionLoaded { model, rows, .. } => {
                let model = report.models.entry(model.clone()).or_default();
                model.loaded += 1;
                model.loaded_rows += rows;
            }
            Event::RawLoaded { source, rows, .. } => {
                report.sources.entry(source.clone()).or_default().staged_rows += rows;
            }
            Event::Skipped { name, reason } => {
                report.skipped.insert(name.clone(), reason.clone());
            }
            Event::Failed { name, partition, error } => {
                report.failures.push(Failure {
                    name: name.clone(),
                    partition: partition.clone(),
                    error: error.clone(),
                });
            }
        }
    }
}

impl RunReport {
    /// Whether anything is other than before: objects, tables, or a failure to report.
    pub fn changed_something(&self) -> bool {
        let read = self.sources.values().any(|source| source.partitions > source.unchanged || source.staged_rows > 0);
        read || !self.models.is_empty() || !self.failures.is_empty()
    }

    /// Whether anything at all was done.
    pub fn did_something(&self) -> bool {
        !self.sources.is_empty() || !self.models.is_empty()
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.sources.keys().chain(self.models.keys()).map(String::len);
        let width = names.max().unwrap_or_default().max("source".len());
        if !self.sources.is_empty() {
            writeln!(
                f,
                "{:<width$} {:>10} {:>10} {:>9} {:>8}",
                "source", "partitions", "raw rows", "unchanged", "rescued"
            )?;
            for (name, source) in &self.sources {
                let SourceReport { partitions, rows, unchanged, rescued, .. } = source;
                writeln!(f, "{name:<width$} {partitions:>10} {rows:>10} {unchanged:>9} {rescued:>8}")?;
            }
            writeln!(f)?;
        }
        if !self.models.is_empty() {
            writeln!(f, "{:<width$} {:>10} {:>10} {:>9} {:>8}", "table", "derived", "rows", "loaded", "rows")?;
            for (name, model) in &self.models {
                let ModelReport { transformed, rows, loaded, loaded_rows } = model;
                writeln!(f, "{name:<width$} {transformed:>10} {rows:>10} {loaded:>9} {loaded_rows:>8}")?;
            }
            writeln!(f)?;
        }
        if let Some(idle) = &self.idle {
            writeln!(f, "{idle}")?;
        }
        writeln!(
            f,
            "{} pages, {:.1} MB, {} requests sent again, {:.1} s",
            self.pages,
            self.page_bytes as f64 / 1e6,
            self.delayed_requests,
            self.elapsed.as_secs_f64()
        )?;
        if !self.drift.is_empty() {
            writeln!(f, "schema drift (kept in _rescued_data):")?;
            for (what, count) in &self.drift {
                writeln!(f, "  {what}: {count}")?;
            }
        }
        if self.cancelled {
            writeln!(f, "stopped before the end: what is complete is kept, the next run goes on from there")?;
        }
        for (name, reason) in &self.skipped {
            writeln!(f, "skipped: {}", named(name, reason))?;
        }
        for Failure { name, error, .. } in &self.failures {
            writeln!(f, "failed: {}", named(name, error))?;
        }
        Ok(())
    }
}

/// Most messages begin with the table's name; the others get it.
fn named(name: &str, message: &str) -> String {
    if message.starts_with(name) { message.to_string() } else { format!("{name}: {message}") }
}
