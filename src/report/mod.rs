//! The report of a run, summed up from its events, as a value and as text; and the run's log.

pub mod dictionary;
pub mod html;
pub mod logs;
pub mod marts;
pub mod progress;
mod shell;
pub mod summary;
pub mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use parking_lot::Mutex;
use serde::Serialize;

use crate::events::{Event, FailureKind, LoadPurpose, Observer, Outcome};
use crate::extract::FURTHER_PATHS;
use crate::redact;
use crate::transform::add_text;

/// Number of different texts of one kind that a report counts separately.
const MOST_TEXTS: usize = 2000;
/// Number of endpoints that a report counts separately.
const MOST_ENDPOINTS: usize = 500;
/// Number of examples kept for each source.
const MOST_EXAMPLES: usize = 10;

/// What a run did: counts, drift, failures. Printed at the end of a run and logged as JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunReport {
    /// Id of the run, as in the names of its objects.
    pub run: String,
    /// Results of the extract stage, by source name.
    pub sources: BTreeMap<String, SourceReport>,
    /// Results of the transform and load stages, by table name.
    pub models: BTreeMap<String, ModelReport>,
    /// Loads into the warehouse, by what they are for.
    pub loads: BTreeMap<LoadPurpose, LoadReport>,
    /// Number of pages received.
    pub pages: u64,
    /// Size of the pages in bytes, decompressed.
    pub page_bytes: u64,
    /// Number of retries.
    pub delayed_requests: u64,
    /// Requests by endpoint, with `{id}` in the place of ids.
    pub endpoints: BTreeMap<String, EndpointReport>,
    /// How long requests have waited for their turn at the rate limits, all together.
    #[serde(rename = "waited_seconds", serialize_with = "seconds")]
    pub waited: Duration,
    /// What did not fit the declared schemas: `source: path (reason)` → how often. Of very many paths, some are told
    /// and the others counted together.
    pub drift: BTreeMap<String, u64>,
    /// Values that are not valid times and NULL in the table, by `table.column`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unfit_times: BTreeMap<String, UnfitReport>,
    /// Tables whose duplicate keys were accepted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub accepted_duplicates: BTreeMap<String, AcceptedDuplicates>,
    /// Rows far outside the requested days, which are in no table, by source.
    pub outside: BTreeMap<String, OutsideReport>,
    /// Envelope fields of pages without rows: `source partition: path = text` → count. They are stored nowhere else.
    pub envelope: BTreeMap<String, u64>,
    /// Sources that were asked and that the token or the organisation does not have, and what the API said.
    pub not_available: BTreeMap<String, String>,
    /// Remarks about sources and tables that are not failures: the first in alphabetical order for each, so that of
    /// several days the earliest.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<String, String>,
    /// Number of further remarks about the same source or table, if any. The log has them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub further_notes: BTreeMap<String, u64>,
    /// Failures, in the order in which they happened.
    pub failures: Vec<Failure>,
    /// Why nothing was done, if the run ended without doing anything and without a failure.
    pub idle: Option<Idle>,
    /// Whether the run was stopped early.
    pub cancelled: bool,
    /// Wall time.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// Requests to one endpoint.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EndpointReport {
    /// Pages that came.
    pub pages: u64,
    /// Their size in bytes, decompressed.
    pub bytes: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Rows and readings of a source that lie far outside the days that were asked for.
#[derive(Debug, Clone, Serialize)]
pub struct OutsideReport {
    /// Number of occurrences.
    pub count: u64,
    /// The earliest of their times.
    pub first: DateTime<Utc>,
    /// The latest of their times.
    pub last: DateTime<Utc>,
    /// Some of them as JSON.
    pub examples: Vec<String>,
}

/// Why a run had nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// Everything requested is in the warehouse.
    Complete,
    /// The first requested day has not begun yet.
    NotBegun(NaiveDate),
    /// No endpoint that was asked is available, and none ever was.
    NotAvailable,
    /// Partitions are missing in the warehouse, but this run could not add them: they need other stages, or endpoints that
    /// the organisation does not have.
    Missing {
        /// Partitions that were not read completely.
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
            Self::Complete => f.write_str("nothing to do: everything requested is complete and loaded"),
            Self::NotBegun(day) => write!(f, "nothing to do: {day} has not begun yet"),
            Self::NotAvailable => f.write_str(
                "nothing was read: no endpoint that was asked is available (is SAMSARA_API_URL right, has the token \
                 the scopes, and does the organisation have these products?)",
            ),
            Self::Missing { unread, not_derived, not_loaded } => write!(
                f,
                "nothing was done, but not everything requested is in the warehouse: {unread} partitions not read, \
                 {not_derived} not derived, {not_loaded} not loaded (`samsara-etl status --missing` lists them)"
            ),
        }
    }
}

/// What happened to one source.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SourceReport {
    /// Number of partitions committed.
    pub partitions: u64,
    /// Records in the API's pages.
    pub records: u64,
    /// Number of raw rows committed.
    pub rows: u64,
    /// Rows and readings out of the window, left to the day that they belong to.
    pub out_of_window: u64,
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
    /// Number of partitions derived.
    pub transformed: u64,
    /// Number of rows in the derived partitions.
    pub rows: u64,
    /// Number of partitions loaded.
    pub loaded: u64,
    /// Rows that the warehouse reported.
    pub loaded_rows: u64,
}

/// Loads of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// How many there were.
    pub loads: u64,
    /// Those of them that were load jobs.
    pub jobs: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How long they took, all together.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
}

/// Values of one column that are not times in the years 1 to 9999.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UnfitReport {
    /// Number of occurrences.
    pub count: u64,
    /// Some of them, quoted and escaped, and how often they came.
    pub texts: BTreeMap<String, u64>,
    /// The first partition that has such.
    pub first: String,
}

/// Rows with one key that were accepted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct AcceptedDuplicates {
    /// In how many partitions.
    pub partitions: u64,
    /// What they are in one of them.
    pub example: String,
}

/// Something that failed while the rest went on.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// Name of the source or table that failed.
    pub name: String,
    /// The partition, if it was one.
    pub partition: Option<String>,
    /// The error, in one line.
    pub error: String,
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What to do, where the error does not say already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Sums up the events of a run as a [`RunReport`].
#[derive(Debug)]
pub struct ReportBuilder {
    report: Mutex<RunReport>,
    started: Instant,
}

impl Default for ReportBuilder {
    fn default() -> Self {
        Self {
            report: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl ReportBuilder {
    /// The sum so far.
    pub fn report(&self) -> RunReport {
        let mut report = self.report.lock().clone();
        report.elapsed = self.started.elapsed();
        report
    }
}

impl Observer for ReportBuilder {
    fn observe(&self, event: &Event) {
        let mut report = self.report.lock();
        match event {
            Event::RunStarted { run, .. } => report.run.clone_from(run),
            // What the report has of these, it has from the events of partitions.
            Event::WorkFound { .. }
            | Event::AttemptFinished { .. }
            | Event::TableStatus { .. }
            | Event::RunFinished { .. }
            | Event::TaskStarted { .. }
            | Event::RequestFinished { .. }
            | Event::TaskFinished { .. }
            | Event::TransformStarted { .. }
            | Event::TransformFinished { .. }
            | Event::TransformsSkipped { .. }
            | Event::LoadStarted { .. }
            | Event::Connected { .. } => {}
            Event::RequestWaited { .. }
            | Event::PageFetched { .. }
            | Event::RequestDelayed { .. } => report.add_request(event),
            Event::PartitionExtracted { .. }
            | Event::PartitionTransformed { .. }
            | Event::PartitionLoaded { .. }
            | Event::RawLoaded { .. } => report.add_partition(event),
            Event::DriftFound { .. } | Event::EnvelopeFieldKept { .. } => report.add_drift(event),
            Event::UnfitTimes { .. }
            | Event::DuplicatesAccepted { .. }
            | Event::OutsideWindow { .. } => report.add_odd_rows(event),
            Event::NotAvailable { .. } | Event::Noted { .. } | Event::Failed { .. } => {
                report.add_failure(event)
            }
            Event::LoadFinished {
                purpose,
                job,
                outcome,
                elapsed,
                ..
            } => {
                let loads = report.loads.entry(*purpose).or_default();
                loads.loads += 1;
                loads.jobs += u64::from(job.is_some());
                loads.failed += u64::from(*outcome == Outcome::Failed);
                loads.elapsed += *elapsed;
            }
        }
    }
}

impl RunReport {
    /// Counts what a request came to.
    fn add_request(&mut self, event: &Event) {
        match event {
            Event::RequestWaited { wait, .. } => self.waited += *wait,
            Event::PageFetched { endpoint, bytes } => {
                self.pages += 1;
                self.page_bytes += bytes;
                let used = self.endpoint(endpoint);
                used.pages += 1;
                used.bytes += bytes;
            }
            Event::RequestDelayed { endpoint, .. } => {
                self.delayed_requests += 1;
                self.endpoint(endpoint).retries += 1;
            }
            _ => {}
        }
    }

    /// Counts the rows of a partition.
    fn add_partition(&mut self, event: &Event) {
        match event {
            Event::PartitionExtracted {
                source,
                records,
                rows,
                out_of_window,
                rescued,
                unchanged,
                ..
            } => {
                let source = self.sources.entry(source.clone()).or_default();
                source.partitions += 1;
                source.records += records;
                source.rows += rows;
                source.out_of_window += out_of_window;
                source.rescued += rescued;
                source.unchanged += u64::from(*unchanged);
            }
            Event::PartitionTransformed { model, rows, .. } => {
                let model = self.models.entry(model.clone()).or_default();
                model.transformed += 1;
                model.rows += rows;
            }
            Event::PartitionLoaded { model, rows, .. } => {
                let model = self.models.entry(model.clone()).or_default();
                model.loaded += 1;
                model.loaded_rows += rows;
            }
            Event::RawLoaded { source, rows, .. } => {
                self.sources.entry(source.clone()).or_default().staged_rows += rows;
            }
            _ => {}
        }
    }

    /// Counts fields that the catalog does not know.
    fn add_drift(&mut self, event: &Event) {
        match event {
            Event::DriftFound {
                sources,
                path,
                reason,
                count,
            } => {
                let sources = sources.join(", ");
                let further = format!("{sources}: {FURTHER_PATHS} ({reason})");
                add_bounded(
                    &mut self.drift,
                    format!("{sources}: {} ({reason})", redact::foreign(path)),
                    further,
                    *count,
                );
            }
            Event::EnvelopeFieldKept {
                sources,
                partition,
                path,
                text,
            } => {
                let (sources, what) = (sources.join(", "), format!("{path} = {text}"));
                let place = partition
                    .map(|partition| format!(" {partition}"))
                    .unwrap_or_default();
                let further = format!("{sources}: {FURTHER_PATHS}");
                add_bounded(
                    &mut self.envelope,
                    format!("{sources}{place}: {what}"),
                    further,
                    1,
                );
            }
            _ => {}
        }
    }

    /// Counts rows that are not as they should be.
    fn add_odd_rows(&mut self, event: &Event) {
        match event {
            Event::UnfitTimes {
                model,
                partition,
                column,
                count,
                texts,
            } => {
                let unfit = self
                    .unfit_times
                    .entry(format!("{model}.{column}"))
                    .or_default();
                unfit.count += count;
                texts
                    .iter()
                    .for_each(|(text, count)| add_text(&mut unfit.texts, text.clone(), *count));
                let partition = partition.to_string();
                if unfit.first.is_empty() || partition < unfit.first {
                    unfit.first = partition;
                }
            }
            Event::DuplicatesAccepted {
                model,
                partition,
                duplicates,
            } => {
                let accepted = self.accepted_duplicates.entry(model.clone()).or_default();
                accepted.partitions += 1;
                accepted.example = format!("{partition}: {duplicates}");
            }
            Event::OutsideWindow {
                source,
                count,
                first,
                last,
                examples,
                ..
            } => {
                let none = OutsideReport {
                    count: 0,
                    first: *first,
                    last: *last,
                    examples: Vec::new(),
                };
                let found = self.outside.entry(source.clone()).or_insert(none);
                found.count += count;
                (found.first, found.last) = (found.first.min(*first), found.last.max(*last));
                let room = MOST_EXAMPLES.saturating_sub(found.examples.len());
                found.examples.extend(examples.iter().take(room).cloned());
            }
            _ => {}
        }
    }

    /// Notes what is not done, or not as it should be.
    fn add_failure(&mut self, event: &Event) {
        match event {
            Event::NotAvailable { source, reason } => {
                self.not_available.insert(source.clone(), reason.clone());
            }
            Event::Noted { name, reason } => {
                self.add_note(name, reason);
            }
            Event::Failed {
                name,
                partition,
                error,
                kind,
                remedy,
            } => {
                self.failures.push(Failure {
                    name: name.clone(),
                    partition: partition.clone(),
                    error: error.clone(),
                    kind: *kind,
                    remedy: remedy.clone(),
                });
            }
            _ => {}
        }
    }

    fn add_note(&mut self, name: &str, reason: &str) {
        match self.notes.get_mut(name) {
            None => {
                self.notes.insert(name.to_owned(), reason.to_owned());
            }
            Some(known) => {
                if reason < known.as_str() {
                    reason.clone_into(known);
                }
                *self.further_notes.entry(name.to_owned()).or_default() += 1;
            }
        }
    }

    /// The counts of an endpoint; beyond a limit, those of further ones together.
    fn endpoint(&mut self, path: &str) -> &mut EndpointReport {
        let template = html::endpoint_template(path);
        let is_known = self.endpoints.contains_key(&template);
        let name = match is_known || self.endpoints.len() < MOST_ENDPOINTS {
            true => template,
            false => "further endpoints".to_string(),
        };
        self.endpoints.entry(name).or_default()
    }

    /// Whether anything is other than before: objects, tables, or a failure to report.
    pub fn changed_something(&self) -> bool {
        let read = self
            .sources
            .values()
            .any(|source| source.partitions > source.unchanged || source.staged_rows > 0);
        read || !self.models.is_empty() || !self.failures.is_empty()
    }

    /// Whether anything at all was done.
    pub fn did_something(&self) -> bool {
        !self.sources.is_empty() || !self.models.is_empty()
    }
}

/// Counts a text, or, where there are very many, only that there was another.
fn add_bounded(counts: &mut BTreeMap<String, u64>, text: String, further: String, count: u64) {
    let is_known = counts.contains_key(&text);
    let text = if is_known || counts.len() < MOST_TEXTS {
        text
    } else {
        further
    };
    *counts.entry(text).or_default() += count;
}
