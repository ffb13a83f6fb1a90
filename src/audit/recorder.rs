//! What happened to each partition of a run, kept until the run is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::instant;
use crate::events::{Event, Observer};
use crate::store::layout::Partition;

/// A row of `_etl_partitions`.
pub(super) struct Row {
    /// The source and partition, if the row is about what was extracted.
    pub(super) extracted: Option<(String, Partition)>,
    /// By column.
    pub(super) values: Map<String, Value>,
}

/// Keeps what happened to each partition.
#[derive(Default)]
pub struct Recorder {
    pub(super) rows: Mutex<Vec<Row>>,
    /// Endpoint → pages that came, and requests that were sent again.
    pub(super) endpoints: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Recorder {
    fn add(&self, step: &str, name: &str, partition: Option<String>, more: Value) {
        self.push(None, row_of(step, name, partition, more));
    }

    fn push(&self, extracted: Option<(String, Partition)>, values: Map<String, Value>) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(Row { extracted, values });
    }

    fn count(&self, endpoint: &str, pages: u64, retries: u64) {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = endpoints.entry(endpoint.to_string()).or_default();
        counts.0 += pages;
        counts.1 += retries;
    }
}

fn row_of(step: &str, name: &str, partition: Option<String>, more: Value) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("step".into(), step.into());
    row.insert("name".into(), name.into());
    row.insert(
        "day".into(),
        partition
            .as_deref()
            .filter(|text| *text != "snapshot")
            .into(),
    );
    row.insert("partition".into(), partition.into());
    if let Value::Object(more) = more {
        row.extend(more);
    }
    row
}

impl Recorder {
    /// Keeps what a stage did with a partition.
    fn add_partition(&self, event: &Event) {
        let seconds = |elapsed: &Duration| elapsed.as_secs_f64();
        match event {
            Event::PartitionExtracted {
                source,
                partition,
                records,
                rows,
                out_of_window,
                rescued,
                unchanged,
            } => {
                let more = json!({
                    "records": records, "rows": rows, "not_owned": out_of_window, "rescued": rescued, "unchanged": unchanged
                });
                let row = row_of("extract", source, Some(partition.to_string()), more);
                self.push(Some((source.clone(), *partition)), row);
            }
            Event::RawLoaded {
                source,
                partition,
                rows,
            } => {
                self.add(
                    "stage",
                    source,
                    Some(partition.to_string()),
                    json!({ "rows": rows }),
                );
            }
            Event::PartitionTransformed {
                model,
                partition,
                rows,
                bytes,
                elapsed,
            } => {
                let more = json!({ "rows": rows, "bytes": bytes, "seconds": seconds(elapsed) });
                self.add("transform", model, Some(partition.to_string()), more);
            }
            Event::PartitionLoaded {
                model,
                partition,
                rows,
                bytes,
                job,
                elapsed,
            } => {
                let more = json!({ "rows": rows, "bytes": bytes, "job": job, "seconds": seconds(elapsed) });
                self.add("load", model, Some(partition.to_string()), more);
            }
            _ => {}
        }
    }

    /// Keeps what went wrong, or was odd.
    fn add_finding(&self, event: &Event) {
        match event {
            Event::Failed {
                name,
                partition,
                error,
                remedy,
                ..
            } => {
                let remedy = remedy.as_ref().map(|remedy| format!("; {remedy}"));
                let error = format!("{error}{}", remedy.unwrap_or_default());
                self.add("failed", name, partition.clone(), json!({ "error": error }));
            }
            Event::OutsideWindow {
                source,
                partition,
                count,
                first,
                last,
                examples,
            } => {
                let detail = format!(
                    "from {} to {}: {}",
                    instant(*first),
                    instant(*last),
                    examples.join(" ")
                );
                let more = json!({ "not_owned": count, "detail": detail });
                self.add("outside", source, Some(partition.to_string()), more);
            }
            Event::EnvelopeFieldKept {
                sources,
                partition,
                path,
                text,
            } => {
                let (name, detail) = (sources.join(", "), format!("{path} = {text}"));
                let partition = partition.map(|partition| partition.to_string());
                self.add("envelope", &name, partition, json!({ "detail": detail }));
            }
            _ => {}
        }
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event) {
        match event {
            Event::PageFetched { endpoint, .. } => self.count(endpoint, 1, 0),
            Event::RequestDelayed { endpoint, .. } => self.count(endpoint, 0, 1),
            Event::PartitionExtracted { .. }
            | Event::RawLoaded { .. }
            | Event::PartitionTransformed { .. }
            | Event::PartitionLoaded { .. } => self.add_partition(event),
            Event::Failed { .. }
            | Event::OutsideWindow { .. }
            | Event::EnvelopeFieldKept { .. } => {
                self.add_finding(event);
            }
            Event::RunStarted { .. }
            | Event::WorkFound { .. }
            | Event::AttemptFinished { .. }
            | Event::TableStatus { .. }
            | Event::RunFinished { .. }
            | Event::TaskStarted { .. }
            | Event::RequestFinished { .. }
            | Event::TaskFinished { .. }
            | Event::RequestWaited { .. }
            | Event::TransformStarted { .. }
            | Event::TransformFinished { .. }
            | Event::LoadStarted { .. }
            | Event::LoadFinished { .. }
            | Event::Connected { .. }
            | Event::DriftFound { .. }
            | Event::NotAvailable { .. }
            | Event::Noted { .. }
            | Event::UnfitTimes { .. }
            | Event::DuplicatesAccepted { .. } => {}
        }
    }
}
