//! Records what happened to each partition of a run until the run is over.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::instant;
use crate::events::{Event, Observer};

/// The step of a row about extracted data.
pub(super) const EXTRACT: &str = "extract";
/// Compression level of rows: they are much alike, and the fastest level reduces them to a tenth.
const LEVEL: i32 = 1;

/// Rows of `_etl_partitions`, one JSON object per line. A first run has some for each day of each table, so they are
/// kept compressed: a dozen bytes per row instead of a thousand when parsed.
#[derive(Default)]
pub(super) struct Rows {
    lines: Option<zstd::Encoder<'static, Vec<u8>>>,
    count: u64,
    /// What kept a row from being kept.
    failed: Option<io::Error>,
}

impl Rows {
    fn push(&mut self, row: &Map<String, Value>) {
        match self.write(row) {
            Ok(()) => self.count += 1,
            Err(error) => self.failed = Some(error),
        }
    }

    fn write(&mut self, row: &Map<String, Value>) -> io::Result<()> {
        let lines = match self.lines.take() {
            Some(lines) => lines,
            None => zstd::Encoder::new(Vec::new(), LEVEL)?,
        };
        let lines = self.lines.insert(lines);
        serde_json::to_writer(&mut *lines, row)?;
        lines.write_all(b"\n")
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// All rows, in order.
    ///
    /// # Errors
    /// If one could not be kept, or they cannot be read back.
    pub(super) fn read(self) -> io::Result<impl Iterator<Item = io::Result<Map<String, Value>>>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let compressed = self.lines.map(zstd::Encoder::finish).transpose()?;
        let compressed = compressed
            .map(io::Cursor::new)
            .map(zstd::Decoder::with_buffer);
        let text = compressed.transpose()?.map(BufReader::new);
        let lines = text.into_iter().flat_map(BufRead::lines);
        Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
    }
}

/// Keeps what happened to each partition.
#[derive(Default)]
pub struct Recorder {
    pub(super) rows: Mutex<Rows>,
    /// Endpoint → number of pages, and of retried requests.
    pub(super) endpoints: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Recorder {
    fn add(&self, step: &str, name: &str, partition: Option<String>, more: Value) {
        let row = row_of(step, name, partition, more);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push(&row);
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
                self.add(EXTRACT, source, Some(partition.to_string()), more);
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
            | Event::TransformsSkipped { .. }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were_kept() {
        let mut rows = Rows::default();
        let row = |day: u64| {
            row_of(
                EXTRACT,
                "trips\n",
                None,
                json!({ "rows": day, "error": "a\"b" }),
            )
        };
        let kept: Vec<_> = (0..10_000).map(row).collect();
        kept.iter().for_each(|row| rows.push(row));
        assert_eq!(rows.count(), 10_000);
        let read: io::Result<Vec<_>> = rows.read().unwrap().collect();
        assert_eq!(read.unwrap(), kept);
        assert_eq!(Rows::default().read().unwrap().count(), 0);
    }
}
