//! The program's own tables in the warehouse, `_etl_runs` and `_etl_partitions`: what each run did, to be queried and
//! put on a dashboard.
//!
//! Each run writes one object per table below `audit/` in the flattened bucket, and loads its UTC day again from all
//! objects of that day: nothing is appended, so nothing doubles.

mod recorder;
mod tables;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use self::recorder::Row;
use self::tables::{of_partitions, runs};
use crate::catalog::Catalog;
use crate::clock;
use crate::error::Error;
use crate::events::{LoadPurpose, Observer};
use crate::load::{Batch, FlatObjects, LoadError, ObservedLoad, Warehouse, load};
use crate::report::RunReport;
use crate::state::StateStore;
use crate::store::layout::{Partition, RunId};
use crate::store::{Bucket, ObjectRef, TableWriter};
use crate::transform::Contract;

pub use recorder::Recorder;
pub use tables::{RUNS, TABLES};

/// The run that the rows are about.
pub struct AuditedRun<'a> {
    /// Its id.
    pub id: &'a RunId,
    /// Its catalog.
    pub catalog: &'a Catalog,
    /// Its state documents.
    pub states: &'a StateStore,
    /// Whether it was told to stop.
    pub is_cancelled: bool,
    /// Sees the loads.
    pub observer: &'a dyn Observer,
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes both tables' objects of this run, and loads the day they belong to.
pub async fn write(
    run: &AuditedRun<'_>,
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
        "finished_at": instant(clock::now()),
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
        "cancelled": run.is_cancelled,
    });
    let mut partitions =
        std::mem::take(&mut *recorder.rows.lock().unwrap_or_else(PoisonError::into_inner));
    let endpoints = recorder
        .endpoints
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    for row in &mut partitions {
        row.values.insert("run".into(), run.id.as_str().into());
        row.values
            .insert("started_at".into(), started.clone().into());
        add_from_state(run, row, &endpoints).await?;
    }
    add(run, &runs(), vec![row], warehouse, flattened).await?;
    add(
        run,
        &of_partitions(),
        partitions
            .into_iter()
            .map(|row| Value::Object(row.values))
            .collect(),
        warehouse,
        flattened,
    )
    .await
}

/// What the event of an extracted partition does not have: size of the raw objects, and the requests of the source's
/// endpoint.
async fn add_from_state(
    run: &AuditedRun<'_>,
    row: &mut Row,
    endpoints: &BTreeMap<String, (u64, u64)>,
) -> Result<(), Error> {
    let Some((name, partition)) = &row.extracted else {
        return Ok(());
    };
    let source = run.catalog.known_source(name)?;
    let handle = run.states.source(name).await?;
    let bytes: u64 = handle.look(|state| {
        let raw = state.partition(*partition).and_then(|it| it.raw.as_ref());
        raw.map_or(0, |raw| raw.objects.iter().map(|object| object.bytes).sum())
    });
    let (pages, retries) = endpoints.get(&source.endpoint).copied().unwrap_or_default();
    let values = &mut row.values;
    values.insert("bytes".into(), bytes.into());
    values.insert("requests".into(), (pages + retries).into());
    values.insert("retries".into(), retries.into());
    Ok(())
}

/// Writes the rows of this run, and replaces their day by all rows of the day.
async fn add(
    run: &AuditedRun<'_>,
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
    // How many rows an object has stands in its name, so that it need not be opened.
    let key = format!("{folder}/{}-{}.parquet", run.id, rows.len());
    let wrong = |error: arrow::error::ArrowError| LoadError::Rows {
        table: contract.table.clone(),
        partition: day.to_string(),
        error,
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
    let watched = ObservedLoad {
        purpose: LoadPurpose::Audit,
        table: contract.table.clone(),
        partitions: vec![Partition::Day(day)],
        job: warehouse.job(contract, &batch),
    };
    let loaded = async {
        warehouse.prepare(contract).await?;
        load(warehouse, contract, &batch).await
    };
    watched.run(run.observer, loaded).await?;
    Ok(())
}
