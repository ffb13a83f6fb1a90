//! Committed raw partitions to flattened objects, for every model whose inputs or SQL have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{Ready, Run};
use crate::catalog::Model;
use crate::error::Error;
use crate::events::Event;
use crate::state::ModelState;
use crate::store::layout::Partition;
use crate::transform::{Flattened, RawInputs, Transformer, fingerprint};

/// A model's partition that may have to be loaded.
pub(super) type Flat = (String, Partition);

/// Runs the transform stage; without it, partitions are handed on as they are.
pub(super) async fn run(
    run: Arc<Run>,
    transformer: Option<Transformer>,
    committed: mpsc::Receiver<Ready>,
    flat: mpsc::Sender<Flat>,
) -> Result<(), Error> {
    let at_once = std::thread::available_parallelism().map_or(2, usize::from);
    // Models that read several sources wait until all of them are read.
    let deferred: Mutex<Vec<(String, Partition)>> = Mutex::default();
    let arrivals = stream::unfold(committed, |mut queue| async move { queue.recv().await.map(|item| (item, queue)) });
    arrivals
        .for_each_concurrent(at_once, |(source, partition)| {
            let (run, transformer, flat, deferred) = (&run, &transformer, &flat, &deferred);
            async move {
                for model in run.catalog.models_of(&source) {
                    let drives = run.catalog.driver(model).is_some_and(|driver| driver.name == source);
                    if !drives || !run.contracts.contains_key(&model.name) {
                        continue;
                    }
                    if model.sources.len() > 1 {
                        let mut deferred = deferred.lock().unwrap_or_else(PoisonError::into_inner);
                        deferred.push((model.name.clone(), partition));
                    } else {
                        one(run, transformer.as_ref(), model, partition, flat).await;
                    }
                }
            }
        })
        .await;
    let deferred = deferred.into_inner().unwrap_or_else(PoisonError::into_inner);
    stream::iter(deferred)
        .for_each_concurrent(at_once, |(name, partition)| {
            let (run, transformer, flat) = (&run, &transformer, &flat);
            async move {
                if let Some(model) = run.catalog.model(&name) {
                    one(run, transformer.as_ref(), model, partition, flat).await;
                }
            }
        })
        .await;
    Ok(())
}

/// One model and partition. A failure is reported; the others go on.
async fn one(
    run: &Run,
    transformer: Option<&Transformer>,
    model: &Model,
    partition: Partition,
    flat: &mpsc::Sender<Flat>,
) {
    if run.shutdown.is_cancelled() {
        return;
    }
    if let Some(transformer) = transformer
        && let Err(error) = derive(run, transformer, model, partition).await
    {
        run.failed(&model.name, Some(partition), &error);
        return;
    }
    // The load stage is gone only when the run is being stopped.
    let _ = flat.send((model.name.clone(), partition)).await;
}

/// Derives the partition if the model's SQL or its raw objects are not those of the last time.
async fn derive(run: &Run, transformer: &Transformer, model: &Model, partition: Partition) -> Result<(), Error> {
    let (Some(driver), Some(contract)) = (run.catalog.driver(model), run.contracts.get(&model.name)) else {
        return Ok(());
    };
    let inputs = inputs(run, model, partition).await?;
    // Lists that a daily model looks into change every run; its days stay as they were derived.
    let own: RawInputs = inputs.iter().filter(|(source, _)| *source == driver.name).cloned().collect();
    let fingerprint = fingerprint(model, contract, &own);
    let handle = run.states.source(&driver.name).await?;
    let before = handle.look(|state| state.partition(partition).and_then(|it| it.models.get(&model.name).cloned()));
    if before.as_ref().is_some_and(|before| before.fingerprint == fingerprint) {
        return Ok(());
    }
    let begun = Instant::now();
    let task = {
        let (transformer, model, contract, id) = (transformer.clone(), model.clone(), contract.clone(), run.id.clone());
        run.cpu.spawn(async move { transformer.derive(&model, &contract, partition, &inputs, &id).await })
    };
    let flattened = task
        .await
        .map_err(|error| Error::Usage(format!("{} {partition}: the query stopped: {error}", model.name)))??;
    let Flattened { objects, rows } = flattened;
    let bytes = objects.iter().map(|object| object.bytes).sum();
    let name = model.name.clone();
    let (load, started) = before.map_or((None, None), |before| (before.load, before.started));
    handle
        .commit(move |state| {
            state
                .partition_mut(partition)
                .models
                .insert(name, ModelState { fingerprint, objects, load, started, attempts: 0 });
        })
        .await?;
    let elapsed = begun.elapsed();
    run.observer.observe(&Event::PartitionTransformed { model: model.name.clone(), partition, rows, bytes, elapsed });
    Ok(())
}

/// The committed raw objects that the model reads for this partition, by source.
async fn inputs(run: &Run, model: &Model, partition: Partition) -> Result<RawInputs, Error> {
    let mut inputs = RawInputs::new();
    for name in &model.sources {
        let Some(source) = run.catalog.source(name) else { continue };
        let handle = run.states.source(name).await?;
        let of = if source.is_daily() { partition } else { Partition::Snapshot };
        let objects =
            handle.look(|state| state.partition(of).and_then(|it| it.raw.as_ref()).map(|raw| raw.objects.clone()));
        inputs.push((name.clone(), objects.unwrap_or_default()));
    }
    Ok(inputs)
}
