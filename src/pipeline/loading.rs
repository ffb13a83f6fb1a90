//! Flattened partitions into the warehouse, wherever what is loaded is not what was derived.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::Run;
use super::flattening::Flat;
use crate::error::Error;
use crate::events::Event;
use crate::load::{FlatObjects, LoadError, Loaded, Warehouse, load};
use crate::state::Load;
use crate::store::Bucket;
use crate::store::layout::Partition;

/// Load jobs at a time: BigQuery allows 50 updates of a partitioned table in ten seconds.
const LOADS: usize = 8;

/// Runs the load stage, or drains its queue if it is not asked for.
pub(super) async fn run(
    run: Arc<Run>,
    warehouse: Option<Arc<dyn Warehouse>>,
    flattened: Bucket,
    mut loadable: mpsc::Receiver<Flat>,
) -> Result<(), Error> {
    let Some(warehouse) = warehouse else {
        while loadable.recv().await.is_some() {}
        return Ok(());
    };
    // Tables exist from the start, also those that no row came for. One of another shape is not loaded at all.
    let closed: Mutex<BTreeSet<String>> = Mutex::default();
    stream::iter(run.contracts.values())
        .for_each_concurrent(LOADS, |contract| {
            let (run, warehouse, closed) = (&run, &warehouse, &closed);
            async move {
                if let Err(error) = warehouse.prepare(contract).await {
                    run.failed(&contract.table, None, &error.into());
                    closed.lock().unwrap_or_else(PoisonError::into_inner).insert(contract.table.clone());
                }
            }
        })
        .await;
    let arrivals = stream::unfold(loadable, |mut queue| async move { queue.recv().await.map(|item| (item, queue)) });
    arrivals
        .for_each_concurrent(LOADS, |(model, partition)| {
            let (run, warehouse, flattened, closed) = (&run, &warehouse, &flattened, &closed);
            async move {
                let is_closed = || closed.lock().unwrap_or_else(PoisonError::into_inner).contains(&model);
                if run.shutdown.is_cancelled() || is_closed() {
                    return;
                }
                if let Err(error) = one(run, warehouse.as_ref(), flattened, &model, partition).await {
                    // A used-up quota is not better for the table's next partition.
                    if matches!(error, Error::Load(LoadError::Quota { .. })) {
                        closed.lock().unwrap_or_else(PoisonError::into_inner).insert(model.clone());
                    }
                    run.failed(&model, Some(partition), &error);
                }
            }
        })
        .await;
    Ok(())
}

async fn one(
    run: &Run,
    warehouse: &dyn Warehouse,
    flattened: &Bucket,
    model: &str,
    partition: Partition,
) -> Result<(), Error> {
    let (Some(model), Some(contract)) = (run.catalog.model(model), run.contracts.get(model)) else { return Ok(()) };
    let Some(driver) = run.catalog.driver(model) else { return Ok(()) };
    let handle = run.states.source(&driver.name).await?;
    let Some(state) =
        handle.look(|state| state.partition(partition).and_then(|it| it.models.get(&model.name).cloned()))
    else {
        return Ok(());
    };
    let here = state.load.as_ref().filter(|load| load.target == warehouse.target());
    if here.is_some_and(|load| load.fingerprint == state.fingerprint) {
        return Ok(());
    }
    let flat = FlatObjects {
        bucket: flattened.clone(),
        partition,
        objects: state.objects.clone(),
        fingerprint: state.fingerprint.clone(),
    };
    let rows: u64 = flat.objects.iter().map(|object| object.rows).sum();
    // A day without rows has nothing to replace, unless rows of it were loaded before.
    let nothing_there = matches!(partition, Partition::Day(_)) && here.is_none_or(|load| load.rows == 0);
    let loaded = if rows == 0 && nothing_there {
        Loaded { rows: 0, job: None }
    } else {
        // A partition replaced by a run that lost its lock could undo what its successor has loaded.
        run.states.fence().check()?;
        load(warehouse, contract, &flat).await?
    };
    run.observer.observe(&Event::PartitionLoaded { model: model.name.clone(), partition, rows: loaded.rows });
    let (name, target) = (model.name.clone(), warehouse.target().to_string());
    handle
        .commit(move |document| {
            if let Some(found) = document.partition_mut(partition).models.get_mut(&name) {
                let Loaded { rows, job } = loaded;
                found.load = Some(Load { target, fingerprint: state.fingerprint, job, rows });
            }
        })
        .await?;
    Ok(())
}
