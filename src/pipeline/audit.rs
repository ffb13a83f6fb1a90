//! The program's own tables in the warehouse, `_etl_runs` and `_etl_partitions`: what each run did, to be queried and
//! put on a dashboard.
//!
//! Each run writes one object per table below `audit/` in the flattened bucket, and loads its UTC day anew from all
//! objects of that day: nothing is appended, so nothing doubles.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::Run;
use crate::error::Error;
use crate::events::{Event, Observer};
use crate::load::{Batch, FlatObjects, LoadError, Warehouse, load};
use crate::report::RunReport;
use crate::store::layout::Partition;
use crate::store::{Bucket, ObjectRef, TableWriter};
use crate::transform::{Column, ColumnType, Contract};

/// The table of runs.
pub(super) const RUNS: &str = "_etl_runs";
/// The table of what runs did to partitions.
const PARTITIONS: &str = "_etl_partitions";
/// How many tables that are.
pub(super) const TABLES: u64 = 2;

/// Keeps what happened to each partition.
#[derive(Default)]
pub(super) struct Recorder {
    rows: Mutex<Vec<Map<String, Value>>>,
    /// Endpoint → pages that came, and requests that were sent again.
    endpoints: Mutex<BTreeMap<String, (u64, u64)>>,
}

impl Recorder {
    fn add(&self, step: &str, name: &str, partition: Option<String>, more: Value) {
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
        self.rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(row);
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

impl Observer for Recorder {
    fn observe(&self, event: &Event) {
        let seconds = |elapsed: &Duration| elapsed.as_secs_f64();
        match event {
            Event::PageFetched { endpoint, .. } => self.count(endpoint, 1, 0),
            Event::RequestDelayed { endpoint, .. } => self.count(endpoint, 0, 1),
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
                self.add("extract", source, Some(partition.to_string()), more);
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
            Event::Failed {
                name,
                partition,
                error,
            } => {
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
            Event::Connected { .. }
            | Event::DriftFound { .. }
            | Event::NotAvailable { .. }
            | Event::UnfitTimes { .. }
            | Event::DuplicatesAccepted { .. } => {}
        }
    }
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes both tables' objects of this run, and loads the day they belong to.
pub(super) async fn write(
    run: &Run,
    recorder: &Recorder,
    report: &RunReport,
    warehouse: &dyn Warehouse,
    flattened: &Bucket,
) -> Result<(), Error> {
    // Without its lock a run leaves no trace: the day is its successor's to load.
    run.states.fence().check()?;
    let started = instant(run.id.started());
    let row = json!({
        "run": run.id.as_str(),
        "started_at": started,
        "finished_at": instant(Utc::now()),
        "seconds": report.elapsed.as_secs_f64(),
        "version": env!("CARGO_PKG_VERSION"),
        "target": warehouse.target(),
        "requests": report.pages + report.delayed_requests,
        "retries": report.delayed_requests,
        "response_bytes": report.page_bytes,
        "raw_rows": report.sources.values().map(|source| source.rows).sum::<u64>(),
        "rescued": report.sources.values().map(|source| source.rescued).sum::<u64>(),
        "derived_rows": report.models.values().map(|model| model.rows).sum::<u64>(),
        "loaded_rows": report.models.values().map(|model| model.loaded_rows).sum::<u64>(),
        "failures": report.failures.len(),
        "cancelled": run.shutdown.is_cancelled(),
    });
    let mut partitions =
        std::mem::take(&mut *recorder.rows.lock().unwrap_or_else(PoisonError::into_inner));
    let endpoints = recorder
        .endpoints
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for row in &mut partitions {
        row.insert("run".into(), run.id.as_str().into());
        row.insert("started_at".into(), started.clone().into());
        add_from_state(run, row, &endpoints).await?;
    }
    add(run, &runs(), vec![row], warehouse, flattened).await?;
    add(
        run,
        &of_partitions(),
        partitions.into_iter().map(Value::Object).collect(),
        warehouse,
        flattened,
    )
    .await
}

/// What the event of a read does not tell: size of the raw objects, and the requests of the source's endpoint.
async fn add_from_state(
    run: &Run,
    row: &mut Map<String, Value>,
    endpoints: &BTreeMap<String, (u64, u64)>,
) -> Result<(), Error> {
    let text = |key: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    if text("step") != "extract" {
        return Ok(());
    }
    let (Some(source), Some(partition)) = (
        run.catalog.source(&text("name")),
        Partition::parse(&text("partition")),
    ) else {
        return Ok(());
    };
    let handle = run.states.source(&source.name).await?;
    let bytes: u64 = handle.look(|state| {
        let raw = state.partition(partition).and_then(|it| it.raw.as_ref());
        raw.map_or(0, |raw| raw.objects.iter().map(|object| object.bytes).sum())
    });
    let (pages, retries) = endpoints.get(&source.endpoint).copied().unwrap_or_default();
    row.insert("bytes".into(), bytes.into());
    row.insert("requests".into(), (pages + retries).into());
    row.insert("retries".into(), retries.into());
    Ok(())
}

/// Writes the rows of this run, and replaces their day by all rows of the day.
async fn add(
    run: &Run,
    contract: &Contract,
    rows: Vec<Value>,
    warehouse: &dyn Warehouse,
    flattened: &Bucket,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let day = run.id.started().date_naive();
    let folder = format!("audit/{}/date={}", contract.table, day.format("%Y-%m-%d"));
    // How many rows an object has stands in its name, so that nobody has to open it.
    let key = format!("{folder}/{}-{}.parquet", run.id, rows.len());
    let wrong = |error: arrow::error::ArrowError| LoadError::Refused {
        table: contract.table.clone(),
        partition: day.to_string(),
        job: None,
        used: None,
        reason: error.to_string(),
    };
    let mut decoder = arrow_json::ReaderBuilder::new(contract.schema())
        .with_batch_size(rows.len())
        .build_decoder()
        .map_err(wrong)?;
    decoder.serialize(&rows).map_err(wrong)?;
    let mut writer = TableWriter::begin(flattened, key, contract.schema())?;
    if let Some(batch) = decoder.flush().map_err(wrong)? {
        writer.write(&batch).await?;
    }
    writer.finish().await?;
    let mut objects = Vec::new();
    for (path, bytes) in flattened.list(&folder).await? {
        let rows = path
            .strip_suffix(".parquet")
            .and_then(|name| name.rsplit('-').next()?.parse().ok());
        objects.extend(rows.map(|rows| ObjectRef { path, rows, bytes }));
    }
    objects.sort_by(|one, other| one.path.cmp(&other.path));
    let flat = FlatObjects {
        partition: Partition::Day(day),
        objects,
        fingerprint: run.id.to_string(),
    };
    let batch = Batch {
        bucket: flattened.clone(),
        partitions: vec![flat],
        whole: false,
        reshape: false,
        attempt: 1,
    };
    warehouse.prepare(contract).await?;
    load(warehouse, contract, &batch).await?;
    Ok(())
}

fn runs() -> Contract {
    use ColumnType::{Bool, Float64, Int64, String, Timestamp};
    contract(
        RUNS,
        "Runs of samsara-etl, one row per run.",
        &[
            ("run", String, "Id of the run, which also names its objects"),
            ("started_at", Timestamp, "When it started"),
            ("finished_at", Timestamp, "When this row was written"),
            ("seconds", Float64, "How long it took"),
            ("version", String, "Version of the program"),
            ("target", String, "Project and dataset, or folder"),
            (
                "requests",
                Int64,
                "API requests, those sent again among them",
            ),
            ("retries", Int64, "Requests that had to be sent again"),
            (
                "response_bytes",
                Int64,
                "Size of the API's pages after decompression",
            ),
            ("raw_rows", Int64, "Raw rows committed"),
            (
                "rescued",
                Int64,
                "Values that did not fit the declared schema and went to _rescued_data",
            ),
            ("derived_rows", Int64, "Rows that models made"),
            ("loaded_rows", Int64, "Rows that the warehouse reported"),
            ("failures", Int64, "Tables and partitions that failed"),
            ("cancelled", Bool, "Whether the run was told to stop"),
        ],
    )
}

fn of_partitions() -> Contract {
    use ColumnType::{Bool, Date, Float64, Int64, String, Timestamp};
    contract(
        PARTITIONS,
        "What runs of samsara-etl did, one row per step and partition.",
        &[
            ("run", String, "Id of the run"),
            ("started_at", Timestamp, "When the run started"),
            (
                "step",
                String,
                "extract, transform, load, failed, outside or envelope",
            ),
            ("name", String, "Source (extract) or model"),
            ("partition", String, "The day, or snapshot"),
            ("day", Date, "The day, if it is one"),
            (
                "records",
                Int64,
                "Records in the API's pages; those of a task over several days stand at its first",
            ),
            ("rows", Int64, "Rows committed, derived or loaded"),
            (
                "not_owned",
                Int64,
                "Rows and readings left to the day that owns them",
            ),
            ("rescued", Int64, "Values that went to _rescued_data"),
            ("unchanged", Bool, "Read again and found as it was"),
            ("bytes", Int64, "Size of the objects"),
            (
                "requests",
                Int64,
                "Requests of this run to the source's endpoint, of all its partitions together",
            ),
            ("retries", Int64, "Those of them that had to be sent again"),
            (
                "job",
                String,
                "Load job, which may have brought other days too",
            ),
            ("seconds", Float64, "How long the step took"),
            ("error", String, "What failed"),
            (
                "detail",
                String,
                "Examples of what lies outside the asked days; an envelope field that no row carries",
            ),
        ],
    )
}

fn contract(table: &str, description: &str, columns: &[(&str, ColumnType, &str)]) -> Contract {
    let column = |(name, column_type, description): &(&str, ColumnType, &str)| Column {
        name: (*name).into(),
        column_type: *column_type,
        description: Some((*description).into()),
    };
    Contract {
        table: table.into(),
        description: description.into(),
        columns: columns.iter().map(column).collect(),
        partition_by: Some("started_at".into()),
        cluster_by: Vec::new(),
        hashed: Vec::new(),
        partition_expiration_days: None,
        labels: BTreeMap::new(),
    }
}
