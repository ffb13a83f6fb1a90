//! Committed raw partitions to flattened objects, for every model whose inputs or SQL have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{Ready, Run};
use crate::catalog::{Catalog, Model, TestSeverity};
use crate::error::Error;
use crate::events::Event;
use crate::plan::Stage;
use crate::state::{ModelState, SourceHandle, StateStore};
use crate::store::ObjectRef;
use crate::store::layout::Partition;
use crate::transform::{
    Contract, Duplicates, FailedTest, Fingerprint, Flattened, RawInputs, Snapshots, TransformError,
    Transformer, UnfitTimes, fingerprint, history_fingerprint,
};

/// A model's partition that may have to be loaded.
pub(super) type Flat = (String, Partition);

/// Runs the transform stage; without it, partitions are handed on as they are.
pub(super) async fn transform_stage(
    run: Arc<Run>,
    transformer: Option<Transformer>,
    committed: mpsc::Receiver<Ready>,
    flat: mpsc::Sender<Flat>,
) -> Result<(), Error> {
    if transformer.is_some() {
        renew_fingerprints(&run).await?;
    }
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    // Models that read several sources wait until all of them are read.
    let deferred: Mutex<Vec<(String, Partition)>> = Mutex::default();
    let arrivals = stream::unfold(committed, |mut queue| async move {
        queue.recv().await.map(|item| (item, queue))
    });
    arrivals
        .for_each_concurrent(at_once, |(source, partition)| {
            let (run, transformer, flat, deferred) = (&run, &transformer, &flat, &deferred);
            async move {
                for model in run.catalog.models_of(&source) {
                    let drives = run
                        .catalog
                        .driving_source(model)
                        .is_some_and(|driver| driver.name == source);
                    if !drives || !run.contracts.contains_key(&model.name) {
                        continue;
                    }
                    if model.sources.len() > 1 {
                        let mut deferred = deferred.lock().unwrap_or_else(PoisonError::into_inner);
                        deferred.push((model.name.clone(), partition));
                    } else {
                        transform_partition(run, transformer.as_ref(), model, partition, flat)
                            .await;
                    }
                }
            }
        })
        .await;
    let deferred = deferred
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    stream::iter(deferred)
        .for_each_concurrent(at_once, |(name, partition)| {
            let (run, transformer, flat) = (&run, &transformer, &flat);
            async move {
                if let Some(model) = run.catalog.model(&name) {
                    transform_partition(run, transformer.as_ref(), model, partition, flat).await;
                }
            }
        })
        .await;
    Ok(())
}

/// One model and partition. A failure is reported; the others go on.
async fn transform_partition(
    run: &Run,
    transformer: Option<&Transformer>,
    model: &Model,
    partition: Partition,
    flat: &mpsc::Sender<Flat>,
) {
    if run.shutdown.is_cancelled() {
        return;
    }
    if let Some(transformer) = transformer {
        // A query that nobody waits for any more ends with the program; what it wrote counts for nothing.
        let derived = tokio::select! {
            () = run.shutdown.cancelled() => return,
            derived = derive(run, transformer, model, partition) => derived,
        };
        if let Err(error) = derived {
            run.failed(&model.name, Some(partition), &error);
            return;
        }
    }
    // The load stage is gone only when the run is being stopped.
    let _ = flat.send((model.name.clone(), partition)).await;
    if let Some(history) = model.history_table() {
        let _ = flat.send((history, partition)).await;
    }
}

/// Derives the partition if the model's SQL or its raw objects are not those of the last time, and then the versions
/// of its rows, if they are kept. Both go into the state together, so that no version is left out.
async fn derive(
    run: &Run,
    transformer: &Transformer,
    model: &Model,
    partition: Partition,
) -> Result<(), Error> {
    let (Some(driver), Some(contract)) = (
        run.catalog.driving_source(model),
        run.contracts.get(&model.name),
    ) else {
        return Ok(());
    };
    let inputs = inputs(&run.catalog, &run.states, model, partition).await?;
    let fingerprint = fingerprint_of(&run.catalog, model, contract, &inputs);
    let handle = run.states.source(&driver.name).await?;
    let before = handle.look(|state| {
        state
            .partition(partition)
            .and_then(|it| it.models.get(&model.name).cloned())
    });
    let mut before = before.filter(|before| fingerprint.is(&before.fingerprint));
    // What someone has removed meanwhile is made again, if somebody is going to read it.
    if let Some(found) = &before
        && is_read(run, model, found)
        && !transformer.has(&found.objects).await?
    {
        tracing::warn!(model = model.name, %partition, "flattened objects are gone or changed, and are derived again");
        before = None;
    }
    let mut derived = Vec::new();
    let objects = match before {
        Some(before) => before.objects,
        None => {
            await_others(run, model, &driver.name, partition).await?;
            let begun = Instant::now();
            let task = {
                let (transformer, model, contract) =
                    (transformer.clone(), model.clone(), contract.clone());
                let id = run.id.clone();
                run.cpu.spawn(async move {
                    transformer
                        .derive(&model, &contract, partition, &inputs, &id)
                        .await
                })
            };
            let flattened = task
                .await
                .map_err(|error| stopped(&model.name, partition, &error))??;
            if let Some(duplicates) = &flattened.duplicates {
                accept(run, transformer, model, partition, &flattened, duplicates).await?;
            }
            judge(transformer, model, partition, &flattened).await?;
            let objects = flattened.objects.clone();
            derived.push(Derived {
                table: model.name.clone(),
                fingerprint: fingerprint.current.clone(),
                flattened,
                begun,
            });
            objects
        }
    };
    if let Some(history) = model
        .history_table()
        .and_then(|table| run.contracts.get(&table))
    {
        match versions(
            run,
            transformer,
            model,
            history,
            &handle,
            &fingerprint,
            objects,
        )
        .await
        {
            Ok(versions) => derived.extend(versions),
            // The list itself is none the worse for it.
            Err(error) => run.failed(&history.table, Some(partition), &error),
        }
    }
    commit_derived(run, &handle, partition, derived).await
}

/// The fingerprint of a partition by those of its raw objects that can make it stale.
fn fingerprint_of(
    catalog: &Catalog,
    model: &Model,
    contract: &Contract,
    inputs: &RawInputs,
) -> Fingerprint {
    let decides = |name: &str| {
        catalog
            .invalidating_sources(model)
            .any(|source| source.name == name)
    };
    let own: RawInputs = inputs
        .iter()
        .filter(|(source, _)| decides(source))
        .cloned()
        .collect();
    fingerprint(catalog, model, contract, &own)
}

/// Writes today's fingerprints in the place of those that an earlier version of the program wrote, where they are of the
/// same rows: from then on, neither a comment nor a description makes these partitions stale. Other partitions, and those
/// whose load job may still be running under a name made of the fingerprint, stay as they are.
async fn renew_fingerprints(run: &Run) -> Result<(), Error> {
    for model in run.catalog.models() {
        let (Some(driver), Some(contract)) = (
            run.catalog.driving_source(model),
            run.contracts.get(&model.name),
        ) else {
            continue;
        };
        let history = model
            .history_table()
            .and_then(|table| run.contracts.get(&table));
        let handle = run.states.source(&driver.name).await?;
        let derived: Vec<Partition> = handle.look(|state| {
            let made = state
                .partitions
                .iter()
                .filter(|(_, found)| found.models.contains_key(&model.name));
            made.filter_map(|(key, _)| Partition::parse(key)).collect()
        });
        let mut renewed = Vec::new();
        for partition in derived {
            let inputs = inputs(&run.catalog, &run.states, model, partition).await?;
            let own = fingerprint_of(&run.catalog, model, contract, &inputs);
            if let Some(history) = history {
                let versions = history_fingerprint(history, &own);
                renewed.push((partition, history.table.clone(), versions));
            }
            renewed.push((partition, model.name.clone(), own));
        }
        renewed.retain(|(partition, table, fingerprint)| {
            handle.look(|state| {
                let found = state.partition(*partition);
                let found = found.and_then(|found| found.models.get(table));
                found.is_some_and(|found| {
                    found.fingerprint == fingerprint.earlier
                        && found.fingerprint != fingerprint.current
                        && found.started.is_none()
                })
            })
        });
        if renewed.is_empty() {
            continue;
        }
        handle
            .commit(move |state| {
                for (partition, table, fingerprint) in renewed {
                    let models = &mut state.partition_mut(partition).models;
                    let found = models.get_mut(&table);
                    let Some(found) = found.filter(|it| it.fingerprint == fingerprint.earlier)
                    else {
                        continue;
                    };
                    if let Some(load) = &mut found.load
                        && load.fingerprint == found.fingerprint
                    {
                        load.fingerprint.clone_from(&fingerprint.current);
                    }
                    found.fingerprint = fingerprint.current;
                }
            })
            .await?;
    }
    Ok(())
}

/// Refuses rows that are not as unique as their model says, unless the run was told to take them.
async fn accept(
    run: &Run,
    transformer: &Transformer,
    model: &Model,
    partition: Partition,
    flattened: &Flattened,
    duplicates: &Duplicates,
) -> Result<(), Error> {
    let model = model.name.clone();
    if run.load.accepts_duplicates(&model) {
        let duplicates = duplicates.to_string();
        run.observer.observe(&Event::DuplicatesAccepted {
            model,
            partition,
            duplicates,
        });
        return Ok(());
    }
    transformer.discard(&flattened.objects).await;
    Err(TransformError::Duplicates {
        model,
        partition,
        duplicates: duplicates.clone(),
    }
    .into())
}

/// Tells which of the model's tests the rows fail, and refuses them if one of these is an error.
async fn judge(
    transformer: &Transformer,
    model: &Model,
    partition: Partition,
    flattened: &Flattened,
) -> Result<(), Error> {
    let is_error = |test: &FailedTest| test.severity == TestSeverity::Error;
    for warning in flattened.failed_tests.iter().filter(|it| !is_error(it)) {
        let model = &model.name;
        tracing::warn!("{model} {partition}: {warning}");
    }
    let failed: Vec<FailedTest> = flattened
        .failed_tests
        .iter()
        .filter(|it| is_error(it))
        .cloned()
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    transformer.discard(&flattened.objects).await;
    Err(TransformError::Tests {
        model: model.name.clone(),
        partition,
        failed,
    }
    .into())
}

/// Whether the flattened objects of a partition that is derived already are read in this run: by a load, or for the
/// versions of a list's rows.
fn is_read(run: &Run, model: &Model, found: &ModelState) -> bool {
    let is_loaded = found
        .load
        .as_ref()
        .is_some_and(|load| load.fingerprint == found.fingerprint);
    let is_due = !is_loaded || run.load.full_refresh.contains(&model.name);
    model.front_matter.history || (is_due && run.plan.run_request.stages.contains(&Stage::Load))
}

/// What a table's partition was made into, before the state knows.
struct Derived {
    table: String,
    fingerprint: String,
    flattened: Flattened,
    begun: Instant,
}

/// The versions of a list's rows, if those in the state are not of this list.
async fn versions(
    run: &Run,
    transformer: &Transformer,
    model: &Model,
    history: &Contract,
    handle: &SourceHandle,
    current: &Fingerprint,
    objects: Vec<ObjectRef>,
) -> Result<Option<Derived>, Error> {
    let begun = Instant::now();
    let fingerprint = history_fingerprint(history, current);
    let (before, read) = handle.look(|state| {
        let found = state.partition(Partition::Snapshot);
        let before = found.and_then(|found| found.models.get(&history.table).cloned());
        (
            before,
            found.and_then(|found| Some(found.raw.as_ref()?.extracted_at)),
        )
    });
    let Some(at) = read.filter(|_| {
        before
            .as_ref()
            .is_none_or(|before| !fingerprint.is(&before.fingerprint))
    }) else {
        return Ok(None);
    };
    let snapshots = Snapshots {
        current: objects,
        versions: before.map(|before| before.objects).unwrap_or_default(),
        at,
    };
    let task = {
        let (transformer, model, history) = (transformer.clone(), model.clone(), history.clone());
        let (id, load) = (run.id.clone(), run.load.clone());
        run.cpu.spawn(async move {
            let is_shrunken = |rows, before| load.refuses_shrunken(&model.name, rows, before);
            transformer
                .versions(&model, &history, &snapshots, &id, is_shrunken)
                .await
        })
    };
    let flattened = task
        .await
        .map_err(|error| stopped(&history.table, Partition::Snapshot, &error))??;
    Ok(Some(Derived {
        table: history.table.clone(),
        fingerprint: fingerprint.current,
        flattened,
        begun,
    }))
}

fn stopped(table: &str, partition: Partition, error: &tokio::task::JoinError) -> Error {
    Error::Usage(format!("{table} {partition}: the query stopped: {error}"))
}

/// Points the state at all that was made, as one step.
async fn commit_derived(
    run: &Run,
    handle: &SourceHandle,
    partition: Partition,
    derived: Vec<Derived>,
) -> Result<(), Error> {
    if derived.is_empty() {
        return Ok(());
    }
    let models: Vec<(String, String, Vec<ObjectRef>)> = derived
        .iter()
        .map(|derived| {
            (
                derived.table.clone(),
                derived.fingerprint.clone(),
                derived.flattened.objects.clone(),
            )
        })
        .collect();
    handle
        .commit(move |state| {
            let known = &mut state.partition_mut(partition).models;
            for (table, fingerprint, objects) in models {
                let (load, started) = known
                    .remove(&table)
                    .map_or((None, None), |before| (before.load, before.started));
                known.insert(
                    table,
                    ModelState {
                        fingerprint,
                        objects,
                        load,
                        started,
                        attempts: 0,
                    },
                );
            }
        })
        .await?;
    for Derived {
        table,
        flattened,
        begun,
        ..
    } in derived
    {
        for UnfitTimes {
            column,
            count,
            texts,
        } in flattened.unfit
        {
            run.observer.observe(&Event::UnfitTimes {
                model: table.clone(),
                partition,
                column,
                count,
                texts,
            });
        }
        let bytes = flattened.objects.iter().map(|object| object.bytes).sum();
        let (rows, elapsed) = (flattened.rows, begun.elapsed());
        run.observer.observe(&Event::PartitionTransformed {
            model: table,
            partition,
            rows,
            bytes,
            elapsed,
        });
    }
    Ok(())
}

/// Fails if the model reads what is not there yet, or not as it should be: days that were made with it would stay so.
///
/// Of an endpoint that the organisation does not have, there is nothing to wait for.
async fn await_others(
    run: &Run,
    model: &Model,
    driver: &str,
    partition: Partition,
) -> Result<(), Error> {
    for source in model
        .sources
        .iter()
        .filter(|name| *name != driver)
        .filter_map(|name| run.catalog.source(name))
    {
        let name = &source.name;
        let handle = run.states.source(name).await?;
        let of = if source.is_daily() {
            partition
        } else {
            Partition::Snapshot
        };
        let found = handle
            .look(|state| state.partition(of).cloned())
            .unwrap_or_default();
        let is_absent = || {
            run.ended
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(name)
        };
        let doubt = if found.failure.is_some() {
            "could not be read"
        } else if found.raw.is_none() && !is_absent() {
            "was not read yet"
        } else if super::shrunken(run, name, &found).is_some() {
            "has become so much shorter that it is not believed (--accept-shrunken)"
        } else {
            continue;
        };
        return Err(Error::Usage(format!("{name}, which it reads too, {doubt}")));
    }
    Ok(())
}

/// The committed raw objects that the model reads for this partition, by source.
pub(super) async fn inputs(
    catalog: &Catalog,
    states: &StateStore,
    model: &Model,
    partition: Partition,
) -> Result<RawInputs, Error> {
    let mut inputs = RawInputs::new();
    for name in &model.sources {
        let Some(source) = catalog.source(name) else {
            continue;
        };
        let handle = states.source(name).await?;
        let of = if source.is_daily() {
            partition
        } else {
            Partition::Snapshot
        };
        let objects = handle.look(|state| {
            state
                .partition(of)
                .and_then(|it| it.raw.as_ref())
                .map(|raw| raw.objects.clone())
        });
        inputs.push((name.clone(), objects.unwrap_or_default()));
    }
    Ok(inputs)
}
