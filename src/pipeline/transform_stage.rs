//! Committed raw partitions to flattened objects, for every model whose inputs or SQL have changed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument;

use super::delta_stage::DeltaStage;
use super::{ReadyOfSource, Run};
use crate::catalog::{Model, Source, SourceKind, TestSeverity};
use crate::error::{Error, UpstreamError};
use crate::events::{Event, Outcome};
use crate::load::plan::is_loaded;
use crate::plan::{Stage, unavailable};
use crate::state::{ModelState, ModelStates, Sha256Digest, SourceHandle, SourceState};
use crate::store::ObjectRef;
use crate::store::layout::Partition;
use crate::transform::{
    BoundModel, Contract, Duplicates, FailedTest, Fingerprint, Flattened, Input, InputView, Inputs,
    ModelView, Snapshots, TransformError, Transformer, UnfitTimes, history_fingerprint,
};

/// A model's partition that may have to be loaded.
pub(super) type Flat = (String, Partition);

/// Partitions under way at a time. Few of them are derived; the others wait for a slot, or for the write of their state
/// document, which commits all waiting partitions of a source together.
const UNDER_WAY: usize = 512;
/// Partitions that one task looks at: most of them are settled, which is found in less time than it takes to start a task.
const TOGETHER: usize = 32;

/// What all partitions share.
struct Work {
    run: Arc<Run>,
    /// None if partitions are passed on without being derived.
    transformer: Option<Transformer>,
    /// Held while a partition is derived, and released before it is committed: Cloud Storage accepts one write of an
    /// object per second.
    slots: Semaphore,
    /// Held while partitions are looked at. Pages are decoded on the same threads, and each page delays the request for
    /// the next: they should not have to wait behind many looks.
    looks: Semaphore,
    flat: mpsc::Sender<Vec<Flat>>,
    /// None if tables have no Delta log.
    delta: Option<DeltaStage>,
}

/// Partitions that wait for other models, by the level and name of their model.
type Deferred = BTreeMap<usize, BTreeMap<String, (Arc<BoundModel>, BTreeSet<Partition>)>>;

/// Runs the transform stage. Without a transformer, partitions are passed on as they are.
pub(super) async fn transform_stage(
    run: Arc<Run>,
    transformer: Option<Transformer>,
    delta: Option<DeltaStage>,
    committed: mpsc::Receiver<ReadyOfSource>,
    flat: mpsc::Sender<Vec<Flat>>,
) -> Result<(), Error> {
    let at_once = transformer.as_ref().map_or(1, Transformer::at_once);
    let work = Arc::new(Work {
        run: run.clone(),
        transformer,
        slots: Semaphore::new(at_once),
        looks: Semaphore::new(at_once),
        flat,
        delta,
    });
    let work = &work;
    // Models that read several sources or days wait until all of these are read; models that read other models, until
    // those have derived all their partitions.
    let deferred: Mutex<Deferred> = Mutex::default();
    let arrivals = stream::unfold(committed, |mut queue| async move {
        queue.recv().await.map(|item| (item, queue))
    });
    let of_models = arrivals.flat_map(|(source, partitions)| {
        let (later, now): (Vec<_>, Vec<_>) =
            run.bound.driven_by(&source).cloned().partition(|bound| {
                bound.inputs.len() > 1 || bound.level > 0 || bound.is_windowed()
            });
        let mut deferred = deferred.lock().unwrap_or_else(PoisonError::into_inner);
        for bound in later {
            let of_level = deferred.entry(bound.level).or_default();
            let name = bound.model.name.clone();
            let (bound, of_model) = of_level.entry(name).or_insert((bound, BTreeSet::new()));
            of_model.extend(partitions.iter().map(|partition| bound.home(*partition)));
        }
        let all = now.into_iter().flat_map(move |bound| {
            let partitions = partitions.clone().into_iter();
            partitions.map(move |partition| (bound.clone(), partition))
        });
        stream::iter(all)
    });
    of_models
        .ready_chunks(TOGETHER)
        .for_each_concurrent(UNDER_WAY / TOGETHER, |some| on_any_core(work, some))
        .await;
    let deferred = deferred
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for of_level in deferred.into_values() {
        let partitions = of_level.into_values().flat_map(|(bound, partitions)| {
            let partitions = partitions.into_iter();
            partitions.map(move |partition| (bound.clone(), partition))
        });
        stream::iter(partitions)
            .chunks(TOGETHER)
            .for_each_concurrent(UNDER_WAY / TOGETHER, |some| on_any_core(work, some))
            .await;
    }
    if let Some(delta) = &work.delta {
        delta.finish(&run).await;
    }
    Ok(())
}

/// Transforms partitions on a CPU thread: even to find that there is nothing to do takes some time, and there may be
/// tens of thousands of partitions.
async fn on_any_core(work: &Arc<Work>, some: Vec<(Arc<BoundModel>, Partition)>) {
    let (run, all) = (work.run.clone(), some.clone());
    let work = work.clone();
    let transform = async move {
        // The semaphore is never closed.
        let look = work.looks.acquire().await.ok();
        let (settled, stale) = work.look_at(&some).await;
        drop(look);
        work.hand_on(settled).await;
        stream::iter(stale)
            .for_each_concurrent(None, |(bound, partition)| {
                work.transform_partition(bound, *partition)
            })
            .await;
    };
    let task = run.cpu.spawn(transform.in_current_span());
    let Err(error) = task.await else {
        return;
    };
    // Any of them may have panicked, and those after it are not done.
    let error = Error::Task {
        what: "a task that derives partitions".into(),
        source: error,
    };
    for (bound, partition) in all {
        run.failed(&bound.model.name, Some(partition), &error);
    }
}

impl Work {
    /// Separates the tables of settled partitions, in most runs all but a few, from the partitions that may be stale.
    /// Nothing of the former is worth a span or a slot.
    async fn look_at<'a>(
        &self,
        some: &'a [(Arc<BoundModel>, Partition)],
    ) -> (Vec<Flat>, Vec<&'a (Arc<BoundModel>, Partition)>) {
        if self.transformer.is_none() {
            return (Vec::new(), some.iter().collect());
        }
        let mut views: BTreeMap<&str, Option<ModelView<'a>>> = BTreeMap::new();
        let mut unchanged: BTreeMap<&str, Vec<Partition>> = BTreeMap::new();
        let (mut settled, mut stale) = (Vec::new(), Vec::new());
        for of in some {
            let ((bound, partition), run) = (of, self.run.as_ref());
            let model = &bound.model;
            let view = match views.entry(&model.name) {
                Entry::Occupied(entry) => entry.into_mut(),
                // What cannot be told is for `derive` to report.
                Entry::Vacant(entry) => entry.insert(bound.view(&run.states).await.ok()),
            };
            let is_settled = |view: &ModelView<'_>| is_settled(run, view, *partition);
            if view.as_ref().is_some_and(is_settled) {
                unchanged.entry(&model.name).or_default().push(*partition);
                settled.extend(self.tables(model, *partition));
            } else {
                stale.push(of);
            }
        }
        for (model, partitions) in unchanged {
            self.run.observer.observe(&Event::TransformsSkipped {
                model: model.into(),
                partitions,
            });
        }
        (settled, stale)
    }

    /// One model and partition. A failure is reported; the others continue.
    async fn transform_partition(&self, bound: &BoundModel, partition: Partition) {
        if self.run.shutdown.is_cancelled() {
            return;
        }
        let is_derived = match &self.transformer {
            Some(transformer) => self.transform_stale(transformer, bound, partition).await,
            None => true,
        };
        if is_derived {
            let tables = self.tables(&bound.model, partition);
            self.hand_on(tables.collect()).await;
        }
    }

    /// The tables of a derived partition that may have to be loaded. Models that are derived only because others read
    /// them are not loaded.
    fn tables(&self, model: &Model, partition: Partition) -> impl Iterator<Item = Flat> {
        let is_selected = self.run.contracts.contains_key(&model.name);
        let name = is_selected.then(|| model.name.clone());
        let history = model.history_table().filter(|_| is_selected);
        let tables = name.into_iter().chain(history);
        tables.map(move |table| (table, partition))
    }

    /// Hands derived partitions to the load stage.
    async fn hand_on(&self, tables: Vec<Flat>) {
        if tables.is_empty() || self.run.shutdown.is_cancelled() {
            return;
        }
        // The load stage ends early only when the run is being stopped.
        let _ = self.flat.send(tables).await;
    }

    fn observe_started(&self, model: &Model, partition: Partition) {
        self.run.observer.observe(&Event::TransformStarted {
            model: model.name.clone(),
            partition,
        });
    }

    fn observe_finished(&self, model: &Model, partition: Partition, outcome: Outcome) {
        self.run.observer.observe(&Event::TransformFinished {
            model: model.name.clone(),
            partition,
            outcome,
        });
    }

    /// Derives a partition that may be stale. Returns whether it can be loaded: a failure is reported here.
    async fn transform_stale(
        &self,
        transformer: &Transformer,
        bound: &BoundModel,
        partition: Partition,
    ) -> bool {
        let (run, model) = (self.run.as_ref(), &bound.model);
        let slot = tokio::select! {
            () = run.shutdown.cancelled() => return false,
            slot = self.slots.acquire() => slot,
        };
        self.observe_started(model, partition);
        let span = tracing::error_span!(
            "transform",
            table = model.name,
            partition = %partition,
            outcome = tracing::field::Empty,
        );
        let finished = |outcome: Outcome| {
            span.record("outcome", outcome.as_str());
            self.observe_finished(model, partition, outcome);
        };
        let derived = self
            .derive_and_commit(transformer, bound, partition, slot)
            .instrument(span.clone());
        // An abandoned query ends with the program; no state lists what it wrote.
        let derived = tokio::select! {
            () = run.shutdown.cancelled() => {
                finished(Outcome::Stopped);
                return false;
            }
            derived = derived => derived,
        };
        match derived {
            Ok(outcome) => {
                finished(outcome);
                self.commit_delta(model, partition, outcome).await;
                true
            }
            Err(error) => {
                span.in_scope(|| run.failed(&model.name, Some(partition), &error));
                finished(Outcome::Failed);
                false
            }
        }
    }

    /// Adds a derived partition to the Delta logs of the model's tables.
    async fn commit_delta(&self, model: &Model, partition: Partition, outcome: Outcome) {
        let Some(delta) = self.delta.as_ref().filter(|_| outcome == Outcome::Done) else {
            return;
        };
        delta.take(&self.run, &model.name, partition).await;
        if let Some(history) = model.history_table() {
            delta.take(&self.run, &history, partition).await;
        }
    }

    async fn derive_and_commit<S>(
        &self,
        transformer: &Transformer,
        bound: &BoundModel,
        partition: Partition,
        slot: S,
    ) -> Result<Outcome, Error> {
        let derived = derive(&self.run, transformer, bound, partition, false).await;
        drop(slot);
        let Some((handle, made)) = derived? else {
            return Ok(Outcome::Unchanged);
        };
        let outcome = match made.derived.is_empty() {
            true => Outcome::Unchanged,
            false => Outcome::Done,
        };
        commit_made(&self.run, &handle, partition, made).await?;
        Ok(outcome)
    }
}

/// Whether a partition is derived from what is committed, and this run does not read it.
fn is_settled(run: &Run, view: &ModelView<'_>, partition: Partition) -> bool {
    let model = &view.bound.model;
    view.made(&model.name, partition).is_some_and(|made| {
        !is_read(run, model, made)
            && view.bound.history.is_none()
            && view.gap(partition, run.plan.today).is_none()
            && view.wanted(partition).current == made.fingerprint
    })
}

/// Derives a partition if it is stale or `force` is set, and then the versions of its rows if the model has a history
/// table. Both are committed together, so that no version is lost. Returns none if there is nothing to commit.
async fn derive(
    run: &Run,
    transformer: &Transformer,
    bound: &BoundModel,
    partition: Partition,
    force: bool,
) -> Result<Option<(SourceHandle, Made)>, Error> {
    let model = &bound.model;
    let view = bound.view(&run.states).await?;
    if let Some(gap) = view.gap(partition, run.plan.today) {
        // Rows derived before the period was over stay, although they are not all of it.
        run.observer.observe(&Event::Noted {
            name: model.name.clone(),
            reason: format!("{partition} waits, as {gap}"),
        });
        return Ok(None);
    }
    let handle = run.states.source(&bound.driving.name).await?;
    let mut inputs = view.inputs(partition);
    let mut fingerprint = bound.fingerprint(&inputs);
    let known = view.made(&model.name, partition).cloned();
    let is_current = |found: &&Arc<ModelState>| !force && fingerprint.is(found.fingerprint);
    let current = match known.as_ref().filter(is_current) {
        Some(found) => usable_objects(run, transformer, model, partition, found).await?,
        None => None,
    };
    let mut derived: Vec<Derived> = Vec::new();
    let objects = match current {
        Some(objects) => objects,
        None => {
            if !await_inputs(run, &view, partition).await? {
                tracing::info!(model = model.name, %partition, "waits for what it reads");
                return Ok(None);
            }
            if remake_inputs(run, transformer, bound, partition).await? {
                inputs = bound.view(&run.states).await?.inputs(partition);
                fingerprint = bound.fingerprint(&inputs);
            }
            let of = fingerprint.current;
            let made = derive_model(run, transformer, bound, partition, inputs, of, known).await?;
            let objects = made.flattened.objects.clone();
            derived.push(made);
            objects
        }
    };
    let mut wanted = vec![(model.name.clone(), fingerprint.clone())];
    if let Some(history) = &bound.history {
        let current = history_fingerprint(history, &fingerprint);
        match versions(run, transformer, model, history, &handle, &current, objects).await {
            Ok(versions) => derived.extend(versions),
            // The list itself is committed all the same.
            Err(error) => run.failed(&history.table, Some(partition), &error),
        }
        wanted.push((history.table.clone(), current));
    }
    wanted.retain(|(table, _)| derived.iter().all(|it| it.table != *table));
    let made = Made {
        renewed: renewed(&handle, partition, wanted),
        derived,
    };
    let is_nothing = made.derived.is_empty() && made.renewed.is_empty();
    Ok((!is_nothing).then_some((handle, made)))
}

/// The objects of a partition that is current; none if they are going to be read and were removed or changed since.
async fn usable_objects(
    run: &Run,
    transformer: &Transformer,
    model: &Model,
    partition: Partition,
    found: &ModelState,
) -> Result<Option<Vec<ObjectRef>>, Error> {
    if is_read(run, model, found) && !transformer.has(&found.objects).await? {
        tracing::warn!(model = model.name, %partition, "flattened objects are gone or changed, and are derived again");
        return Ok(None);
    }
    Ok(Some(found.objects.clone()))
}

/// Runs the model's query on a CPU thread and checks its rows.
async fn derive_model(
    run: &Run,
    transformer: &Transformer,
    bound: &BoundModel,
    partition: Partition,
    inputs: Inputs,
    fingerprint: Sha256Digest,
    known: Option<Arc<ModelState>>,
) -> Result<Derived, Error> {
    let begun = Instant::now();
    let model = &bound.model;
    let task = {
        let (transformer, model, contract) =
            (transformer.clone(), model.clone(), bound.contract.clone());
        let id = run.id.clone();
        let derive = async move {
            transformer
                .derive(&model, &contract, partition, &inputs, &id)
                .await
        };
        run.cpu.spawn(derive.in_current_span())
    };
    let mut flattened = task
        .await
        .map_err(|error| stopped(&format!("{} {partition}", model.name), error))??;
    if let Some(duplicates) = &flattened.duplicates {
        check_duplicates(run, transformer, model, partition, &flattened, duplicates).await?;
    }
    check_tests(transformer, model, partition, &flattened).await?;
    if let Some(known) = known {
        keep_same(run, transformer, bound, &known, &mut flattened).await?;
    }
    Ok(Derived {
        table: model.name.clone(),
        fingerprint,
        flattened,
        begun,
    })
}

/// Keeps the objects that a partition had, if other models read them and the rows are the same: what is downstream is
/// stale only if rows have changed.
async fn keep_same(
    run: &Run,
    transformer: &Transformer,
    bound: &BoundModel,
    known: &ModelState,
    flattened: &mut Flattened,
) -> Result<(), Error> {
    let (table, contract) = (&bound.model.name, &bound.contract);
    let mut models = run.catalog.models();
    if !models.any(|model| model.upstream.contains(table)) {
        return Ok(());
    }
    // What was derived twice in one run has the same keys: nothing is left of the objects before.
    let is_replaced = |it: &ObjectRef| flattened.objects.iter().any(|new| new.path == it.path);
    if known.objects.iter().any(is_replaced) {
        return Ok(());
    }
    if transformer
        .has_same_rows(contract, &known.objects, &flattened.objects)
        .await?
    {
        transformer.discard(&flattened.objects).await;
        flattened.objects.clone_from(&known.objects);
    }
    Ok(())
}

/// Derives upstream partitions again whose flattened objects were removed or changed. Returns whether there were any.
fn remake_inputs<'a>(
    run: &'a Run,
    transformer: &'a Transformer,
    bound: &'a BoundModel,
    partition: Partition,
) -> BoxFuture<'a, Result<bool, Error>> {
    let remake = async move {
        let mut is_remade = false;
        for (number, input) in bound.inputs.iter().enumerate() {
            let Input::Table(table) = input else {
                continue;
            };
            // The versions in a history table cannot be derived again.
            if table.contract.table != table.bound.contract.table {
                continue;
            }
            // What was derived again for an earlier input may be upstream of this one, too.
            let view = bound.view(&run.states).await?;
            let Some(of_input) = view.inputs.get(number) else {
                continue;
            };
            for partition in view.reads(input, partition) {
                if transformer.has(of_input.objects(partition)).await? {
                    continue;
                }
                let bound = &table.bound;
                tracing::warn!(model = bound.model.name, %partition, "flattened objects are gone or changed, and are derived again");
                let remade = derive(run, transformer, bound, partition, true).await?;
                if let Some((handle, made)) = remade {
                    commit_made(run, &handle, partition, made).await?;
                    is_remade = true;
                }
            }
        }
        Ok(is_remade)
    };
    remake.boxed()
}

/// The tables of a partition whose fingerprint in the state has the format of an earlier version of the program, for the
/// same rows. It is replaced, so that a changed comment or description no longer makes the partition stale. Tables whose
/// load job may still be running keep theirs: the job's id is made from it.
fn renewed(
    handle: &SourceHandle,
    partition: Partition,
    wanted: Vec<(String, Fingerprint)>,
) -> Vec<(String, Fingerprint)> {
    let is_earlier = |(table, wanted): &(String, Fingerprint)| {
        handle.look(|state| {
            let made = state.partition(partition)?.models.get(table)?;
            let is_earlier = made.started.is_none()
                && made.fingerprint != wanted.current
                && made.fingerprint == wanted.earlier();
            Some(is_earlier)
        })
    };
    let mut renewed = wanted;
    renewed.retain(|it| is_earlier(it) == Some(true));
    renewed
}

/// Refuses rows whose `unique_key` is not unique, unless the run accepts them.
async fn check_duplicates(
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

/// Warns of the model's tests that the rows fail, and refuses the rows if the severity of one of these is an error.
async fn check_tests(
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

/// Whether this run reads the flattened objects of a derived partition: in a load, or for the history table.
fn is_read(run: &Run, model: &Model, found: &ModelState) -> bool {
    let is_due = (!is_loaded(found, &run.target) || run.load.full_refresh.contains(&model.name))
        && run.contracts.contains_key(&model.name);
    model.front_matter.history || (is_due && run.plan.run_request.stages.contains(&Stage::Load))
}

/// What is to be committed of a partition.
struct Made {
    derived: Vec<Derived>,
    /// Tables with unchanged rows, and their fingerprints in today's format.
    renewed: Vec<(String, Fingerprint)>,
}

/// A derived partition of a table that is not committed yet.
struct Derived {
    table: String,
    fingerprint: Sha256Digest,
    flattened: Flattened,
    begun: Instant,
}

/// Derives the history table of a list, if the state's is not of these rows.
async fn versions(
    run: &Run,
    transformer: &Transformer,
    model: &Model,
    history: &Contract,
    handle: &SourceHandle,
    fingerprint: &Fingerprint,
    objects: Vec<ObjectRef>,
) -> Result<Option<Derived>, Error> {
    let begun = Instant::now();
    let (before, read) = handle.look(|state| {
        let found = state.partition(Partition::Snapshot);
        let before = found.and_then(|found| Some(found.models.get(&history.table)?.clone()));
        (
            before,
            found.and_then(|found| Some(found.raw.as_ref()?.extracted_at)),
        )
    });
    let Some(at) = read.filter(|_| {
        before
            .as_ref()
            .is_none_or(|before| !fingerprint.is(before.fingerprint))
    }) else {
        return Ok(None);
    };
    let snapshots = Snapshots {
        current: objects,
        versions: before.map_or_else(Vec::new, |before| before.objects.clone()),
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
        .map_err(|error| stopped(&history.table, error))??;
    Ok(Some(Derived {
        table: history.table.clone(),
        fingerprint: fingerprint.current,
        flattened,
        begun,
    }))
}

fn stopped(what: &str, source: tokio::task::JoinError) -> Error {
    Error::Task {
        what: format!("{what}: the query"),
        source,
    }
}

/// Commits all that was derived of a partition at once, and reports it.
async fn commit_made(
    run: &Run,
    handle: &SourceHandle,
    partition: Partition,
    Made { derived, renewed }: Made,
) -> Result<(), Error> {
    let models: Vec<(String, Sha256Digest, Vec<ObjectRef>)> = derived
        .iter()
        .map(|derived| {
            (
                derived.table.clone(),
                derived.fingerprint,
                derived.flattened.objects.clone(),
            )
        })
        .collect();
    handle
        .commit(move |state| {
            let known = &mut state.partition_mut(partition).models;
            for (table, fingerprint) in renewed {
                renew_fingerprint(known, &table, fingerprint);
            }
            for (table, fingerprint, objects) in models {
                let (load, started) = known.remove(&table).map_or((None, None), |before| {
                    let before = Arc::unwrap_or_clone(before);
                    (before.load, before.started)
                });
                known.insert(
                    &table,
                    Arc::new(ModelState {
                        fingerprint,
                        objects,
                        load,
                        started,
                        attempts: 0,
                    }),
                );
            }
        })
        .await?;
    report_derived(run, partition, derived);
    Ok(())
}

/// Replaces the fingerprint of a table and of its load by the same one in today's format.
fn renew_fingerprint(known: &mut ModelStates, table: &str, fingerprint: Fingerprint) {
    let Some(found) = known
        .get_mut(table)
        .filter(|found| found.fingerprint == fingerprint.earlier())
        .map(Arc::make_mut)
    else {
        return;
    };
    if let Some(load) = &mut found.load
        && load.fingerprint == found.fingerprint
    {
        load.fingerprint = fingerprint.current;
    }
    found.fingerprint = fingerprint.current;
}

fn report_derived(run: &Run, partition: Partition, derived: Vec<Derived>) {
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
}

/// Whether all that the model reads for a partition is committed. A model that reads other models waits until it is.
///
/// # Errors
/// [`UpstreamError`] if an input failed or is missing: the partition would keep the rows that were derived without it.
async fn await_inputs(
    run: &Run,
    view: &ModelView<'_>,
    partition: Partition,
) -> Result<bool, Error> {
    let bound = view.bound;
    let waits = bound.level > 0 || bound.is_windowed();
    for it in &view.inputs {
        for of in view.reads(it.input, partition) {
            let source = it.input.driving();
            let is_there = match &it.upstream {
                None if source.name == bound.driving.name && !waits => true,
                None => await_source(run, source, of, waits).await?,
                Some(upstream) => await_table(run, it, upstream, of).await?,
            };
            if !is_there {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// [`await_inputs`] for a table of another model.
fn await_table<'a>(
    run: &'a Run,
    table: &'a InputView<'_>,
    model: &'a ModelView<'_>,
    partition: Partition,
) -> BoxFuture<'a, Result<bool, Error>> {
    let await_table = async move {
        if model.gap(partition, run.plan.today).is_some() {
            return Ok(false);
        }
        for it in &model.inputs {
            for of in model.reads(it.input, partition) {
                let is_there = match &it.upstream {
                    None => await_source(run, it.input.driving(), of, true).await?,
                    Some(upstream) => await_table(run, it, upstream, of).await?,
                };
                if !is_there {
                    return Ok(false);
                }
            }
        }
        if table.is_read(partition) && table.current(partition).is_none() {
            let table = table.input.name().to_string();
            return Err(UpstreamError::NotDerived { table }.into());
        }
        Ok(true)
    };
    await_table.boxed()
}

/// [`await_inputs`] for a source. There is nothing to wait for if the organisation does not have the endpoint, or if the
/// source is a feed, whose days come without being requested.
async fn await_source(
    run: &Run,
    source: &Source,
    partition: Partition,
    waits: bool,
) -> Result<bool, Error> {
    let source_name = source.name.clone();
    let handle = run.states.source(&source_name).await?;
    let found = handle
        .look(|state| state.partition(partition).cloned())
        .unwrap_or_default();
    if found.failure.is_some() {
        return Err(UpstreamError::Failed { source_name }.into());
    }
    if found.raw.is_none() {
        let comes_by_itself = matches!(source.kind, SourceKind::Feed | SourceKind::Updates)
            && handle.look(SourceState::was_read);
        let is_absent = run.has_ended(&source_name)
            || unavailable(&run.catalog, &run.states, source)
                .await?
                .is_some();
        return match is_absent || (waits && comes_by_itself) {
            true => Ok(true),
            false if waits => Ok(false),
            false => Err(UpstreamError::NotRead { source_name }.into()),
        };
    }
    if let Some(before) = super::shrunken(run, &source_name, &found) {
        return Err(UpstreamError::Shrunken {
            table: super::raw_rows::guarded_table(&run.catalog, &source_name).into(),
            rows: found.raw.map_or(0, |raw| raw.rows()),
            source_name,
            before,
        }
        .into());
    }
    Ok(true)
}
