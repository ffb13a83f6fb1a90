//! Raw partitions into the staging dataset, wherever what is loaded is not what is committed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::Run;
use crate::catalog::Source;
use crate::config::{GoogleAccess, WarehouseConfig};
use crate::error::Error;
use crate::events::Event;
use crate::extract::raw_schema;
use crate::load::{BigQuery, FlatObjects, LoadError, Warehouse};
use crate::state::{Load, RawState, SourceState, Started};
use crate::store::TableWriter;
use crate::store::layout::{Partition, raw_object};

/// Load jobs at a time.
const LOADS: usize = 4;

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
    let warehouse = BigQuery::connect(project, dataset, location.as_deref(), access)
        .await?
        .fenced(run.states.fence());
    let mut partitions: Vec<(&Source, Partition, RawState)> = Vec::new();
    for source in run
        .plan
        .run_request
        .selection
        .sources
        .iter()
        .filter_map(|name| run.catalog.source(name))
    {
        let handle = run.states.source(&source.name).await?;
        let stale: Vec<_> = handle.look(|state| {
            let complete = state
                .complete()
                .filter(|(it, raw)| is_stale(state, *it, raw, warehouse.target()));
            complete
                .map(|(partition, raw)| (partition, raw.clone()))
                .collect()
        });
        if stale.is_empty() {
            continue;
        }
        let prepared = warehouse
            .prepare_raw(&source.name, &raw_schema(source), source.is_daily())
            .await;
        if let Err(error) = prepared {
            run.failed(&source.name, None, &error.into());
            continue;
        }
        partitions.extend(
            stale
                .into_iter()
                .map(|(partition, raw)| (source, partition, raw)),
        );
    }
    // Sources whose quota is used up: it is not better for their next partition.
    let closed: Mutex<BTreeSet<&str>> = Mutex::default();
    let closed = || closed.lock().unwrap_or_else(PoisonError::into_inner);
    stream::iter(partitions)
        .for_each_concurrent(LOADS, |(source, partition, raw)| {
            let (run, warehouse, closed) = (&run, &warehouse, &closed);
            async move {
                if run.shutdown.is_cancelled() || closed().contains(source.name.as_str()) {
                    return;
                }
                if let Err(error) = load_raw_partition(run, warehouse, source, partition, raw).await
                {
                    if matches!(error, Error::Load(LoadError::Quota { .. })) {
                        closed().insert(&source.name);
                    }
                    run.failed(&source.name, Some(partition), &error);
                }
            }
        })
        .await;
    Ok(())
}

/// Whether the partition's raw rows are not what the target holds.
pub(super) fn is_stale(
    state: &SourceState,
    partition: Partition,
    raw: &RawState,
    target: &str,
) -> bool {
    let found = state
        .partition(partition)
        .and_then(|found| found.raw_load.as_ref());
    let found = found.filter(|load| load.target == target);
    // A day that never had a row has nothing to replace.
    let nothing = raw.objects.is_empty() && found.is_none_or(|load| load.rows == 0);
    !nothing && found.is_none_or(|load| load.fingerprint != fingerprint(raw))
}

async fn load_raw_partition(
    run: &Run,
    warehouse: &BigQuery,
    source: &Source,
    partition: Partition,
    raw: RawState,
) -> Result<(), Error> {
    let fingerprint = fingerprint(&raw);
    let schema = raw_schema(source);
    let mut objects = raw.objects;
    if objects.is_empty() {
        // A day that lost its rows is emptied by a file without any.
        let key = raw_object(&source.name, partition, &run.id, 99_999);
        objects.push(
            TableWriter::begin(&run.raw, key, schema.clone())?
                .finish()
                .await?,
        );
    }
    run.raw.expect(&objects).await?;
    let flat = FlatObjects {
        partition,
        objects,
        fingerprint: fingerprint.clone(),
    };
    let handle = run.states.source(&source.name).await?;
    // A job that outlived its program would put old rows in the place of these.
    let target = warehouse.target();
    if let Some(left) = handle.look(|state| {
        state
            .partition(partition)
            .and_then(|found| found.raw_started.clone())
    }) && left.target == target
    {
        warehouse.await_job(&left).await?;
    }
    let started = Started {
        target: target.into(),
        job: warehouse.raw_job(&source.name, &run.raw, &flat),
        attempt: 1,
    };
    handle
        .commit(move |state| state.partition_mut(partition).raw_started = Some(started))
        .await?;
    let loaded = warehouse
        .replace_raw(&source.name, &schema, &run.raw, &flat)
        .await?;
    run.observer.observe(&Event::RawLoaded {
        source: source.name.clone(),
        partition,
        rows: loaded.rows,
    });
    let load = Load {
        target: warehouse.target().into(),
        fingerprint,
        job: loaded.job,
        rows: loaded.rows,
    };
    let done = move |state: &mut SourceState| {
        let found = state.partition_mut(partition);
        (found.raw_load, found.raw_started) = (Some(load), None);
    };
    handle.commit(done).await?;
    Ok(())
}

/// Digest of the raw objects.
fn fingerprint(raw: &RawState) -> String {
    let mut digest = Sha256::new();
    for object in &raw.objects {
        digest.update(&object.path);
        digest.update([0]);
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
