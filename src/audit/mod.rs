//! The program's own tables in the warehouse, `_etl_runs` and `_etl_partitions`: what each run did, for queries and
//! dashboards.
//!
//! Each run writes one object per table below `audit/` in the flattened bucket, and loads its UTC day again from all
//! objects of that day: nothing is appended, so nothing is duplicated.

mod recorder;
mod tables;

use std::collections::BTreeMap;
use std::sync::PoisonError;

use arrow::error::ArrowError;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use self::recorder::EXTRACT;
use self::tables::{of_partitions, runs};
use crate::bounds::BATCH_ROWS;
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
    /// Whether it was stopped.
    pub is_cancelled: bool,
    /// Sees the loads.
    pub observer: &'a dyn Observer,
}

pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Writes this run's objects of both tables, and loads the day that they belong to.
pub async fn write(
    run: &AuditedRun<'_>,
    recorder: &Recorder,
    report: &RunReport,
    warehouse: &dyn Warehouse,
    flattened: &Bucket,
) -> Result<(), Error> {
    // Without its lock a run writes no audit rows: the day is its successor's to load.
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
    let partitions =
        std::mem::take(&mut *recorder.rows.lock().unwrap_or_else(PoisonError::into_inner));
    let endpoints = recorder
        .endpoints
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let table = runs();
    let mut object = Object::begin(run, &table, 1, flattened)?;
    object.write(vec![row]).await?;
    object.load(warehouse).await?;
    let count = partitions.count();
    if count == 0 {
        return Ok(());
    }
    let table = of_partitions();
    let mut object = Object::begin(run, &table, count, flattened)?;
    let unreadable = |error: std::io::Error| wrong(run, &table, error.into());
    let mut some = Vec::new();
    for values in partitions.read().map_err(unreadable)? {
        let mut values = values.map_err(unreadable)?;
        values.insert("run".into(), run.id.as_str().into());
        values.insert("started_at".into(), started.clone().into());
        add_from_state(run, &mut values, &endpoints).await?;
        some.push(Value::Object(values));
        if some.len() == BATCH_ROWS {
            object.write(std::mem::take(&mut some)).await?;
        }
    }
    object.write(some).await?;
    object.load(warehouse).await
}

fn wrong(run: &AuditedRun<'_>, table: &Contract, error: ArrowError) -> LoadError {
    LoadError::Rows {
        table: table.table.clone(),
        partition: run.id.started().date_naive().to_string(),
        error,
    }
}

/// What the event of an extracted partition lacks: size of the raw objects, and number of requests to the source's
/// endpoint.
async fn add_from_state(
    run: &AuditedRun<'_>,
    values: &mut Map<String, Value>,
    endpoints: &BTreeMap<String, (u64, u64)>,
) -> Result<(), Error> {
    let text = |column: &str| values.get(column).and_then(Value::as_str);
    let extracted = text("step").filter(|step| *step == EXTRACT);
    let of = extracted.and_then(|_| Some((text("name")?, Partition::parse(text("partition")?)?)));
    let Some((name, partition)) = of else {
        return Ok(());
    };
    let source = run.catalog.known_source(name)?;
    let handle = run.states.source(name).await?;
    let bytes: u64 = handle.look(|state| {
        let raw = state.partition(partition).and_then(|it| it.raw.as_ref());
        raw.map_or(0, |raw| raw.objects.iter().map(|object| object.bytes).sum())
    });
    let (pages, retries) = endpoints.get(&source.endpoint).copied().unwrap_or_default();
    values.insert("bytes".into(), bytes.into());
    values.insert("requests".into(), (pages + retries).into());
    values.insert("retries".into(), retries.into());
    Ok(())
}

/// The object of one run in one of the tables, while it is written.
struct Object<'a> {
    run: &'a AuditedRun<'a>,
    contract: &'a Contract,
    bucket: &'a Bucket,
    folder: String,
    writer: TableWriter,
}

impl<'a> Object<'a> {
    /// Begins the object. Its name contains its row count, so that it need not be opened to count rows.
    fn begin(
        run: &'a AuditedRun<'a>,
        contract: &'a Contract,
        rows: u64,
        bucket: &'a Bucket,
    ) -> Result<Self, Error> {
        let day = run.id.started().date_naive();
        let folder = format!("audit/{}/date={}", contract.table, day.format("%Y-%m-%d"));
        let key = format!("{folder}/{}-{rows}.parquet", run.id);
        let writer = TableWriter::begin(bucket, key, contract.schema())?;
        Ok(Self {
            run,
            contract,
            bucket,
            folder,
            writer,
        })
    }

    /// Writes rows, some at a time.
    async fn write(&mut self, rows: Vec<Value>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let wrong = |error| wrong(self.run, self.contract, error);
        let mut decoder = arrow_json::ReaderBuilder::new(self.contract.schema())
            .with_batch_size(rows.len())
            .build_decoder()
            .map_err(wrong)?;
        decoder.serialize(&rows).map_err(wrong)?;
        if let Some(batch) = decoder.flush().map_err(wrong)? {
            self.writer.write(&batch).await?;
        }
        Ok(())
    }

    /// Finishes the object, and replaces its day in the table by all rows of the day.
    async fn load(self, warehouse: &dyn Warehouse) -> Result<(), Error> {
        let Self {
            run,
            contract,
            bucket,
            folder,
            writer,
        } = self;
        let day = run.id.started().date_naive();
        writer.finish().await?;
        let mut objects = Vec::new();
        for (path, bytes) in bucket.list(&folder).await? {
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
            bucket: bucket.clone(),
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
}
