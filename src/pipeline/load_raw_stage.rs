//! Loads raw partitions into the staging dataset if they differ from what is loaded.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use parking_lot::Mutex;

use super::load_plan;
use super::run::{Run, report_failure};
use crate::config::{GoogleAccess, WarehouseConfig};
use crate::error::Error;
use crate::events::{Event, LoadPurpose, Observer};
use crate::extract::raw_schema;
use crate::load::plan::{RawTableLoad, raw_fingerprint};
use crate::load::{BigQuery, FlatObjects, ObservedLoad, Warehouse};
use crate::state::{Load, RawState, SourceState, Started};
use crate::store::layout::{Partition, RunId, raw_object};
use crate::store::{Bucket, TableWriter};

/// Load jobs at a time.
const LOADS: usize = 4;
/// Number of the object from which a partition without rows is loaded. No extract task writes that many objects.
const EMPTY_OBJECT: u64 = 99_999;

/// What loads of raw partitions need.
struct RawLoader<'a> {
    warehouse: BigQuery,
    raw: &'a Bucket,
    run: &'a RunId,
    observer: &'a dyn Observer,
}

/// A raw partition to be loaded.
type RawPart<'a> = (&'a RawTableLoad, Partition, RawState);

/// Loads the raw partitions of the selected sources.
pub(super) async fn load_raw_stage(
    run: Arc<Run>,
    staging: &WarehouseConfig,
    access: &GoogleAccess,
) -> Result<(), Error> {
    let WarehouseConfig::BigQuery {
        project,
        dataset,
        location,
    } = staging
    else {
        return Ok(());
    };
    let selection = &run.plan.run_request.selection;
    let tables = load_plan::raw_loads(&run.catalog, &run.states, selection).await?;
    let warehouse = BigQuery::connect(project, dataset, location.as_deref(), access)
        .await?
        .fenced(run.states.fence());
    let loader = RawLoader {
        warehouse,
        raw: &run.raw,
        run: &run.id,
        observer: run.observer.as_ref(),
    };
    let parts = loader.prepare_tables(&tables).await;
    // Sources whose load quota is used up: their next partition would be refused too.
    let closed: Mutex<BTreeSet<&str>> = Mutex::default();
    stream::iter(parts)
        .for_each_concurrent(LOADS, |part| {
            let (shutdown, loader, closed) = (&run.shutdown, &loader, &closed);
            async move {
                let source = part.0.source.name.as_str();
                if shutdown.is_cancelled() || closed.lock().contains(source) {
                    return;
                }
                let partition = part.1;
                if let Err(error) = loader.load_partition(part).await {
                    if matches!(&error, Error::Load(error) if error.is_quota()) {
                        closed.lock().insert(source);
                    }
                    report_failure(loader.observer, source, Some(partition), &error);
                }
            }
        })
        .await;
    Ok(())
}

impl RawLoader<'_> {
    /// Ensures that the tables exist, and returns what is to be loaded into them.
    async fn prepare_tables<'t>(&self, tables: &'t [RawTableLoad]) -> Vec<RawPart<'t>> {
        let mut parts = Vec::new();
        for table in tables {
            let stale = table.stale(self.warehouse.target());
            if stale.is_empty() {
                continue;
            }
            let source = &table.source;
            let prepared = self
                .warehouse
                .prepare_raw(&source.name, &raw_schema(source), source.is_daily())
                .await;
            if let Err(error) = prepared {
                report_failure(self.observer, &source.name, None, &error.into());
                continue;
            }
            let stale = stale.into_iter();
            parts.extend(stale.map(|(partition, raw)| (table, partition, raw)));
        }
        parts
    }

    /// Loads one partition, and commits that.
    async fn load_partition(&self, (table, partition, raw): RawPart<'_>) -> Result<(), Error> {
        let (name, schema) = (&table.source.name, raw_schema(&table.source));
        let fingerprint = raw_fingerprint(&raw);
        let mut objects = raw.objects;
        if objects.is_empty() {
            // A day that lost all its rows is replaced by an empty file.
            let key = raw_object(name, partition, self.run, EMPTY_OBJECT);
            let empty = TableWriter::begin(self.raw, key, schema.clone())?;
            objects.push(empty.finish().await?);
        }
        self.raw.expect(&objects).await?;
        let flat = FlatObjects {
            partition,
            objects,
            fingerprint: fingerprint.to_hex(),
        };
        let target = self.warehouse.target();
        // A job that outlives its program would replace these rows by old ones.
        let left = table
            .state
            .look(|state| state.partition(partition)?.raw_started.clone());
        if let Some(left) = left.filter(|left| left.target == target) {
            self.warehouse.await_job(&left).await?;
        }
        let job = self.warehouse.raw_job(name, self.raw, &flat);
        let started = Started {
            target: target.into(),
            job: job.clone(),
            attempt: 1,
        };
        let begin = move |state: &mut SourceState| {
            state.partition_mut(partition).raw_started = Some(Box::new(started))
        };
        table.state.commit(begin).await?;
        let watched = ObservedLoad {
            purpose: LoadPurpose::Raw,
            table: name.clone(),
            partitions: vec![partition],
            job: Some(job),
        };
        let loaded = self.warehouse.replace_raw(name, &schema, self.raw, &flat);
        let loaded = watched.run(self.observer, loaded).await?;
        self.observer.observe(&Event::RawLoaded {
            source: name.clone(),
            partition,
            rows: loaded.rows,
        });
        let load = Load {
            target: target.into(),
            fingerprint,
            job: loaded.job,
            rows: loaded.rows,
        };
        let done = move |state: &mut SourceState| {
            let found = state.partition_mut(partition);
            (found.raw_load, found.raw_started) = (Some(Box::new(load)), None);
        };
        table.state.commit(done).await?;
        Ok(())
    }
}
